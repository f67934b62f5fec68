"""Statistics: similarities made of a metric's window sums and of moments of windows and templates.

Σp and Σp² are box sums and Σp·k is what backends sum. All of it is in float64, where the moments of
integers have no rounding.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from patchsim.backends.base import Backend, OfImage, Work
from patchsim.backends.conv2d import CONV2D
from patchsim.bounds import finite_range
from patchsim.finish import Score
from patchsim.kernels import scores
from patchsim.metrics.base import Metric, Moments, Statistic
from patchsim.metrics.l2 import METRIC as L2
from patchsim.metrics.product import PRODUCT
from patchsim.normalising import balance, mean_of, plain
from patchsim.problem import Problem
from patchsim.sums import box, factors
from patchsim.sums.box import box_sum, expression_sum
from patchsim.sums.equal_pixels import flat_windows
from patchsim.sums.slide import Planes

#: Windows whose similarities are computed at a time: their moments stay in a core's cache.
WINDOWS = 2**17


@lru_cache(maxsize=256)
def adapt(
    backend: Backend,
    statistic: Statistic,
    data_range: float,
    score: Score,
    errors: tuple[float, ...] | None = None,
) -> Backend:
    """Make a backend compute the map itself, (B, N, Ho, Wo) as `score` makes it.

    Or lower bounds on the distances of all windows to each template, given the errors of its sums.
    """
    adapted = _Adapted(backend, statistic, data_range, score, errors or ())
    bind = adapted.bind if errors is None else adapted.bind_least
    return dataclasses.replace(backend, bind=bind, error=adapted.error, work=adapted.work)


@dataclass(frozen=True)
class _Adapted:
    backend: Backend
    statistic: Statistic
    range: float
    score: Score
    errors: tuple[float, ...]

    def bind(
        self, metric: Metric, problem: Problem, kernel: Tensor, weight: Tensor | None
    ) -> OfImage:
        """Prepare templates for maps of scores."""
        window_sums = self._sums(problem, kernel, weight)
        own = _Templates(kernel) if plain(problem) else None

        def of_image(image: Tensor) -> Tensor:
            sums = window_sums(image)
            if own is not None:
                run = scores.kernel(self.statistic, sums.dtype, self.score.working)
                if run:
                    wanted = (self.score.similarity,)
                    found = self._scores(run, wanted, problem, image, own, sums)
                    return found.to(self.score.dtype)
            moments = self._moments(problem, image, kernel, weight, sums)
            return self.score(self._similarity(moments))

        return of_image

    def bind_least(
        self, metric: Metric, problem: Problem, kernel: Tensor, weight: Tensor | None
    ) -> OfImage:
        """Prepare templates for bounds on distances from below, and distances, (B, 2N, Ho, Wo).

        Bounds come first. NaN where a window isn't finite.

        The similarity is monotone in each of the sums, Σp·k and Σp², so that it is greatest at a
        corner of the intervals in which these lie. The roundings of the moments, in float64, are
        bounded to first order.
        """
        window_sums = self._sums(problem, kernel, weight)
        own = _Templates(kernel) if plain(problem) else None
        share = 2.0**-49
        if problem.value_range is None:
            share = 16 * (problem.taps + 8) * 2.0**-53
        wanted = np.array(self.errors), share, 2.0**-1000

        def of_image(image: Tensor) -> Tensor:
            if own is not None:
                sums = window_sums(image)
                run = scores.kernel(self.statistic, sums.dtype, self.score.working, bound=True)
                if run:
                    return self._scores(run, wanted, problem, image, own, sums)
            distances = 1 - self.bind(metric, problem, kernel, weight)(image).double()
            alike: Tensor | float = 0.0
            if self.backend.alike is not None and problem.value_range is None:
                alike = self.backend.alike(metric, problem, image, kernel, weight)
            error = self.error(metric, problem, image, kernel, weight, alike)
            # Twice, as distances in float64 err, too. Where no bound is known, windows are looked
            # at.
            bounds = (distances - 2 * error).clamp(-1, 2)
            bounds = torch.where(distances.isfinite() & error.isfinite(), bounds, -1)
            return torch.cat([bounds, distances], 1).to(self.score.dtype)

        return of_image

    def _sums(self, problem: Problem, kernel: Tensor, weight: Tensor | None) -> OfImage:
        """Bind templates for window sums of images that may be of another dtype."""
        summed, backend = self.statistic.summed, self.backend
        window_sums = backend.bound(summed, problem, kernel, weight)
        if backend.mixed is not None and backend.mixed(summed, problem):
            return window_sums
        return lambda image: window_sums(image.to(problem.value_dtype))

    def _scores(
        self,
        run: scores.Kernel,
        wanted: tuple[object, ...],
        problem: Problem,
        image: Tensor,
        templates: _Templates,
        sums: Tensor,
    ) -> Tensor:
        """Run a kernel on some rows at a time, whose moments stay in the cache."""
        (rows, cols), centre = problem.map_size, self._centre(problem, image)
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
            own = templates.sums, templates.squares
            moments = windows[:, 0].numpy(), pp.numpy(), *own, total, rounding
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
        if plain(problem):
            together = problem.batch * (max(problem.kernel_size[0] * cols, WINDOWS) + cols)
            more = 8 * windows * templates
            more += 16 * (problem.channels + 1) * min(windows, together) + box.memory(problem)
        else:
            more = self._memory_by_torch(problem)
        if problem.value_range is None:  # what an image is converted to
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

        It is monotone in the sums, so that their errors move it no further than to its values at
        the ends of their interval. The roundings of the moments, in float64, are bounded to first
        order: they are moved as well, as far as they can be off, up and down.
        """
        sums = self._sums(problem, kernel, weight)(image)
        image = image.double() if problem.value_range is None else image
        m = self._moments(problem, image, kernel, weight, sums.double())
        small = 4 * (problem.taps + 8) * 2.0**-53
        if problem.value_range is None:
            unit = balance(finite_range(image), kernel) if metric is PRODUCT else 1.0
            error = self.backend.error(metric, problem, image, unit * kernel, weight) / unit + alike
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
            moved = dataclasses.replace(m, sums=m.sums + off, pk=m.pk - off, pp=pp, kk=kk)
            furthest = torch.maximum(furthest, (self._similarity(moved) - here).abs())
        found = 2 * furthest + small
        return torch.where((error + energy).isfinite(), found, torch.inf)

    def _unclear(self, m: Moments, problem: Problem, image: Tensor) -> Tensor:
        """Tell which windows rounding may make flat, or not flat, but for those that surely are."""
        lost = 4 * m.flat + problem.taps * 2.0**-1021  # what may underflow
        if not self.statistic.invariant:
            return (m.pp <= lost) & (box_sum(image.detach().abs(), problem) > 0)
        unclear = m.pp - m.mean_pp <= lost
        if plain(problem):
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
        k, sums = kernel.double(), sums.double()
        weights = torch.ones_like(k) if weight is None else weight.double()
        if weight is None:
            p, pp = _box_moments(problem, image, self._centre(problem, image))
        else:
            p, pp = self._weighted_moments(problem, image, weights.to(image.dtype))
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
            pk=sums if self.statistic.summed is PRODUCT else (pp + kk - sums) / 2,
            rounding=rounding,
            probes=probes,
            range=self.range,
        )

    def _centre(self, problem: Problem, image: Tensor) -> Tensor | int:
        """Return what to subtract from pixels, whose squares cancel less around their mean.

        Sums of products stay the same where templates have the mean 0: see `normalised`. Integers
        don't cancel, as they aren't rounded.
        """
        centred = self.statistic.invariant and self.statistic.scalable
        if not centred or problem.value_range is not None or not plain(problem):
            return 0
        return mean_of(image)

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


class _Templates:
    """Moments of templates: Σk of each channel, (N, C), and Σk², (N,)."""

    def __init__(self, kernel: Tensor) -> None:
        own = kernel.double()
        self.sums, self.squares = own.sum((2, 3)).numpy(), own.square().sum((1, 2, 3)).numpy()


def _scale(image: Tensor) -> float:
    """Return a number of the size of the image's."""
    return float(image.detach().double().abs().nan_to_num(0, 0, 0).max()) or 1.0


def rounding_of(problem: Problem) -> float:
    """Return by which share of itself Σp² may be off, if only by the roundings that follow."""
    return 2.0**-52 * (1 if problem.value_range is not None else problem.taps + 8)


def _box_moments(problem: Problem, image: Tensor, centre: Tensor | int) -> tuple[Tensor, Tensor]:
    """Return Σp of each channel, (B, 1, C, Ho, Wo), and Σp² of all, (B, 1, Ho, Wo)."""
    if not plain(problem):
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
