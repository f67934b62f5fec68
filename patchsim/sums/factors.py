"""What expansions need of templates, by kernels: their mean colour, their factors, their constants.

torch takes several times as long for small templates, and for large ones wakes threads, which then
wait for more work and keep those of other kernels from theirs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchsim.kernels import emit, jit
from patchsim.kernels.emit import Arithmetic
from patchsim.kernels.expression import parse
from patchsim.once import made_once
from patchsim.problem import dtype_of, name_of

Array = np.ndarray[Any, Any]

#: See `mean_colour`.
MEANS = """
def kernel(values, means):
    templates, channels, height, width = values.shape
    for c in range(channels):
        total = 0.0
        for n in range(templates):
            for y in range(height):
                line = values[n, c, y]
                for x in range(width):
                    total += np.float64(line[x])
        mean = total / (templates * height * width)
        means[c] = mean if abs(mean) < np.inf else 0
"""

#: See `read`. A constant is summed down the columns, and these are added by halves: no number
#: passes more additions than `patchsim.sums.box.additions` counts.
FACTORS = """
def kernel(values, centre, constants, factors):
    templates, channels, height, width = values.shape
    line, columns = np.empty(width, centre.dtype), np.empty(width)
    for n in range(templates):
        columns[:] = 0
        for c in range(channels):
            for y in range(height):
                pixels, middle = values[n, c, y], centre[c]
                for x in range(width):
                    line[x] = pixels[x] - middle
                for x in range(width):
                    columns[x] = constant(columns[x], np.float64(line[x]))
                for x in range(width):
                    line[x] = line[x] if abs(line[x]) < np.inf else 0
{factors}
        count = width
        while count > 1:
            half = (count + 1) // 2
            rest = columns[half:count]
            for x in range(rest.size):
                columns[x] += rest[x]
            count = half
        constants[n] = columns[0]
"""
FACTOR = """
                own = factors[n, {number} * channels + c, y]
                for x in range(width):
                    own[x] = factor{number}(nothing, line[x])
"""


def mean_colour(kernel: Tensor) -> Array:
    """Return the mean of each channel of templates on the CPU, (C,); 0 where it isn't finite."""
    values = np.ascontiguousarray(kernel.detach().numpy())
    means = np.empty(values.shape[1], values.dtype)
    _means(kernel.dtype)(values, means)
    return means


def read(
    constant: str, factors: tuple[str, ...], kernel: Tensor, centre: Array
) -> tuple[Array, Array]:
    """Compute an expansion's constants and factors of templates on the CPU, (N, C, h, w).

    Parameters
    ----------
    constant, factors : str, tuple of str of length R
        Expressions of p, which stands for a template's value: see
        `patchsim.kernels.expression.parse`.
    kernel : Tensor, shape (N, C, h, w)
    centre : array, shape (C,), of float32 or float64
        What is subtracted from the values, and by its dtype that of the results.

    Returns
    -------
    array, shape (N,)
        Sums of the constant over templates, taken in float64.
    array, shape (N, R·C, h, w)
        The factors, of 0 in place of values that aren't finite.
    """
    values = np.ascontiguousarray(kernel.detach().numpy())
    templates, channels, *size = values.shape
    constants = np.empty(templates, centre.dtype)
    found = np.empty((templates, len(factors) * channels, *size), centre.dtype)
    _factors(constant, factors, kernel.dtype, dtype_of(centre))(values, centre, constants, found)
    return constants, found


def each_channel(numbers: Tensor | int, channels: int, dtype: torch.dtype) -> Array:
    """Return one number, or (C, 1, 1) numbers, as an array (C,) of a dtype of floats."""
    each = np.zeros(channels, name_of(dtype))
    each += numbers if isinstance(numbers, int) else numbers.flatten().cpu().numpy()
    return each


@made_once
def _means(dtype: torch.dtype) -> jit.Kernel:
    from numba import types

    value = jit.type_of(dtype)
    return jit.compiled(MEANS, [types.void(value[:, :, :, ::1], value[::1])])


@made_once
def _factors(
    constant: str, factors: tuple[str, ...], dtype: torch.dtype, total: torch.dtype
) -> jit.Kernel:
    from numba import types

    value, result = jit.type_of(dtype), jit.type_of(total)
    lines = (FACTOR.format(number=n).strip("\n") for n in range(len(factors)))
    source = FACTORS.format(factors="\n".join(lines)).replace("nothing", f"np.{name_of(total)}(0)")
    functions = {
        "constant": emit.intrinsic(Arithmetic(parse(constant), torch.float64), ["p"]),
        **{
            f"factor{n}": emit.intrinsic(Arithmetic(parse(text), total), ["p"])
            for n, text in enumerate(factors)
        },
    }
    maps = result[:, :, :, ::1]
    signature = types.void(value[:, :, :, ::1], result[::1], result[::1], maps)
    return jit.compiled(source, [signature], functions, f"{constant} {factors}")
