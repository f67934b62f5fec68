"""Statistics: similarities made of a metric's window sums and of moments of windows and templates.

Σp and Σp² are box sums and Σp·k follows from the SSD, Σ(p − k)², so that whatever computes l2
computes normalised correlation as well. All of it is in float64, where the moments of integers
have no rounding.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from patchsim import algebra
from patchsim.backends.base import Backend, Work
from patchsim.backends.conv2d import CONV2D
from patchsim.box import box_sum, expression_sum
from patchsim.metrics.base import Metric, Moments, Statistic
from patchsim.metrics.l2 import METRIC as L2
from patchsim.problem import INTEGER_RANGES, Problem
from patchsim.slide import Planes


@lru_cache(maxsize=256)
def adapt(backend: Backend, statistic: Statistic, data_range: float) -> Backend:
    """Make a backend compute the similarity itself, (B, N, Ho, Wo) in float64."""
    adapted = _Adapted(backend, statistic, data_range)
    return dataclasses.replace(backend, run=adapted.run, error=adapted.error, work=adapted.work)


@dataclass(frozen=True)
class _Adapted:
    backend: Backend
    statistic: Statistic
    range: float

    def run(
        self, metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
    ) -> Tensor:
        if weight is not None:
            problem, image, kernel, weight = _doubled(problem, image, kernel, weight)
        return self._similarity(self._moments(problem, image, kernel, weight))

    def _similarity(self, moments: Moments) -> Tensor:
        # A NaN or inf in a window or template stays one.
        spoilt = 0 * (moments.sums + moments.pp)
        return self.statistic.similarity(moments) + spoilt

    def work(self, problem: Problem, metric: Metric) -> Work:
        work = self.backend.work(problem, metric)
        rows, cols = problem.map_size
        windows = problem.batch * rows * cols
        maps = 10 * windows * problem.templates + 3 * windows * problem.channels
        pixels = 3 * problem.batch * problem.channels * problem.image_size[0]
        more = 8 * (maps + pixels * problem.image_size[1])
        return dataclasses.replace(work, bytes=work.bytes + more)

    def error(
        self, metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
    ) -> Tensor:
        """Bound the similarity's error.

        It falls as the sums grow, so that errors of the sums move it no further than to its values
        at the ends of their interval. The roundings of the moments, in float64, are bounded to
        first order: they are moved as well, as far as they can be off, up and down.
        """
        if weight is not None:
            problem, image, kernel, weight = _doubled(problem, image, kernel, weight)
        m = self._moments(problem, image, kernel, weight)
        small = 4 * (problem.taps + 8) * 2.0**-53
        if problem.value_range is None:
            error = self.backend.error(metric, problem, image, kernel, weight)
        else:
            error, small = torch.zeros_like(m.sums), 2.0**-50
        energy = m.pp + m.kk
        if weight is not None:  # and that of the templates that moments are computed with
            energy = (
                energy + m.total.sum((1, 2, 3))[:, None, None] * image.double().abs().max() ** 2
            )
        error = error + small * energy
        here, furthest = self._similarity(m), torch.zeros_like(m.sums)
        for sums in (m.sums - error, m.sums + error):
            for change in (-small, 0, small):
                moved = dataclasses.replace(m, sums=sums, pp=(m.pp + change * energy).clamp(min=0))
                furthest = torch.maximum(furthest, (self._similarity(moved) - here).abs())
        return 2 * furthest + small

    def _moments(
        self, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
    ) -> Moments:
        sums = self.backend.run(self.statistic.summed, problem, image, kernel, weight).double()
        exact = problem.value_range is not None
        # Integers don't cancel, as they aren't rounded.
        centred = self.statistic.invariant and not exact
        centre = algebra.middle(problem, kernel, L2) if centred else 0
        k = kernel.double() - centre
        weights = torch.ones_like(k) if weight is None else weight.double()
        if weight is None:
            p, pp = _box_moments(problem, image, centre)
        else:
            p, pp = self._weighted_moments(problem, image - centre, weights.to(image.dtype))
        kk = (weights * k * k).sum((1, 2, 3))[:, None, None]
        # Sums of integers have no rounding; others are off by less than these shares.
        flat = pp * 2.0**-52 * (1 if exact else problem.taps + 8)
        if weight is not None and not exact:
            flat = 2.0**-44 * (problem.taps + 8) * self._energy(image, weights, pp)
        return Moments(
            total=weights.sum((2, 3))[:, :, None, None],
            p=p,
            k=(weights * k).sum((2, 3))[:, :, None, None],
            pp=pp,
            kk=kk,
            sums=sums,
            flat=flat,
            range=self.range,
        )

    @staticmethod
    def _energy(image: Tensor, weights: Tensor, energy: Tensor) -> Tensor:
        """Add that of the templates by which weighted moments are computed."""
        return energy + _scale(image) ** 2 * weights.double().sum((1, 2, 3))[:, None, None]

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
        p = (pp[:, :, None] + scale**2 * own - found[:, :, 1:]) / (2 * scale)
        return p, pp


def _scale(image: Tensor) -> float:
    """Return a number of the size of the image's."""
    return float(image.detach().double().abs().nan_to_num(0, 0, 0).max()) or 1.0


def _doubled(
    problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor
) -> tuple[Problem, Tensor, Tensor, Tensor]:
    """Turn floats into float64: weighted moments are differences of larger numbers."""
    if problem.value_range is not None:
        return problem, image, kernel, weight
    problem = dataclasses.replace(problem, dtype=torch.float64)
    return problem, image.double(), kernel.double(), weight.double()


def _box_moments(problem: Problem, image: Tensor, centre: Tensor | int) -> tuple[Tensor, Tensor]:
    """Return Σp of each channel, (B, 1, C, Ho, Wo), and Σp² of all, (B, 1, Ho, Wo)."""
    batch, channels = image.shape[:2]
    fast = image.dtype in INTEGER_RANGES and image.device.type == "cpu"
    if fast and problem.dilation == (1, 1) and not torch.compiler.is_compiling():
        zero = torch.zeros(channels, dtype=torch.float64)
        pp = expression_sum("(p*p)", image, Planes(image, (1, 1)), zero, problem)
        single = image.flatten(0, 1)[:, None]
        p = expression_sum("p", single, Planes(single, (1, 1)), zero[:1], problem)
    else:
        values = image.double() - centre
        pp = box_sum(values * values, problem)
        p = box_sum(values.flatten(0, 1)[:, None], problem)
    return p.reshape(batch, 1, channels, *problem.map_size), pp
