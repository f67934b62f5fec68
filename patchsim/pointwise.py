"""What the backends that evaluate d(p, k) itself have in common."""

from __future__ import annotations

import torch

from patchsim.metrics.base import Metric
from patchsim.problem import Problem


def never(problem: Problem, metric: Metric) -> list[str]:
    """Refuse nothing: every metric has a pointwise definition."""
    return []


def operations(problem: Problem, metric: Metric) -> int:
    """Count a difference, its magnitude and an addition per tap of every window."""
    rows, cols = problem.map_size
    return 3 * problem.batch * problem.templates * rows * cols * problem.taps


def sum_dtype(problem: Problem, metric: Metric) -> torch.dtype:
    """Choose the fastest arithmetic in which the window sums of integers are exact.

    Every partial sum is an integer of at most taps·max d, and binary32 and binary64 hold the
    integers up to 2²⁴ and 2⁵³. Floats are summed as they are.
    """
    if problem.value_range is None:
        return problem.value_dtype
    largest = problem.taps * metric.peak(*problem.value_range)
    if largest <= 2**24:
        return torch.float32
    return torch.float64 if largest <= 2**53 else torch.int64
