"""lowrank: l1, approximately, by R cross-correlations.

On 0 … 1, |x − y| is nearly A(x) + A(y) + Σ_r f_r(x)·g_r(y), in one of two ways:

cosines
    |x − y| = (2 / π²)·Σ_{j≥1} (cos jπx − cos jπy)² / j², of which R terms are kept. These products
    of cosines are the eigenfunctions of |x − y| less functions of x and of y alone, so that in mean
    square no R products come nearer (Eckart and Young 1936). The remainder isn't negative: adding
    half of the greatest halves the error. It is greatest at the ends, so that values are moved off
    them, to δ … 1 − δ with δ = 1 / (5R). The error, near 0.157 / R, is computed at nodes and larger
    between them by little (Coq: ``cosines_error``); A and the products are the terms of the squares
    (Coq: ``squares_window``).

sines
    |x − y| = x + y − 2·min(x, y) and min(x, y) = Σ_{j≥1} 2·sin(ω_j x)·sin(ω_j y) / ω_j² with ω_j =
    (j − ½)π (Coq: ``min_series``). R terms leave an error of at most 4 / (π²R) (Coq:
    ``l1_truncation``), by a formula.

The error is a share of the range that image and template span.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from patchsim import bounds, correlation
from patchsim.backends.base import Backend, Work
from patchsim.metrics.base import Metric
from patchsim.problem import Problem

#: Nodes at which the error of cosines is computed, for each term.
NODES = 32


@lru_cache(maxsize=64)
def lowrank(error: float = 0.02, *, terms: int | None = None, basis: str = "cosines") -> Backend:
    """Make the backend that approximates l1 to a wanted error.

    Parameters
    ----------
    error : float
        The largest error of mean distances, as a share of the range of values that image and
        template span: 0.01 is 1 % of it. It decides the number of terms, near 0.157 / error.
    terms : int, optional
        The number of terms, R, itself.
    basis : "cosines" or "sines"
        Of which functions the terms are made. Sines need 2.6 times as many for the same error,
        4 / (π²·error), but their error is known by a formula.

    Returns
    -------
    Backend
        To be passed as ``backend=``. Time is that of R + 1 cross-correlations.

    Raises
    ------
    ValueError
        For an error outside 0 to 1, fewer terms than 1 or an unknown basis.

    Notes
    -----
    Computing the error of R cosines takes about (32·R)² / 2 additions, which is seconds for
    thousands of terms. It is done once in a process.

    Examples
    --------
    >>> from patchsim import similarity
    >>> image = torch.linspace(0, 1, 12).reshape(1, 3, 4)
    >>> score = similarity(image, image, backend=lowrank(error=1e-3))
    >>> bool((1 - score).abs() < 1e-3)
    True
    """
    if basis not in _BASES:
        raise ValueError(f"`basis` must be one of {', '.join(_BASES)}, got {basis!r}")
    if terms is None:
        factors = _of_error(error, *_BASES[basis])
    elif terms >= 1:
        factors = _BASES[basis][0](terms)
    else:
        raise ValueError(f"`terms` must be at least 1, got {terms}")
    return Backend(
        name="lowrank",
        run=factors.run,
        error=factors.error,
        refuse=_refuse,
        work=factors.work,
        memory="planes of a tile",
        rates=correlation.RATES,
        approximate=True,
        differentiable=False,
    )


def _of_error(error: float, make: Callable[[int], _Factors], times_terms: float) -> _Factors:
    """Take the first number of terms that suffices, from `times_terms` / error on."""
    if not 0 < error <= 1:
        raise ValueError(f"`error` must be above 0 and at most 1, got {error}")
    factors = make(math.ceil(times_terms / error))
    while factors.truncation > error:
        factors = make(factors.number + 1)
    return factors


@dataclass(frozen=True)
class _Factors:
    """|x − y| on 0 … 1 as A(x) + A(y) + Σ_r f_r(x)·g_r(y).

    Attributes
    ----------
    number : int
        Of the products.
    truncation : float
        The largest error.
    alone : callable
        A.
    products : callable
        (x, y) -> f_r(x) and g_r(y) for each r. At any x and y the magnitudes of A(x), A(y) and all
        products are at most 4 together.
    """

    number: int
    truncation: float
    alone: Callable[[Tensor], Tensor]
    products: Callable[[Tensor, Tensor], Iterator[tuple[Tensor, Tensor]]]

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
        return self._terms(x, y, weights), (weights * self.alone(y)).sum((1, 2, 3))

    def _terms(self, x: Tensor, y: Tensor, weights: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.alone(x), weights
        for f, g in self.products(x, y):
            yield f, g * weights

    def error(
        self, metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
    ) -> Tensor:
        """Bound what the terms left out add up to (Coq: ``window_error_weighted``) and roundings.

        Waves err by the rounding of their arguments, at most 5·u·ω, which their factors make into
        less than 16·u·(1 + log R) times 4.
        """
        least, span = _range(image, kernel)
        weights = torch.ones_like(kernel) if weight is None else weight
        own = weights.double().sum((1, 2, 3))[:, None, None]
        heaviest = problem.taps * weights.double().amax((1, 2, 3))[:, None, None]
        roundings = problem.taps + self.number + 32 + 16 * math.ceil(1 + math.log(self.number))
        # Subtracting the least value rounds relative to the values, not to their range.
        size = 1 + (least.abs() + span).double() / span
        gamma = bounds.gamma(roundings, torch.finfo(problem.value_dtype).eps / 2)
        total = self.truncation * own + 4 * gamma * size * heaviest
        expand = partial(self._expand, least, span)
        total = total + correlation.transforms_error(problem, image, kernel, weight, expand)
        info = torch.finfo(problem.value_dtype)
        total = 1.001 * span.double() * (total + 24 * self.number * problem.taps * info.tiny)
        overflows = ~(8 * span.double() * heaviest < info.max)
        return total.masked_fill(overflows, torch.inf)

    def work(self, problem: Problem, metric: Metric) -> Work:
        return correlation.work(problem, self.number + 1)


@lru_cache(maxsize=64)
def _cosines(number: int) -> _Factors:
    margin = 1 / (5 * number)
    inside = 1 - 2 * margin
    scales = [2 / (math.pi**2 * j**2 * inside) for j in range(1, number + 1)]
    least, most = _remainder(np.array(scales), margin)
    half, unevenness = (most + least) / 2, 2 * number * inside / (NODES * number) ** 2

    def waves(x: Tensor) -> Iterator[Tensor]:
        return ((j * math.pi * (margin + inside * x)).cos() for j in range(1, number + 1))

    def alone(x: Tensor) -> Tensor:
        start = torch.full_like(x, half / 2)
        return sum((c * wave.square() for c, wave in zip(scales, waves(x), strict=True)), start)

    def products(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        factors = zip(scales, waves(x), waves(y), strict=True)
        return ((f, -2 * c * g) for c, f, g in factors)

    return _Factors(number, (most - least) / 2 + unevenness, alone, products)


def _remainder(scales: np.ndarray, margin: float) -> tuple[float, float]:
    """Find the least and greatest of |x − y| − Σ c_j·(cos jπx′ − cos jπy′)² at nodes x ≥ y.

    x′ = δ + (1 − 2δ)·x. With S(t) = Σ c_j·cos jπt, a square's sum is S(0) + ½S(2x′) + ½S(2y′) −
    S(x′ + y′) − S(x′ − y′), for the nodes that are as far apart at a time.
    """
    last = NODES * len(scales)
    step, frequencies = (1 - 2 * margin) / last, np.arange(1, len(scales) + 1) * np.pi

    def series(t: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [
                np.cos(np.outer(part, frequencies)) @ scales
                for part in np.array_split(t, -(-len(t) // 4096))
            ]
        )

    apart, added = (
        series(start + step * np.arange(n))
        for start, n in ((0, last + 1), (2 * margin, 2 * last + 1))
    )
    alone = (apart[0] + added[::2]) / 2
    least = most = 0.0
    for gap in range(1, last + 1):
        sums = alone[gap:] + alone[:-gap] - added[gap : 2 * last - gap + 1 : 2]
        rest = gap / last + apart[gap]
        least, most = min(least, rest - sums.max()), max(most, rest - sums.min())
    return float(least), float(most)


@lru_cache(maxsize=64)
def _sines(number: int) -> _Factors:
    def products(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for j in range(number):
            frequency = (j + 0.5) * math.pi
            yield (frequency * x).sin(), (frequency * y).sin() * (-4 / frequency**2)

    return _Factors(number, 4 / (math.pi**2 * number), torch.clone, products)


#: How to make so many terms, and their number times their error, or less.
_BASES = {"cosines": (_cosines, 0.15), "sines": (_sines, 4 / math.pi**2)}


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
