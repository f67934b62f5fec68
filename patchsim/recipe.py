"""A metric's expansion as texts, from which kernels are generated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import Tensor

from patchsim.expression import Expression, trace
from patchsim.metrics.base import Metric, Scalar


@dataclass(frozen=True)
class Recipe:
    """An expansion as texts: what to box, and per cross term its factors and scale."""

    box: str
    crosses: tuple[tuple[str, Scalar, float], ...]
    constants: tuple[tuple[float, Scalar], ...]

    def constant(self, kernel: Tensor) -> Tensor:
        """Sum the terms without f over templates (N, C, h, w), in float64: (N,)."""
        total, kernel = kernel.new_zeros(len(kernel)), kernel.double()
        for scale, g in self.constants:
            total += scale * g(kernel).sum((1, 2, 3))
        return total


@lru_cache(maxsize=64)
def read(metric: Metric) -> Recipe | None:
    """Read a metric's terms; None where a function isn't written with + − * ** and abs().

    And where there is no cross term, or no box sum that would carry a NaN or inf of the image.
    """
    boxed, crosses, constants = Expression("number", value=0), [], []
    for term in metric.expansion:
        if term.f is None:
            assert term.g is not None
            constants.append((term.scale, term.g))
            continue
        read = trace(_of_two(term.f))
        if read is None:
            return None
        if term.g is None:
            boxed = boxed + term.scale * read
        else:
            crosses.append((str(read), term.g, term.scale))
    if not crosses or boxed.op == "number":
        return None
    return Recipe(str(boxed), tuple(crosses), tuple(constants))


def _of_two(function: Scalar) -> Callable[[Any, Any], Any]:
    return lambda p, k: function(p)
