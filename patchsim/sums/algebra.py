"""Window sums from a finite-rank expansion d(p, k) = Σ_r scale·f_r(p)·g_r(k).

A term without g is a box sum, a term without f one number per template; the others are
cross-correlations, which conv2d and fft compute each in its own way (Coq: ``finite_rank``).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from patchsim.kernels import definition, jit
from patchsim.metrics.base import Metric, Scalar, Term
from patchsim.problem import Problem
from patchsim.sums.box import box_sum
from patchsim.sums.factors import mean_colour

#: (problem, image (B, C, H, W), kernel (N, C, h, w), peaks) -> (B, N, Ho, Wo). For integers, held
#: in a float dtype, `peaks` bound |image| and |kernel| and the result is exact, in int64; for real
#: numbers they are None.
Correlate = Callable[[Problem, Tensor, Tensor, tuple[int, int] | None], Tensor]


def refuse(problem: Problem, metric: Metric) -> list[str]:
    """Refuse metrics without an expansion, and integers whose terms no float holds.

    That l1 has none on real numbers is a theorem (Coq: ``l1_not_conv2d``).
    """
    if not metric.expansion.terms:
        return [f"{metric.name} has no finite-rank expansion"]
    if problem.value_range is not None and not definition.exact(metric, problem.value_range):
        return [f"{metric.name} of {problem.dtype} isn't a whole number"]
    if problem.value_range is not None and _largest_factor(problem, metric) > 2**53:
        return [f"the terms of {metric.name} exceed 2**53 for {problem.dtype}"]
    return []


def window_sums(
    metric: Metric,
    problem: Problem,
    image: Tensor,
    kernel: Tensor,
    weight: Tensor | None,
    correlate: Correlate,
) -> Tensor:
    """Sum the terms of the expansion over every window; never negative.

    Image and kernel are centred first. The distance stays the same, but its terms shrink from the
    size of the values to that of their deviations, and their rounding errors with them.
    """
    dtype, centre = value_dtype(problem, metric), middle(problem, kernel, metric)
    weight = None if weight is None else weight.to(dtype)
    image, image_spoil = _clean(image.to(dtype) - centre, problem, metric)
    kernel, kernel_spoil = _clean(kernel.to(dtype) - centre, problem, metric)
    first, *others = metric.expansion
    sums = _term_sums(first, metric, problem, image, kernel, weight, correlate)
    # Of integers scales are whole numbers, be they written as floats.
    exact = problem.value_range is not None
    scales = [int(term.scale) if exact else term.scale for term in metric.expansion]
    if scales[0] != 1:
        sums = scales[0] * sums
    for term, scale in zip(others, scales[1:], strict=True):
        part = _term_sums(term, metric, problem, image, kernel, weight, correlate)
        sums = torch.add(sums, part, alpha=scale)
    if definition.definition(metric).positive:
        sums = sums.clamp(min=0)
    if image_spoil is not None:
        sums = sums + box_sum(image_spoil, problem)
    if kernel_spoil is not None:
        sums = sums + kernel_spoil.sum((1, 2, 3))[:, None, None]
    return sums


def _term_sums(
    term: Term,
    metric: Metric,
    problem: Problem,
    image: Tensor,
    kernel: Tensor,
    weight: Tensor | None,
    correlate: Correlate,
) -> Tensor:
    exact = problem.value_range is not None
    dtype = torch.int64 if exact else image.dtype
    factors = None if term.g is None else term.g(kernel)
    if weight is not None:
        factors = weight if factors is None else factors * weight
    if factors is None:
        assert term.f is not None
        return _box_sum(term, metric, problem, image)
    if term.f is None:
        numbers: Tensor = factors.sum((1, 2, 3), dtype=dtype)
        return numbers[:, None, None]
    peaks = (largest(term.f, problem, metric), largest(term.g, problem, metric)) if exact else None
    return correlate(problem, term.f(image), factors, peaks)


def _box_sum(term: Term, metric: Metric, problem: Problem, image: Tensor) -> Tensor:
    assert term.f is not None
    values = term.f(image)
    if problem.value_range is None:
        return box_sum(values, problem)
    # Sums that binary64 holds are several times as fast there as in integers.
    fits = problem.taps * largest(term.f, problem, metric) <= 2**53
    return box_sum(values, problem, torch.float64 if fits else torch.int64).long()


def _clean(values: Tensor, problem: Problem, metric: Metric) -> tuple[Tensor, Tensor | None]:
    """Split values into the finite ones and what the others (NaN, inf) add to a window."""
    exact = problem.value_range is not None
    if exact or math.isfinite(values.detach().sum()):  # an overflow costs time, nothing else
        return values, None
    finite, zero = values.isfinite(), values.new_zeros(())
    d = definition.function(metric, values.dtype)
    spoil = torch.where(finite, zero, d(values.detach(), zero))
    return torch.where(finite, values, zero), spoil


def middle(problem: Problem, kernel: Tensor, metric: Metric) -> Tensor | int:
    """Return what to subtract from both: for floats the template's mean colour, (C, 1, 1).

    It is a constant to autograd, as the distance doesn't depend on it (Coq: ``centring``,
    ``expanded_template_derivative``).
    """
    if not definition.definition(metric).invariant:
        return 0
    if problem.value_range is not None:
        return _integer_middle(problem.value_range)
    if not jit.usable(problem):
        return kernel.detach().mean((0, 2, 3))[:, None, None].nan_to_num(0, 0, 0)
    return torch.from_numpy(mean_colour(kernel))[:, None, None]


def _integer_middle(value_range: tuple[int, int]) -> int:
    return (sum(value_range) + 1) // 2


def largest(function: Scalar | None, problem: Problem, metric: Metric) -> int:
    """Greatest magnitude of f or g on integers, centred as `middle` says."""
    assert problem.value_range is not None
    if function is None:
        return 1
    centre = _integer_middle(problem.value_range) if definition.definition(metric).invariant else 0
    return int(max(abs(function(value - centre)) for value in problem.value_range))


def _largest_factor(problem: Problem, metric: Metric) -> int:
    functions = (function for term in metric.expansion for function in (term.f, term.g))
    return max(largest(function, problem, metric) for function in functions)


def value_dtype(problem: Problem, metric: Metric) -> torch.dtype:
    """Choose the dtype of f(p) and g(k): for integers the smallest float that holds them all."""
    if problem.value_range is None:
        return problem.value_dtype
    return torch.float32 if _largest_factor(problem, metric) <= 2**24 else torch.float64
