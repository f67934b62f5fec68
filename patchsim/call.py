"""One call: its arguments checked, its tensors prepared, its map computed tile by tile."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from numbers import Real
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from patchsim import bounds, options, tiling
from patchsim.ambient import plain
from patchsim.backends import BACKENDS, Backend
from patchsim.backends.base import WindowFunction, Work
from patchsim.bounds import Flat
from patchsim.finish import Finish, Reduction, Score
from patchsim.kernels.definition import checked, exact
from patchsim.metrics import METRICS, AnyMetric, Metric, Statistic
from patchsim.metrics.base import Preparation, identity
from patchsim.moments import adapt, normalised
from patchsim.once import once
from patchsim.planner import make_plan
from patchsim.problem import INTEGER_RANGES, IntOrPair, Padding, Problem, Weighting, problem_of
from patchsim.sums import factors
from patchsim.sums.box import Array
from patchsim.weights import read_weight, sparing, total_weight, without_uncounted


@dataclass(eq=False)  # frozen, it would take a microsecond more to make
class Call:
    """One checked call, its tensors batched, the kernel prepared; `prepare` does it to images.

    `memory` are the bytes that it may use.
    """

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
    dtype: torch.dtype  # that the data range is of
    memory: int

    def map(self, reduction: Reduction, *, similarity: bool) -> Tensor:
        """Compute the map of similarities or distances."""
        if isinstance(self.metric, Statistic):
            backend = self._adapted(reduction, self._score(similarity))
            maps = self._run(backend.run, _as_it_is, backend).reshape(self.map_shape)
            return maps.to(self.map_dtype)
        finish = self.finish(reduction, similarity)
        return self._run(self.backend.run, finish, self.backend).reshape(self.map_shape)

    def bound(self, reduction: Reduction) -> Tensor:
        """Bound the errors of similarities, or of sums."""
        if isinstance(self.metric, Statistic):
            score = self._score(True)
            backend = self._adapted(reduction, score)
            function, done = backend.error, score.error
        else:
            backend, function = self.backend, _Error(self.backend, self.finish(reduction, True))
            done = _as_it_is
        with torch.no_grad():
            return self._bounded(function, done, backend).reshape(self.map_shape).double()

    def least(self, off: float = 0.0) -> tuple[Tensor, Tensor]:
        """Bound the distances of a statistic from below, and compute them, (B, N, Ho, Wo) each.

        NaN or inf: no match. The image's sums and moments may be `off` those to be bounded.
        """
        errors: tuple[float, ...] = ()
        if self.weight is None:
            errors = tuple((off + self.worst("sum")).tolist())
        backend = self._adapted("mean", self._score(True), errors, off)
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
        centre = bounds.origin(metric, problem, kernel)
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
        error = self.backend.bound(metric, problem, image, kernel, weight)
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
        return _data_range(self.data_range, self.dtype, self.metric.summed.degree)

    def _run(
        self, function: WindowFunction, finish: Callable[[Tensor], Tensor], backend: Backend
    ) -> Tensor:
        weight = None if self.weight is None else self.weight.to(self.problem.value_dtype)
        steps = self.prepare, self._sparing(function), finish
        tensors = self.image, self.kernel, weight
        return tiling.run(steps, backend, self.metric.summed, self.problem, tensors, self.memory)

    def _bounded(
        self, function: Callable[..., Tensor], finish: Callable[[Tensor], Tensor], backend: Backend
    ) -> Tensor:
        """Bound errors by tiles that may be smaller than those of `_run`.

        But what is alike for all windows of one of these is that of the whole tile.
        """
        problem, metric, alike = self.problem, self.metric.summed, self.backend.alike
        weight = None if self.weight is None else self.weight.to(problem.value_dtype)
        bounding, tensors = _bounding(backend), (self.image, self.kernel, weight)
        if alike is None or problem.value_range is not None or problem.batch == 0:
            steps = self.prepare, self._sparing(function), finish
            return tiling.run(steps, bounding, metric, problem, tensors, self.memory)
        shape = problem.batch, problem.templates, *problem.map_size
        errors = torch.empty(shape, dtype=torch.float64, device=problem.device)
        kernel = self.kernel.to(problem.value_dtype)
        for tile, part, patch in tiling.pieces(backend, metric, problem, self.image, self.prepare):
            errors_alike = alike(metric, part, patch, kernel, weight)
            more = self._sparing(partial(function, alike=errors_alike))
            given, into = (patch, kernel, weight), errors[tile[0], :, tile[1], tile[2]]
            tiling.run((None, more, finish), bounding, metric, part, given, self.memory // 2, into)
        return errors

    def _sparing(self, function: WindowFunction) -> WindowFunction:
        """Let what has no weight not count; integers hold no NaN."""
        floats = self.weight is not None and self.problem.dtype not in INTEGER_RANGES
        return sparing(function) if floats else function

    def _score(self, similarity: bool) -> Score:
        assert isinstance(self.metric, Statistic)
        return Score(self.map_dtype, similarity, self.metric.bounded)

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
        dtype = self.map_dtype if self.prepare else self.problem.map_dtype
        return Finish(metric, self.problem, total, scale, reduction, similarity, dtype)


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
        alike: Tensor | float = 0.0,
    ) -> Tensor:
        if problem.value_range is not None:
            largest = self.finish.largest
            magnitude = torch.as_tensor(largest, dtype=torch.float64, device=image.device)
            bound = self.finish.error(torch.zeros_like(magnitude), magnitude)
        else:
            bound = self.finish.error(
                self.backend.error(metric, problem, image, kernel, weight) + alike,
                bounds.majorant(metric, problem, image, kernel, weight),
            )
        return bound.expand(problem.batch, problem.templates, *problem.map_size)


def _as_it_is(error: Tensor) -> Tensor:
    return error


@lru_cache(maxsize=256)
def _bounding(backend: Backend) -> Backend:
    """Make a backend whose tiles are such that their errors can be bounded."""

    def work(problem: Problem, metric: Metric) -> Work:
        # Those of a statistic are computed from its map's.
        whole = backend.work(problem, metric)
        return replace(whole, bytes=whole.bytes + bounds.memory(problem))

    return replace(backend, work=work, windows=None, prepare=None, parallel=False)


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
    prepare: Callable[[Tensor], Tensor] | None = None
    dtype = problem.dtype
    checked(chosen.summed)
    if _in_floats(problem, chosen.summed):
        prepare, kernel = _double, _double(kernel)
        problem = replace(problem, dtype=kernel.dtype)
    elif chosen.prepare is not None:
        prepare = prepared = _preparation(chosen.prepare, data_range, problem)
        channels = kernel.shape[1]
        kernel = prepared(kernel)
        problem = replace(problem, channels=kernel.shape[1], dtype=kernel.dtype)
        dtype = kernel.dtype
        if weight is not None:
            weight = weight.repeat(1, kernel.shape[1] // channels, 1, 1)
    if isinstance(chosen, Statistic):
        given = image, kernel, weight
        problem, kernel, prepare = _of_statistic(chosen, problem, given, bounds_only)
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
        problem, chosen, runner, *tensors, data_range, *of_map, prepare, dtype, options.max_memory
    )


def _in_floats(problem: Problem, metric: Metric) -> bool:
    """Tell whether to compute with integers as floats, as d of them isn't a whole number."""
    values = INTEGER_RANGES.get(problem.dtype)
    return values is not None and metric.prepare is None and not exact(metric, values)


