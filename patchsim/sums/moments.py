"""Moments of windows and templates on the CPU: Σp and Σp², Σk and Σk², and how far they are off."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor

from patchsim.kernels import jit
from patchsim.problem import Problem
from patchsim.sums import factors
from patchsim.sums.box import box_sum, expression_sum
from patchsim.sums.slide import Planes


def plain(problem: Problem) -> bool:
    """Tell whether kernels for the CPU compute moments and scores."""
    simple = problem.dilation == (1, 1) and problem.weighting == "none"
    return simple and jit.usable(problem)


class OfTemplates:
    """Moments of templates: Σk of each channel, (N, C), and Σk², (N,)."""

    def __init__(self, kernel: Tensor) -> None:
        own = kernel.double()
        self.sums, self.squares = own.sum((2, 3)).numpy(), own.square().sum((1, 2, 3)).numpy()


def small_of(problem: Problem) -> float:
    """Return by which share moments may be off, to first order."""
    return 2.0**-50 if problem.value_range is not None else 4 * (problem.taps + 8) * 2.0**-53


def rounding_of(problem: Problem) -> float:
    """Return by which share of itself Σp² may be off, if only by the roundings that follow."""
    return 2.0**-52 * (1 if problem.value_range is not None else problem.taps + 8)


def box_moments(problem: Problem, image: Tensor, centre: Tensor | int) -> tuple[Tensor, Tensor]:
    """Return Σp of each channel, (B, 1, C, Ho, Wo), and Σp² of all, (B, 1, Ho, Wo)."""
    if not plain(problem):
        values = image.double() - centre
        p = box_sum(values.flatten(0, 1)[:, None], problem)
        return p.reshape(len(image), 1, -1, *problem.map_size), box_sum(values * values, problem)
    middles = factors.each_channel(centre, problem.channels, torch.float64)
    sums = np.empty((len(image), 1, problem.channels, *problem.map_size))
    for b, c in product(range(len(image)), range(problem.channels)):
        own, plane = image[b : b + 1, c : c + 1], sums[b : b + 1, :, c]
        expression_sum("p", own, Planes(own, (1, 1)), middles[c : c + 1], problem, plane)
    squares = expression_sum("(p*p)", image, Planes(image, (1, 1)), middles, problem)
    return torch.from_numpy(sums), torch.from_numpy(squares)
