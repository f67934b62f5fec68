"""Finite-rank expansions: d(p, k) = Σ_r scale·f_r(p)·g_r(k), which conv2d can slide."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
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

    scale: float
    f: Scalar | None
    g: Scalar | None

    def __call__(self, p: Any, k: Any) -> Any:
        """Evaluate the term."""
        factors = [h(x) for h, x in ((self.f, p), (self.g, k)) if h is not None]
        return reduce(operator.mul, factors, self.scale)

    @property
    def cross(self) -> bool:
        """Whether it costs a cross-correlation."""
        return self.f is not None and self.g is not None


@dataclass(frozen=True)
class Expansion:
    """A function of pixel and template value as a sum of products f(p)·g(k).

    Sliding it over an image costs one cross-correlation of f(image) and g(template) for each term
    that has both (Coq: ``finite_rank``).

    Attributes
    ----------
    terms : tuple of Term

    Examples
    --------
    >>> squared = Expansion.of((1, square, None), (-2, identity, identity), (1, None, square))
    >>> squared(5, 3), squared.rank, squared.crosses
    (4, 3, 1)
    >>> (squared * squared)(5, 3)
    16
    """

    terms: tuple[Term, ...] = ()

    @classmethod
    def of(cls, *terms: tuple[float, Scalar | None, Scalar | None]) -> Expansion:
        """Make an expansion of (scale, f, g), None standing for the constant 1."""
        return cls(tuple(Term(*term) for term in terms))

    @classmethod
    def from_table(cls, table: Sequence[Sequence[float]]) -> Expansion:
        """Expand any function of labels 0 … L − 1, given as the table d[p][k].

        Parameters
        ----------
        table : array-like, shape (L, L)
            Finite numbers.

        Returns
        -------
        Expansion
            Of as many terms as the table has rank. Where that is the number of different columns
            (as for |p − k|), each term is one column times an indicator of the labels that it
            belongs to, which is exact; else terms come from the singular value decomposition and
            are off by the rounding of float64.

        Notes
        -----
        Fewer terms than the rank can't do (Coq: ``abs_rank``). O(L³).
        """
        array = np.asarray(table, dtype=np.float64)
        if array.ndim != 2 or array.shape[0] != array.shape[1] or not array.size:
            raise ValueError(f"a table has one row and one column a label, got {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError("a table holds finite numbers")
        columns, owner = np.unique(array, axis=1, return_inverse=True)
        owner = owner.reshape(-1)
        left, values, right = np.linalg.svd(array)
        rank = int((values > values[0] * len(array) * np.finfo(float).eps).sum())
        if rank == columns.shape[1]:
            indicators = (owner == r for r in range(rank))
            pairs = zip(columns.T, indicators, strict=True)
        else:
            pairs = zip((left * values).T[:rank], right[:rank], strict=True)
        return cls(tuple(Term(1, _Lookup(f), _Lookup(g)) for f, g in pairs))

    @property
    def rank(self) -> int:
        """The number of terms."""
        return len(self.terms)

    @property
    def crosses(self) -> int:
        """The number of terms that cost a cross-correlation."""
        return sum(term.cross for term in self.terms)

    def __call__(self, p: Any, k: Any) -> Any:
        """Evaluate the sum."""
        return reduce(operator.add, (term(p, k) for term in self.terms), 0)

    def __iter__(self) -> Iterator[Term]:
        """Go through the terms."""
        return iter(self.terms)

    def __add__(self, other: Expansion) -> Expansion:
        """Add two expansions."""
        return Expansion(self.terms + other.terms)

    def __mul__(self, other: Expansion | float) -> Expansion:
        """Multiply by an expansion (each term by each) or a number."""
        if not isinstance(other, Expansion):
            return Expansion(tuple(Term(t.scale * other, t.f, t.g) for t in self))
        return Expansion(
            tuple(
                Term(a.scale * b.scale, _product(a.f, b.f), _product(a.g, b.g))
                for a in self
                for b in other
            )
        )

    __rmul__ = __mul__


def _product(first: Scalar | None, second: Scalar | None) -> Scalar | None:
    if first is None or second is None:
        return first or second
    return lambda x: first(x) * second(x)


class _Lookup:
    """A function of labels by its values."""

    def __init__(self, values: Iterable[float]) -> None:
        self.values = torch.tensor([float(v) for v in values], dtype=torch.float64)

    def __call__(self, label: Any) -> Any:
        if isinstance(label, torch.Tensor):
            kind = label.dtype if label.is_floating_point() else torch.float64
            return self.values.to(label.device, kind)[label.long()]
        return self.values[int(label)].item()
