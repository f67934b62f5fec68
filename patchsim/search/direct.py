"""Distances of single windows, summed directly in float64: the same whatever backend made a map.

Sums of integers are exact below 2⁵³. Those of floats are taken in one order for all windows, so
that windows of the same pixels are equally far.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchsim import threads
from patchsim.bounds import finite, overflowing
from patchsim.call import Call
from patchsim.kernels import scores, windows
from patchsim.kernels.definition import definition, function, peak, reach, text_of
from patchsim.kernels.jit import Kernel
from patchsim.metrics.base import Metric, Moments, Statistic
from patchsim.metrics.l2 import METRIC as L2
from patchsim.metrics.product import PRODUCT
from patchsim.once import once
from patchsim.problem import INTEGER_RANGES
from patchsim.sums import algebra, factors
from patchsim.sums.equal_pixels import repeating
from patchsim.sums.moments import rounding_of
from patchsim.sums.slide import Planes
from patchsim.weights import spoiled

Array = np.ndarray[Any, np.dtype[Any]]

#: Bytes of windows that are gathered at a time where no kernel sums them.
GATHERED = 2**24
#: A copy's similarity that is no further from 1 is 1: the rest is rounding.
_ROUNDING = 1e-6
#: Windows from which it pays to look for those that hold the same pixels.
MANY = 4096
#: Taps of windows that are measured in the time in which a pixel is compared with another.
COMPARED = 2
#: Windows of a map that are looked through together for those that hold the same pixels.
TOGETHER = 2**18


class Direct:
    """Measures windows of one image for one template.

    Parameters
    ----------
    call : Call
        Of one image and any number of templates, without padding and dilation.
    index : int
        Which of its templates.
    """

    def __init__(self, call: Call, index: int) -> None:
        problem = call.problem
        below, beside = problem.overhang
        image = call.image.detach().cpu()
        # No copy, unless half precision is widened.
        plain = image.dtype is torch.bool and problem.value_dtype is torch.uint8
        image = image.view(torch.uint8) if plain else image.to(problem.value_dtype)
        if below or beside:
            image = torch.nn.functional.pad(image, (0, beside, 0, below))
        self.kernel = call.kernel[index].detach().cpu()
        self.weight = None if call.weight is None else call.weight[index].cpu()
        self._spoiled: Array | None = None
        if self.weight is not None and image.is_floating_point() and not finite(image):
            # NaN times a weight of 0 would be NaN.
            self._spoiled = spoiled(problem, image, self.weight[None])[0, 0].numpy()
            image = image.nan_to_num(0, 0, 0)
        self.image = image  # (1, C, H, W)
        self.call, self.index, self.metric = call, index, call.metric
        self.size, self.stride = problem.kernel_size, problem.stride
        self.map_size = problem.map_size
        self._known: dict[int, Array] = {}  # see `_repeating`
        self.total = problem.taps if self.weight is None else float(self.weight.double().sum())

    @once
    def unit(self) -> float:
        """What sums are divided by to give the mean distance."""
        assert isinstance(self.metric, Metric)
        return self.total * self.call.finish("mean", similarity=True).scale * self.metric.unit

    def distances(self, rows: Array, cols: Array, most: float = math.inf) -> Array:
        """Measure the windows that begin at these pixels, (M,) in float64.

        The distance is the mean of d, or 1 − similarity for a statistic. inf stands for those that
        aren't finite, and may stand for those beyond `most`.
        """
        if len(rows) >= MANY:
            down, across = self.stride
            if self._repeating(1)[rows // down, cols // across].any():
                return self._once(rows, cols, most)
        if isinstance(self.metric, Metric):
            # Roundings of product and quotient must not lose what is as far as `most`.
            result = self._sums(self.metric, rows, cols, self.unit * most * (1 + 2.0**-50))
            result /= self.unit
        else:
            result = 1 - self._similarity(self.metric, rows, cols)
        if self._spoiled is not None:
            down, across = self.stride
            result[self._spoiled[rows // down, cols // across]] = math.inf
        return np.where(np.isfinite(result), result, math.inf)

    def score(self, distance: float) -> float:
        """Return the similarity at a distance."""
        if isinstance(self.metric, Statistic):
            return 1 - distance
        finished = self.metric.finish(torch.tensor(distance, dtype=torch.float64))
        return 1 - float(finished)

    def _once(self, rows: Array, cols: Array, most: float) -> Array:
        """Measure windows of a row that hold the same pixels once, some rows at a time."""
        down, across = self.stride
        result, width = np.empty(len(rows)), self.map_size[1]
        order = np.argsort(rows, kind="stable")
        together, start = max(1, TOGETHER // width), 0
        while start < len(order):
            top = int(rows[order[start]]) // down
            end = start + int(np.searchsorted(rows[order[start:]], (top + together) * down))
            some = order[start:end]
            before = self._repeating(1)[top : top + together]
            first = np.where(before, 0, np.arange(width))
            first = np.maximum.accumulate(first, axis=1)
            row, col = rows[some] // down, cols[some] // across
            own = row * width + first[row - top, col]
            places, back = np.unique(own, return_inverse=True)
            found = np.empty(len(places))
            for at in range(0, len(places), MANY - 1):
                y, x = np.divmod(places[at : at + MANY - 1], width)
                found[at : at + MANY - 1] = self.distances(y * down, x * across, most)
            result[some], start = found[back], end
        return result

    def furthest(self, score: float) -> float:
        """Return a distance beyond which no window has that score."""
        if score == -math.inf:
            return math.inf
        low, high = 0.0, 2.0
        # Similarities that saturate may stay above it.
        while high < math.inf and self.score(high) >= score:
            low, high = high, 4 * high
        if high == math.inf:
            return high
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.score(middle) >= score else (low, middle)
        return high

    def repeats(self, places: Array) -> Array | None:
        """Tell which windows of the map hold the same pixels as others before them in their row.

        They are compared with those that are as far before them as is most frequent among some
        windows, whose places in the flat map are given in order. If these are few, nothing is told:
        they are measured sooner.
        """
        few = len(places) * self.kernel.numel() <= COMPARED * self.image.numel()
        if few and len(places) < MANY:
            return None
        steps = np.diff(places)
        steps = steps[steps < self.map_size[1]]
        return self._repeating(int(np.bincount(steps).argmax()) if len(steps) else 1)

    def _repeating(self, back: int) -> Array:
        if back not in self._known:
            self._known[back] = repeating(self.image, self.size, self.stride, back)
        return self._known[back]

    def _sums(self, metric: Metric, rows: Array, cols: Array, limit: float = math.inf) -> Array:
        """Sum w·d(p, k) over the windows."""
        known = definition(metric)
        if known.expression is None or not _fits(self.call):
            return self._gathered(metric, rows, cols)
        if not known.positive:
            limit = math.inf  # a sum may fall again
        sums = np.empty(len(rows))
        kernel = windows.direct(str(known.expression), self.image.dtype, self.weight is not None)
        self._run(kernel, rows, cols, limit, sums)
        return sums

    def _run(self, kernel: Kernel, rows: Array, cols: Array, *more: Any) -> None:
        """Run a kernel over the windows."""
        planes = self._planes
        layout = planes.steps[1], planes.pitch
        run = partial(kernel, planes.flat, layout, *self._taps, rows, cols, *more)
        # Pixels of windows here and there come from memory, which takes longer than operations do.
        threads.share(run, len(rows), 40 * len(rows) * self.kernel.numel())

    @once
    def _planes(self) -> Planes:
        return Planes(self.image, (1, 1))

    @once
    def _taps(self) -> list[Array]:
        """The template and, if there are any, its weights, in float64."""
        tensors = [self.kernel, *([] if self.weight is None else [self.weight])]
        return [t.double().contiguous().numpy() for t in tensors]

    def _gathered(self, metric: Metric, rows: Array, cols: Array) -> Array:
        """Sum w·d(p, k) over the windows, by torch."""
        dtype = torch.float64 if _fits(self.call) else torch.int64
        kernel, (height, width) = self.kernel.to(dtype), self.size
        together = max(1, GATHERED // (8 * kernel.numel()))
        sums = []
        for first in range(0, len(rows), together):
            here = slice(first, first + together)
            y = torch.from_numpy(rows[here])[:, None, None] + torch.arange(height)[:, None]
            x = torch.from_numpy(cols[here])[:, None, None] + torch.arange(width)
            windows = self.image[0][:, y, x].transpose(0, 1).to(dtype)  # (M, C, h, w)
            differences = function(metric, dtype)(windows, kernel)
            if self.weight is not None:
                differences = differences * self.weight.to(dtype)
            sums.append(differences.flatten(1).sum(1).double().cpu())
        return np.asarray(torch.cat(sums).numpy())

    @overflowing
    def _similarity(self, statistic: Statistic, rows: Array, cols: Array) -> Array:
        """Compute a statistic from moments that are sums over the windows themselves."""
        middle, *_ = self._template
        # Beside products: those of a copy are 0.
        summed = L2 if statistic.summed is PRODUCT else statistic.summed
        known = definition(summed).expression is not None
        text = text_of(summed) if known else "p"
        found = np.empty((3 + len(middle), len(rows)))
        run = windows.moments(text, self.image.dtype, self.weight is not None)
        self._run(run, rows, cols, middle, found)
        if not known:
            found[0] = self._gathered(statistic.summed, rows, cols)
        similarity, sums = self._scores(statistic, found), found[0]
        similarity[(sums == 0) & (abs(similarity - 1) < _ROUNDING)] = 1
        return similarity

    def _scores(self, statistic: Statistic, found: Array) -> Array:
        """Return the similarities of windows, (M,), whose sums and moments are (3 + C, M)."""
        _, totals, templates, kk = self._template
        rounding, double = rounding_of(self.call.problem), torch.float64
        run, products = scores.kernel(statistic, double, double), statistic.summed is PRODUCT
        if run:
            # A row of windows. By torch it would take ten times as long.
            distances, pp, pk = found[:3].reshape(3, 1, 1, 1, -1)
            sums = pk if products else distances
            own = templates[None], np.array([kk]), totals[None], np.zeros(1), np.zeros(1), rounding
            result: Array = np.empty_like(sums)
            windows = found[3:].reshape(1, 1, -1, 1, found.shape[1])
            run(sums, windows, pp, *own, self.call.span, True, result, 0)
            return result.reshape(-1)
        sums, pp, pk, *each = torch.from_numpy(found)[:, None, None, None]  # (1, 1, 1, M) each
        moments = Moments(
            totals=torch.from_numpy(totals)[None, :, None, None],
            windows=torch.stack(each, 2),
            templates=torch.from_numpy(templates)[None, :, None, None],
            pp=pp,
            kk=torch.full((1, 1, 1), kk, dtype=double),
            sums=sums,
            pk=pk,
            rounding=rounding,
            probes=torch.zeros(1, 1, 1, dtype=double),
            range=self.call.span,
        )
        similarity: Tensor = statistic.similarity(moments) + 0 * (sums + pp)
        return similarity.numpy().ravel().copy()

    @once
    def _template(self) -> tuple[Array, Array, Array, float]:
        """What a statistic is centred by, and the template's moments: Σw, Σw·k and Σw·k².

        The first three are of each channel, (C,).
        """
        assert isinstance(self.metric, Statistic)
        kernel = self.kernel.double()
        centred = self.metric.invariant and self.call.problem.value_range is None
        centre = algebra.middle(self.call.problem, kernel[None], L2) if centred else 0
        middle = factors.each_channel(centre, len(kernel), torch.float64)
        values = kernel.numpy() - middle[:, None, None]
        weights = np.ones_like(values) if self.weight is None else self.weight.double().numpy()
        own = weights * values
        return middle, weights.sum((1, 2)), own.sum((1, 2)), float((own * values).sum())


def _fits(call: Call) -> bool:
    """Tell whether float64 holds the sums: always for floats, to 2⁵³ for integers."""
    problem, summed = call.problem, call.metric.summed
    if problem.dtype not in INTEGER_RANGES or problem.value_range is None:
        return True
    largest = problem.taps * peak(summed, problem.value_range)
    return max(largest, reach(summed, problem.value_range)) <= 2**53
