"""Runs a window function tile by tile, so that memory stays within `patchsim.options.max_memory`.

Tiles also take geometry off the backends' hands: each tile's image is cut out, completed with
zeros and converted, so that a backend meets neither padding nor overhang.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from threading import Lock

import torch
from torch import Tensor

from patchsim import options, threads
from patchsim.backends.base import Backend, Bind, OfImage, Work
from patchsim.kernels import jit
from patchsim.metrics.base import Metric
from patchsim.problem import Problem
from patchsim.tile_gradients import Tile, mapped

#: Bytes for each number that is prepared: those of float64, and of the steps to it.
PREPARED = 48

#: Images, rows and columns of windows.
Size = tuple[int, int, int]

#: Pixels as they are given -> as they are compared.
Prepare = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Steps:
    """What is computed of an image.

    Attributes
    ----------
    prepares : callable, optional
        image -> what is done to each part of it first.
    bind : Bind
        Makes the sums over windows of prepared images.
    finish : callable
        What is done to the sums, (B, N, Ho, Wo), of which there may then be more.
    dtype : torch.dtype
        In which images are given to what `bind` makes.
    """

    prepares: Callable[[Tensor], Prepare] | None
    bind: Bind
    finish: Callable[[Tensor], Tensor]
    dtype: torch.dtype


class Tiles:
    """Computes maps of images of one size, with templates bound once.

    Parameters
    ----------
    steps : Steps
    backend : Backend
        Whose needs decide the size of tiles.
    metric, problem : Metric, Problem
    kernel : Tensor, shape (N, C', h, w)
        C' channels are prepared of an image's C.
    weight : Tensor, shape (N, C', h, w), optional
    memory : int
        Bytes to stay within.
    """

    def __init__(
        self,
        steps: Steps,
        backend: Backend,
        metric: Metric,
        problem: Problem,
        kernel: Tensor,
        weight: Tensor | None,
        memory: int,
    ) -> None:
        self._steps, self._metric, self._problem = steps, metric, problem
        self._kernel = _converted(kernel, problem.value_dtype)
        self._weight = None if weight is None else _converted(weight, problem.value_dtype)
        self._size, self._together = (0, 0, 0), 0
        #: A tile as large as the map; one whose image is taken as it lies.
        self._whole = self._as_it_lies = False
        self._bound: dict[Problem, OfImage] = {}
        if problem.batch:
            count = threads.count_threads()
            self._size, self._together = _tiling(backend, metric, problem, memory, count)
            self._whole = self._size == (problem.batch, *problem.map_size)
            self._as_it_lies = self._together == 0
        if self._as_it_lies:
            self._alone = self._sums(problem)

    def __call__(self, image: Tensor, into: Tensor | None = None) -> Tensor:
        """Compute the map, (B, N, Ho, Wo), or as many as are finished, of an image (B, C, H, W).

        It is put `into` a tensor if there is one.
        """
        problem, steps = self._problem, self._steps
        if problem.batch == 0:
            return steps.finish(self._kernel.new_empty((0, problem.templates, *problem.map_size)))
        prepare = steps.prepares(image) if steps.prepares else None
        if into is None and self._as_it_lies:
            return self._compute(image, prepare, self._alone)
        if into is None and self._whole:
            part = _part(problem, *self._size)
            return self._compute(_cut(image, problem, _whole(problem)), prepare, self._sums(part))
        if problem.transformed or (problem.grad and torch.compiler.is_compiling()):
            return self._joined(image, prepare)
        if problem.grad and torch.is_grad_enabled():
            return self._differentiable(image, prepare)
        return self._filled(image, prepare, into)

    def _sums(self, part: Problem) -> OfImage:
        """Bind the templates, once."""
        if part not in self._bound:
            bind = self._steps.bind
            self._bound[part] = bind(self._metric, part, self._kernel, self._weight)
        return self._bound[part]

    def _compute(self, patch: Tensor, prepare: Prepare | None, sums: OfImage) -> Tensor:
        values = patch if prepare is None else prepare(patch)
        return self._steps.finish(sums(_converted(values, self._steps.dtype)))

    def _filled(self, image: Tensor, prepare: Prepare | None, into: Tensor | None) -> Tensor:
        """Fill a map with tiles, several at a time."""
        problem, lock = self._problem, Lock()
        inference = torch.is_inference_mode_enabled()
        output = [] if into is None else [into]
        # Before threads begin: at Python they would hold each other up.
        bound = {own: self._sums(_part(problem, *own)) for own in _shapes(problem, self._size)}

        def fill(tile: Tile) -> None:
            sums = bound[_lengths(tile)]
            with torch.inference_mode(inference), torch.set_grad_enabled(False):
                piece = self._compute(_cut(image, problem, tile), prepare, sums)
            with lock:
                if not output:
                    shape = problem.batch, piece.shape[1], *problem.map_size
                    output.append(piece.new_empty(shape))
            output[0][tile[0], :, tile[1], tile[2]] = piece

        threads.each(fill, _tiles(problem, self._size), self._together)
        return output[0]

    def _differentiable(self, image: Tensor, prepare: Prepare | None) -> Tensor:
        """Compute a map whose gradient is computed tile by tile, too."""
        problem, steps = self._problem, self._steps

        def of_tile(patch: Tensor, kernel: Tensor, tile: Tile) -> Tensor:
            missing = _place(problem, tile)[1]
            patch = torch.nn.functional.pad(patch, missing) if any(missing) else patch
            part = _part(problem, *_lengths(tile))
            sums = steps.bind(self._metric, part, kernel, self._weight)
            return self._compute(patch, prepare, sums)

        places = [(tile, _place(problem, tile)[0]) for tile in _tiles(problem, self._size)]
        return mapped(of_tile, places, image, self._kernel, problem.map_size)

    def _joined(self, image: Tensor, prepare: Prepare | None) -> Tensor:
        """Compute tiles and put them together, without writing into a map: see `Problem`."""
        problem, size = self._problem, self._size
        pieces = [
            self._compute(
                _cut(image, problem, tile), prepare, self._sums(_part(problem, *_lengths(tile)))
            )
            for tile in _tiles(problem, size)
        ]
        lengths = zip((problem.batch, *problem.map_size), size, strict=True)
        counts = [-(-n // step) for n, step in lengths]
        for dim, count in zip((3, 2, 0), reversed(counts), strict=True):
            together = range(0, len(pieces), count)
            pieces = [torch.cat(pieces[first : first + count], dim) for first in together]
        [whole] = pieces
        return whole


def _side_by_side(backend: Backend, problem: Problem) -> bool:
    """Tell whether each tile is computed on one thread, several at a time.

    torch's threads would be idle meanwhile, but not asleep: between calls they wait in a loop that
    takes milliseconds from whatever else wants their core.
    """
    return backend.parallel and jit.usable(problem)


def tile_size(backend: Backend, metric: Metric, problem: Problem, max_memory: int) -> Size:
    """Choose how many images, rows and columns of windows a tile has: see `_tiling`."""
    size, _ = _tiling(backend, metric, problem, max_memory, threads.count_threads())
    return size


#: Windows in a tile below which fewer tiles are computed at a time, so that there is room for more.
FEWEST = 2**14


@lru_cache(maxsize=512)
def _tiling(
    backend: Backend, metric: Metric, problem: Problem, max_memory: int, count: int
) -> tuple[Size, int]:
    """Choose the size of tiles, and how many of them so many threads compute at a time.

    0 if one is the whole, whose image is taken as it lies.
    """
    together = count if _side_by_side(backend, problem) else 1
    size = _fitting(backend, metric, problem, max_memory, together)
    while together > 1 and math.prod(size) < FEWEST:
        together //= 2
        size = _fitting(backend, metric, problem, max_memory, together)
    if size == (problem.batch, *problem.map_size) and _as_it_lies(problem):
        return size, 0
    return size, together


def _fitting(
    backend: Backend, metric: Metric, problem: Problem, max_memory: int, together: int
) -> Size:
    """Halve the batch, then the rows, then the columns until so many tiles fit the memory budget.

    And until one has no more windows than the backend wishes for.
    """
    batch, (rows, cols) = problem.batch, problem.map_size
    wished = backend.windows(problem, metric) if backend.windows else batch * rows * cols
    whole = batch * rows * cols

    def fits() -> bool:
        windows = batch * rows * cols
        if windows > max(1, wished):
            return False
        if windows < whole and together > 1:
            with threads.alone():
                needed = together * _needed(backend, metric, problem, (batch, rows, cols))
        else:
            needed = _needed(backend, metric, problem, (batch, rows, cols))
        return needed <= max_memory

    while not fits() and (batch, rows, cols) != (1, 1, 1):
        if batch > 1:
            batch = (batch + 1) // 2
        elif rows > 1:
            rows = (rows + 1) // 2
        else:
            cols = (cols + 1) // 2
    return batch, rows, cols


def _needed(backend: Backend, metric: Metric, problem: Problem, size: Size) -> int:
    """Estimate the memory of a tile: what the backend takes, and what is made for it.

    That is the tile's image, if it is completed with zeros, converted or prepared.
    """
    part = _part(problem, *size)
    pixels = part.batch * part.channels * math.prod(part.image_size)
    own = problem.dtype.itemsize * (any(problem.pads) or any(problem.overhang))
    own += problem.value_dtype.itemsize * (problem.value_dtype is not problem.dtype)
    own += PREPARED * (metric.prepare is not None)
    return backend.work(part, metric).bytes + own * pixels


def work(backend: Backend, metric: Metric, problem: Problem, max_memory: int) -> Work:
    """Estimate a run: the steps of each tile, and the operations of all."""
    if problem.batch == 0:
        return Work(0, 0, 0)
    size = tile_size(backend, metric, problem, max_memory)
    lengths = zip((problem.batch, *problem.map_size), size, strict=True)
    tiles = math.prod(-(-length // step) for length, step in lengths)
    whole = backend.work(_part(problem, problem.batch, *problem.map_size), metric)
    return dataclasses.replace(whole, steps=whole.steps * tiles)


def pieces(
    backend: Backend,
    metric: Metric,
    problem: Problem,
    image: Tensor,
    prepare: Prepare | None,
) -> Iterator[tuple[Tile, Problem, Tensor]]:
    """Yield the tiles that a map is computed of, their problems and their images."""
    size = tile_size(backend, metric, problem, options.max_memory)
    for tile in _tiles(problem, size):
        if tile == _whole(problem) and _as_it_lies(problem):
            patch, part = image, problem
        else:
            patch, part = _cut(image, problem, tile), _part(problem, *_lengths(tile))
        values = prepare(patch) if prepare else patch
        yield tile, part, _converted(values, problem.value_dtype)


def parts(backend: Backend, metric: Metric, problem: Problem) -> tuple[Problem, ...]:
    """List the problems of the tiles that a map is computed of, each once."""
    size = tile_size(backend, metric, problem, options.max_memory)
    return tuple(_part(problem, *shape) for shape in _shapes(problem, size))


def _shapes(problem: Problem, size: Size) -> list[Size]:
    """List the shapes of tiles, each once: those of that size, and what is left at the ends."""
    lengths = zip((problem.batch, *problem.map_size), size, strict=True)
    batches, rows, cols = (sorted({min(step, n), n % step or step}) for n, step in lengths)
    return list(product(batches, rows, cols))


def refusals(backend: Backend, metric: Metric, problem: Problem) -> list[str]:
    """Tell why a backend can't compute a metric here, be it for the memory of one window."""
    return _refusals(backend, metric, problem, options.max_memory)


@lru_cache(maxsize=512)
def _refusals(backend: Backend, metric: Metric, problem: Problem, max_memory: int) -> list[str]:
    reasons = backend.refuse(problem, metric)
    if not reasons and problem.batch:
        needed = _needed(backend, metric, problem, (1, 1, 1))
        if needed > max_memory:
            reasons = [
                f"one window takes it {needed} bytes, more than patchsim.options.max_memory "
                f"(={max_memory})"
            ]
    return reasons


@lru_cache(maxsize=512)
def _part(problem: Problem, batch: int, rows: int, cols: int) -> Problem:
    """Describe a tile of that many images and map positions, with nothing left to pad."""
    size = (
        (rows - 1) * problem.stride[0] + problem.extent[0],
        (cols - 1) * problem.stride[1] + problem.extent[1],
    )
    return dataclasses.replace(problem, batch=batch, image_size=size, pads=(0, 0, 0, 0))


def _as_it_lies(problem: Problem) -> bool:
    """Tell whether nothing is to be added to an image, nor much of it lies beyond all windows."""
    if any(problem.pads) or any(problem.overhang):
        return False
    (down, across), (rows, cols) = problem.stride, problem.extent
    return down <= rows and across <= cols


def _whole(problem: Problem) -> Tile:
    rows, cols = problem.map_size
    return slice(0, problem.batch), slice(0, rows), slice(0, cols)


def _tiles(problem: Problem, size: Size) -> Iterator[Tile]:
    lengths = (problem.batch, *problem.map_size)
    ranges = (
        [slice(start, min(start + step, length)) for start in range(0, length, step)]
        for length, step in zip(lengths, size, strict=True)
    )
    yield from product(*ranges)


def _lengths(tile: Tile) -> Size:
    batch, rows, cols = (s.stop - s.start for s in tile)
    return batch, rows, cols


def _cut(image: Tensor, problem: Problem, tile: Tile) -> Tensor:
    """Cut out the part of the padded image that a tile's windows cover."""
    place, missing = _place(problem, tile)
    patch = image[place]
    return torch.nn.functional.pad(patch, missing) if any(missing) else patch


def _place(problem: Problem, tile: Tile) -> tuple[tuple[slice, ...], tuple[int, ...]]:
    """Tell where in the image that part lies, and how many zeros complete it on each side."""
    batch, rows, cols = tile
    top, bottom, before_rows, after_rows = _span(problem, 0, rows)
    left, right, before_cols, after_cols = _span(problem, 1, cols)
    place = batch, slice(None), slice(top, bottom), slice(left, right)
    return place, (before_cols, after_cols, before_rows, after_rows)


def _span(problem: Problem, axis: int, positions: slice) -> tuple[int, int, int, int]:
    """Start and stop in the image, and how many zeros come before and after."""
    stride, extent, size = problem.stride[axis], problem.extent[axis], problem.image_size[axis]
    start = positions.start * stride - problem.pads[2 * axis]
    stop = (positions.stop - 1) * stride + extent - problem.pads[2 * axis]
    first, last = (min(max(0, edge), size) for edge in (start, stop))
    before = min(max(0, -start), stop - start)
    return first, last, before, stop - start - (last - first) - before


def _converted(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    # To ask takes a tenth of the time of converting to the same dtype.
    return tensor if tensor.dtype is dtype else tensor.to(dtype)
