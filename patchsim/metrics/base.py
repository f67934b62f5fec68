"""What is measured: metrics as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from patchsim.metrics.expansion import Expansion, Scalar, Term, identity, square

__all__ = ["Expansion", "Metric", "Moments", "Scalar", "Statistic", "Term"]
__all__ += ["clamp", "identity", "inverse_root", "ratio", "root", "sign", "square"]


def root(x: Tensor) -> Tensor:
    """Return √x for x ≥ 0, with the derivative 0 instead of none at 0, and NaN of NaN."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1).sqrt(), x)


def sign(x: Any) -> Any:
    """Return −1, 0 or 1, or NaN of NaN, of a tensor, an array or a number."""
    if isinstance(x, Tensor):
        return x.sign()
    return x.sign() if hasattr(x, "sign") else np.sign(x)


# Statistics are written with operators and these, which `patchsim.kernels.scores` has for numbers,
# too.
def inverse_root(x: Any, least: Any) -> Any:
    """Return 1 / √x, or 0 where x is at most `least` or NaN."""
    return torch.where(x > least, x, torch.inf).rsqrt()


def unless_positive(x: Any) -> Any:
    """Return inf, or 0 where x is positive."""
    return torch.where(x > 0, 0.0, torch.inf)


def ratio(x: Any, y: Any) -> Any:
    """Return x / y, or 0 where y isn't positive."""
    return torch.where(y > 0, x / torch.where(y > 0, y, 1), 0)


def clamp(x: Any, low: float, high: float) -> Any:
    """Return x, or the nearest number between low and high."""
    return x.clamp(low, high)


#: (values (…, C, H, W), data_range) -> values (…, C', H, W), floats.
Preparation = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True, eq=False)
class Metric:
    """A pointwise distance, summed over windows and then finished.

    Attributes
    ----------
    name : str
        How users name it.
    pointwise : callable
        d(p, k) ≥ 0, elementwise, of tensors of floats, which it must leave as they are; what it
        refers to must not change. Written with +, −, *, **, abs() and `sign` it also becomes a
        kernel, and any other function is computed by torch. Of integers sums are exact where d is
        a whole number; where it isn't, or where that can't be told (as of int16, of what is no
        kernel), they are computed with as float64.
    expansion : Expansion
        The finite-rank expansion of d; without terms when there is none.
    majorant : callable, optional
        A with d(p, k) ≤ A(p) + A(k), and Σ|scale·f(p)·g(k)| ≤ A(p) + A(k). Without it there is no
        `error_bound`. It is tried on a few numbers, and so is the expansion.
    degree : int
        d(c·p, c·k) = cᵈᵉᵍʳᵉᵉ·d(p, k) for c > 0.
    roundings : int
        Rounding errors in one evaluation of d.
    invariant : bool
        Whether d(p + c, k + c) = d(p, k): then both are centred before they are expanded, if it is
        so where it is tried.
    unit : int
        What d is measured in: the metric is d / unit.
    finish : callable
        The distance as a function of the mean of d / unit; increasing.
    modulus : callable
        How far `finish` moves at most when its argument moves by a given amount.
    prepare : callable, optional
        What is done to image and template first, pixel by pixel. d is of the results.
    """

    name: str
    pointwise: Callable[[Any, Any], Any]
    expansion: Expansion = field(default_factory=Expansion)
    majorant: Scalar | None = None
    degree: int = 1
    roundings: int = 0
    invariant: bool = True
    unit: int = 1
    finish: Callable[[Any], Any] = identity
    modulus: Callable[[Any], Any] = identity
    prepare: Preparation | None = None

    @classmethod
    def of_expansion(cls, name: str, expansion: Expansion, degree: int = 0) -> Metric:
        """Make a metric of any expansion; integers are computed with as floats."""

        def floats(values: Tensor, data_range: float) -> Tensor:
            return values.double()

        return cls(name, expansion, expansion, degree=degree, invariant=False, prepare=floats)

    @property
    def summed(self) -> Metric:
        """What backends sum."""
        return self


