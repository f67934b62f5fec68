"""One call: its arguments checked, its tensors prepared, its map computed tile by tile."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from patchsim import bounds, tiling
from patchsim.ambient import plain
from patchsim.backends import BACKENDS, Backend
from patchsim.backends.base import WindowFunction
from patchsim.bounds import Flat
from patchsim.finish import Finish, Reduction, Score, converted
from patchsim.metrics import METRICS, AnyMetric, Metric, Statistic
from patchsim.metrics.base import Preparation, identity
from patchsim.moments import adapt
from patchsim.once import once
from patchsim.planner import make_plan
from patchsim.problem import INTEGER_RANGES, IntOrPair, Padding, Problem, Weighting, problem_of
from patchsim.sums import algebra, factors
from patchsim.sums.box import Array
from patchsim.weights import read_weight, total_weight


@dataclass(eq=False)  # frozen, it would take a microsecond more to make
class Call:
    """One checked call, its tensors batched, the kernel prepared; `prepare` does it to images."""

    problem: Problem
    metric: AnyMetric
    backend: Backend
    image: Tensor
    kernel: Tensor
    weight: Tensor | None
    data_range: float | None
    map_shape: tuple[int, ...]
    map_dtype: torch.dtype
    prepare: Callable[[Tensor], Tensor] | None

    def map(self, reduction: Reduction, *, similarity: bool) -> Tensor:
        """Compute the map of similarities or distances."""
        if isinstance(self.metric, Statistic):
            backend = self._adapted(reduction, Score(self.map_dtype, similarity))
            return self._run(backend.run, _as_it_is, backend).reshape(self.map_shape)
        output = self._run(self.backend.run, self.finish(reduction, similarity), self.backend)
        output = output.reshape(self.map_shape)
        return output.to(self.map_dtype) if self.prepare and reduction == "mean" else output

    def bound(self, reduction: Reduction) -> Tensor:
        """Bound the errors of similarities, or of sums."""
        if isinstance(self.metric, Statistic):
            score = Score(self.map_dtype, similarity=True)
            backend = self._adapted(reduction, score)
            function, done = backend.error, score.error
        else:
            backend, function = self.backend, _Error(self.backend, self.finish(reduction, True))
            done = _as_it_is
        with torch.no_grad():
            error = self._run(function, done, backend).reshape(self.map_shape)
        if self.prepare and reduction == "mean":
            error = converted(error, 3 + error, self.map_dtype)
        return error

    def least(self, off: float = 0.0) -> tuple[Tensor, Tensor]:
        """Bound the distances of a statistic from below, and compute them, (B, N, Ho, Wo) each.

        NaN or inf: no match. The image's sums and moments may be `off` those to be bounded.
        """
        errors: tuple[float, ...] = ()
        if self.weight is None:
            errors = tuple((off + self.worst("sum")).tolist())
        backend = self._adapted("mean", Score(self.map_dtype, similarity=True), errors, off)
        with torch.no_grad():
            bounds, distances = self._run(backend.run, _as_it_is, backend).chunk(2, 1)
        return bounds, distances

    @bounds.overflowing
    def worst(self, reduction: Reduction = "mean") -> Array:
        """Bound the errors of distances to each template, (N,), by one number for all windows.

        It is the bound of a flat window that differs as much from the templates' mean as any of the
        image's finite values: bounds grow with magnitudes. A statistic's are those of its sums.
        """
        finish, metric = self.finish(reduction, similarity=False), self.metric.summed
        if self.problem.value_range is not None:
            error = np.zeros(self.problem.templates)
            largest = torch.as_tensor(finish.largest, dtype=torch.float64)
            magnitude = error + largest.flatten().cpu().numpy()
        else:
            window = self._furthest()
            magnitude, error = window.magnitude, self._of_flat(window)
        if self.weight is None and metric.finish is identity:
            return finish.error(error, magnitude)
        found = finish.error(*(torch.from_numpy(v)[:, None, None] for v in (error, magnitude)))
        return found.flatten().numpy()

    def _furthest(self) -> Flat:
        """Return the flat window of one colour that is furthest from the templates' mean."""
        problem, metric = self.problem, self.metric.summed
        one = replace(problem, batch=1, image_size=problem.extent, pads=(0, 0, 0, 0))
        kernel = self.kernel.detach().to(problem.value_dtype)
        centre = algebra.middle(problem, kernel, metric)
        middle = factors.each_channel(centre, problem.channels, torch.float64)
        low, high = self.extremes
        pixels = np.where(high - middle > middle - low, high, low) - middle
        weight = None if self.weight is None else self.weight.cpu().double().numpy()
        own = kernel.double().cpu().numpy() - middle[:, None, None]
        return Flat(metric, one, middle, pixels, own, weight)

    def _of_flat(self, window: Flat) -> Array:
        """Bound the error of such a window's sums, (N,)."""
        metric, problem = window.metric, window.problem
        if self.backend.flat is not None:
            # To divide by what windows deviate makes small errors large: it is worth a look.
            whole = self.image if isinstance(self.metric, Statistic) else None
            return self.backend.flat(
                window, tiling.parts(self.backend, metric, self.problem), whole
            )
        kernel = self.kernel.detach().to(problem.value_dtype)
        colour = torch.from_numpy(window.pixels + window.middle).to(kernel)
        image = colour[:, None, None].expand(1, -1, *problem.extent)
        weight = None if self.weight is None else self.weight.to(problem.value_dtype)
        error = self.backend.error(metric, problem, image, kernel, weight)
        found: Array = error.expand(1, problem.templates, 1, 1).flatten().cpu().numpy()
        return found

    @once
    def extremes(self) -> tuple[float, float]:
        """The least and the greatest finite value of the image."""
        return bounds.finite_range(self.image)

    def ready(self) -> Call:
        """Return the call of the images that backends see: completed with zeros and prepared."""
        if self.prepare is None:
            return self
        (top, bottom, left, right), (below, beside) = self.problem.pads, self.problem.overhang
        missing = left, right + beside, top, bottom + below
        image = self.prepare(torch.nn.functional.pad(self.image, missing))
        size = image.shape[2], image.shape[3]
        problem = replace(self.problem, image_size=size, pads=(0, 0, 0, 0))
        return replace(self, image=image, problem=problem, prepare=None)

    @property
    def span(self) -> float:
        """The data range, given or by default."""
        return _data_range(self.data_range, self.problem.dtype)

    def _run(
        self, function: WindowFunction, finish: Callable[[Tensor], Tensor], backend: Backend
    ) -> Tensor:
        weight = None if self.weight is None else self.weight.to(self.problem.value_dtype)
        steps, tensors = (self.prepare, function, finish), (self.image, self.kernel, weight)
        return tiling.run(steps, backend, self.metric.summed, self.problem, tensors)

    def _adapted(
        self,
        reduction: Reduction,
        score: Score,
        errors: tuple[float, ...] | None = None,
        off: float = 0.0,
    ) -> Backend:
        assert isinstance(self.metric, Statistic)
        if reduction != "mean":
            raise ValueError(
                f'{self.metric.name} is no sum over a window: `reduction` must be "mean", got '
                f"{reduction!r}"
            )
        return adapt(self.backend, self.metric, self.span, score, errors, off)

    def finish(self, reduction: Reduction, similarity: bool) -> Finish:
        """Tell how window sums become a map, or the sums that a statistic is made of."""
        metric = self.metric.summed
        if reduction not in ("mean", "sum"):
            raise ValueError(f'`reduction` must be "mean" or "sum", got {reduction!r}')
        scale = 1.0
        if metric.degree and (reduction == "mean" or self.data_range is not None):
            scale = self.span**metric.degree
        total = self.problem.taps if self.weight is None else total_weight(self.weight)
        return Finish(metric, self.problem, total, scale, reduction, similarity)


