"""Overlap-save: window sums by FFTs of overlapping tiles, on the threads of a CPU.

Each thread takes a group of tiles through all steps: copy and centre the pixels, transform,
multiply with the templates' spectra, transform back, add the box sums. What it works on stays in
its cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchsim import threads
from patchsim.bounds import finite
from patchsim.kernels import jit
from patchsim.kernels.butterflies import REGISTER, radices, roots
from patchsim.kernels.definition import definition
from patchsim.metrics.base import Metric
from patchsim.metrics.product import PRODUCT
from patchsim.problem import Pair, Problem, dtype_of, name_of
from patchsim.sums import algebra, factors
from patchsim.sums.box import Array, box_sum, expression_sum
from patchsim.sums.recipe import Recipe, read
from patchsim.sums.slide import Planes

#: Operations that a byte of a transformed point takes, about.
PER_BYTE = 18


def plain(problem: Problem) -> bool:
    """Tell whether this is for kernels, and no thin strip.

    A transform is at least a register wide and high, of which a strip would use little.
    """
    return jit.usable(problem) and min(problem.image_size) >= REGISTER // 16


def can(metric: Metric, problem: Problem) -> bool:
    """Tell whether `bind` computes this."""
    simple = problem.weighting == "none" and problem.dilation == (1, 1)
    terms = read(metric)
    if not simple or terms is None or not plain(problem):
        return False
    if not terms.box:  # which would carry a NaN, and what is below 0 by rounding
        return terms.constant == "0"
    return definition(metric).positive


def bind(metric: Metric, problem: Problem, kernel: Tensor) -> Callable[[Tensor], Tensor]:
    """Prepare templates for sums of an expansion over every window; never negative.

    Parameters
    ----------
    kernel : Tensor, shape (N, C, h, w), of the problem's value dtype

    Returns
    -------
    callable
        (B, C, H, W) -> (B, N, Ho, Wo): for integers in float64, rounded to integers. Images may be
        of float32 where sums are of float64. Not finite where a window or the template holds NaN or
        inf.
    """
    exact, terms = problem.value_range is not None, read(metric)
    assert terms is not None
    kernel = kernel.detach()
    middle = algebra.middle(problem, kernel, metric)
    dtype = torch.float64 if exact else problem.value_dtype
    centre = factors.each_channel(middle, problem.channels, dtype)
    constants, own = factors.read(terms.constant, terms.factors, kernel, centre)
    bound = _Bound(problem, terms, centre, constants, own)
    if not exact and not terms.box and not bool(kernel.isfinite().all()):
        bound.spoilt = (0 * kernel).sum((1, 2, 3))[:, None, None]
    return bound


def correlate(problem: Problem, image: Tensor, kernel: Tensor) -> Tensor:
    """Cross-correlate floats on the CPU: (B, N, Ho, Wo), without gradients.

    Parameters
    ----------
    image, kernel : Tensor, shapes (B, C, H, W) and (N, C, extent of a template)
        Of the same dtype, finite.
    """
    nothing = np.zeros(problem.channels, name_of(image.dtype))
    terms = read(PRODUCT)
    assert terms is not None
    bound = _Bound(problem, terms, nothing, nothing, kernel.detach().numpy())
    return bound.correlate(Planes(image.detach(), (1, 1)), image.dtype)


class _Bound:
    """Sums over windows of images, given what is made of templates.

    Attributes
    ----------
    terms : Recipe
    centre, constants : array, shapes (C,) and (N,)
        What pixels are centred by, and the sums of the terms without f.
    dtype : torch.dtype
        In which sums are computed.
    size : pair of int
        Of the transforms.
    spectra : array, shape (N, R·C, 2·L·M)
        Of the factors of the cross terms.
    spoilt : Tensor, shape (N, 1, 1), or None
        NaN for templates that hold NaN or inf, which no box sum and no constant carries.
    """

    spoilt: Tensor | None = None

    def __init__(
        self, problem: Problem, terms: Recipe, centre: Array, constants: Array, factors: Array
    ) -> None:
        self.problem, self.terms, self.size = problem, terms, tile(problem)
        self.centre, self.constants, self.dtype = centre, constants, dtype_of(factors)
        self.axes = _axes(self.size, self.dtype)
        templates, depth, rows, cols = factors.shape
        planes = np.ascontiguousarray(factors.reshape(-1, rows, cols))
        spectra = np.empty((templates * depth, 2 * math.prod(self.size)), planes.dtype)
        run = partial(jit.spectra(self.dtype), planes, spectra, self.size, *self.axes)
        threads.share(run, len(planes), PER_BYTE * spectra.nbytes)
        self.spectra = spectra.reshape(templates, depth, -1)

    def __call__(self, image: Tensor) -> Tensor:
        """Sum over the windows of images: see `bind`."""
        image, spoils = image.detach(), None
        planes, boxes = Planes(image, (1, 1)), None
        if self.terms.box:
            boxes = expression_sum(self.terms.box, image, planes, self.centre, self.problem)
        # In a spectrum NaN and inf would spoil all; they reach the box sums of what they spoil.
        if self.problem.value_range is None and not finite(image):
            middle = torch.from_numpy(self.centre)[:, None, None].to(image.dtype)
            spoils = None if self.terms.box else box_sum(0 * image, self.problem)
            planes = Planes(torch.where(image.isfinite(), image, middle), (1, 1))
        sums = self.correlate(planes, image.dtype, boxes)
        if self.spoilt is not None:
            sums = sums + self.spoilt
        return sums if spoils is None else sums + spoils

    def correlate(self, planes: Planes, pixels: torch.dtype, boxes: Array | None = None) -> Tensor:
        """Correlate planes of `pixels`; add boxes and constants if there are boxes.

        Two tiles are the real and the imaginary part of one complex signal: templates being real,
        so are their results.
        """
        problem, size, spectra = self.problem, self.size, self.spectra
        sums = np.empty((problem.batch, len(spectra), *problem.map_size), spectra.dtype)
        boxed = boxes is not None
        exact = problem.value_range is not None
        texts = tuple(text for text, _, _ in self.terms.crosses)
        run = jit.overlap_save(texts, pixels, self.dtype, exact=exact, boxed=boxed)
        base = sums if boxes is None else boxes
        arrays = self.centre, spectra, base, self.constants, sums
        layout = (*planes.steps[:2], planes.pitch), problem.image_size, size
        grid = _grid(problem, size), _valid(problem, size), problem.stride
        pairs = -(-tiles(problem, size) // 2)
        run = partial(run, planes.flat, *arrays, *layout, *grid, *self.axes)
        points = pairs * math.prod(size) * (spectra.shape[1] + len(spectra))
        threads.share(run, pairs, PER_BYTE * points * self.dtype.itemsize)
        return torch.from_numpy(sums)


@lru_cache(maxsize=64)
def _axes(size: Pair, dtype: torch.dtype) -> list[Any]:
    """Return the radices and the roots of transforms down, and those across."""
    return [array for length in size for array in _axis(length, dtype)]


def _axis(length: int, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return the radices and the roots of transforms along one axis."""
    numbers = np.array(roots(length)).view(np.float64)
    return np.array(radices(length)), torch.from_numpy(numbers).to(dtype).numpy()


