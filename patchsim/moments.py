"""Statistics: similarities made of a metric's window sums and of moments of windows and templates.

Σp and Σp² are box sums and Σp·k is what backends sum. All of it is in float64, where the moments of
integers have no rounding.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from patchsim import bounds, threads
from patchsim.backends.base import Backend, OfImage, Work
from patchsim.backends.conv2d import CONV2D
from patchsim.bounds import finite_range
from patchsim.finish import Score
from patchsim.kernels import jit, scores
from patchsim.metrics.base import Metric, Moments, Statistic
from patchsim.metrics.product import PRODUCT, SQUARE
from patchsim.normalising import balance, mean_of
from patchsim.problem import Problem
from patchsim.sums import box, factors
from patchsim.sums.box import Array, box_sum
from patchsim.sums.equal_pixels import flat_windows
from patchsim.sums.moments import (
    OfTemplates,
    box_moments,
    memory_of_moments,
    plain,
    rounding_of,
    scale_of,
    small_of,
)
from patchsim.weights import weighted_moments

#: Operations that take as long as a window's moments, in a channel, and its score; of integers,
#: whose box sums are running ones.
SCORING, SCORING_INTEGERS = 50, 15
#: Windows whose similarities are computed at a time: their moments stay in a core's cache.
WINDOWS = 2**17


@lru_cache(maxsize=256)
def adapt(
    backend: Backend,
    statistic: Statistic,
    data_range: float,
    score: Score,
    *,
    least: bool = False,
    ends: tuple[float, float] = (0.0, 0.0),
) -> Backend:
    """Make a backend compute the map itself, (B, N, Ho, Wo) as `score` makes it.

    Or lower bounds on the distances of all windows to each template, and distances. `ends` are
    the greatest magnitude of the image's values and how far they are apart, if errors are bounded.
    """
    adapted = _Adapted(backend, statistic, data_range, score, ends)
    bind = adapted.bind_least if least else adapted.bind
    return dataclasses.replace(backend, bind=bind, error=adapted.error, work=adapted.work)


@dataclass(frozen=True)
class _Adapted:
    backend: Backend
    statistic: Statistic
    range: float
    score: Score
    ends: tuple[float, float] = (0.0, 0.0)

    def bind(
        self, metric: Metric, problem: Problem, kernel: Tensor, weight: Tensor | None
    ) -> OfImage:
        """Prepare templates for maps of scores."""
        window_sums = self._sums(problem, kernel, weight)
        own = OfTemplates(kernel, weight) if jit.usable(problem) else None

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
        own = OfTemplates(kernel, weight) if jit.usable(problem) else None
        share = 2.0**-49
        if problem.value_range is None:
            share = 16 * (problem.taps + 8) * 2.0**-53

        def of_image(image: Tensor) -> Tensor:
            if own is not None:
                sums = window_sums(image)
                run = scores.kernel(self.statistic, sums.dtype, self.score.working, bound=True)
                if run:
                    wanted = self._errors(problem, image, kernel, weight), share, 2.0**-1000
                    return self._scores(run, wanted, problem, image, own, sums, maps=2)
            here = self._similarity(m := self._moments_of(problem, image, kernel, weight))
            off, change = self._offs(metric, problem, m, image, kernel, weight)
            if self.statistic.spread is not None and self.statistic.summed is PRODUCT:
                # Twice, as distances in float64 err, too.
                error = 2 * self.statistic.spread(m, off, change)
            else:
                error = 2 * self._furthest(m, here, off, change, problem, image)
            # Where no bound is known, windows are looked at.
            known = here.isfinite() & error.isfinite()
            lower = torch.where(known, (1 - here - error).clamp(-1, 2), -1)
            return torch.cat([lower, 1 - here], 1).to(self.score.dtype)

        return of_image

    def _sums(self, problem: Problem, kernel: Tensor, weight: Tensor | None) -> OfImage:
        """Bind templates for window sums of images that may be of another dtype."""
        summed, backend = self.statistic.summed, self.backend
        window_sums = backend.bound(summed, problem, kernel, weight)
        if backend.mixed is not None and backend.mixed(summed, problem):
            return window_sums
        return lambda image: window_sums(image.to(problem.value_dtype))

    @bounds.overflowing
    def _errors(
        self, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
    ) -> Array:
        """Bound the errors of the sums of all windows of an image, (N,)."""
        summed = self.statistic.summed
        if problem.value_range is not None:
            return np.zeros(problem.templates)
        if summed.majorant is None:
            return np.full(problem.templates, np.inf)
        values = finite_range(image)
        unit = balance(values, kernel) if summed is PRODUCT else 1.0
        kernel = unit * kernel
        window = bounds.furthest(summed, problem, kernel, weight, values)
        return self.backend.flat_error(window, (problem,), kernel, weight) / unit

    def _scores(
        self,
        run: scores.Kernel,
        wanted: tuple[object, ...],
        problem: Problem,
        image: Tensor,
        templates: OfTemplates,
        sums: Tensor,
        maps: int = 1,
    ) -> Tensor:
        """Run a kernel on some rows at a time, whose moments stay in the cache.

        It makes so many maps of each template.
        """
        rows, cols = problem.map_size
        shape = len(sums), maps * problem.templates, rows, cols
        output = torch.empty(shape, dtype=self.score.working)
        given, own = sums.contiguous().numpy(), output.numpy()  # backends may keep another format
        centre = self._centre(problem, image)
        of_windows = self._of_rows(problem, image, templates, centre)
        probes, rounding = self._probes(problem, image, templates.weight)
        # Templates whose sums aren't quite 0 meet the mean that windows are centred by.
        with np.errstate(over="ignore", invalid="ignore"):  # of templates that aren't finite
            offsets = (templates.sums * _each_channel(centre, problem)).sum(1)
        own_sums = templates.sums, templates.squares, templates.totals
        more = *own_sums, offsets, probes.numpy(), rounding, self.range
        together = max(problem.kernel_size[0], WINDOWS // cols)

        def score(begin: int, end: int) -> None:
            for first in range(begin, end, together):
                moments = of_windows(first, min(first + together, end))
                run(given, *moments, *more, *wanted, own, first)

        windows = len(sums) * rows * cols
        each = SCORING if problem.value_range is None else SCORING_INTEGERS
        threads.share(score, rows, each * windows * (problem.channels + problem.templates))
        return output.to(self.score.dtype)

    def _of_rows(
        self, problem: Problem, image: Tensor, templates: OfTemplates, centre: Tensor | int
    ) -> Callable[[int, int], tuple[Array, Array]]:
        """Return what gives the moments of windows in some rows, as `Moments` has them."""
        if not plain(problem):
            if templates.weight is None:
                p, pp = box_moments(problem, image, 0)
            else:
                p, pp = weighted_moments(self.backend, problem, image, templates.weight)
            whole = p.numpy(), pp.numpy()

            def cut(first: int, last: int) -> tuple[Array, Array]:
                sums, squares = (np.ascontiguousarray(own[..., first:last, :]) for own in whole)
                return sums, squares

            return cut
        down = problem.stride[0]

        def of_rows(first: int, last: int) -> tuple[Array, Array]:
            height = (last - first - 1) * down + problem.extent[0]
            part = dataclasses.replace(problem, image_size=(height, problem.image_size[1]))
            p, pp = box_moments(part, image[:, :, first * down : first * down + height], centre)
            return p.numpy(), pp.numpy()

        return of_rows

    def _probes(
        self, problem: Problem, image: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, float]:
        """Return `probes`, (N,), and `rounding` of `Moments`."""
        if weight is None or problem.value_range is not None:
            return torch.zeros(problem.templates, dtype=torch.float64), rounding_of(problem)
        scale = scale_of(image)  # whose power, unlike its product, may raise
        probes = scale * scale * weight.double().sum((1, 2, 3))
        return probes, 2.0**-44 * (problem.taps + 8)

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
        """Count the bytes of whole moments, and of what is made of them by torch."""
        if problem.weighting == "none":
            return memory_of_moments(problem)
        backend = CONV2D if self.backend.refuse(problem, SQUARE) else self.backend
        return memory_of_moments(problem) + backend.work(problem, SQUARE).bytes

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
        m = self._moments_of(problem, image, kernel, weight)
        here = self._similarity(m)
        off, change = self._offs(metric, problem, m, image, kernel, weight, alike)
        furthest = self._furthest(m, here, off, change, problem, image)
        found = 2 * furthest + small_of(problem)
        return torch.where((off + change).isfinite(), found, torch.inf)

    def _moments_of(
        self, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
    ) -> Moments:
        sums = self._sums(problem, kernel, weight)(image)
        image = image.double() if problem.value_range is None else image
        return self._moments(problem, image, kernel, weight, sums.double())

    def _offs(
        self,
        metric: Metric,
        problem: Problem,
        m: Moments,
        image: Tensor,
        kernel: Tensor,
        weight: Tensor | None,
        alike: Tensor | float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Bound how far `sums` and `pp` can be off.

        What is `alike` in the errors of all sums is worked out unless it is given.
        """
        small, energy = small_of(problem), m.pp + m.kk + m.probes
        if problem.value_range is not None:
            return (small * energy).expand_as(m.sums), small * energy
        image = image.double()
        unit = balance(finite_range(image), kernel) if metric is PRODUCT else 1.0
        error = self.backend.error(metric, problem, image, unit * kernel, weight) / unit
        if alike is None:
            alike = 0.0
            if self.backend.alike is not None:
                alike = self.backend.alike(metric, problem, image, kernel, weight)
        return error + alike + small * energy, small * energy

    def _furthest(
        self,
        m: Moments,
        here: Tensor,
        off: Tensor,
        change: Tensor,
        problem: Problem,
        image: Tensor,
    ) -> Tensor:
        """Return how far the similarity is from values at the ends of the moments' intervals."""
        small = small_of(problem)
        furthest = torch.zeros_like(here)
        if problem.value_range is None:
            unclear = self._unclear(m, problem, image.double())
            furthest = unclear.double().expand_as(here)
        for up, more, share in product((-1, 1), (-1, 0, 1), (-small, small)):
            pp, kk = (m.pp + more * change).clamp(min=0), m.kk * (1 + share)
            moved = dataclasses.replace(m, sums=m.sums + up * off, pk=m.pk - up * off, pp=pp, kk=kk)
            furthest = torch.maximum(furthest, (self._similarity(moved) - here).abs())
        return furthest

    def _unclear(self, m: Moments, problem: Problem, image: Tensor) -> Tensor:
        """Tell which windows rounding may make flat, or not flat, but for those that surely are."""
        # Around another mean, that of another tile, or by other probes.
        peak, span = self.ends
        other = problem.taps * span * span if plain(problem) else peak * peak * m.total
        lost = 4 * (m.flat + m.rounding * other) + problem.taps * 2.0**-1021  # what may underflow
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
            centre = self._centre(problem, image)
            p, pp = box_moments(problem, image, centre)
            if self.statistic.summed is PRODUCT and plain(problem):
                offsets = k.sum((2, 3)) @ torch.from_numpy(_each_channel(centre, problem)).to(k)
                sums = sums - offsets[:, None, None]
        else:
            p, pp = weighted_moments(self.backend, problem, image, weights.to(image.dtype))
        kk = (weights * k * k).sum((1, 2, 3))[:, None, None]
        probes, rounding = self._probes(problem, image, weight)
        return Moments(
            totals=weights.sum((2, 3))[:, :, None, None],
            windows=p,
            templates=(weights * k).sum((2, 3))[:, :, None, None],
            pp=pp,
            kk=kk,
            sums=sums,
            pk=sums if self.statistic.summed is PRODUCT else (pp + kk - sums) / 2,
            rounding=rounding,
            probes=probes.to(kk)[:, None, None],
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


def _each_channel(centre: Tensor | int, problem: Problem) -> Array:
    return factors.each_channel(centre, problem.channels, torch.float64)
