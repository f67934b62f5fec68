"""lowrank: l1, approximately, by R cross-correlations.

On 0 … 1, |x − y| is nearly A(x) + A(y) + Σ_r f_r(x)·g_r(y), in one of two ways:

fitted
    A and the f_r = −g_r are linear between nodes, at which they are fitted to |x − y| (see
    `patchsim.sums.fitted`). R products leave an error near 0.13 / R^1.15. It is computed at the
    nodes, and is no larger between them (Coq: ``nodes_error``, ``products_window``).

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
from functools import cache, lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from patchsim import bounds
from patchsim.backends.base import Backend, Work
from patchsim.metrics.base import Metric
from patchsim.problem import Problem
from patchsim.sums import correlation, fitted

#: The largest error where none is wanted.
ERROR = 0.02


@lru_cache(maxsize=64)
def lowrank(error: float = ERROR, *, terms: int | None = None, basis: str = "fitted") -> Backend:
    """Make the backend that approximates l1 to a wanted error.

    Parameters
    ----------
    error : float
        The largest error of mean distances, as a share of the range of values that image and
        template span: 0.01 is 1 % of it. It decides the number of terms, near
        (0.13 / error)^0.87.
    terms : int, optional
        The number of terms, R, itself.
    basis : "fitted" or "sines"
        Of which functions the terms are made. Sines need 4 / (π²·error), which is four times as
        many for 0.01, but there may be any number of them, and their error is known by a formula.

    Returns
    -------
    Backend
        To be passed as ``backend=``. Time is that of R + 1 cross-correlations.

    Raises
    ------
    ValueError
        For an error outside 0 to 1, fewer terms than 1, more fitted ones than 128 or an unknown
        basis.

    Notes
    -----
    Fitting R terms takes time in R³: 40 ms for 16, 0.6 s for 64. It is done once in a process.

    Examples
    --------
    >>> from patchsim import similarity
    >>> image = torch.linspace(0, 1, 12).reshape(1, 3, 4)
    >>> score = similarity(image, image, backend=lowrank(error=0.01))
    >>> bool((1 - score).abs() < 0.01)
    True
    """
    if basis not in _BASES:
        raise ValueError(f"`basis` must be one of {', '.join(_BASES)}, got {basis!r}")
    if terms is not None and terms < 1:
        raise ValueError(f"`terms` must be at least 1, got {terms}")
    make, likely = _BASES[basis]
    factors = _of_error(error, make, likely) if terms is None else make(terms)
    return _backend(lambda: factors)


def _backend(factors: Callable[[], _Factors]) -> Backend:
    return Backend(
        name="lowrank",
        run=lambda *given: factors().run(*given),
        error=_nothing,
        refuse=_refuse,
        work=lambda *given: factors().work(*given),
        memory="planes of a tile",
        rates=correlation.RATES,
        approximate=True,
        differentiable=False,
        alike=lambda *given: factors().error(*given),
    )


def _nothing(metric: Metric, problem: Problem, image: Tensor, *_: Tensor | None) -> Tensor:
    """Add nothing for single windows: the error depends on the values of the whole tile."""
    return torch.zeros((), dtype=torch.float64, device=image.device)


def _of_error(
    error: float, make: Callable[[int], _Factors], likely: Callable[[float], int]
) -> _Factors:
    """Take the first number of terms that suffices, from the likely one on."""
    if not 0 < error <= 1:
        raise ValueError(f"`error` must be above 0 and at most 1, got {error}")
    factors = make(likely(error))
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
    steepness : float
        What the slopes of A(x), A(y) and the products by x and y are at most together.
    """

    number: int
    truncation: float
    alone: Callable[[Tensor], Tensor]
    products: Callable[[Tensor, Tensor], Iterator[tuple[Tensor, Tensor]]]
    steepness: float

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

        Arguments are rounded by at most 5·u·x, which their functions' slopes multiply.
        """
        least, span = _range(image, kernel)
        weights = torch.ones_like(kernel) if weight is None else weight
        own = weights.double().sum((1, 2, 3))[:, None, None]
        heaviest = problem.taps * weights.double().amax((1, 2, 3))[:, None, None]
        roundings = problem.taps + self.number + 32 + 2 * math.ceil(self.steepness)
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


def _fitted(number: int) -> _Factors:
    if number > fitted.MOST:
        raise ValueError(
            f"fitted terms must be at most {fitted.MOST}, got {number}: take a larger `error`, or "
            'basis="sines"'
        )
    fit = fitted.fit(number)

    def alone(x: Tensor) -> Tensor:
        [values] = _between(fit.alone[None], x)
        return values

    def products(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(_between(fit.factors, x), _between(-fit.factors, y), strict=True)

    steep = [np.diff(values) * (len(fit.alone) - 1) for values in (fit.alone, fit.factors)]
    # By Cauchy-Schwarz.
    norms = [np.sqrt(np.square(values).sum(0).max()) for values in (fit.factors, steep[1])]
    steepness = 2 * (np.abs(steep[0]).max() + norms[0] * norms[1])
    return _Factors(number, fit.error, alone, products, float(steepness))


def _between(values: np.ndarray, x: Tensor) -> Iterator[Tensor]:
    """Interpolate between values (R, N + 1) at the nodes i / N, in turn for each r."""
    nodes = values.shape[1] - 1
    place = x * nodes
    left = place.long().clamp_(0, nodes - 1)
    part, left = (place - left).flatten(), left.flatten()
    # As complex numbers, so that one look-up finds both a value and the step to the next.
    pairs = torch.complex(*(torch.from_numpy(v).to(x) for v in (values[:, :-1], np.diff(values))))
    for table in pairs:
        found = table.index_select(0, left)
        yield torch.addcmul(found.real, part, found.imag).view(x.shape)


def _sines(number: int) -> _Factors:
    frequencies = [(j + 0.5) * math.pi for j in range(number)]

    def products(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for frequency in frequencies:
            yield (frequency * x).sin(), (frequency * y).sin() * (-4 / frequency**2)

    steepness = 2 + sum(8 / frequency for frequency in frequencies)
    return _Factors(number, 4 / (math.pi**2 * number), torch.clone, products, steepness)


def _sines_for(error: float) -> int:
    return math.ceil(4 / (math.pi**2 * error))


#: How to make so many terms, and about how many leave an error.
_BASES = {"fitted": (_fitted, fitted.products_for), "sines": (_sines, _sines_for)}


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


#: As `lowrank()` makes it, but fitted when it is first used, which importing needn't wait for.
LOWRANK = _backend(cache(partial(_of_error, ERROR, *_BASES["fitted"])))