def _valid(problem: Problem, size: Pair) -> Pair:
    """Return how many windows lie inside a tile, down and across."""
    (rows, cols), (length, breadth) = problem.extent, size
    return length - rows + 1, breadth - cols + 1


def _grid(problem: Problem, size: Pair) -> Pair:
    """Count the tiles, down and across, that hold every window of an image."""
    (height, width), (rows, cols) = problem.image_size, problem.extent
    down, across = _valid(problem, size)
    return -(-(height - rows + 1) // down), -(-(width - cols + 1) // across)


def tiles(problem: Problem, size: Pair) -> int:
    """Count the tiles of that size that hold every window."""
    return problem.batch * math.prod(_grid(problem, size))


def memory(problem: Problem, crosses: int) -> int:
    """Count the numbers that are held beside image and map.

    Spectra of the templates, and for each thread those of a pair of tiles, a product and a block.
    """
    size = tile(problem)
    busy = min(threads.count_threads(), tiles(problem, size))
    depth = crosses * problem.channels
    return 2 * math.prod(size) * (problem.templates * depth + busy * (depth + 2))


def tile(problem: Problem) -> Pair:
    """Choose the size of the transforms that takes the least time."""
    alone = _tile(problem, 1)
    shared = _operations(problem, alone) >= threads.WORTH_SHARING
    return _tile(problem, threads.count_threads()) if shared else alone


def _operations(problem: Problem, size: Pair) -> int:
    """Count about how many operations the tiles of an expansion with one cross term take."""
    points = -(-tiles(problem, size) // 2) * math.prod(size)
    return PER_BYTE * itemsize(problem) * points * (problem.channels + problem.templates)


def itemsize(problem: Problem) -> int:
    """Return the bytes of the numbers that are transformed."""
    return 4 if problem.value_dtype is torch.float32 else 8


@lru_cache(maxsize=512)
def _tile(problem: Problem, busy: int) -> Pair:
    lanes = REGISTER // itemsize(problem)
    down, across = (
        _lengths(rows, size, lanes)
        for rows, size in zip(problem.extent, problem.image_size, strict=True)
    )
    return min(product(down, across), key=partial(_effort, problem, busy))


def effort(problem: Problem) -> float:
    """Estimate the work, in units of about 0.06 ns for float32 and 0.12 ns otherwise."""
    return _effort(problem, 1, _tile(problem, 1))


def _effort(problem: Problem, busy: int, size: Pair) -> float:
    """Estimate the work of each of so many threads; the constants fit measured times.

    For a pair of tiles: transforms of each channel and template, products of their spectra, and
    what it takes to fill and empty a tile; half as much again where it leaves a core's own cache,
    and more the more of the next it takes.
    """
    channels, templates = problem.channels, problem.templates
    points, pairs = math.prod(size), -(-tiles(problem, size) // 2)
    passes = math.log2(points) + 8
    held = points * (channels + 1) * itemsize(problem)
    away = 1 + 0.5 * min(1.0, held / 2**18) + held / (10 * 2**20)
    pair = channels * passes + templates * (passes + 3 * channels)
    prepared = channels * templates * passes / 2
    return points * (-(-pairs // busy) * away * pair + prepared / busy)


def _lengths(extent: int, size: int, lanes: int) -> list[int]:
    """List the lengths to choose from: multiples of `lanes` of primes up to 5."""
    enough = next(n for n in _smooth(lanes) if n >= size)
    longest = max(1024, 4 * extent)
    return [n for n in _smooth(lanes) if extent <= n <= min(enough, longest)] or [enough]


@lru_cache(maxsize=2)
def _smooth(lanes: int) -> list[int]:
    numbers = (2**i * 3**j * 5**k for i, j, k in product(range(22), range(14), range(10)))
    return sorted(lanes * n for n in numbers if n <= 2**20)
