"""values: any metric by one cross-correlation for each value that the templates hold.

Σ d(p, k) = Σ_v Σ d(p, v)·[k = v] (Coq: ``values_of_template``): exact for every metric and image,
and worth it for templates of few values, such as masks, glyphs and labels.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from patchsim import bounds
from patchsim.backends.base import Backend
from patchsim.kernels import definition
from patchsim.metrics.base import Metric
from patchsim.problem import Problem
from patchsim.sums import correlation, pointwise


def run(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Add the correlations of d(image, v) with the places of v."""
    peaks = (definition.peak(metric, problem.value_range), 1) if problem.value_range else (0, 0)
    positive, expand = definition.definition(metric).positive, partial(_expand, metric)
    given = problem, image, kernel, weight, expand, peaks
    return correlation.window_sums(*given, positive=positive)


def _expand(
    metric: Metric, image: Tensor, kernel: Tensor, weights: Tensor
) -> tuple[correlation.Terms, Tensor]:
    values: Tensor = torch.unique(kernel.detach())
    d = definition.function(metric, image.dtype)
    terms = ((d(image, v), (kernel == v) * weights) for v in values)
    return terms, weights.new_zeros(len(kernel))


def error(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Bound the sums' error: that of adding all taps, and one more addition for each value.

    But for that of transforms: see `alike`.
    """
    number = len(torch.unique(kernel.detach()))
    roundings = problem.taps + metric.roundings + number + 1
    return bounds.rounded(roundings, metric, problem, image, kernel, weight)


def alike(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Bound what transforms err: (1, N, 1, 1)."""
    expand = partial(_expand, metric)
    return correlation.transforms_error(problem, image, kernel, weight, expand)


def refuse(problem: Problem, metric: Metric) -> list[str]:
    """Refuse gradients, as the template's values decide what is computed; and what isn't finite."""
    reasons = correlation.refuse_gradients(problem, "which values a template holds")
    if not definition.definition(metric).finite:
        return [f"{metric.name} isn't finite everywhere, which would spoil other windows"]
    reasons = reasons or pointwise.refuse(problem, metric)
    # They are computed in float64.
    whole = not reasons and problem.value_range
    if whole and definition.reach(metric, whole) > 2**53:
        return [f"{metric.name} of {problem.dtype} exceeds 2**53"]
    return reasons


VALUES = Backend(
    name="values",
    run=run,
    error=error,
    refuse=refuse,
    work=correlation.work_of_values,
    memory="planes of a tile",
    rates=correlation.RATES,
    differentiable=False,
    alike=alike,
)