@dataclass(frozen=True)
class _Error:
    """Bounds the map's error, by tiles."""

    backend: Backend
    finish: Finish

    def __call__(
        self,
        metric: Metric,
        problem: Problem,
        image: Tensor,
        kernel: Tensor,
        weight: Tensor | None,
    ) -> Tensor:
        if problem.value_range is not None:
            largest = self.finish.largest
            magnitude = torch.as_tensor(largest, dtype=torch.float64, device=image.device)
            bound = self.finish.error(torch.zeros_like(magnitude), magnitude)
        else:
            bound = self.finish.error(
                self.backend.error(metric, problem, image, kernel, weight),
                bounds.majorant(metric, problem, image, kernel, weight),
            )
        return bound.expand(problem.batch, problem.templates, *problem.map_size)


def _as_it_is(error: Tensor) -> Tensor:
    return error


Geometry = tuple[IntOrPair, Padding, IntOrPair]


def read(
    image: Tensor,
    kernel: Tensor,
    metric: str | AnyMetric,
    geometry: Geometry,
    weight: Tensor | None,
    data_range: float | None,
    backend: str | Backend,
) -> Call:
    """Check the arguments of a call and bring its tensors into four dimensions."""
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
    prepare = None
    if chosen.prepare is not None:
        prepare = _preparation(chosen.prepare, data_range, problem)
        channels = kernel.shape[1]
        kernel = prepare(kernel)
        problem = replace(problem, channels=kernel.shape[1], dtype=kernel.dtype)
        if weight is not None:
            weight = weight.repeat(1, kernel.shape[1] // channels, 1, 1)
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
    return Call(problem, chosen, runner, *tensors, data_range, shape, map_dtype, prepare)


def _preparation(
    prepare: Preparation, data_range: float | None, problem: Problem
) -> Callable[[Tensor], Tensor]:
    """Return what is done to the pixels of both."""
    span = _data_range(data_range, problem.dtype)
    dtype = torch.float64 if problem.dtype in INTEGER_RANGES else problem.value_dtype
    return lambda values: prepare(values, span).to(dtype)


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


def _data_range(given: float | None, dtype: torch.dtype) -> float:
    if given is None:
        if dtype is torch.int16:
            raise TypeError(
                "int16 has no natural range: pass `data_range`, such as 4095 for 12-bit images"
            )
        return 255.0 if dtype is torch.uint8 else 1.0
    if not (isinstance(given, int | float) and 0 < given < math.inf):
        raise ValueError(f"`data_range` must be a positive finite number, got {given!r}")
    return float(given)
