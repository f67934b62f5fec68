"""Statistics: similarities made of a metric's window sums and of moments of windows and templates.

Σp and Σp² are box sums and Σp·k follows from the SSD, Σ(p − k)², so that whatever computes l2
computes normalised correlation as well. All of it is in float64, where the moments of integers
have no rounding.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchsim import threads
from patchsim.backends.base import Backend, Work
from patchsim.backends.conv2d import CONV2D
from patchsim.bounds import finite_range
from patchsim.finish import Score
from patchsim.kernels import jit, scores
from patchsim.metrics.base import Metric, Moments, Statistic
from patchsim.metrics.l2 import METRIC as L2
from patchsim.problem import Problem
from patchsim.sums import algebra, box, factors
from patchsim.sums.box import box_sum, expression_sum
from patchsim.sums.equal_pixels import flat_windows
from patchsim.sums.slide import Planes

#: Windows whose similarities are computed at a time: their moments stay in a core's cache.
WINDOWS = 2**17
#: Pixels of which an image's mean is taken.
SAMPLE = 2**14


@lru_cache(maxsize=256)
def adapt(
    backend: Backend,
    statistic: Statistic,
    data_range: float,
    score: Score,
    errors: tuple[float, ...] | None = None,
    off: float = 0.0,
) -> Backend:
    """Make a backend compute the map itself, (B, N, Ho, Wo) as `score` makes it.

    Or lower bounds on the distances of all windows to each template, given the errors of its sums,
    and how far moments are `off` beyond rounding.
    """
    adapted = _Adapted(backend, statistic, data_range, score, errors or (), off)
    run = adapted.run if errors is None else adapted.least
    return dataclasses.replace(backend, run=run, error=adapted.error, work=adapted.work)


@dataclass(frozen=True)
class _Adapted:
    backend: Backend
    statistic: Statistic
    range: float
    score: Score
    errors: tuple[float, ...]
    off: float

    def run(
        self, metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
    ) -> Tensor:
        sums = self.backend.run(self.statistic.summed, problem, image, kernel, weight)
        if _plain(problem):
            run = scores.kernel(self.statistic, sums.dtype, self.score.working, bound=False)
            if run:
                wanted = (self.score.similarity,)
                found = self._scores(run, wanted, problem, image, kernel, sums)
                return found.to(self.score.dtype)
        return self.score(self._similarity(self._moments(problem, image, kernel, weight, sums)))

    def least(
        self, metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
    ) -> Tensor:
        """Bound the distances from below, and compute them, (B, 2N, Ho, Wo).

        Bounds come first. NaN where a window isn't finite.

        The similarity is monotone in each of the sums, Σp·k and Σp², so that it is greatest at a
        corner of the intervals in which these lie. The roundings of the moments, in float64, are
        bounded to first order.
        """
        if _plain(problem):
            sums = self.backend.run(self.statistic.summed, problem, image, kernel, weight)
            run = scores.kernel(self.statistic, sums.dtype, self.score.working, bound=True)
            if run:
                share = 2.0**-49
                if problem.value_range is None:
                    share = 16 * (problem.taps + 8) * 2.0**-53
                errors = np.array(self.errors)
                wanted = errors, share, max(self.off, 2.0**-1000)
                return self._scores(run, wanted, problem, image, kernel, sums)
        distances = 1 - self.run(metric, problem, image, kernel, weight).double()
        alike: Tensor | float = 0.0
        if self.backend.alike is not None and problem.value_range is None:
            alike = self.backend.alike(metric, problem, image, kernel, weight)
        error = self.error(metric, problem, image, kernel, weight, alike)
        # Twice, as distances in float64 err, too. Where no bound is known, windows are looked at.
        bounds = (distances - 2 * error).clamp(-1, 2)
        bounds = torch.where(distances.isfinite() & error.isfinite(), bounds, -1)
        return torch.cat([bounds, distances], 1).to(self.score.dtype)

    def _scores(
        self,
        run: scores.Kernel,
        wanted: tuple[object, ...],
        problem: Problem,
        image: Tensor,
        kernel: Tensor,
        sums: Tensor,
    ) -> Tensor:
        """Run a kernel on some rows at a time, whose moments stay in the cache."""
        rows, cols = problem.map_size
        centre = self._centre(problem, kernel)
        own = kernel.double() - centre
        templates, kk = own.sum((2, 3)).numpy(), own.square().sum((1, 2, 3)).numpy()
        total, rounding = float(problem.taps), rounding_of(problem)
        maps = 2 * problem.templates if self.errors else problem.templates
        output = torch.empty((len(sums), maps, *sums.shape[2:]), dtype=self.score.working)
        given = sums.contiguous().numpy()  # backends may keep the image's memory format
        together = max(problem.kernel_size[0], WINDOWS // cols)
        for first in range(0, rows, together):
            top = first * problem.stride[0]
            count = min(together, rows - first)
            height = (count - 1) * problem.stride[0] + problem.extent[0]
            part = dataclasses.replace(problem, image_size=(height, problem.image_size[1]))
            windows, pp = _box_moments(part, image[:, :, top : top + height], centre)
            moments = windows[:, 0].numpy(), pp.numpy(), templates, kk, total, rounding
            run(given, *moments, self.range, *wanted, output.numpy(), first)
        return output.to(self.score.dtype)

    def _similarity(self, moments: Moments) -> Tensor:
        # A NaN or inf in a window or template stays one.
        similarity: Tensor = self.statistic.similarity(moments)
        return similarity + 0 * (moments.sums + moments.pp)

    def work(self, problem: Problem, metric: Metric) -> Work:
        work = self.backend.work(problem, metric)
        (rows, cols), templates = problem.map_size, problem.templates
        windows = problem.batch * rows * cols
        if _plain(problem):
            together = problem.batch * (max(problem.kernel_size[0] * cols, WINDOWS) + cols)
            more = 8 * windows * templates
            more += 16 * (problem.channels + 1) * min(windows, together) + box.memory(problem)
        else:
            more = self._memory_by_torch(problem)
        if problem.value_range is None:  # what `normalised` makes of an image
            more += 16 * problem.batch * problem.channels * math.prod(problem.image_size)
        if problem.grad:  # which holds what every step computes
            more = 4 * (more + work.bytes)
        return dataclasses.replace(work, bytes=work.bytes + more)

    def _memory_by_torch(self, problem: Problem) -> int:
        """Count the bytes of moments that no kernel computes, and of what is made of them."""
        channels, templates = problem.channels, problem.templates
        pixels = problem.batch * math.prod(problem.image_size)
        windows = problem.batch * math.prod(problem.map_size)
        maps, each = windows * templates, 1 if problem.weighting == "none" else templates
        numbers = 12 * maps + 4 * channels * (windows * each + pixels) + 4 * pixels
        if problem.weighting == "none":
            return 8 * numbers
        probes = dataclasses.replace(problem, templates=templates * (1 + channels))
        numbers += 4 * maps * (1 + channels) + 4 * probes.templates * problem.taps
        backend = CONV2D if self.backend.refuse(probes, L2) else self.backend
        return 8 * numbers + backend.work(probes, L2).bytes

    def error(
        self,
        metric: Metric,
        problem: Problem,
        image: Tensor,
        kernel: Tensor,
        weight: Tensor | None,
        alike: Tensor | float = 0.0,
    ) -> Tensor:
        """Bound the similarity's error, given what is alike in the errors of all sums.

        It falls as the sums grow, so that errors of the sums move it no further than to its values
        at the ends of their interval. The roundings of the moments, in float64, are bounded to
        first order: they are moved as well, as far as they can be off, up and down.
        """
        run = self.backend.run(self.statistic.summed, problem, image, kernel, weight)
        m = self._moments(problem, image, kernel, weight, run.double())
        small = 4 * (problem.taps + 8) * 2.0**-53
        if problem.value_range is None:
            error = self.backend.error(metric, problem, image, kernel, weight) + alike
        else:
            error, small = torch.zeros_like(m.sums), 2.0**-50
        energy = m.pp + m.kk
        if weight is not None:
            scale = _scale(image)  # whose power, unlike its product, may raise
            energy = energy + scale * scale * m.total
        error = error + small * energy
        here, furthest = self._similarity(m), torch.zeros_like(m.sums)
        if problem.value_range is None:
            furthest = self._unclear(m, problem, image).double().expand_as(m.sums)
        for off, change, more in product((-error, error), (-small, 0, small), (-small, small)):
            pp, kk = (m.pp + change * energy).clamp(min=0), m.kk * (1 + more)
            moved = dataclasses.replace(m, sums=m.sums + off, pp=pp, kk=kk)
            furthest = torch.maximum(furthest, (self._similarity(moved) - here).abs())
        found = 2 * furthest + small
        return torch.where((error + energy).isfinite(), found, torch.inf)

    def _unclear(self, m: Moments, problem: Problem, image: Tensor) -> Tensor:
        """Tell which windows rounding may make flat, or not flat, but for those that surely are."""
        lost = 4 * m.flat + problem.taps * 2.0**-1021  # what may underflow
        if not self.statistic.invariant:
            return (m.pp <= lost) & (box_sum(image.detach().abs(), problem) > 0)
        unclear = m.pp - m.mean_pp <= lost
        if _plain(problem):
            flat = [flat_windows(own[None], problem.kernel_size, problem.stride) for own in image]
            unclear &= ~torch.from_numpy(np.stack(flat))[:, None]
        return unclear

    def _moments(
        self,
        problem: Problem,
        image: Tensor,
        kernel: Tensor,
        weight: Tensor | None,
        sums: Tensor,
    ) -> Moments:
        centre = self._centre(problem, kernel)
        k = kernel.double() - centre
        weights = torch.ones_like(k) if weight is None else weight.double()
        if weight is None:
            p, pp = _box_moments(problem, image, centre)
        else:
            p, pp = self._weighted_moments(problem, image - centre, weights.to(image.dtype))
        kk = (weights * k * k).sum((1, 2, 3))[:, None, None]
        rounding, probes = rounding_of(problem), torch.zeros_like(kk)
        if weight is not None and problem.value_range is None:
            rounding = 2.0**-44 * (problem.taps + 8)
            scale = _scale(image)
            probes = scale * scale * weights.sum((1, 2, 3))[:, None, None]
        return Moments(
            totals=weights.sum((2, 3))[:, :, None, None],
            windows=p,
            templates=(weights * k).sum((2, 3))[:, :, None, None],
            pp=pp,
            kk=kk,
            sums=sums,
            rounding=rounding,
            probes=probes,
            range=self.range,
        )

    def _centre(self, problem: Problem, kernel: Tensor) -> Tensor | int:
        """Return what to subtract: integers don't cancel, as they aren't rounded."""
        centred = self.statistic.invariant and problem.value_range is None
        return algebra.middle(problem, kernel, L2) if centred else 0

    def _weighted_moments(
        self, problem: Problem, image: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return Σw·p and Σw·p², which are sums of weighted squared differences, too.

        From a template of zeros, and from ones that hold a number in one channel.
        """
        templates, channels = weights.shape[:2]
        exact = problem.value_range is not None
        scale = 1.0 if exact else _scale(image)
        probes = weights.new_zeros((templates, 1 + channels, *weights.shape[1:]))
        for c in range(channels):
            probes[:, 1 + c, c] = 1 if exact else scale
        part = dataclasses.replace(problem, templates=templates * (1 + channels))
        repeated = weights[:, None].expand_as(probes).flatten(0, 1)
        run = CONV2D.run if self.backend.refuse(part, L2) else self.backend.run
        found = run(L2, part, image, probes.flatten(0, 1), repeated).double()
        found = found.reshape(len(image), templates, 1 + channels, *problem.map_size)
        pp = found[:, :, 0]
        own = weights.double().sum((2, 3))[:, :, None, None]
        p = (pp[:, :, None] + scale * scale * own - found[:, :, 1:]) / (2 * scale)
        return p, pp


