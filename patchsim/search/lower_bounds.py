"""Lower bounds on the distances of all windows, from a map and the bound on its error."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from patchsim.bounds import finite_range
from patchsim.call import Call
from patchsim.kernels import jit
from patchsim.metrics.base import Metric, Statistic, identity
from patchsim.metrics.zncc import METRIC as ZNCC
from patchsim.once import once
from patchsim.problem import Pair
from patchsim.search.cells import EXPECTED, Array, Cells, Spared, size_of
from patchsim.search.direct import Direct
from patchsim.sums.equal_pixels import flat_windows

#: Magnitudes whose squares and ratios neither overflow nor underflow in a window's sums.
_ORDINARY = 1e-100, 1e100
#: Distances that differ by less are about the same.
NEAR = 2.0**-10
#: Windows of which nothing is known, beyond which it pays to look for flat ones.
FEW = 256


@dataclass(frozen=True)
class LowerBounds:
    """A map from which follows how far each window is from a template at least.

    A window of value v has a distance (the mean of d, or 1 − similarity for a statistic) of at
    least ((scale·v)^(1/power) − slack)^power.

    Attributes
    ----------
    values : array, shape (Ho, Wo)
        Floats, of any sign; NaN or inf where no match can be.
    cell : pair of int
        The size of the cells of `cells`.
    scale, slack : float
    power : 1 or 2
        2 where slack is a norm's error.
    likely : array, shape (Ho, Wo), optional
        The distances up to errors of rounding, where bounds can be far below them.
    """

    values: Array
    cell: Pair
    scale: float = 1.0
    slack: float = 0.0
    power: int = 1
    likely: Array | None = None

    def __call__(self, values: Array) -> Array:
        """Return the lower bounds, in float64, of some of the values."""
        scaled = self.scale * values.astype(np.float64)
        if self.power == 1:
            return np.asarray(scaled - self.slack)
        return np.asarray(np.maximum(np.sqrt(scaled) - self.slack, 0) ** 2)

    @once
    def cells(self) -> Cells:
        """The map's cells, whose minima tell where to look."""
        return Cells(self.values, self.cell)

    def within(self, distance: float, spared: Spared | None = None) -> tuple[Array, Array]:
        """Return the rows and columns of the windows that may be that near, in order.

        Without those that are spared.
        """
        places = self.cells.below(self._limit(distance), spared)
        row, col = np.divmod(places, self.values.shape[1])
        return row, col

    def count(self, distance: float, most: int | None = None) -> int:
        """Count the windows that may be that near, or tell that they are more than `most`."""
        return self.cells.count(self._limit(distance), most)

    @once
    def likely_cells(self) -> Cells:
        """The cells of the distances, whose minima tell where matches are likely."""
        return self.cells if self.likely is None else Cells(self.likely, self.cell)

    def least_of_cells(self) -> Array:
        """Bound the distances in each cell from below, or tell the likely ones."""
        minima = self.likely_cells.minima
        return self(minima) if self.likely is None else minima.astype(np.float64)

    def uncertain(self, distance: float, most: int) -> int:
        """Count those of them, about, that sharper bounds would tell to be further.

        Or tell that they are more than `most`.
        """
        known = 0 if self.likely is None else self.likely_cells.count(distance + NEAR)
        return max(0, self.count(distance - 4 * self.slack, known + most) - known)

    def _limit(self, distance: float) -> float:
        """Return the greatest value of windows that may be that near."""
        if self.power == 2:
            largest = (max(distance, 0.0) ** 0.5 + self.slack) ** 2
        else:
            largest = distance + self.slack
        # Some roundings up, so that none of those on the line is lost.
        largest = float(largest) / self.scale
        largest += abs(largest) * 2.0**-20 + 2.0**-140
        # inf is larger.
        return min(largest, float(np.finfo(self.values.dtype).max))


