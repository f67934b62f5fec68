"""conv2d: cross terms by torch.nn.functional.conv2d, the rest by box sums."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import product

import torch
from torch import Tensor

from patchsim import bounds
from patchsim.backends.base import Backend, Work
from patchsim.metrics.base import Metric
from patchsim.problem import Problem, name_of
from patchsim.sums import algebra


def run(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Sum the metric's expansion."""
    return algebra.window_sums(metric, problem, image, kernel, weight, correlate)


def correlate(
    problem: Problem, image: Tensor, kernel: Tensor, peaks: tuple[int, int] | None
) -> Tensor:
    """Cross-correlate; integers block by block, each small enough to be exact."""
    if peaks is None:
        return _conv2d(image, kernel, problem)
    (rows, cols), (sy, sx), (dy, dx) = problem.map_size, problem.stride, problem.dilation
    dtype, limit = _exact(problem, peaks[0] * peaks[1])
    image, kernel = image.to(dtype), kernel.to(dtype)
    total = torch.zeros((), dtype=torch.int64, device=image.device)
    for c, i, j in _blocks((problem.channels, *problem.kernel_size), limit):
        down = slice(i.start * dy, (i.stop - 1) * dy + sy * (rows - 1) + 1)
        across = slice(j.start * dx, (j.stop - 1) * dx + sx * (cols - 1) + 1)
        block = _conv2d(image[:, c, down, across], kernel[:, c, i, j], problem, exact=True)
        total = total + block.to(torch.int64)
    return total


def _conv2d(image: Tensor, kernel: Tensor, problem: Problem, exact: bool = False) -> Tensor:
    # cuDNN may round factors to 11 bits (TF32) unless told not to, and may multiply by Winograd's
    # fractions, which aren't exact on integers.
    careful = torch.backends.cudnn.flags(enabled=not exact, allow_tf32=False)
    with careful if image.is_cuda else nullcontext():
        return torch.nn.functional.conv2d(
            image, kernel, stride=problem.stride, dilation=problem.dilation
        )


def _exact(problem: Problem, peak: int) -> tuple[torch.dtype, int]:
    """Choose a dtype and how many products of that size it sums without rounding.

    Every partial sum of m products is an integer of at most m·peak; binary32 holds the integers
    up to 2²⁴ and binary64 those up to 2⁵³ (Coq: ``integer_correlation_exact``).
    """
    if peak * min(problem.taps, 256) <= 2**24:
        return torch.float32, 2**24 // peak
    return torch.float64, 2**53 // peak


def _blocks(shape: tuple[int, int, int], limit: int) -> Iterator[tuple[slice, slice, slice]]:
    """Cut a (C, h, w) template into blocks of at most `limit` taps (Coq: ``cut_blocks``)."""
    channels, rows, cols = shape
    width = min(cols, limit)
    height = min(rows, limit // width)
    depth = min(channels, limit // (width * height))
    yield from product(_cut(channels, depth), _cut(rows, height), _cut(cols, width))


def _cut(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def work(problem: Problem, metric: Metric) -> Work:
    """Count multiply-adds and box sums; memory for centred planes, maps and torch's workspace."""
    rows, cols = problem.map_size
    pixels = problem.batch * problem.image_size[0] * problem.image_size[1]
    windows = problem.batch * rows * cols
    dtype = algebra.value_dtype(problem, metric)
    # float64 on a CPU goes through a copy of every window (im2col).
    unfolded = problem.taps if problem.device.type == "cpu" and dtype is torch.float64 else 0
    # The terms are added, which takes as long as hundreds of products, as do centring and arranging
    # templates for torch.
    added = 500 if problem.value_range else 150
    return Work(
        operations=windows * _products(problem, metric)
        + (added * problem.templates + 800 - added) * windows
        + 150 * pixels * problem.channels
        + 250 * (problem.templates + 4) * problem.taps,
        bytes=dtype.itemsize
        * (pixels * (3 * problem.channels + 4) + windows * (4 * problem.templates + unfolded)),
        steps=64 + 22 * _extra_blocks(problem, metric),
    )


def _products(problem: Problem, metric: Metric) -> int:
    """Count the multiplications and additions of a window."""
    # torch computes several templates side by side, and one in the time of as many.
    return 2 * metric.expansion.crosses * max(8, problem.templates) * problem.taps


def _windows(problem: Problem, metric: Metric) -> int:
    """So few that torch, which no interrupt stops, takes some tenths of a second for them.

    Not where there is a gradient, for which tiles are computed twice.
    """
    if problem.grad:
        return problem.batch * math.prod(problem.map_size)
    _, nanoseconds = _RATES[name_of(problem.value_dtype)]
    return math.ceil(3e8 / (nanoseconds * _products(problem, metric)))


def _extra_blocks(problem: Problem, metric: Metric) -> int:
    """Count the correlations of integers beyond one for each cross term."""
    if problem.value_range is None:
        return 0
    terms = [t for t in metric.expansion if t.f is not None and t.g is not None]
    peaks = [
        algebra.largest(t.f, problem, metric) * algebra.largest(t.g, problem, metric) for t in terms
    ]
    return sum(-(-problem.taps // _exact(problem, peak)[1]) - 1 for peak in peaks)


#: See `Backend.rates`.
_RATES = {
    "float32": (1800, 0.0042),
    "float64": (1200, 0.14),
    "uint8": (2200, 0.0043),
    "int16": (1400, 0.14),
}

CONV2D = Backend(
    name="conv2d",
    run=run,
    error=bounds.expanded,
    flat=bounds.flat_expanded,
    refuse=algebra.refuse,
    work=work,
    memory="planes of a tile",
    rates=_RATES,
    windows=_windows,
)
