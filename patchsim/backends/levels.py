"""levels: l1 by one cross-correlation for each threshold between the templates' values.

Let v₀ < v₁ < … be the values that the templates hold and c(p) the nearest number to p in their
range. Then |p − k| = |p − c(p)| + |c(p) − k|, and for k among the values

    |c(p) − k| = (c(p) − v₀) + (k − v₀) − 2·Σ_t f_t(p)·[k ≥ v_t],

where f_t(p) is the part of c(p) − v₀ that lies between v_{t−1} and v_t (Coq: ``l1_by_parts``). For
images of the same values, f_t(p) is a step times [p ≥ v_t] (Coq: ``l1_values``). Exact for every
image, with one correlation less than there are values; on L levels no expansion has fewer than L
terms (Coq: ``abs_rank``).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from patchsim import bounds
from patchsim.backends.base import Backend
from patchsim.metrics.base import Metric
from patchsim.problem import Problem
from patchsim.sums import correlation
from patchsim.sums.box import box_sum


def run(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Add the correlations of the image's part of each step with the taps above it."""
    low, high = problem.value_range or (0, 0)
    return correlation.window_sums(problem, image, kernel, weight, _expand, (2 * (high - low), 2))


def _expand(image: Tensor, kernel: Tensor, weights: Tensor) -> tuple[correlation.Terms, Tensor]:
    values: Tensor = torch.unique(kernel.detach())
    constants = (weights * (kernel - values[0])).sum((1, 2, 3))
    return _terms(image, kernel, weights, values), constants


def _terms(
    image: Tensor, kernel: Tensor, weights: Tensor, values: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    inside = image.clamp(values[0], values[-1])
    yield (image - inside).abs() + (inside - values[0]), weights
    for below, here in pairwise(values):
        part = (inside - below).clamp(torch.zeros_like(here), here - below)
        yield part, (kernel >= here) * (-2 * weights)


def error(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Bound the sums' error but for that of transforms: see `alike`.

    The terms of a tap are together at most 3·(|p| + 2·max|k|), and each passes a rounding for each
    tap and level and a few for its own computation.
    """
    pixels, taps = (values.detach().double().nan_to_num(0, 0, 0) for values in (image, kernel))
    levels = len(torch.unique(taps))
    weights = torch.ones_like(taps) if weight is None else weight.double()
    heaviest = weights.amax((1, 2, 3))[:, None, None]
    largest = box_sum(pixels.abs(), problem) + 2 * problem.taps * taps.abs().max()
    magnitude = 3 * heaviest * largest
    info = torch.finfo(problem.value_dtype)
    total = bounds.gamma(2 * problem.taps + levels + 16, info.eps / 2) * magnitude
    total = total + 24 * levels * problem.taps * info.tiny * (1 + heaviest)
    own = kernel.detach().double().sum((1, 2, 3))[:, None, None]
    spoilt = 0 * (box_sum(image.detach().double(), problem) + own)
    return total.masked_fill(~(magnitude < info.max), torch.inf) + spoilt


def alike(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Bound what transforms err: (1, N, 1, 1)."""
    return correlation.transforms_error(problem, image, kernel, weight, _expand)


def refuse(problem: Problem, metric: Metric) -> list[str]:
    """Refuse all but |p − k|, and gradients, as the template's values decide what is computed."""
    gradients = correlation.refuse_gradients(problem, "which values a template holds")
    return correlation.refuse_others_than_l1(metric) or gradients


LEVELS = Backend(
    name="levels",
    run=run,
    error=error,
    refuse=refuse,
    work=correlation.work_of_values,
    memory="planes of a tile",
    rates=correlation.RATES,
    differentiable=False,
    alike=alike,
)
