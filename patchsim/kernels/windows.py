"""Kernels that sum over single windows, in float64: distances, and moments."""

from __future__ import annotations

from typing import Any

import torch

from patchsim.kernels import jit
from patchsim.kernels.emit import Arithmetic
from patchsim.kernels.expression import parse
from patchsim.kernels.intrinsics import fetching
from patchsim.once import made_once

#: Sums d(p, k) of single windows, column by column, then over columns: see `direct`.
DIRECT = """
def kernel(image, steps, values, {weights_argument}rows, cols, limit, sums, first, last):
    to_channel, to_row = steps
    channels, height, width = values.shape
    columns = np.empty(width)
    for i in range(first, last):
        start, total = rows[i] * to_row + cols[i], 0.0
        ahead = rows[min(i + 1, last - 1)] * to_row + cols[min(i + 1, last - 1)] - start
        columns[:] = 0
        for c in range(channels):
            for y in range(height):
                base = start + c * to_channel + y * to_row
                fetch(image.ctypes.data + (base + ahead) * image.itemsize, width * image.itemsize)
                pixels, taps = image[base : base + width], values[c, y]
                {weights}
                for x in range(width):
                    columns[x] = term(columns[x], np.float64(pixels[x]), taps[x]{weight})
                if y % 8 == 7 or y == height - 1:
                    total = columns.sum()
                    if total > limit:
                        break
            if total > limit:
                break
        sums[i] = np.inf if total > limit else total
"""

#: Pixels of a window that are added at a time, so that few roundings add up.
RUN = 512

#: See `moments`: each channel's pixels are put side by side first.
MOMENTS = """
def kernel(image, steps, values, {weights_argument}rows, cols, centre, sums, first, last):
    to_channel, to_row = steps
    channels, height, width = values.shape
    pixels = np.empty(height * width)
    for i in range(first, last):
        total, squares, products = 0.0, 0.0, 0.0
        start = rows[i] * to_row + cols[i]
        ahead = rows[min(i + 1, last - 1)] * to_row + cols[min(i + 1, last - 1)] - start
        for c in range(channels):
            for y in range(height):
                base = start + c * to_channel + y * to_row
                fetch(image.ctypes.data + (base + ahead) * image.itemsize, width * image.itemsize)
                line, here = image[base : base + width], pixels[y * width : (y + 1) * width]
                for x in range(width):
                    here[x] = line[x]
            middle, own = centre[c], 0.0
            for begin in range(0, pixels.size, {run}):
                end = begin + {run}
                here, taps = pixels[begin:end], values[c].reshape(-1)[begin:end]
                {weights}
                part, own_part, squares_part, products_part = 0.0, 0.0, 0.0, 0.0
                for x in range(here.size):
                    centred = here[x] - middle
                    part += term(0.0, here[x], taps[x]{weight})
                    own_part += centred{factor}
                    squares_part += centred * centred{factor}
                    products_part += centred * (taps[x] - middle){factor}
                total += part
                own += own_part
                squares += squares_part
                products += products_part
            sums[3 + c, i] = own
        sums[0, i], sums[1, i], sums[2, i] = total, squares, products
"""


@made_once
def direct(text: str, dtype: torch.dtype, weighted: bool) -> jit.Kernel:
    """Compile sums of d(p, k) over single windows, in float64.

    (image, (to_channel, to_row), values, weights if weighted, rows, cols, limit, sums, first,
    last): sums (M,) of the windows of a flat image of `dtype` that begin at rows (M,) and cols (M,)
    in pixels, for those from first to last; values and weights (C, h, w) are float64. A sum is inf
    as soon as it exceeds `limit`. It is taken in the same order for every window.
    """
    from numba import types

    more = types.float64, types.float64[::1]
    return _of_windows(DIRECT, text, dtype, "weights[c, y]" * weighted, more)


@made_once
def moments(text: str, dtype: torch.dtype, weighted: bool) -> jit.Kernel:
    """Compile moments of single windows, as `direct`.

    (image, (to_channel, to_row), values, weights if weighted, rows, cols, centre, sums, first,
    last): sums (3 + C, M) get Σ d(p, k), Σ w·(p − centre)², Σ w·(p − centre)·(k − centre), and
    Σ w·(p − centre) of each channel, centre being (C,).
    """
    from numba import types

    more = types.float64[::1], types.float64[:, ::1]
    return _of_windows(MOMENTS, text, dtype, "weights[c].reshape(-1)[begin:end]" * weighted, more)


def _of_windows(
    template: str,
    text: str,
    dtype: torch.dtype,
    weights: str,
    more: tuple[Any, ...],
) -> jit.Kernel:
    """Compile sums over single windows; `weights` reads those, if any, of taps."""
    from numba import types

    taps, windows, weighted = types.float64[:, :, ::1], types.int64[::1], bool(weights)
    arrays = taps, *[taps] * weighted, windows, windows, *more
    signature = types.void(jit.type_of(dtype)[::1], jit.tuple_of(2), *arrays, *[types.int64] * 2)
    source = template.format(
        weights_argument="weights, " * weighted,
        weights=f"factors = {weights}" * weighted,
        run=RUN,
        weight=", factors[x]" * weighted,
        factor=" * factors[x]" * weighted,
    )
    names = ["p", "k", *["w"] * weighted]
    functions, key = jit.term_of(Arithmetic(parse(text), torch.float64), names)
    return jit.compiled(source, [signature], {**functions, "fetch": fetching()}, key)