def _scale(image: Tensor) -> float:
    """Return a number of the size of the image's."""
    return float(image.detach().double().abs().nan_to_num(0, 0, 0).max()) or 1.0


def normalised(
    statistic: Statistic, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Turn floats into float64, centred and scaled where that is all the same to a statistic.

    Sums then neither cancel nor overflow, however far the means of image and template are apart.
    Returns the templates, (N, C, h, w), and what turns pixels. Means and sizes are constants to
    autograd, as the similarity doesn't depend on them. An image's are those of some rows.
    """
    turned, middle = kernel.double(), image.new_zeros((1, 1, 1), dtype=torch.float64)
    if not statistic.scalable:
        return turned, Tensor.double
    sample = image[:, :, :: 1 + image.numel() // SAMPLE]
    if statistic.invariant:
        middle = _mean(sample, (0, 2, 3))[0]
        turned = turned - _mean(kernel, (2, 3), weight)
    # Squares in float64 may overflow or underflow, those of other dtypes don't.
    unit = _unit(image if image.dtype is torch.float64 else sample, problem)
    turn = _turned if jit.usable(problem) else _turned_by_torch
    return turned * _unit(kernel, problem), partial(turn, middle=middle, unit=unit)


def _turned_by_torch(pixels: Tensor, middle: Tensor, unit: float | Tensor) -> Tensor:
    """Return (pixels − middle)·unit in float64."""
    return (pixels - middle) * unit


def _turned(pixels: Tensor, middle: Tensor, unit: Any) -> Tensor:
    """Return the same, without torch's threads, which would keep those of kernels from theirs."""
    given = pixels.to(torch.promote_types(pixels.dtype, torch.float32)).numpy()
    result, centre = np.empty(given.shape), middle.numpy()

    def turn(first: int, last: int) -> None:
        rows = result[:, :, first:last]
        np.subtract(given[:, :, first:last], centre, out=rows)
        if unit != 1:
            rows *= unit

    threads.share(turn, given.shape[2], 20 * given.size)
    return torch.from_numpy(result)


def _mean(values: Tensor, axes: tuple[int, ...], weight: Tensor | None = None) -> Tensor:
    """Return the mean of the finite values over some axes in float64, 0 where it isn't finite."""
    values = values.detach().double()
    counts = values.isfinite().double()
    counts = counts if weight is None else counts * weight
    total = (counts * values.nan_to_num(0, 0, 0)).sum(axes, keepdim=True)
    return (total / counts.sum(axes, keepdim=True)).nan_to_num(0, 0, 0)


def _unit(values: Tensor, problem: Problem) -> float | Tensor:
    """Return a power of 2 by which values are to be multiplied to be about 1 at most."""
    if not values.numel():
        return 1.0
    if jit.usable(problem):
        peak = max(map(abs, finite_range(values)))
        return 2.0 ** -max(-1000, math.frexp(peak)[1])
    largest = values.detach().double().nan_to_num(0, 0, 0).abs().amax()
    exponent = largest.frexp().exponent.clamp(min=-1000)
    return torch.ones_like(largest).ldexp(-exponent)


def rounding_of(problem: Problem) -> float:
    """Return by which share of itself Σp² may be off, if only by the roundings that follow."""
    return 2.0**-52 * (1 if problem.value_range is not None else problem.taps + 8)


def _plain(problem: Problem) -> bool:
    """Tell whether kernels for the CPU compute moments and scores."""
    simple = problem.dilation == (1, 1) and problem.weighting == "none"
    return simple and jit.usable(problem)


def _box_moments(problem: Problem, image: Tensor, centre: Tensor | int) -> tuple[Tensor, Tensor]:
    """Return Σp of each channel, (B, 1, C, Ho, Wo), and Σp² of all, (B, 1, Ho, Wo)."""
    if not _plain(problem):
        values = image.double() - centre
        p = box_sum(values.flatten(0, 1)[:, None], problem)
        return p.reshape(len(image), 1, -1, *problem.map_size), box_sum(values * values, problem)
    middles = factors.each_channel(centre, problem.channels, torch.float64)
    sums = np.empty((len(image), 1, problem.channels, *problem.map_size))
    for b, c in product(range(len(image)), range(problem.channels)):
        own, plane = image[b : b + 1, c : c + 1], sums[b : b + 1, :, c]
        expression_sum("p", own, Planes(own, (1, 1)), middles[c : c + 1], problem, plane)
    squares = expression_sum("(p*p)", image, Planes(image, (1, 1)), middles, problem)
    return torch.from_numpy(sums), torch.from_numpy(squares)