@dataclass(frozen=True)
class Moments:
    """Weighted sums over windows and templates, in float64; w = 1 where there is no weight.

    Similarities are made of the properties, and of `pp`, `kk`, `pk`, `sums` and `range`.

    Attributes
    ----------
    totals : Tensor, shape (N, C, 1, 1)
        Σw of each channel.
    windows, templates : Tensor, shapes (B, N or 1, C, Ho, Wo) and (N, C, 1, 1)
        Σw·p and Σw·k of each channel.
    pp, kk : Tensor, shapes (B, N or 1, Ho, Wo) and (N, 1, 1)
        Σw·p² and Σw·k² over all channels.
    sums : Tensor, shape (B, N, Ho, Wo)
        Σw·d(p, k), in any dtype.
    pk : Tensor, shape (B, N, Ho, Wo)
        Σw·p·k, if d is p·k or the squared difference.
    rounding : float
        How far rounding can move pp, as a share of pp + probes.
    probes : Tensor, shape (N, 1, 1)
        The energy of the templates by which weighted moments are computed, else 0.
    range : float
        The data range.
    """

    totals: Tensor
    windows: Tensor
    templates: Tensor
    pp: Tensor
    kk: Tensor
    sums: Tensor
    pk: Tensor
    rounding: float
    probes: Tensor
    range: float

    @property
    def total(self) -> Tensor:
        """Σw over all channels."""
        return self.totals.sum(1)

    @property
    def p(self) -> Tensor:
        """Σw·p over all channels."""
        return self.windows.sum(2)

    @property
    def k(self) -> Tensor:
        """Σw·k over all channels."""
        return self.templates.sum(1)

    @property
    def mean_pk(self) -> Tensor:
        """Σ_c Σw·p · Σw·k / Σw: what Σw·p·k is with each channel's means in their place."""
        return self._over_channels(self.windows, self.templates * self._shares)

    @property
    def mean_pp(self) -> Tensor:
        """Σ_c (Σw·p)² / Σw."""
        return self._over_channels(self.windows * self.windows, self._shares)

    @property
    def mean_kk(self) -> Tensor:
        """Σ_c (Σw·k)² / Σw."""
        return (self.templates.square() * self._shares).sum(1)

    @property
    def flat(self) -> Tensor:
        """How far rounding can move pp: what is no larger may be 0."""
        return self.rounding * (self.pp + self.probes)

    @property
    def _shares(self) -> Tensor:
        return 1 / torch.where(self.totals > 0, self.totals, 1)

    @staticmethod
    def _over_channels(maps: Tensor, factors: Tensor) -> Tensor:
        """Sum (B, N or 1, C, Ho, Wo) times (N, C, 1, 1) over the channels."""
        total = maps[:, :, 0] * factors[:, 0]
        for c in range(1, factors.shape[1]):
            total = total + maps[:, :, c] * factors[:, c]
        return total


@dataclass(frozen=True, eq=False)
class Statistic:
    """A similarity that is a function of window sums and of moments.

    Attributes
    ----------
    name : str
        How users name it.
    summed : Metric
        What backends sum: `patchsim.metrics.product.PRODUCT`, or a distance.
    similarity : callable
        Of `Moments`, (B, N, Ho, Wo). Written with operators, `inverse_root`, `ratio` and `clamp`
        it also becomes a kernel, unless it refers to objects that may change; it must compute the
        same at any time, and when image, template and data range are multiplied by one number.
    spread : callable, optional
        (moments, off, change) -> how far the similarity can move at most if `pk` moves by no more
        than `off` and `pp` by no more than `change`; inf where that isn't known. Searches then
        bound it in half the time. Written as `similarity`, and with `unless_positive`.
    invariant : bool
        Whether the similarity stays the same when a constant is added to a channel of both.
    scalable : bool
        Whether the similarity stays the same when the image, or a template, is multiplied by a
        positive number; if it is `invariant`, too, then also when a constant is added to a channel
        of one of them.
    bounded : bool
        Whether similarities lie in −1 … 1, whatever rounding does.
    of_counts : bool
        Whether it is of values that aren't negative; others are refused.
    monotone : bool
        Whether the similarity never falls where `pk` grows or a distance's `sums` fall, whatever
        the other moments are.
    """

    name: str
    summed: Metric
    similarity: Callable[[Any], Any]
    spread: Callable[[Any, Any, Any], Any] | None = None
    invariant: bool = False
    scalable: bool = False
    bounded: bool = False
    of_counts: bool = False
    monotone: bool = False
    prepare: ClassVar[None] = None  # it is of the values themselves