def of_maps(call: Call) -> list[LowerBounds]:
    """Bound the distances of one image to each template by the call's own map."""
    if isinstance(call.metric, Statistic):
        return settled(call, of_statistic(call))
    metric = _unfinished(call.metric)
    call = call if metric is call.metric else dataclasses.replace(call, metric=metric)
    maps, cell = arrays(call.map("mean", similarity=False)), size_of(call.problem)
    if metric.majorant is None and call.problem.value_range is None:
        slacks = [np.inf] * call.problem.templates  # no error bound is known
    else:
        slacks = call.worst().tolist()
    # Sums in float64 err, too, by as much less as its unit is smaller.
    more = 2 if maps.dtype == np.float64 else 1 + 2.0**-20
    # Where a map may have overflowed, all windows are looked at.
    return [
        LowerBounds(values, cell, slack=more * slack)
        if slack < np.inf
        else LowerBounds(np.zeros_like(values), cell)
        for values, slack in zip(maps, slacks, strict=True)
    ]


def of_statistic(call: Call) -> list[LowerBounds]:
    """Bound by a map of similarities: by -1 where nothing is known."""
    cell = size_of(call.problem)
    if not _ordinary(call):
        # Bounds of rounding errors don't hold: all windows are looked at.
        size = call.problem.map_size
        return [LowerBounds(np.full(size, -1.0), cell) for _ in range(call.problem.templates)]
    maps, distances = map(arrays, call.least())
    # What rounding adds to numbers of at most 2, that of the similarity itself, and of templates'
    # moments.
    slack = 4 * float(np.finfo(maps.dtype).eps) + 2.0**-40
    if call.problem.value_range is None:
        slack += 16 * (call.problem.taps + 8) * 2.0**-53
    return [
        LowerBounds(values, cell, slack=slack, likely=likely)
        for values, likely in zip(maps, distances, strict=True)
    ]


def _ordinary(call: Call) -> bool:
    """Tell whether squares and ratios of what the windows hold neither overflow nor underflow."""
    if call.problem.dtype is not torch.float64:
        return True  # narrower types hold no others
    peaks = [max(map(abs, ends)) for ends in (call.extremes, finite_range(call.kernel))]
    return all(not peak or _ORDINARY[0] < peak < _ORDINARY[1] for peak in peaks)


def settled(call: Call, found: list[LowerBounds]) -> list[LowerBounds]:
    """Settle windows of which nothing is known, whose bounds are -1, if there are many.

    They are mostly flat, which rounding hides. Others are measured, as they would have to be.
    """
    without_flat = settle_flat(call, found)
    if without_flat is found:
        return found
    return [_measured(call, n, own) for n, own in enumerate(without_flat)]


def _measured(call: Call, index: int, own: LowerBounds) -> LowerBounds:
    """Measure windows of which nothing is known, if there are any and not too many."""
    if not 0 < own.count(-0.5, EXPECTED) <= EXPECTED:
        return own
    row, col = places = own.within(-0.5)
    down, across = call.problem.stride
    own.values[places] = Direct(call, index).distances(row * down, col * across)
    return dataclasses.replace(own)  # whose cells aren't known yet


def settle_flat(call: Call, found: list[LowerBounds]) -> list[LowerBounds]:
    """Settle flat windows, whose distance by zncc is 1, if nothing is known of many."""
    problem = call.problem
    plain = problem.weighting == "none" and not any(problem.overhang) and jit.usable(problem)
    if call.metric is not ZNCC or not plain or max(own.count(-0.5, FEW) for own in found) < FEW:
        return found
    image = call.image.detach().to(torch.uint8 if problem.dtype is torch.bool else call.image.dtype)
    flat = flat_windows(image, problem.kernel_size, problem.stride)
    for own in found:
        np.putmask(own.values, flat, 1)
    return [dataclasses.replace(own) for own in found]  # whose cells aren't known yet


def arrays(maps: Tensor) -> Array:
    """Return the maps of all templates, (N, Ho, Wo)."""
    return np.ascontiguousarray(maps.detach().cpu().flatten(0, -3).numpy())


@lru_cache(maxsize=256)
def _unfinished(metric: Metric) -> Metric:
    """Leave the mean as it is: `finish` can make a small error a large one."""
    if metric.finish is identity:
        return metric
    return dataclasses.replace(metric, finish=identity, modulus=identity)
