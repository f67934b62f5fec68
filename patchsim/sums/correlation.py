"""Sums of many cross-correlations, each by conv2d or FFT, for backends that expand a metric."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from patchsim import rates
from patchsim.backends import conv2d, fft
from patchsim.backends.base import Backend, Work
from patchsim.kernels.definition import text_of
from patchsim.metrics.base import Metric
from patchsim.metrics.l1 import METRIC as L1
from patchsim.metrics.l2 import METRIC as L2
from patchsim.problem import Problem
from patchsim.sums import overlap_save
from patchsim.sums.algebra import Correlate
from patchsim.sums.box import Array, box_sum
from patchsim.sums.transform_errors import (
    OfTemplates,
    largest_norms,
    norms_of_templates,
    squares_and_sums,
    strips,
)

#: Factors of the image (B, C, H, W) and of the templates (N, C, h, w), weights included.
Terms = Iterable[tuple[Tensor, Tensor]]

#: Terms computed at a time: the spectra of more would leave the cache.
TOGETHER = 4

#: What it takes to make a term, and a nanosecond of correlating.
RATES = dict.fromkeys(conv2d.CONV2D.rates, (20_000.0, 1.0))

#: (image, kernel, weights) -> terms and a constant for each template, (N,).
Expand = Callable[[Tensor, Tensor, Tensor], tuple[Terms, Tensor]]


def window_sums(
    problem: Problem,
    image: Tensor,
    kernel: Tensor,
    weight: Tensor | None,
    expand: Expand,
    peaks: tuple[int, int],
    *,
    positive: bool = True,
) -> Tensor:
    """Sum the correlations of the terms that `expand` makes; `positive` sums are never below 0.

    `peaks` bound the factors of integers, sums of which are exact. A NaN or inf reaches the
    windows that hold it, no other.
    """
    exact = problem.value_range is not None
    dtype = torch.float64 if exact else problem.value_dtype
    weights = torch.ones_like(kernel, dtype=dtype) if weight is None else weight.to(dtype)
    image, kernel = image.to(dtype), kernel.to(dtype)
    terms, constants = expand(_finite(image), _finite(kernel), weights)
    correlate = _cheapest(problem)
    sums = constants[:, None, None].to(torch.int64 if exact else dtype)
    for part, f, g in _grouped(problem, terms):
        sums = sums + correlate(part, f, g, peaks if exact else None)
    sums = sums.expand(problem.batch, problem.templates, *problem.map_size)
    sums = sums.clamp(min=0) if positive else sums.clone()
    if not math.isfinite(image.detach().sum()):
        sums = sums + box_sum(_spoils(image), problem)
    if not math.isfinite(kernel.detach().sum()):
        sums = sums + _spoils(kernel).sum((1, 2, 3))[:, None, None]
    return sums


def transforms_error(
    problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None, expand: Expand
) -> Tensor:
    """Bound what FFTs add to the rounding errors of the correlations: (1, N, 1, 1)."""
    total = np.zeros(len(kernel))
    if _cheapest(problem) is fft.correlate:
        weights = torch.ones_like(kernel) if weight is None else weight
        taps, images = _finite(kernel.detach()), dict[int, Array]()
        kernels: dict[int, tuple[Problem, OfTemplates]] = {}
        # Strip by strip, of which all groups are made once.
        for strip in strips(image.detach()):
            terms, _ = expand(_finite(strip), taps, weights)
            for number, (part, f, g) in enumerate(_grouped(problem, terms)):
                images[number] = images.get(number, np.zeros(())) + squares_and_sums(f)
                if number not in kernels:
                    kernels[number] = part, norms_of_templates(g)
        for number, (part, norms) in kernels.items():
            total += fft.transforms_error(part, largest_norms(images[number]), norms)
    return torch.from_numpy(total).to(kernel.device)[None, :, None, None]


def _grouped(problem: Problem, terms: Terms) -> Iterator[tuple[Problem, Tensor, Tensor]]:
    """Join terms as channels, which are summed: few large correlations instead of many."""
    remaining = iter(terms)
    while group := list(islice(remaining, TOGETHER)):
        part = dataclasses.replace(problem, channels=problem.channels * len(group))
        f, g = (torch.cat(factors, 1) for factors in zip(*group, strict=True))
        yield part, f, g


def _spoils(values: Tensor) -> Tensor:
    """Keep NaN and inf, whose sums with anything are not finite either."""
    return values.detach().abs().masked_fill(values.isfinite(), 0)


def _finite(values: Tensor) -> Tensor:
    return values.nan_to_num(0, 0, 0)


def _cheapest(problem: Problem) -> Correlate:
    """Choose conv2d or FFT for a group."""
    return conv2d.correlate if _fastest(problem, TOGETHER) is conv2d.CONV2D else fft.correlate


def _fastest(problem: Problem, together: int) -> Backend:
    group = _group(problem, together)
    return min(conv2d.CONV2D, fft.FFT, key=lambda backend: _seconds(backend, group))


def _group(problem: Problem, together: int) -> Problem:
    return dataclasses.replace(problem, channels=problem.channels * together)


def _seconds(backend: Backend, problem: Problem) -> float:
    return rates.seconds(backend, backend.work(problem, L2), problem.value_dtype)


def work(problem: Problem, correlations: int) -> Work:
    """Estimate so many correlations, by groups, each of which takes what l2 does on its channels.

    An operation is a nanosecond, so that it doesn't matter which backend correlates.
    """
    together = min(TOGETHER, correlations)
    backend, group = _fastest(problem, together), _group(problem, together)
    itemsize = overlap_save.itemsize(problem)
    factors = group.batch * group.channels * math.prod(group.image_size)
    factors += group.templates * group.taps
    nanoseconds = math.ceil(1e9 * _seconds(backend, group) * correlations / together)
    memory = 2 * itemsize * factors + backend.work(group, L2).bytes
    return Work(nanoseconds, memory, correlations)


def work_of_values(problem: Problem, metric: Metric) -> Work:
    """Estimate a correlation for each value that templates can hold.

    Which they do, a problem doesn't know.
    """
    numbers = problem.taps * problem.templates
    return work(problem, min(256, numbers) if problem.value_dtype is torch.uint8 else numbers)


def refuse_gradients(problem: Problem, what: str) -> list[str]:
    """Refuse gradients, because `what` decides what is computed."""
    return [f"it has no gradient: what it computes depends on {what}"] if problem.grad else []


def refuse_others_than_l1(metric: Metric) -> list[str]:
    """Refuse all distances but |p − k|."""
    if text_of(metric) == text_of(L1):
        return []
    return [f"it computes |p - k|, which {metric.name} isn't"]
