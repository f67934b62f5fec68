"""Box sums: the sum of an image over each window."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchsim import threads
from patchsim.kernels import jit
from patchsim.problem import Problem, dtype_of, name_of
from patchsim.sums.slide import Planes

Array = np.ndarray[Any, Any]


def box_sum(values: Tensor, problem: Problem, dtype: torch.dtype | None = None) -> Tensor:
    """Sum `values` over the channels and pixels of a problem's windows, which need no padding.

    Parameters
    ----------
    values : Tensor, shape (B, C, H, W)
    problem : Problem
    dtype : torch.dtype, optional
        In which to sum, by default that of `values`.

    Returns
    -------
    Tensor, shape (B, 1, Ho, Wo)

    Notes
    -----
    O(H·W·(C + log(h·w))) additions. Unlike a running sum or an integral image nothing is ever
    subtracted, so that rounding errors don't grow with the image, and a NaN reaches only the
    windows that hold it (Coq: ``box_sum_doubling``, ``box_sum_blocks``).
    """
    dtype = dtype or values.dtype
    floats = values.is_floating_point() and dtype.is_floating_point
    traced = values.requires_grad or problem.transformed
    plain = values.device.type == "cpu" and not traced
    if floats and plain and problem.dilation == (1, 1) and not torch.compiler.is_compiling():
        nothing = np.zeros(values.shape[1], name_of(dtype))
        return torch.from_numpy(
            expression_sum("p", values, Planes(values, (1, 1)), nothing, problem)
        )
    planes = values.sum(1, keepdim=True, dtype=dtype)
    for axis, dim in enumerate((-2, -1)):
        planes = _run_sum(planes, dim, problem.kernel_size[axis], problem.dilation[axis])
        step = slice(None, None, problem.stride[axis])
        planes = planes[..., step, :] if dim == -2 else planes[..., step]
    return planes


def expression_sum(
    text: str,
    image: Tensor,
    planes: Planes,
    centre: Array,
    problem: Problem,
    sums: Array | None = None,
) -> Array:
    """Sum an expression of p − centre over boxes of an image on the CPU, in centre's dtype.

    text is of p alone (see `patchsim.kernels.expression.parse`), planes are image's at stride 1,
    centre is (C,), and dilation must be 1. Otherwise as `box_sum`, which is that of "p" and centre
    0. If `sums` are given, (B, 1, Ho, Wo) and contiguous, it fills and returns them.
    """
    rows, cols = problem.map_size
    sums = np.empty((len(image), 1, rows, cols), centre.dtype) if sums is None else sums
    layout = (*planes.steps[:2], planes.pitch), tuple(image.shape[2:])
    arguments = planes.flat, centre, sums, *layout
    box = jit.box(text, image.dtype, dtype_of(sums))
    run = partial(box, *arguments, *problem.kernel_size, *problem.stride)
    threads.share(run, rows, 10 * image.numel())
    return sums


def memory(problem: Problem) -> int:
    """Bound the bytes that `expression_sum` takes: for each thread as many rows as a window's."""
    busy = min(threads.count_threads(), problem.map_size[0])
    return 8 * busy * (problem.kernel_size[0] + 4) * problem.image_size[1]


def additions(problem: Problem) -> int:
    """Count the additions that a pixel passes in `expression_sum` of floats, at most.

    Those down the rows and channels of a column, and at each digit of the width in base 4 two to
    make longer runs and three to join them.
    """
    height, width = problem.kernel_size
    digits = -(-width.bit_length() // 2)
    return problem.channels * height + 5 * digits


def _run_sum(planes: Tensor, dim: int, length: int, dilation: int) -> Tensor:
    """Sum `length` pixels, `dilation` apart, from every position where they fit.

    One pass for each of the runs of 1, 2, 4, … pixels (Coq: ``run_doubling``).
    """
    size = planes.shape[dim] - dilation * (length - 1)
    run, width, start = planes, 1, 0  # `run` holds the sums of `width` pixels
    total = None
    while True:
        if length & width:
            part = run.narrow(dim, start * dilation, size)
            total = part if total is None else total + part
            start += width
        if start == length:
            assert total is not None
            return total
        reach = run.shape[dim] - width * dilation
        run = run.narrow(dim, 0, reach) + run.narrow(dim, width * dilation, reach)
        width *= 2
