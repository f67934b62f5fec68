"""A metric's expansion as texts, from which kernels are generated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from patchsim.kernels.definition import traced
from patchsim.kernels.expression import Expression
from patchsim.metrics.base import Metric


@dataclass(frozen=True)
class Recipe:
    """An expansion as texts of p, which is a pixel or a template's value.

    Attributes
    ----------
    box : str
        The terms without g, whose sum is to be boxed; empty if there are none.
    crosses : tuple of (f, g, scale)
    constant : str
        The terms without f.
    """

    box: str
    crosses: tuple[tuple[str, str, float], ...]
    constant: str

    @property
    def factors(self) -> tuple[str, ...]:
        """The g of the cross terms, times their scales."""
        return tuple(f"({scale!r}*{g})" for _, g, scale in self.crosses)


@lru_cache(maxsize=64)
def read(metric: Metric) -> Recipe | None:
    """Read a metric's terms; None where a function isn't written with + − * ** and abs().

    And where there is no cross term.
    """
    boxed = constant = Expression("number", value=0)
    crosses = []
    for term in metric.expansion:
        f, g = (None if h is None else traced(h) for h in (term.f, term.g))
        if (f is None) != (term.f is None) or (g is None) != (term.g is None):
            return None
        if f is None:
            assert g is not None
            constant = constant + term.scale * g
        elif g is None:
            boxed = boxed + term.scale * f
        else:
            crosses.append((str(f), str(g), float(term.scale)))
    if not crosses:
        return None
    box = "" if boxed.op == "number" else str(boxed)
    return Recipe(box, tuple(crosses), str(constant))
