"""What the backends that evaluate d(p, k) itself have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from patchsim.kernels import definition
from patchsim.metrics.base import Metric
from patchsim.problem import Pair, Problem


def refuse(problem: Problem, metric: Metric) -> list[str]:
    """Refuse sums of integers that 64 bits don't hold, nothing else."""
    if problem.value_range is None:
        return []
    if not definition.exact(metric, problem.value_range):
        return [f"{metric.name} of {problem.dtype} isn't a whole number"]
    # What isn't an expression is computed in float64.
    bits = 53 if definition.expression_of(metric) is None else 63
    largest = problem.taps * definition.peak(metric, problem.value_range)
    if max(largest, definition.reach(metric, problem.value_range)) < 2**bits + (bits == 53):
        return []
    return [f"sums of {metric.name} exceed 2**{bits} for {problem.dtype}"]


def operations(problem: Problem, metric: Metric) -> int:
    """Count a difference, its magnitude and an addition per tap of every window.

    With a stride, so much of what is fetched from memory isn't used that they take longer. To make
    and store a sum takes as long as 150.
    """
    rows, cols = problem.map_size
    fetched = 3 * problem.taps * min(problem.stride[1], 4)
    return problem.batch * problem.templates * rows * cols * (fetched + 150)


def sum_dtype(problem: Problem, metric: Metric) -> torch.dtype:
    """Choose the fastest arithmetic in which the window sums of integers are exact.

    Every partial sum is an integer of at most taps·max d, and binary32 and binary64 hold the
    integers up to 2²⁴ and 2⁵³ (Coq: ``integer_sum_exact_any_order``). So are the numbers from which
    d is computed. Floats are summed as they are.
    """
    if problem.value_range is None:
        return problem.value_dtype
    largest = problem.taps * definition.peak(metric, problem.value_range)
    largest = max(largest, definition.reach(metric, problem.value_range))
    if largest <= 2**24:
        return torch.float32
    return torch.float64 if largest <= 2**53 else torch.int64


def unfolded(
    pointwise: Callable[[Any, Any], Any],
    image: Tensor,
    kernel: Tensor,
    weight: Tensor | None,
    stride: Pair,
    dilation: Pair,
) -> Tensor:
    """Write the sums over all windows as one formula: (B, N, Ho, Wo).

    It holds every difference in memory unless a compiler fuses it; use it where one does, or where
    nothing but the formula is wanted.
    """
    (rows, cols), (dy, dx) = kernel.shape[2:], dilation
    windows = image.unfold(2, dy * (rows - 1) + 1, stride[0])[..., ::dy]
    windows = windows.unfold(3, dx * (cols - 1) + 1, stride[1])[..., ::dx]  # (B, C, Ho, Wo, h, w)
    differences = pointwise(windows[:, None], kernel[:, :, None, None])  # (B, N, C, Ho, Wo, h, w)
    if weight is not None:
        differences = differences * weight[:, :, None, None]
    sums: Tensor = differences.sum((2, 5, 6))
    return sums
