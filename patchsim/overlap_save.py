"""Overlap-save: window sums by FFTs of overlapping tiles, on the threads of a CPU.

Each thread takes a group of tiles through all steps: copy and centre the pixels, transform,
multiply with the templates' spectra, transform back, add the box sums. What it works on stays in
its cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from threading import local
from typing import Any

import torch
from torch import Tensor

from patchsim import algebra, jit, threads
from patchsim.box import expression_sum
from patchsim.expression import Expression, trace
from patchsim.metrics.base import Metric, Scalar
from patchsim.problem import Pair, Problem
from patchsim.slide import Planes

#: Numbers in the tiles that are transformed together: enough to make up for a call's overhead, few
#: enough for a core's own cache.
GROUP = 2**17


@dataclass(frozen=True)
class Recipe:
    """An expansion as texts: what to box, and per cross term its factors and scale."""

    box: str
    crosses: tuple[tuple[str, Scalar, int], ...]
    constants: tuple[tuple[int, Scalar], ...]


@lru_cache(maxsize=64)
def recipe(metric: Metric) -> Recipe | None:
    """Read a metric's terms; None where a function isn't written with + − * ** and abs().

    And where there is no cross term, or no box sum that would carry a NaN or inf of the image.
    """
    boxed, crosses, constants = Expression("number", value=0), [], []
    for term in metric.terms:
        if term.f is None:
            assert term.g is not None
            constants.append((term.scale, term.g))
            continue
        read = trace(_of_two(term.f))
        if read is None:
            return None
        if term.g is None:
            boxed = boxed + term.scale * read
        else:
            crosses.append((str(read), term.g, term.scale))
    if not crosses or boxed.op == "number":
        return None
    return Recipe(str(boxed), tuple(crosses), tuple(constants))


def _of_two(function: Scalar) -> Callable[[Any, Any], Any]:
    return lambda p, k: function(p)


def can(metric: Metric, problem: Problem) -> bool:
    """Tell whether `window_sums` computes this."""
    cpu = problem.device.type == "cpu" and not torch.compiler.is_compiling()
    plain = problem.weighting == "none" and problem.dilation == (1, 1) and not problem.grad
    return cpu and plain and recipe(metric) is not None


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
    terms = recipe(metric)
    assert terms is not None
    centre = torch.as_tensor(algebra.middle(problem, kernel), dtype=dtype)
    centre = centre.expand(problem.channels, 1, 1).contiguous()
    centred = kernel.to(dtype) - centre
    constants = centred.new_zeros(problem.templates)
    for scale, g in terms.constants:
        constants += scale * g(centred).sum((1, 2, 3))
    planes, middles = Planes(image, (1, 1)), centre.flatten()
    boxes = expression_sum(terms.box, image, planes, middles, problem)
    # NaN and inf have reached the box sums and the constants of what they spoil; in a spectrum
    # they would spoil all.
    if not exact and not math.isfinite(image.sum()):
        planes = Planes(image.nan_to_num(0, 0, 0), (1, 1))
    tiles = _Tiles(terms, problem, centred.nan_to_num(0, 0, 0), planes, middles)
    sums = centred.new_empty((problem.batch, problem.templates, *problem.map_size))
    finish = partial(tiles.add, constants.tolist(), boxes.numpy(), sums.numpy())
    threads.each(finish, tiles.jobs)
    return sums


class _Tiles:
    """Tiles of an image, the spectra of the templates, and where the tiles' results go."""

    def __init__(
        self, terms: Recipe, problem: Problem, kernel: Tensor, planes: Planes, centre: Tensor
    ) -> None:
        self.problem, self.flat, self.centre = problem, planes.flat, centre.numpy()
        self.layout = (*planes.steps[:2], planes.pitch), problem.image_size
        self.size, dtype = tile(problem), kernel.dtype
        self.jobs = _jobs(problem, self.size)
        factors = torch.cat([scale * g(kernel) for _, g, scale in terms.crosses], 1)
        self.spectra = torch.fft.rfft2(factors, s=self.size).conj().resolve_conj()
        self.gathers = [
            jit.gather(text, problem.value_dtype, dtype) for text, _, _ in terms.crosses
        ]
        self.combine = jit.combine(dtype)
        depth = len(self.gathers) * problem.channels
        self.shape = max(count for *_, count in self.jobs), depth, *self.size
        self.own = local()

    def add(self, constants: list[float], boxes: Any, sums: Any, job: Job) -> None:
        """Add boxes, constants and the correlations of a group of tiles."""
        b, top, left, count = job
        problem, valid = self.problem, _valid(self.problem, self.size)
        if not hasattr(self.own, "tiles"):
            self.own.tiles = torch.empty(self.shape, dtype=self.spectra.real.dtype)
        tiles = self.own.tiles[:count]
        for r, gather in enumerate(self.gathers):
            place = b, top, left, valid[1], r * problem.channels
            gather(self.flat, self.centre, tiles.numpy(), *self.layout, *place)
        # rfft2 would call a transform of MKL that wakes threads of its own, even here.
        spectrum = torch.fft.fft(torch.fft.rfft(tiles), dim=-2)  # (G, R·C, L, M/2 + 1)
        for n, template in enumerate(self.spectra):
            products = spectrum[:, 0] * template[0]
            for c in range(1, len(template)):
                products.addcmul_(spectrum[:, c], template[c])
            result = torch.fft.irfft2(products, s=self.size)
            if problem.value_range is not None:
                result.round_()
            values = result.numpy(), boxes, constants[n], sums
            self.combine(*values, b, n, top, left, valid, problem.stride)


