"""Runs a window function tile by tile, so that memory stays within `patchsim.options.max_memory`.

Tiles also take geometry off the backends' hands: each tile's image is cut out, completed with
zeros and converted, so that a backend meets neither padding nor overhang.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from itertools import product
from threading import Lock

import torch
from torch import Tensor

from patchsim import options, threads
from patchsim.backends.base import Backend, WindowFunction, Work
from patchsim.kernels import jit
from patchsim.metrics.base import Metric
from patchsim.problem import Problem
from patchsim.tile_gradients import Tile, mapped

#: Bytes for each number that is prepared: those of float64, and of the steps to it.
PREPARED = 48

#: What is done to the image, if anything; the window function; and what is done to its sums.
Steps = tuple[Callable[[Tensor], Tensor] | None, WindowFunction, Callable[[Tensor], Tensor]]


def run(
    steps: Steps,
    backend: Backend,
    metric: Metric,
    problem: Problem,
    tensors: tuple[Tensor, Tensor, Tensor | None],
    memory: int,
    into: Tensor | None = None,
) -> Tensor:
    """Compute ``finish(function(prepare(image), ...))`` over the tiles that `backend` needs.

    `tensors` are image (B, C, H, W), kernel (N, C', h, w) and weight (N, C', h, w) or None, where
    C' channels are prepared of C. `memory` are the bytes to stay within. Returns the map,
    (B, N, Ho, Wo), or as many maps as there are of a tile; puts it `into` a tensor if there is one.
    """
    (prepare, function, finish), (image, kernel, weight) = steps, tensors
    if problem.batch == 0:
        return finish(kernel.new_empty((0, problem.templates, *problem.map_size)))
    size, together = _tiling(backend, metric, problem, memory, threads.count_threads())
    # What a backend keeps for all tiles, it keeps for an object of this call's own.
    own = _values(kernel, problem)
    kernel = own.view(kernel.shape) if backend.prepare else own

    def compute(patch: Tensor, kernel: Tensor, part: Problem) -> Tensor:
        values = _values(prepare(patch) if prepare else patch, problem)
        return finish(function(metric, part, values, kernel, weight))

    if together == 0 and into is None:
        return compute(image, kernel, problem)
    if size == (problem.batch, *problem.map_size) and into is None:
        patch = _cut(image, problem, _whole(problem))
        return compute(patch, kernel, _part(problem, *size))
    if problem.transformed or (problem.grad and torch.compiler.is_compiling()):
        cut = partial(_cut, image, problem)
        return _joined(lambda tile, part: compute(cut(tile), kernel, part), problem, size)
    if problem.grad and torch.is_grad_enabled():

        def of_tile(patch: Tensor, kernel: Tensor, tile: Tile) -> Tensor:
            missing = _place(problem, tile)[1]
            patch = torch.nn.functional.pad(patch, missing) if any(missing) else patch
            return compute(patch, kernel, _part(problem, *_lengths(tile)))

        places = [(tile, _place(problem, tile)[0]) for tile in _tiles(problem, size)]
        return mapped(of_tile, places, image, kernel, problem.map_size)
    inference, lock = torch.is_inference_mode_enabled(), Lock()
    output = [] if into is None else [into]

    def fill(tile: Tile) -> None:
        part = _part(problem, *_lengths(tile))
        _prepare(backend, metric, part, kernel, lock)
        with torch.inference_mode(inference), torch.set_grad_enabled(False):
            piece = compute(_cut(image, problem, tile), kernel, part)
        with lock:
            if not output:
                shape = problem.batch, piece.shape[1], *problem.map_size
                output.append(piece.new_empty(shape))
        output[0][tile[0], :, tile[1], tile[2]] = piece

    threads.each(fill, _tiles(problem, size), together)
    return output[0]


def _prepare(
    backend: Backend,
    metric: Metric,
    problem: Problem,
    kernel: Tensor,
    lock: AbstractContextManager[bool],
) -> None:
    """Let one thread prepare while others wait: at Python they would hold each other up."""
    if backend.prepare:
        with lock:
            backend.prepare(metric, problem, kernel)


def _side_by_side(backend: Backend, problem: Problem) -> bool:
    """Tell whether each tile is computed on one thread, several at a time.

    torch's threads would be idle meanwhile, but not asleep: between calls they wait in a loop that
    takes milliseconds from whatever else wants their core.
    """
    return backend.parallel and jit.usable(problem)


def tile_size(
    backend: Backend, metric: Metric, problem: Problem, max_memory: int
) -> tuple[int, int, int]:
    """Choose how many images, rows and columns of windows a tile has: see `_tiling`."""
    size, _ = _tiling(backend, metric, problem, max_memory, threads.count_threads())
    return size


#: Windows in a tile below which fewer tiles are computed at a time, so that there is room for more.
FEWEST = 2**14


@lru_cache(maxsize=512)
def _tiling(
    backend: Backend, metric: Metric, problem: Problem, max_memory: int, count: int
) -> tuple[tuple[int, int, int], int]:
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
) -> tuple[int, int, int]:
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


def _needed(backend: Backend, metric: Metric, problem: Problem, size: tuple[int, int, int]) -> int:
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
    prepare: Callable[[Tensor], Tensor] | None,
) -> Iterator[tuple[Tile, Problem, Tensor]]:
    """Yield the tiles that `run` computes, their problems and their images."""
    size = tile_size(backend, metric, problem, options.max_memory)
    for tile in _tiles(problem, size):
        if tile == _whole(problem) and _as_it_lies(problem):
            patch, part = image, problem
        else:
            patch, part = _cut(image, problem, tile), _part(problem, *_lengths(tile))
        yield tile, part, _values(prepare(patch) if prepare else patch, problem)


def parts(backend: Backend, metric: Metric, problem: Problem) -> tuple[Problem, ...]:
    """List the problems of the tiles that `run` computes, each once."""
    size = tile_size(backend, metric, problem, options.max_memory)
    shapes = {_lengths(tile) for tile in _tiles(problem, size)}
    return tuple(_part(problem, *shape) for shape in sorted(shapes))


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


def _tiles(problem: Problem, size: tuple[int, int, int]) -> Iterator[Tile]:
    lengths = (problem.batch, *problem.map_size)
    ranges = (
        [slice(start, min(start + step, length)) for start in range(0, length, step)]
        for length, step in zip(lengths, size, strict=True)
    )
    yield from product(*ranges)


def _lengths(tile: Tile) -> tuple[int, int, int]:
    batch, rows, cols = (s.stop - s.start for s in tile)
    return batch, rows, cols


def _joined(
    compute: Callable[[Tile, Problem], Tensor], problem: Problem, size: tuple[int, int, int]
) -> Tensor:
    """Compute tiles and put them together, without writing into a map: see `Problem`."""
    tiles = _tiles(problem, size)
    pieces = [compute(tile, _part(problem, *_lengths(tile))) for tile in tiles]
    counts = [
        -(-n // step) for n, step in zip((problem.batch, *problem.map_size), size, strict=True)
    ]
    for dim, count in zip((3, 2, 0), reversed(counts), strict=True):
        together = range(0, len(pieces), count)
        pieces = [torch.cat(pieces[first : first + count], dim) for first in together]
    [whole] = pieces
    return whole


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


def _values(tensor: Tensor, problem: Problem) -> Tensor:
    # To ask takes a tenth of the time of converting to the same dtype.
    return tensor if tensor.dtype is problem.value_dtype else tensor.to(problem.value_dtype)
