"""Variants: a metric computed by a backend, under a name."""

from __future__ import annotations

from dataclasses import dataclass

from patchsim.api import similarity
from patchsim.arrays import AnyArray, Image
from patchsim.backends import BACKENDS
from patchsim.metrics import METRICS
from patchsim.problem import DTYPES, IntOrPair, Padding, Problem


@dataclass(frozen=True)
class Variant:
    """A metric computed by one backend; called like `similarity`.

    Attributes
    ----------
    metric, backend : str
    """

    metric: str
    backend: str

    def __str__(self) -> str:
        return f"{self.metric}_{self.backend}"

    def __call__(
        self,
        image: Image,
        kernel: AnyArray,
        stride: IntOrPair = 1,
        *,
        padding: Padding = 0,
        dilation: IntOrPair = 1,
        weight: AnyArray | None = None,
        data_range: float | None = None,
    ) -> Image:
        """Return ``similarity(image, kernel, self.metric, ..., backend=self.backend)``."""
        return similarity(
            image,
            kernel,
            self.metric,
            stride=stride,
            padding=padding,
            dilation=dilation,
            weight=weight,
            data_range=data_range,
            backend=self.backend,
        )


def variants() -> tuple[Variant, ...]:
    """Every pair of a metric and a backend that can compute it for some dtype.

    Examples
    --------
    >>> [str(variant) for variant in variants() if variant.metric == "l1"]
    ['l1_loop', 'l1_unfold', 'l1_shift', 'l1_fused', 'l1_values', 'l1_levels', 'l1_lowrank']
    """
    return tuple(
        Variant(metric.name, backend.name)
        for metric in METRICS.values()
        for backend in BACKENDS.values()
        if any(not backend.refuse(problem, metric.summed) for problem in _SMALLEST)
    )


#: One problem a dtype, to ask backends in general.
_SMALLEST = tuple(Problem(1, 1, (1, 1), 1, (1, 1), dtype=dtype) for dtype in DTYPES)
