"""Kernels that pass over all values once: where they are small, their extremes, their energy."""

from __future__ import annotations

import torch

from patchsim.kernels import jit
from patchsim.kernels.jit import Kernel
from patchsim.once import made_once
from patchsim.problem import name_of

#: See `minima`.
MINIMA = """
def kernel(values, size, minima, first, last):
    (high, wide), (rows, cols) = size, values.shape
    line = np.empty(cols, values.dtype)
    for i in range(first, last):
        line[:] = np.inf
        for y in range(i * high, min(rows, (i + 1) * high)):
            here = values[y]
            for x in range(cols):
                line[x] = here[x] if here[x] < line[x] else line[x]
        for j in range(minima.shape[1]):
            least = line[j * wide]
            for value in line[j * wide : (j + 1) * wide]:
                least = value if value < least else least
            minima[i, j] = least
"""

#: See `below`.
BELOW = """
def kernel(values, size, minima, limit, spared, most, places, count):
    (high, wide), (rows, cols), found = size, values.shape, 0
    for i in range(minima.shape[0]):
        if minima[i].min() > limit:
            continue
        for y in range(i * high, min(rows, (i + 1) * high)):
            mask = spared[min(y, spared.shape[0] - 1)]
            for j in range(minima.shape[1]):
                if minima[i, j] > limit:
                    continue
                first, end, near = j * wide, min(cols, (j + 1) * wide), 0
                cell, left_out = values[y, first:end], mask[first:end]
                for x in range(cell.size):
                    near += (cell[x] <= limit) & (not left_out[x])
                # To count is vectorised. Mostly that is all: there are few, or room for none.
                for x in range(cell.size if near and found < places.size else 0):
                    if cell[x] <= limit and not left_out[x] and found < places.size:
                        places[found] = y * cols + first + x
                        found += 1
                        near -= 1
                found += near
            if found > most:
                break
        if found > most:
            break
    count[0] = found
"""

#: See `complements`.
COMPLEMENTS = """
def kernel(sums, factor, result, first, last):
    for i in range(first, last):
        values, complements = sums[i * {run} : (i + 1) * {run}], result[i * {run} : (i + 1) * {run}]
        for x in range(values.size):
            complements[x] = 1 - factor * np.{total}(values[x])
"""

#: See `spoiled`.
SPOILED = """
def kernel(image, steps, shape, spoiled, first, last):
    (to_image, to_channel, to_row), (channels, height, width) = steps, shape
    for row in range(first, last):
        start = row // height // channels * to_image + row // height % channels * to_channel
        start += row % height * to_row
        pixels, total = image[start : start + width], image.dtype.type(0)
        for x in range(width):
            total += 0 * pixels[x]
        spoiled[row] = total != total
"""

#: See `extremes`.
EXTREMES = """
def kernel(values, lows, highs, first, last):
    length = 1024
    low, high = np.empty(length, values.dtype), np.empty(length, values.dtype)
    for i in range(first, last):
        low[:] = np.inf
        high[:] = -np.inf
        for start in range(i * {run}, min(values.size, (i + 1) * {run}), length):
            run = values[start : start + length]
            for x in range(run.size):
                low[x] = run[x] if run[x] < low[x] else low[x]
                high[x] = run[x] if run[x] > high[x] else high[x]
        lows[i], highs[i] = low.min(), high.max()
"""


@made_once
def minima(name: str) -> Kernel:
    """Compile (values, (high, wide), minima, first, last), for floats of that name.

    Rows first to last of minima get the least of each cell of high·wide values, or of what there is
    of it: values are (H, W), minima (⌈H/high⌉, ⌈W/wide⌉). NaN counts as inf.
    """
    from numba import types

    maps = getattr(types, name)[:, ::1]
    return jit.compiled(
        MINIMA, [types.void(maps, jit.tuple_of(2), maps, *[types.int64] * 2)], key=name
    )


@made_once
def below(name: str) -> Kernel:
    """Compile (values, (high, wide), minima, limit, spared, most, places, count), see `minima`.

    places gets the places in the flat map of the values up to `limit`, in order, as long as there
    is room; count[0] tells how many there are, or that there are more than `most`. Those where
    spared (H, W) is true don't count; a single row, (1, W), holds for all.
    """
    from numba import types

    value = getattr(types, name)
    maps, whole = value[:, ::1], types.int64[::1]
    given = maps, jit.tuple_of(2), maps, value, types.boolean[:, ::1]
    signature = types.void(*given, types.int64, whole, whole)
    return jit.compiled(BELOW, [signature], key=name)


@made_once
def complements(sums: torch.dtype, result: torch.dtype, run: int) -> Kernel:
    """Compile (sums, factor, result, first, last): result = 1 − factor·sums.

    Both are flat; of them, cut into pieces of `run`, those from first to last are computed, sums of
    float32 in float32, others in float64.
    """
    from numba import types

    given, found = (jit.type_of(dtype)[::1] for dtype in (sums, result))
    total = torch.float32 if sums is torch.float32 else torch.float64
    signature = types.void(given, jit.type_of(total), found, types.int64, types.int64)
    return jit.compiled(COMPLEMENTS.format(run=run, total=name_of(total)), [signature])


@made_once
def spoiled(dtype: torch.dtype) -> Kernel:
    """Compile (image, (to_image, to_channel, to_row), (C, H, W), spoiled, first, last).

    Of a flat image's rows, B·C·H, those from first to last are looked at: spoiled, booleans, tell
    which hold NaN or inf.
    """
    from numba import types

    layout = jit.type_of(dtype)[::1], jit.tuple_of(3), jit.tuple_of(3)
    signature = types.void(*layout, types.boolean[::1], types.int64, types.int64)
    return jit.compiled(SPOILED, [signature])


@made_once
def extremes(dtype: torch.dtype, run: int) -> Kernel:
    """Compile (values, lows, highs, first, last), for floats of `dtype`.

    Of the flat values, cut into pieces of `run`, those from first to last have their least and
    greatest number put into lows and highs, of numbers that aren't NaN; inf and -inf of none.
    """
    from numba import types

    flat, number = jit.type_of(dtype)[::1], types.int64
    source = EXTREMES.format(run=run)
    return jit.compiled(source, [types.void(flat, flat, flat, number, number)])
