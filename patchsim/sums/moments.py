"""Moments of windows and templates on the CPU: Σp and Σp², Σk and Σk², and how far they are off."""

from __future__ import annotations

import math
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
    """Moments of templates: Σw·k and Σw of each channel, (N, C), and Σw·k², (N,)."""

    def __init__(self, kernel: Tensor, weight: Tensor | None) -> None:
        own, self.weight = kernel.double(), weight
        weights = torch.ones_like(own) if weight is None else weight.double()
        self.sums, self.totals = (weights * own).sum((2, 3)).numpy(), weights.sum((2, 3)).numpy()
        self.squares = (weights * own.square()).sum((1, 2, 3)).numpy()


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


def memory_of_moments(problem: Problem) -> int:
    """Count the bytes of maps that are made of moments in float64, beside what sums them."""
    channels, templates = problem.channels, problem.templates
    pixels = problem.batch * math.prod(problem.image_size)
    windows, weighted = problem.batch * math.prod(problem.map_size), problem.weighting != "none"
    maps, each = windows * templates, templates if weighted else 1
    if jit.usable(problem):  # of which kernels make scores at once
        return 8 * (maps * (2 * channels + 4) + 3 * channels * pixels)
    numbers = 12 * maps + 4 * channels * (windows * each + pixels) + 4 * pixels
    return 8 * (numbers + 4 * maps * channels * weighted)


def scale_of(image: Tensor) -> float:
    """Return a number of the size of the image's."""
    return float(image.detach().double().abs().nan_to_num(0, 0, 0).max()) or 1.0
