"""lowrank: l1, approximately, by R cross-correlations.

On 0 … 1, |x − y| = x + y − 2·min(x, y) and min(x, y) = Σ_{j≥1} 2·sin(ω_j x)·sin(ω_j y) / ω_j² with
ω_j = (j − ½)π (Coq: ``min_series``). R terms leave an error of at most 4 / (π²R) (Coq:
``l1_truncation``), a share of the range that image and template span.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor

from patchsim import bounds, correlation
from patchsim.backends.base import Backend, Work
from patchsim.metrics.base import Metric
from patchsim.problem import Problem


@lru_cache(maxsize=64)
def lowrank(error: float = 0.02, *, terms: int | None = None) -> Backend:
    """Make the backend that approximates l1 to a wanted error.

    Parameters
    ----------
    error : float
        The largest error of mean distances, as a share of the range of values that image and
        template span: 0.01 is 1 % of it. It decides the number of terms, 4 / (π²·error).
    terms : int, optional
        The number of terms, R, itself.

    Returns
    -------
    Backend
        To be passed as ``backend=``. Time is that of R + 1 cross-correlations.

    Raises
    ------
    ValueError
        For an error outside 0 to 1 or fewer terms than 1.

    Examples
    --------
    >>> from patchsim import similarity
    >>> image = torch.linspace(0, 1, 12).reshape(1, 3, 4)
    >>> score = similarity(image, image, backend=lowrank(error=1e-3))
    >>> bool((1 - score).abs() < 1e-3)
    True
    """
    if terms is None:
        if not 0 < error <= 1:
            raise ValueError(f"`error` must be above 0 and at most 1, got {error}")
        terms = math.ceil(4 / (math.pi**2 * error))
    if terms < 1:
        raise ValueError(f"`terms` must be at least 1, got {terms}")
    sines = _Sines(terms)
    return Backend(
        name="lowrank",
        run=sines.run,
        error=sines.error,
        refuse=_refuse,
        work=sines.work,
        memory="planes of a tile",
        rates=correlation.RATES,
        approximate=True,
        differentiable=False,
    )


@dataclass(frozen=True)
class _Sines:
    """The expansion into so many sines."""

    number: int

    def run(
        self, metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
    ) -> Tensor:
        least, span = _range(image, kernel)
        expand = partial(self._expand, least, span)
        return span * correlation.window_sums(problem, image, kernel, weight, expand, (0, 0))

    def _expand(
        self, least: Tensor, span: Tensor, image: Tensor, kernel: Tensor, weights: Tensor
    ) -> tuple[correlation.Terms, Tensor]:
        x, y = (image - least) / span, (kernel - least) / span
        return self._terms(x, y, weights), (weights * y).sum((1, 2, 3))

    def _terms(self, x: Tensor, y: Tensor, weights: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        yield x, weights
        for j in range(self.number):
            frequency = (j + 0.5) * math.pi
            yield (frequency * x).sin(), (frequency * y).sin() * weights * (-4 / frequency**2)

    def error(
        self, metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
    ) -> Tensor:
        """Bound the series' tail (Coq: ``window_error_weighted``) and the roundings.

        The terms of a tap are at most 4 together. Sines err by the rounding of their arguments,
        ω·u, which the factors 4 / ω² make into less than 16·u·(1 + log R).
        """
        least, span = _range(image, kernel)
        weights = torch.ones_like(kernel) if weight is None else weight
        own = weights.double().sum((1, 2, 3))[:, None, None]
        heaviest = problem.taps * weights.double().amax((1, 2, 3))[:, None, None]
        roundings = problem.taps + self.number + 32 + 16 * math.ceil(1 + math.log(self.number))
        # Subtracting the least value rounds relative to the values, not to their range.
        size = 1 + (least.abs() + span).double() / span
        gamma = bounds.gamma(roundings, torch.finfo(problem.value_dtype).eps / 2)
        total = 4 / (math.pi**2 * self.number) * own + 4 * gamma * size * heaviest
        expand = partial(self._expand, least, span)
        total = total + correlation.transforms_error(problem, image, kernel, weight, expand)
        info = torch.finfo(problem.value_dtype)
        total = 1.001 * span.double() * (total + 24 * self.number * problem.taps * info.tiny)
        overflows = ~(8 * span.double() * heaviest < info.max)
        return total.masked_fill(overflows, torch.inf)

    def work(self, problem: Problem, metric: Metric) -> Work:
        return correlation.work(problem, self.number + 1)


def _range(image: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least value and how far the others reach above it."""
    both = [values.detach().nan_to_num(0, 0, 0) for values in (image, kernel)]
    least = torch.stack([values.amin() for values in both]).amin()
    span = torch.stack([values.amax() for values in both]).amax() - least
    return least, torch.where(span > 0, span, 1)


def _refuse(problem: Problem, metric: Metric) -> list[str]:
    """Refuse all but |p − k|, integers, which are expected to be exact, and gradients."""
    reasons = correlation.refuse_others_than_l1(metric)
    if not reasons and problem.value_range is not None:
        reasons = ["it is approximate, and integers are exact: convert them to floats for it"]
    return reasons or correlation.refuse_gradients(problem, "the range of the values")


LOWRANK = lowrank()
