"""Windows of equal pixels: those that are flat, and those that repeat another in their row."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchsim import threads
from patchsim.kernels import jit
from patchsim.kernels.jit import Kernel
from patchsim.once import made_once
from patchsim.problem import Pair
from patchsim.sums.slide import Planes

Array = np.ndarray[Any, np.dtype[Any]]

_SHARED = """
@njit
def compare(image, start, shift, to_channel, channels, same):
    same[:] = 1
    for c in range(channels):
        first = start + c * to_channel
        here, other = image[first : first + same.size], image[first - shift :]
        for x in range(same.size):
            same[x] &= here[x] == other[x]

@njit
def count_on(counts, same):
    for x in range(same.size):
        counts[x] = (counts[x] + 1) * same[x]

@njit
def join(flags, after, both):
    for x in range(after.size):
        both[x] = flags[x] & after[x]

@njit
def all_of(flags, other, length):
    # By doublings, to and fro: neither a loop that wrote where it reads nor one that copied a part
    # of an array would be vectorised.
    reach = 1
    while reach < length:
        step = min(reach, length - reach)
        join(flags, flags[step:], other)
        flags, other = other, flags
        reach += step
    return flags

@njit
def thin(flags, step, line):
    if step == 1:
        for x in range(line.size):
            line[x] = flags[x]
    else:
        for x in range(line.size):
            line[x] = flags[x * step]
"""

#: See `repeats`: columns whose pixels have equalled those before, for how many rows.
REPEATS = (
    _SHARED
    + """
def kernel(image, steps, shape, stride, back, repeats, first, last):
    (to_channel, to_row), (channels, height, width) = steps, shape
    (down, across), (rows, cols) = stride, repeats.shape
    shift = back * across
    length = (cols - 1) * across + width
    same, counts = np.empty(length, np.uint8), np.zeros(length, np.int32)
    run, other = np.empty(length, np.bool_), np.empty(length, np.bool_)
    for y in range(first * down, (last - 1) * down + height):
        compare(image, y * to_row + shift, shift, to_channel, channels, same[shift:])
        same[:shift] = 0
        count_on(counts, same)
        top = y - height + 1
        if top >= first * down and top % down == 0:
            for x in range(length):
                run[x] = counts[x] >= height
            thin(all_of(run, other, width), across, repeats[top // down])
"""
)

#: See `flat`: also for how many rows pixels have equalled those above.
FLAT = (
    _SHARED
    + """
def kernel(image, steps, shape, stride, flat, first, last):
    (to_channel, to_row), (channels, height, width) = steps, shape
    (down, across), (rows, cols) = stride, flat.shape
    length = (cols - 1) * across + width
    same = np.empty(length, np.uint8)
    beside, below = np.zeros(length, np.int32), np.zeros(length, np.int32)
    run, other = np.ones(length, np.bool_), np.empty(length, np.bool_)
    for y in range(first * down, (last - 1) * down + height):
        if y > first * down:
            compare(image, y * to_row, to_row, to_channel, channels, same)
            count_on(below, same)
        compare(image, y * to_row + 1, 1, to_channel, channels, same[1:])
        count_on(beside[1:], same[1:])
        top = y - height + 1
        if top >= first * down and top % down == 0:
            after = beside[1:]
            for x in range(length - 1):
                run[x] = after[x] >= height if width > 1 else True
            run[length - 1] = True
            inside = all_of(run, other, width - 1)
            for x in range(length):
                inside[x] &= below[x] >= height - 1
            thin(inside, across, flat[top // down])
"""
)


def repeating(image: Tensor, size: Pair, stride: Pair, back: int = 1) -> Array:
    """Tell which windows hold the same pixels as the one before them in their row.

    Parameters
    ----------
    image : Tensor, shape (1, C, H, W), on the CPU
    size, stride : pair of int
        Of windows.
    back : int
        Which one before: the last, or the one so many before.

    Returns
    -------
    array of bool, shape (Ho, Wo)
    """
    return _told(repeats(image.dtype), image, size, stride, back)


def flat_windows(image: Tensor, size: Pair, stride: Pair) -> Array:
    """Tell in which windows each channel has one value, as `repeating`."""
    return _told(flat(image.dtype), image, size, stride)


def _told(kernel: Kernel, image: Tensor, size: Pair, stride: Pair, *more: int) -> Array:
    planes = Planes(image, (1, 1))
    lengths = zip(image.shape[2:], size, stride, strict=True)
    rows, cols = ((length - window) // step + 1 for length, window, step in lengths)
    result = np.empty((rows, cols), dtype=bool)
    shape = image.shape[1], *size
    steps = planes.steps[1], planes.pitch
    run = partial(kernel, planes.flat, steps, shape, stride, *more, result)
    threads.share(run, rows, 20 * image.numel(), 4 * size[0])
    return result


@made_once
def repeats(dtype: torch.dtype) -> Kernel:
    """Compile (image, (to_channel, to_row), (C, h, w), (sy, sx), back, repeats, first, last).

    Of repeats (Ho, Wo) rows first to last tell which windows hold the same pixels as the one that
    is `back` windows before them in their row.
    """
    return _compiled(REPEATS, dtype, 1)


@made_once
def flat(dtype: torch.dtype) -> Kernel:
    """Compile the same without `back`, for windows each channel of which has one value."""
    return _compiled(FLAT, dtype, 0)


def _compiled(source: str, dtype: torch.dtype, more: int) -> Kernel:
    from numba import types

    triple = jit.tuple_of(3)
    arrays = jit.type_of(dtype)[::1], jit.tuple_of(2), triple, jit.tuple_of(2)
    whole = types.int64
    signature = types.void(*arrays, *[whole] * more, types.boolean[:, ::1], whole, whole)
    return jit.compiled(source, [signature])
