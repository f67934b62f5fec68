"""What ncc, zncc and ssim do to floats first: in float64, around 0, and of about the size of 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchsim import threads
from patchsim.bounds import finite_range
from patchsim.kernels import jit
from patchsim.metrics.base import Statistic
from patchsim.problem import Problem

#: Pixels of which an image's mean is taken.
SAMPLE = 2**14


def normalised(
    statistic: Statistic, problem: Problem, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Turn templates of floats into float64, centred and scaled as far as a statistic allows.

    Sums then neither cancel nor overflow, however far the means of image and template are apart.
    Means and sizes are constants to autograd, as the similarity doesn't depend on them.
    """
    turned = kernel.double()
    if not statistic.scalable:
        return turned
    if statistic.invariant:
        turned = turned - _mean(kernel, (2, 3), weight)
    return turned * _unit(kernel, problem)


def normalising(
    statistic: Statistic, problem: Problem, image: Tensor
) -> Callable[[Tensor], Tensor]:
    """Return what does the same to an image, whose mean and size are those of some rows."""
    if not statistic.scalable:
        return Tensor.double
    middle = image.new_zeros((1, 1, 1), dtype=torch.float64)
    sample = image[:, :, :: 1 + image.numel() // SAMPLE]
    if statistic.invariant:
        middle = _mean(sample, (0, 2, 3))[0]
    # Squares in float64 may overflow or underflow, those of other dtypes don't.
    unit = _unit(image if image.dtype is torch.float64 else sample, problem)
    turn = _turned if jit.usable(problem) else _turned_by_torch
    return partial(turn, middle=middle, unit=unit)


def _turned_by_torch(pixels: Tensor, middle: Tensor, unit: float | Tensor) -> Tensor:
    """Return (pixels − middle)·unit in float64."""
    return (pixels - middle) * unit


def _turned(pixels: Tensor, middle: Tensor, unit: Any) -> Tensor:
    """Return the same, without torch's threads, which would keep those of kernels from theirs."""
    given = pixels.to(torch.promote_types(pixels.dtype, torch.float32)).numpy()
    result, centre = np.empty(given.shape), middle.numpy()

    def turn(first: int, last: int) -> None:
        rows = result[:, :, first:last]
        np.subtract(given[:, :, first:last], centre, out=rows)
        if unit != 1:
            rows *= unit

    threads.share(turn, given.shape[2], 20 * given.size)
    return torch.from_numpy(result)


def _mean(values: Tensor, axes: tuple[int, ...], weight: Tensor | None = None) -> Tensor:
    """Return the mean of the finite values over some axes in float64, 0 where it isn't finite."""
    values = values.detach().double()
    counts = values.isfinite().double()
    counts = counts if weight is None else counts * weight
    total = (counts * values.nan_to_num(0, 0, 0)).sum(axes, keepdim=True)
    return (total / counts.sum(axes, keepdim=True)).nan_to_num(0, 0, 0)


def _unit(values: Tensor, problem: Problem) -> float | Tensor:
    """Return a power of 2 by which values are to be multiplied to be about 1 at most."""
    if not values.numel():
        return 1.0
    if jit.usable(problem):
        peak = max(map(abs, finite_range(values)))
        return 2.0 ** -max(-1000, math.frexp(peak)[1])
    largest = values.detach().double().nan_to_num(0, 0, 0).abs().amax()
    exponent = largest.frexp().exponent.clamp(min=-1000)
    return torch.ones_like(largest).ldexp(-exponent)