def _double(values: Tensor) -> Tensor:
    return values.double()


def _preparation(
    prepare: Preparation, data_range: float | None, problem: Problem
) -> Callable[[Tensor], Tensor]:
    """Return what is done to the pixels of both."""
    span = _data_range(data_range, problem.dtype)
    dtype = torch.float64 if problem.dtype in INTEGER_RANGES else problem.value_dtype
    return lambda values: prepare(values, span).to(dtype)


def _of_statistic(
    statistic: Statistic,
    problem: Problem,
    tensors: tuple[Tensor, Tensor, Tensor | None],
    bounds_only: bool,
) -> tuple[Problem, Tensor, Callable[[Tensor], Tensor] | None]:
    """Return the problem in the dtype of its sums, the templates, and what is done to pixels."""
    image, kernel, weight = tensors
    if statistic.of_counts:
        _refuse_negative(statistic, image=image, kernel=kernel)
    if not problem.dtype.is_floating_point or (bounds_only and weight is None):
        return problem, kernel, None
    problem = replace(problem, dtype=torch.float64)
    if bounds_only:
        return problem, kernel, None
    return problem, *normalised(statistic, *tensors)


def _refuse_negative(statistic: Statistic, **tensors: Tensor) -> None:
    for name, values in tensors.items():
        may_be = INTEGER_RANGES.get(values.dtype, (-1, 0))[0] < 0 and values.numel()
        if may_be and not torch.compiler.is_compiling():
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


def _data_range(given: float | None, dtype: torch.dtype, degree: int = 1) -> float:
    if given is None:
        if dtype is torch.int16:
            raise TypeError(
                "int16 has no natural range: pass `data_range`, such as 4095 for 12-bit images"
            )
        return 255.0 if dtype is torch.uint8 else 1.0
    if isinstance(given, bool) or not (isinstance(given, Real) and 0 < given < math.inf):
        raise ValueError(f"`data_range` must be a positive finite number, got {given!r}")
    if max(4, degree) * abs(math.log2(given)) > 1000:
        raise ValueError(
            f"no float64 holds the powers of `data_range` (={given!r}) that distances are divided "
            "by: multiply image, template and `data_range` by the same number first"
        )
    return float(given)
