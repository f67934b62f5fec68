"""The arguments of a call: checked, and brought into the form that a `Call` computes with."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from patchsim.normalising import for_sums
from patchsim.planner import make_plan
from patchsim.problem import (
    INTEGER_RANGES,
    IntOrPair,
    Padding,
    Problem,
    Weighting,
    check_tensor,
    problem_of,
)
from patchsim.tiling import Prepare
from patchsim.weights import read_weight, without_uncounted

Geometry = tuple[IntOrPair, Padding, IntOrPair]


@dataclass(eq=False)
class Templates:
    """Checked arguments that hold for any image.

    Attributes
    ----------
    given, kernel : Tensor, shapes (C, h, w) or (N, C, h, w), and (N, C, h, w)
        As they were given, and as they are computed with.
    metric : Metric or Statistic
    geometry : Geometry
        Stride, padding and dilation.
    weight : Tensor, shape (N, C, h, w), optional
    weighting : Weighting
    data_range : float, optional
    backend : Backend, optional
        Without one the fastest is taken.
    """

    given: Tensor
    kernel: Tensor
    metric: AnyMetric
    geometry: Geometry
    weight: Tensor | None
    weighting: Weighting
    data_range: float | None
    backend: Backend | None

    def call(self, image: Tensor, *, bounds_only: bool = False) -> Call:
        """Check an image against the templates, and bring both into what is computed with.

        Statistics of floats are computed in float64, as their sums may cancel; for a search, which
        wants `bounds_only` of their maps, tensors stay as they are.
        """
        chosen, kernel, weight = self.metric, self.kernel, self.weight
        problem = problem_of(image, self.given, *self.geometry, self.weighting)
        map_dtype = problem.map_dtype
        shape = *image.shape[:-3], *self.given.shape[:-3], *problem.map_size
        image = image if image.dim() == 4 else image.unsqueeze(0)
        prepares: Callable[[Tensor], Prepare] | None = None
        dtype, channels = problem.dtype, problem.channels
        if _in_floats(problem, chosen.summed):
            prepares, kernel = _of_any(_double), _double(kernel)
            problem = replace(problem, dtype=kernel.dtype)
        elif chosen.prepare is not None:
            prepared = _preparation(chosen.prepare, self.data_range, problem)
            prepares, kernel = _of_any(prepared), prepared(kernel)
            problem = replace(problem, channels=kernel.shape[1], dtype=kernel.dtype)
            dtype = kernel.dtype
            if weight is not None:
                weight = weight.repeat(1, kernel.shape[1] // channels, 1, 1)
        if isinstance(chosen, Statistic):
            given = image, kernel, weight
            problem, kernel, prepares = _of_statistic(chosen, problem, given, bounds_only)
        backend = self._backend(problem)
        tensors, of_map = (image, kernel, weight), (shape, map_dtype)
        memory = options.max_memory
        own = problem, chosen, backend, *tensors, self.data_range
        return Call(*own, *of_map, prepares, dtype, memory)

    def _backend(self, problem: Problem) -> Backend:
        """Choose the backend, or raise if the chosen one can't."""
        summed = self.metric.summed
        if self.backend is None:
            return BACKENDS[make_plan(problem, summed).backend]
        reasons = tiling.refusals(self.backend, summed, problem)
        if reasons:
            others = (b.name for b in BACKENDS.values() if not tiling.refusals(b, summed, problem))
            able = ", ".join(others) or "none"
            raise ValueError(
                f"backend {self.backend.name!r} can't compute {self.metric.name!r}: "
                f"{'; '.join(reasons)}. Backends that can: {able}"
            )
        return self.backend


def read_templates(
    kernel: Tensor,
    metric: str | AnyMetric,
    geometry: Geometry,
    weight: Tensor | None,
    data_range: float | None,
    backend: str | Backend,
) -> Templates:
    """Check the arguments that hold for any image."""
    chosen = read_metric(metric)
    auto = isinstance(backend, str) and backend == "auto"
    runner = None if auto else _look_up("backend", backend, BACKENDS, (Backend,))
    given = plain("kernel", kernel)
    check_tensor("kernel", given)
    kernel = given if given.dim() == 4 else given.unsqueeze(0)
    weighting: Weighting = "none"
    if weight is not None:
        weight, weighting = read_weight(weight, kernel)
        if kernel.is_floating_point():
            kernel = without_uncounted(kernel, weight)
    checked(chosen.summed)
    refuse_negative(chosen, "kernel", kernel)
    return Templates(given, kernel, chosen, geometry, weight, weighting, data_range, runner)


def read_metric(metric: str | AnyMetric) -> AnyMetric:
    """Return a metric given by its name, or itself."""
    return _look_up("metric", metric, METRICS, (Metric, Statistic))


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
    """Check the arguments of a single call."""
    templates = read_templates(kernel, metric, geometry, weight, data_range, backend)
    return templates.call(plain("image", image), bounds_only=bounds_only)


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
    if not problem.transformed:
        refuse_negative(statistic, "image", image)
    if bounds_only or not problem.dtype.is_floating_point:
        return problem, kernel, None
    return for_sums(statistic, problem, kernel, weight)


def of_counts(metric: AnyMetric) -> bool:
    """Tell whether images are refused for values below 0."""
    return isinstance(metric, Statistic) and metric.of_counts


def refuse_negative(metric: AnyMetric, name: str, values: Tensor) -> None:
    """Refuse values below 0 of what compares counts, unless they are being traced."""
    if not of_counts(metric):
        return
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return
    if INTEGER_RANGES.get(values.dtype, (-1, 0))[0] < 0 and values.numel():
        low = bounds.finite_range(values)[0]
        if low < 0:
            raise ValueError(
                f"{metric.name} compares counts, which aren't negative; the least value of "
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
