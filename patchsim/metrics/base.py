"""What is measured: a metric as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

#: A function of numbers that serves tensors, arrays and Python integers alike, so it is
#: written with operators and abs() only.
Scalar = Callable[[Any], Any]


def identity(x: Any) -> Any:
    """Return x."""
    return x


def square(x: Any) -> Any:
    """Return x²."""
    return x * x


@dataclass(frozen=True)
class Term:
    """One term scale·f(p)·g(k) of an expansion; None stands for the constant 1.

    With ``g=None`` the term sums to a box sum of f(image), with ``f=None`` to one number per
    template; only a term with both costs a cross-correlation. On an interval, f and g must take
    their largest magnitude at an end of it (as powers do).
    """

    scale: int
    f: Scalar | None
    g: Scalar | None


@dataclass(frozen=True, eq=False)
class Metric:
    """A translation-invariant pointwise distance, summed over windows and then finished.

    Attributes
    ----------
    name : str
        How users name it.
    pointwise : callable
        d(p, k) ≥ 0, written with operators and abs() only.
    majorant : callable
        A with d(p, k) ≤ A(p) + A(k), and, where there are terms, Σ|scale·f(p)·g(k)| ≤ A(p) + A(k).
    degree : int
        d(c·p, c·k) = cᵈᵉᵍʳᵉᵉ·d(p, k) for c > 0.
    roundings : int
        Rounding errors in one evaluation of d.
    terms : tuple of Term
        The finite-rank expansion of d, empty when there is none.
    finish : callable
        The distance as a function of the mean of d; increasing.
    modulus : callable
        How far `finish` moves at most when its argument moves by a given amount.
    """

    name: str
    pointwise: Callable[[Any, Any], Any]
    majorant: Scalar
    degree: int
    roundings: int
    terms: tuple[Term, ...] = ()
    finish: Callable[[torch.Tensor], torch.Tensor] = identity
    modulus: Callable[[torch.Tensor], torch.Tensor] = identity

    def peak(self, low: int, high: int) -> int:
        """Return the largest d of two values in [low, high]."""
        return int(max(self.pointwise(low, high), self.pointwise(high, low)))
