"""loop: the original loop over patches, slow and obviously right."""

from __future__ import annotations

from torch import Tensor

from patchsim import bounds, reference
from patchsim.backends.base import Backend, Work
from patchsim.kernels import definition
from patchsim.metrics.base import Metric
from patchsim.problem import Problem
from patchsim.sums import pointwise


def run(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Compare one patch at a time."""
    dtype = pointwise.sum_dtype(problem, metric)
    return reference.window_sums(
        image.to(dtype),
        kernel.to(dtype),
        definition.function(metric, dtype),
        problem.stride,
        dilation=problem.dilation,
        weight=None if weight is None else weight.to(dtype),
    )


def work(problem: Problem, metric: Metric) -> Work:
    """Count the operations; the largest temporaries are a patch and the list of sums."""
    rows, cols = problem.map_size
    windows = problem.batch * problem.templates * rows * cols
    # A zero-dimensional tensor takes about 400 bytes, and what autograd knows of a window 8000.
    saved = 8000 + 3 * problem.taps * 8 if problem.grad else 0
    return Work(
        operations=pointwise.operations(problem, metric),
        bytes=3 * problem.taps * 8 + windows * (400 + saved),
        steps=windows,
    )


LOOP = Backend(
    name="loop",
    run=run,
    error=bounds.direct,
    refuse=pointwise.refuse,
    work=work,
    memory="one patch",
    rates={
        "float32": (7600, 0.39),
        "float64": (7500, 0.41),
        "uint8": (7600, 0.5),
        "int16": (7600, 0.56),
    },
)
