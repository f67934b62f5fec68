"""One call: its arguments checked, its tensors prepared, its map computed tile by tile."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchsim import bounds, tiling
from patchsim.backends import Backend
from patchsim.backends.base import Bind, Work, bound_to
from patchsim.finish import Finish, Reduction, Score, unweighted
from patchsim.metrics import AnyMetric, Metric, Statistic
from patchsim.metrics.base import identity
from patchsim.moments import adapt
from patchsim.normalising import for_sums
from patchsim.once import once
from patchsim.problem import INTEGER_RANGES, Problem
from patchsim.sums.box import Array
from patchsim.tiling import Prepare, Steps, Tiles
from patchsim.weights import sparing, total_weight


@dataclass(eq=False)  # frozen, it would take a microsecond more to make
class Call:
    """One checked call, its tensors batched, the kernel prepared.

    `prepares` tells of an image what is done to its parts. `memory` are the bytes to stay within.
    `tiles` have the templates bound for kinds of map, and are shared with calls of other images.
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
    prepares: Callable[[Tensor], Prepare] | None
    dtype: torch.dtype  # that the data range is of
    memory: int
    tiles: dict[Any, Tiles] = field(init=False, default_factory=dict)

    def map(self, reduction: Reduction, *, similarity: bool) -> Tensor:
        """Compute the map of similarities or distances."""
        return self.of_maps(reduction, similarity=similarity)(self.image).reshape(self.map_shape)

    def of_image(self, reduction: Reduction, *, similarity: bool) -> Callable[[Tensor], Tensor]:
        """Return what computes such maps of images like this one, as they are given."""
        tiles, shape = self.of_maps(reduction, similarity=similarity), self.map_shape
        if len(shape) == 4:  # both are batches
            return tiles

        def map_of(image: Tensor) -> Tensor:
            return tiles(image if image.dim() == 4 else image.unsqueeze(0)).view(shape)

        return map_of

    def of_maps(self, reduction: Reduction, *, similarity: bool) -> Tiles:
        """Bind the templates for maps of images like this one: (B, C, H, W) -> (B, N, Ho, Wo)."""
        kind = reduction, similarity
        if kind not in self.tiles:
            self.tiles[kind] = self._of_maps(reduction, similarity)
        return self.tiles[kind]

    def _of_maps(self, reduction: Reduction, similarity: bool) -> Tiles:
        if isinstance(self.metric, Statistic):
            backend = self._adapted(reduction, self._score(similarity))
            return self._tiles(backend.bound, self._in_map_dtype, backend)
        return self._tiles(self.backend.bound, self.finish(reduction, similarity), self.backend)

    @bounds.overflowing
    def bound(self, reduction: Reduction) -> Tensor:
        """Bound the errors of similarities, or of sums."""
        if isinstance(self.metric, Statistic):
            score = self._score(True)
            backend = self._adapted(reduction, score, ends=self._ends())
            function, done = backend.error, score.error
        else:
            backend, function = self.backend, _Error(self.backend, self.finish(reduction, True))
            done = _as_it_is
        with torch.no_grad():
            return self._bounded(function, done, backend).reshape(self.map_shape).double()

    def _in_map_dtype(self, maps: Tensor) -> Tensor:
        return maps.to(self.map_dtype)

    def least(self) -> tuple[Tensor, Tensor]:
        """Bound the distances of a statistic from below, and compute them, (B, N, Ho, Wo) each.

        NaN or inf: no match. The call is one of a search.
        """
        if "least" not in self.tiles:
            self.tiles["least"] = self._of_least()
        with torch.no_grad():
            lower, distances = self.tiles["least"](self.image).chunk(2, 1)
        return lower, distances

    def _of_least(self) -> Tiles:
        """Bind the templates for these bounds."""
        call = self
        if self.problem.dtype.is_floating_point:
            assert isinstance(self.metric, Statistic)
            given = self.problem, self.kernel, self.weight
            problem, kernel, prepares = for_sums(self.metric, *given)
            call = replace(self, problem=problem, kernel=kernel, prepares=prepares)
        backend = call._adapted("mean", call._score(True), least=True)
        return call._tiles(backend.bound, call._in_map_dtype, backend)

    @bounds.overflowing
    def worst(self) -> Array:
        """Bound the errors of distances to each template, (N,), by one number for all windows.

        It is the bound of a flat window that differs as much from the templates' mean as any of the
        image's finite values: bounds grow with magnitudes.
        """
        finish, metric = self.finish("mean", similarity=False), self.metric.summed
        if self.problem.value_range is not None:
            error = np.zeros(self.problem.templates)
            largest = torch.as_tensor(finish.largest, dtype=torch.float64)
            magnitude = error + largest.flatten().cpu().numpy()
        else:
            given = self.kernel, self.weight
            window = bounds.furthest(metric, self.problem, *given, self.extremes)
            parts = tiling.parts(self.backend, metric, self.problem)
            error = self.backend.flat_error(window, parts, *given)
            magnitude = window.magnitude
        if self.weight is None and metric.finish is identity:
            return finish.error(error, magnitude)
        found = finish.error(*(torch.from_numpy(v)[:, None, None] for v in (error, magnitude)))
        return found.flatten().numpy()

    @once
    def extremes(self) -> tuple[float, float]:
        """The least and the greatest finite value of the image."""
        return bounds.finite_range(self.image)

    def of(self, image: Tensor) -> Call:
        """Return the same of another image, of the same size and dtype."""
        call = replace(self, image=image)
        call.tiles = self.tiles
        return call

    def ready(self) -> Call:
        """Return the call of the images that backends see: completed with zeros and prepared."""
        if self.prepares is None:
            return self
        (top, bottom, left, right), (below, beside) = self.problem.pads, self.problem.overhang
        missing = left, right + beside, top, bottom + below
        image = self.prepares(self.image)(torch.nn.functional.pad(self.image, missing))
        size = image.shape[2], image.shape[3]
        problem = replace(self.problem, image_size=size, pads=(0, 0, 0, 0))
        return replace(self, image=image, problem=problem, prepares=None)

    @property
    def span(self) -> float:
        """The data range, given or by default."""
        return data_range_of(self.data_range, self.dtype, self.metric.summed.degree)

    def _tiles(self, bind: Bind, finish: Callable[[Tensor], Tensor], backend: Backend) -> Tiles:
        dtype = self.problem.value_dtype
        if (
            isinstance(self.metric, Statistic)
            and self.prepares is None
            and self.image.is_floating_point()
        ):
            # Which converts it itself, if it must.
            dtype = torch.promote_types(self.image.dtype, torch.float32)
        steps = Steps(self.prepares, self._sparing(bind), finish, dtype)
        given = self.metric.summed, self.problem, self.kernel, self.weight
        return Tiles(steps, backend, *given, self.memory)

    def _bounded(
        self, function: Callable[..., Tensor], finish: Callable[[Tensor], Tensor], backend: Backend
    ) -> Tensor:
        """Bound errors by tiles that may be smaller than those of `_run`.

        But what is alike for all windows of one of these is that of the whole tile.
        """
        problem, metric, alike = self.problem, self.metric.summed, self.backend.alike
        weight = None if self.weight is None else self.weight.to(problem.value_dtype)
        bounding = _bounding(backend)
        if alike is None or problem.value_range is not None or problem.batch == 0:
            return self._tiles(partial(bound_to, function), finish, bounding)(self.image)
        shape = problem.batch, problem.templates, *problem.map_size
        errors = torch.empty(shape, dtype=torch.float64, device=problem.device)
        kernel = self.kernel.to(problem.value_dtype)
        prepare = self.prepares(self.image) if self.prepares else None
        for tile, part, patch in tiling.pieces(backend, metric, problem, self.image, prepare):
            # As `sparing` computes it.
            filled = patch if weight is None else patch.nan_to_num(0, 0, 0)
            errors_alike = alike(metric, part, filled, kernel, weight)
            bind = self._sparing(partial(bound_to, partial(function, alike=errors_alike)))
            into = errors[tile[0], :, tile[1], tile[2]]
            if self.backend.approximate:  # whose error depends on the whole tile's values
                into[:] = finish(bind(metric, part, kernel, weight)(patch))
                continue
            steps = Steps(None, bind, finish, patch.dtype)
            given = metric, part, kernel, weight
            Tiles(steps, bounding, *given, self.memory // 2)(patch, into)
        return errors

    def _sparing(self, bind: Bind) -> Bind:
        """Let what has no weight not count; integers hold no NaN."""
        floats = self.weight is not None and self.problem.dtype not in INTEGER_RANGES
        return sparing(bind) if floats else bind

    def _ends(self) -> tuple[float, float]:
        """Return the greatest magnitude of prepared floats, and how far they are apart."""
        if self.problem.value_range is not None:
            return 0.0, 0.0
        ends = [*self.extremes, *[0.0] * (any(self.problem.pads) or any(self.problem.overhang))]
        values = self.image.new_tensor(ends).expand(1, self.problem.channels, 1, -1)
        values = values if self.prepares is None else self.prepares(self.image)(values)
        low, high = (float(end) for end in values.detach().double().aminmax())
        return max(-low, high), high - low

    def _score(self, similarity: bool) -> Score:
        assert isinstance(self.metric, Statistic)
        return Score(self.map_dtype, similarity, self.metric.bounded)

    def _adapted(
        self,
        reduction: Reduction,
        score: Score,
        *,
        least: bool = False,
        ends: tuple[float, float] = (0.0, 0.0),
    ) -> Backend:
        assert isinstance(self.metric, Statistic)
        if reduction != "mean":
            raise ValueError(
                f'{self.metric.name} is no sum over a window: `reduction` must be "mean", got '
                f"{reduction!r}"
            )
        given = self.backend, self.metric, self.span, score
        return adapt(*given, least=least, ends=ends)

    def finish(self, reduction: Reduction, similarity: bool) -> Finish:
        """Tell how window sums become a map, or the sums that a statistic is made of."""
        metric, scale = self.metric.summed, 1.0
        if metric.degree and (reduction == "mean" or self.data_range is not None):
            scale = self.span**metric.degree
        dtype = self.map_dtype if self.prepares else self.problem.map_dtype
        if self.weight is None:
            return unweighted(metric, self.problem, scale, reduction, similarity, dtype)
        total = total_weight(self.weight)
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

    return replace(backend, work=work, windows=None, parallel=False)


def data_range_of(given: float | None, dtype: torch.dtype, degree: int = 1) -> float:
    """Return the data range, given or by default, of a metric of that degree."""
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
