"""What ncc, zncc and ssim do to floats first: in float64, around 0, and of about the size of 1."""

from __future__ import annotations

import dataclasses
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
from patchsim.sums.moments import plain

#: Pixels of which an image's mean is taken.
SAMPLE = 2**14


def normalised(
    statistic: Statistic, problem: Problem, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Turn templates of floats into float64, centred and scaled as far as a statistic allows.

    Sums then neither cancel nor overflow, however far the means of image and template are apart.
    Means and sizes are constants to autograd, as the similarity doesn't depend on them.
    """
    if not statistic.scalable:
        return kernel.double()
    # Scaled first, so that no mean overflows or underflows.
    turned = kernel.double() * _unit(kernel, problem)
    return turned - _mean(turned, (2, 3), weight) if statistic.invariant else turned


def normalising(
    statistic: Statistic, problem: Problem, image: Tensor
) -> Callable[[Tensor], Tensor]:
    """Return what does the same to an image, whose mean and size are those of some rows."""
    if not statistic.scalable:
        return Tensor.double
    middle = image.new_zeros((1, 1, 1), dtype=torch.float64)
    # Squares in float64 may overflow or underflow, those of other dtypes don't.
    unit = _unit(image if image.dtype is torch.float64 else _sample(image), problem)
    if statistic.invariant:
        middle = _mean(_sample(image).double() * unit, (0, 2, 3))[0]
    turn = _turned if jit.usable(problem) else _turned_by_torch
    return partial(turn, middle=middle, unit=unit)


def mean_of(image: Tensor) -> Tensor:
    """Return about the mean of each channel, (C, 1, 1), that of some rows."""
    return _mean(_sample(image), (0, 2, 3))[0]


def _sample(image: Tensor) -> Tensor:
    return image[:, :, :: 1 + image.numel() // SAMPLE]


def _turned_by_torch(pixels: Tensor, middle: Tensor, unit: float | Tensor) -> Tensor:
    """Return pixels·unit − middle in float64."""
    return pixels.double() * unit - middle


def _turned(pixels: Tensor, middle: Tensor, unit: Any) -> Tensor:
    """Return the same, without torch's threads, which would keep those of kernels from theirs."""
    given = pixels.to(torch.promote_types(pixels.dtype, torch.float32)).numpy()
    result, centre = np.empty(given.shape), middle.numpy()

    def turn(first: int, last: int) -> None:
        rows = result[:, :, first:last]
        np.multiply(given[:, :, first:last], unit, out=rows, dtype=np.float64)
        rows -= centre

    threads.share(turn, given.shape[2], 20 * given.size)
    return torch.from_numpy(result)


def _mean(values: Tensor, axes: tuple[int, ...], weight: Tensor | None = None) -> Tensor:
    """Return the mean of the finite values over some axes in float64, 0 where it isn't finite."""
    values = values.detach().double()
    counts = values.isfinite().double()
    counts = counts if weight is None else counts * weight
    total = (counts * values.nan_to_num(0, 0, 0)).sum(axes, keepdim=True)
    return (total / counts.sum(axes, keepdim=True)).nan_to_num(0, 0, 0)


def balance(image: tuple[float, float], kernel: Tensor) -> float:
    """Return the power of 2 by which templates become about as large as values of that range.

    |p·k| is bounded by a mean of both energies, which is least there.
    """
    exponents = [math.frexp(max(map(abs, ends)))[1] for ends in (image, finite_range(kernel))]
    return 2.0 ** max(-500, min(exponents[0] - exponents[1], 500))


def for_sums(
    statistic: Statistic, problem: Problem, kernel: Tensor, weight: Tensor | None
) -> tuple[Problem, Tensor, Callable[[Tensor], Callable[[Tensor], Tensor]] | None]:
    """Turn floats into what a statistic's sums are taken of, in float64.

    Returns the problem of the sums, the templates, and what tells what is done to an image.
    """
    wide = dataclasses.replace(problem, dtype=torch.float64)
    turned = normalised(statistic, problem, kernel, weight)
    if problem.dtype is not torch.float64 and plain(problem):
        # Of float32 neither squares overflow nor a mean takes all digits: kernels read it as it is.
        return wide, turned, None
    return wide, turned, partial(normalising, statistic, problem)


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