#: Image, top, left, and the number of tiles side by side.
Job = tuple[int, int, int, int]


def _jobs(problem: Problem, size: Pair) -> list[Job]:
    """List groups of tiles that hold every window."""
    down, across = _valid(problem, size)
    (height, width), (rows, cols) = problem.image_size, problem.extent
    side_by_side = -(-(width - cols + 1) // across)
    together = max(1, GROUP // (problem.channels * math.prod(size)))
    return [
        (b, top, first * across, min(together, side_by_side - first))
        for b in range(problem.batch)
        for top in range(0, height - rows + 1, down)
        for first in range(0, side_by_side, together)
    ]


def _valid(problem: Problem, size: Pair) -> Pair:
    """Return how many windows lie inside a tile, down and across."""
    (rows, cols), (length, breadth) = problem.extent, size
    return length - rows + 1, breadth - cols + 1


def tiles(problem: Problem, size: Pair) -> int:
    """Count the tiles of that size that hold every window."""
    (height, width), (rows, cols) = problem.image_size, problem.extent
    down, across = _valid(problem, size)
    return problem.batch * -(-(height - rows + 1) // down) * -(-(width - cols + 1) // across)


def memory(problem: Problem, size: Pair) -> int:
    """Count the numbers that the threads hold: tiles, their spectra, a product and a result."""
    points, busy = math.prod(size), min(threads.count_threads(), tiles(problem, size))
    group = max(1, min(GROUP // (problem.channels * points), tiles(problem, size)))
    return 3 * busy * group * (problem.channels + 1) * points


@lru_cache(maxsize=512)
def tile(problem: Problem) -> Pair:
    """Choose the size of the transforms: the tiles' number times the work for each is least."""
    lengths = [
        _lengths(rows, size) for rows, size in zip(problem.extent, problem.image_size, strict=True)
    ]
    itemsize = 4 if problem.value_dtype is torch.float32 else 8
    best, least = (lengths[0][-1], lengths[1][-1]), math.inf
    for length, breadth in product(*lengths):
        number, points = tiles(problem, (length, breadth)), length * breadth
        # Large tiles leave the cache, small ones are all overhead: constants fit measured times.
        spilling = (points * problem.channels * itemsize) ** 0.5 / 1500
        cost = number * (points * math.log2(points) * (1 + spilling) + 100_000)
        if cost < least:
            best, least = (length, breadth), cost
    return best


def _lengths(extent: int, size: int) -> list[int]:
    """List the lengths to choose from: multiples of 4 of primes up to 5."""
    enough = next(n for n in _smooth() if n >= size)
    return [n for n in _smooth() if extent <= n <= enough] or [enough]


@lru_cache(maxsize=1)
def _smooth() -> list[int]:
    numbers = (2**i * 3**j * 5**k for i, j, k in product(range(2, 24), range(15), range(10)))
    return sorted(n for n in numbers if n <= 2**24)
