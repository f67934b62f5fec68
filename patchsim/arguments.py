"""The arguments of a call: checked, and brought into the form that a `Call` computes with."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from patchsim import bounds, options, tiling
from patchsim.ambient import plain
from patchsim.backends import BACKENDS, Backend
from patchsim.call import Call, data_range_of
from patchsim.kernels.definition import checked, exact
from patchsim.metrics import METRICS, AnyMetric, Metric, Statistic
from patchsim.metrics.base import Preparation
from patchsim.normalising import normalised, normalising
from patchsim.planner import make_plan
from patchsim.problem import INTEGER_RANGES, IntOrPair, Padding, Problem, Weighting, problem_of
from patchsim.tiling import Prepare
from patchsim.weights import read_weight, without_uncounted

Geometry = tuple[IntOrPair, Padding, IntOrPair]


def read(
    image: Tensor,
    kernel: Tensor,
    metric: str | AnyMetric,
    geometry: Geometry,
    weight: Tensor | None,
    data_range: float | None,
    backend: str | Backend,
    *,
    bounds_only: bool = False,
) -> Call:
    """Check the arguments of a call and bring its tensors into four dimensions.

    Statistics of floats are computed in float64, as their sums may cancel; without weights,
    `bounds_only` on distances need not be.
    """
    chosen = _look_up("metric", metric, METRICS, (Metric, Statistic))
    image, kernel = plain("image", image), plain("kernel", kernel)
    problem = problem_of(image, kernel, *geometry)
    map_dtype = problem.map_dtype
    leading = (*image.shape[:-3], *kernel.shape[:-3])
    image = image if image.dim() == 4 else image.unsqueeze(0)
    kernel = kernel if kernel.dim() == 4 else kernel.unsqueeze(0)
    weighting: Weighting = "none"
    if weight is not None:
        weight, weighting = read_weight(weight, kernel)
        problem = problem_of(image, kernel, *geometry, weighting)
        if kernel.is_floating_point():
            kernel = without_uncounted(kernel, weight)
    prepares: Callable[[Tensor], Prepare] | None = None
    dtype = problem.dtype
    checked(chosen.summed)
    if _in_floats(problem, chosen.summed):
        prepares, kernel = _of_any(_double), _double(kernel)
        problem = replace(problem, dtype=kernel.dtype)
    elif chosen.prepare is not None:
        prepared = _preparation(chosen.prepare, data_range, problem)
        prepares = _of_any(prepared)
        channels = kernel.shape[1]
        kernel = prepared(kernel)
        problem = replace(problem, channels=kernel.shape[1], dtype=kernel.dtype)
        dtype = kernel.dtype
        if weight is not None:
            weight = weight.repeat(1, kernel.shape[1] // channels, 1, 1)
    if isinstance(chosen, Statistic):
        given = image, kernel, weight
        problem, kernel, prepares = _of_statistic(chosen, problem, given, bounds_only)
    auto, summed = backend == "auto", chosen.summed
    if auto:
        backend = make_plan(problem, summed).backend
    runner = _look_up("backend", backend, BACKENDS, (Backend,))
    reasons = [] if auto else tiling.refusals(runner, summed, problem)
    if reasons:
        others = (b.name for b in BACKENDS.values() if not tiling.refusals(b, summed, problem))
        able = ", ".join(others) or "none"
        raise ValueError(
            f"backend {runner.name!r} can't compute {chosen.name!r}: {'; '.join(reasons)}. "
            f"Backends that can: {able}"
        )
    shape = (*leading, *problem.map_size)
    tensors = image, kernel, weight
    of_map = shape, map_dtype
    return Call(
        problem, chosen, runner, *tensors, data_range, *of_map, prepares, dtype, options.max_memory
    )


def _in_floats(problem: Problem, metric: Metric) -> bool:
    """Tell whether to compute with integers as floats, as d of them isn't a whole number."""
    values = INTEGER_RANGES.get(problem.dtype)
    return values is not None and metric.prepare is None and not exact(metric, values)


def _of_any(prepare: Prepare) -> Callable[[Tensor], Prepare]:
    """Do the same to any image."""
    return lambda image: prepare


def _double(values: Tensor) -> Tensor:
    return values.double()


def _preparation(
    prepare: Preparation, data_range: float | None, problem: Problem
) -> Callable[[Tensor], Tensor]:
    """Return what is done to the pixels of both."""
    span = data_range_of(data_range, problem.dtype)
    dtype = torch.float64 if problem.dtype in INTEGER_RANGES else problem.value_dtype
    return lambda values: prepare(values, span).to(dtype)


def _of_statistic(
    statistic: Statistic,
    problem: Problem,
    tensors: tuple[Tensor, Tensor, Tensor | None],
    bounds_only: bool,
) -> tuple[Problem, Tensor, Callable[[Tensor], Prepare] | None]:
    """Return the problem in the dtype of its sums, the templates, and what is done to an image."""
    image, kernel, weight = tensors
    if statistic.of_counts and not (problem.transformed or torch.compiler.is_compiling()):
        _refuse_negative(statistic, image=image, kernel=kernel)
    if not problem.dtype.is_floating_point or (bounds_only and weight is None):
        return problem, kernel, None
    problem = replace(problem, dtype=torch.float64)
    if bounds_only:
        return problem, kernel, None
    turned = normalised(statistic, problem, kernel, weight)
    return problem, turned, partial(normalising, statistic, problem)


def _refuse_negative(statistic: Statistic, **tensors: Tensor) -> None:
    for name, values in tensors.items():
        may_be = INTEGER_RANGES.get(values.dtype, (-1, 0))[0] < 0 and values.numel()
        if may_be:
            low = bounds.finite_range(values)[0]
            if low < 0:
                raise ValueError(
                    f"{statistic.name} compares counts, which aren't negative; the least value of "
                    f"`{name}` is {low:g}. Add a number to both, or clamp them at 0"
                )


Choice = TypeVar("Choice")


def _look_up(
    kind: str, given: str | Choice, table: dict[str, Choice], types: tuple[type, ...]
) -> Choice:
    if not isinstance(given, str):
        if isinstance(given, types):
            return given
        names = " or a ".join(type_.__name__ for type_ in types)
        raise TypeError(f"`{kind}` takes a name or a {names}, got {given!r}")
    if given in table:
        return table[given]
    close = difflib.get_close_matches(given, table, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    raise ValueError(f"unknown {kind} {given!r}; {hint}There are: {', '.join(sorted(table))}")
