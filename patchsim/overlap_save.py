"""Overlap-save: window sums by FFTs of overlapping tiles, on the threads of a CPU.

Each thread takes a group of tiles through all steps: copy and centre the pixels, transform,
multiply with the templates' spectra, transform back, add the box sums. What it works on stays in
its cache.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from itertools import product
from threading import local
from typing import Any

import torch
from torch import Tensor

from patchsim import algebra, jit, threads
from patchsim.box import expression_sum
from patchsim.metrics.base import Metric
from patchsim.problem import Pair, Problem
from patchsim.recipe import Recipe, read
from patchsim.slide import Planes

#: Numbers in the tiles that are transformed together: enough to make up for a call's overhead, few
#: enough for a core's own cache.
GROUP = 2**17


def can(metric: Metric, problem: Problem) -> bool:
    """Tell whether `window_sums` computes this."""
    cpu = problem.device.type == "cpu" and not torch.compiler.is_compiling()
    plain = problem.weighting == "none" and problem.dilation == (1, 1) and not problem.grad
    return cpu and plain and read(metric) is not None


def window_sums(metric: Metric, problem: Problem, image: Tensor, kernel: Tensor) -> Tensor:
    """Sum an expansion over every window; never negative.

    Parameters
    ----------
    image, kernel : Tensor, shapes (B, C, H, W) and (N, C, h, w), of the problem's value dtype

    Returns
    -------
    Tensor, shape (B, N, Ho, Wo)
        For integers in float64, rounded to integers. Not finite where a window or the template
        holds NaN or inf.
    """
    image, kernel = image.detach(), kernel.detach()
    exact = problem.value_range is not None
    dtype = torch.float64 if exact else problem.value_dtype
    terms = read(metric)
    assert terms is not None
    centre = torch.as_tensor(algebra.middle(problem, kernel, metric), dtype=dtype)
    centre = centre.expand(problem.channels, 1, 1).contiguous()
    centred = kernel.to(dtype) - centre
    constants = terms.constant(centred)
    planes, middles = Planes(image, (1, 1)), centre.flatten()
    boxes = expression_sum(terms.box, image, planes, middles, problem)
    # NaN and inf have reached the box sums and the constants of what they spoil; in a spectrum
    # they would spoil all.
    if not exact and not math.isfinite(image.sum()):
        planes = Planes(torch.where(image.isfinite(), image, centre), (1, 1))
    tiles = _Tiles(terms, problem, centred.nan_to_num(0, 0, 0), planes, middles)
    sums = centred.new_empty((problem.batch, problem.templates, *problem.map_size))
    finish = partial(tiles.add, constants.tolist(), boxes.numpy(), sums.numpy())
    threads.each(finish, tiles.jobs)
    return sums


class _Tiles:
    """Tiles of an image, the spectra of the templates, and where the tiles' results go.

    Two tiles are the real and the imaginary part of one complex signal: templates being real, so
    are their results.
    """

    def __init__(
        self, terms: Recipe, problem: Problem, kernel: Tensor, planes: Planes, centre: Tensor
    ) -> None:
        self.problem, self.flat, self.centre = problem, planes.flat, centre.numpy()
        self.layout = (*planes.steps[:2], planes.pitch), problem.image_size
        self.size, dtype = tile(problem), kernel.dtype
        self.grid, self.valid = _grid(problem, self.size), _valid(problem, self.size)
        count, together = tiles(problem, self.size), _together(problem, self.size)
        self.jobs = [(i, min(i + together, count)) for i in range(0, count, together)]
        factors = torch.cat([scale * g(kernel) for _, g, scale in terms.crosses], 1)
        # Rows first, of which most are zeros and need no transform.
        spectra = torch.fft.fft(torch.fft.fft(factors, self.size[1]), self.size[0], dim=-2)
        self.spectra = spectra.conj().resolve_conj()
        self.gathers = [
            jit.gather(text, problem.value_dtype, dtype) for text, _, _ in terms.crosses
        ]
        self.combine = jit.combine(dtype, problem.value_range is not None)
        depth = len(self.gathers) * problem.channels
        self.shape = -(-min(together, count) // 2), depth, *self.size, 2
        self.own = local()

    def add(self, constants: list[float], boxes: Any, sums: Any, job: Pair) -> None:
        """Add boxes, constants and the correlations of a group of tiles."""
        if not hasattr(self.own, "pairs"):
            self.own.pairs = torch.zeros(self.shape, dtype=self.spectra.real.dtype)
        pairs = self.own.pairs[: -(-(job[1] - job[0]) // 2)]
        for r, gather in enumerate(self.gathers):
            where = *self.layout, self.grid, self.valid, r * self.problem.channels
            gather(self.flat, self.centre, pairs.numpy(), *where, *job)
        spectrum = torch.fft.fft2(torch.view_as_complex(pairs))  # (pairs, R·C, L, M)
        for n, template in enumerate(self.spectra):
            products = spectrum[:, 0] * template[0]
            for c in range(1, len(template)):
                products.addcmul_(spectrum[:, c], template[c])
            result = torch.view_as_real(torch.fft.ifft2(products)).numpy()
            place = n, self.grid, self.valid, self.problem.stride
            self.combine(result, boxes, constants[n], sums, *place, *job)


def _together(problem: Problem, size: Pair) -> int:
    """Choose how many tiles are transformed together, an even number."""
    return 2 * max(1, GROUP // (2 * problem.channels * math.prod(size)))


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


def memory(problem: Problem, size: Pair) -> int:
    """Count the numbers that the threads hold: tiles, their spectra, a product and a result."""
    busy = min(threads.count_threads(), tiles(problem, size))
    group = min(_together(problem, size), tiles(problem, size) + 1)
    return 3 * busy * group * (problem.channels + 1) * math.prod(size)


@lru_cache(maxsize=512)
def tile(problem: Problem) -> Pair:
    """Choose the size of the transforms: the tiles' number times the work for each is least."""
    down, across = (
        _lengths(rows, size) for rows, size in zip(problem.extent, problem.image_size, strict=True)
    )
    # Where rows lie multiples of 2048 bytes apart, columns compete for the same lines of the cache:
    # such transforms take up to twice as long.
    itemsize = 8 if problem.value_dtype is torch.float32 else 16
    across = [n for n in across if n * itemsize % 2048] or across
    best, least = (down[-1], across[-1]), math.inf
    for length, breadth in product(down, across):
        number, points = tiles(problem, (length, breadth)), length * breadth
        cost = (number + number % 2) * _effort(problem, points, itemsize)
        if cost < least:
            best, least = (length, breadth), cost
    return best


def _effort(problem: Problem, points: int, itemsize: int) -> float:
    """Estimate the work for a tile of so many points: constants fit measured times.

    Transforms of each channel and template, products of their spectra, and what it takes to fill
    and empty a tile. A pair of large ones leaves the core's own cache, and so do the spectra of
    many templates.
    """
    channels, templates = problem.channels, problem.templates
    spilling = 1 + channels * points * itemsize / 5e6
    far = min(8.0, channels * templates * points * itemsize / 4e6)
    passes = 8 * channels + channels * templates * (2 + 2 * far)
    return points * (spilling * (channels + templates) * math.log2(points) + passes) + 200_000


def _lengths(extent: int, size: int) -> list[int]:
    """List the lengths to choose from: multiples of 4 of primes up to 5."""
    enough = next(i for i, n in enumerate(_smooth()) if n >= size)
    return [n for n in _smooth()[: enough + 2] if n >= extent] or [_smooth()[enough]]


@lru_cache(maxsize=1)
def _smooth() -> list[int]:
    numbers = (2**i * 3**j * 5**k for i, j, k in product(range(2, 24), range(15), range(10)))
    return sorted(n for n in numbers if n <= 2**24)
