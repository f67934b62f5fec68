"""Window sums of integers by the processor's instructions that sum over neighbouring pixels."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from patchsim.kernels.definition import definition
from patchsim.kernels.instructions import CENTRE, DOT, MIN, MPSAD, PSAD, Instruction, instruction
from patchsim.metrics.base import Metric
from patchsim.problem import Problem
from patchsim.sums import factors, lanes, quads
from patchsim.sums.box import expression_sum
from patchsim.sums.recipe import read
from patchsim.sums.slide import Planes

Array = np.ndarray[Any, Any]

#: Sums of absolute differences; of minima, which give the same; of products, for expansions.
Way = Literal["sad", "min", "dot"]

#: Taps that meet a pixel from which on it pays to spread pixels for windows apart.
_WORTH_PHASES = 800

#: Columns that a template must have for its lanes or words to be worth filling up.
FEWEST = 4


def can(way: Way, problem: Problem) -> bool:
    """Tell whether instructions compute this problem: of their dtype, no tap left out."""
    choice = _choice(way, problem)
    plain = problem.value_dtype is choice[0].dtype and problem.device.type == "cpu"
    adjacent = problem.dilation == (1, 1) and problem.kernel_size[1] >= FEWEST
    if not plain or not adjacent or problem.weighting != "none" or torch.compiler.is_compiling():
        return False
    found = instruction(choice)
    return found is not None and _module(way, problem).fit(found, problem)


def spreads(way: Way, problem: Problem) -> bool:
    """Tell whether pixels are spread out, so that neighbouring windows share what is loaded."""
    across = problem.stride[1]
    if across == 1:
        return True
    # Sums of absolute differences then take half the instructions, which pays for rearranging a
    # pixel where enough taps of all windows meet it.
    enough = math.prod(problem.kernel_size) >= _WORTH_PHASES * math.prod(problem.stride)
    return way == "sad" and across <= quads.FURTHEST and enough


def in_place(way: Way, problem: Problem) -> bool:
    """Tell whether pixels are read where they lie, neither spread out nor split into phases."""
    phases = lanes.phases(_choice(way, problem)[0], problem.stride[1])
    return not spreads(way, problem) and phases == 1


def filled(way: Way, problem: Problem) -> float:
    """Return how many taps windows are compared with for each of a template's."""
    times: float = _module(way, problem).filled(_choice(way, problem)[0], problem)
    return times


def sad(kernel: Tensor, problem: Problem, image: Tensor) -> Tensor:
    """Sum |p − k| over every window: (B, N, Ho, Wo), integers in float64."""
    found = _found("sad", problem)
    if spreads("sad", problem):
        sums = quads.begun(found, image, problem)
    else:
        sums = np.zeros((problem.batch, problem.templates, *problem.map_size))
    _module("sad", problem).add(found, 1, image, kernel.numpy(), problem, sums)
    return torch.from_numpy(sums)


def expansion(metric: Metric, kernel: Tensor, problem: Problem, image: Tensor) -> Tensor:
    """Sum a metric that `expands` over every window: (B, N, Ho, Wo), integers in float64."""
    terms = read(metric)
    assert terms is not None
    factor = sum(scale for *_, scale in terms.crosses)
    if terms.box:
        # Σ(p − c)·(k − c) = Σp·(k − c) − c·Σ(k − c)
        constant = f"({terms.constant}-{factor * CENTRE!r}*p)"
        centre = factors.each_channel(CENTRE, problem.channels, torch.float64)
        constants, _ = factors.read(constant, (), kernel, centre)
        sums = _boxes(terms.box, image, centre, constants, problem)
    else:
        # Σp·k = Σp·(k − c) + c·Σp
        nothing = np.zeros(problem.channels), np.zeros(len(kernel))
        sums = _boxes(f"({factor * CENTRE!r}*p)", image, *nothing, problem)
    taps = kernel.numpy() ^ np.uint8(CENTRE)
    _module("dot", problem).add(_found("dot", problem), factor, image, taps, problem, sums)
    return torch.from_numpy(sums)


def minima(kernel: Tensor, problem: Problem, image: Tensor) -> Tensor:
    """Sum |p − k| over every window, as Σp + Σk − 2·Σmin(p, k) (Coq: ``l1_min``).

    (B, N, Ho, Wo), integers in float64.
    """
    constants = np.add.reduce(kernel.numpy(), (1, 2, 3), dtype=np.float64)
    sums = _boxes("p", image, np.zeros(problem.channels), constants, problem)
    _module("min", problem).add(_found("min", problem), -2, image, kernel.numpy(), problem, sums)
    return torch.from_numpy(sums)


def _boxes(text: str, image: Tensor, centre: Array, constants: Array, problem: Problem) -> Array:
    """Return an expression's box sums plus templates' constants: (B, N, Ho, Wo)."""
    boxes = expression_sum(text, image, Planes(image, (1, 1)), centre, problem)
    total: Array = boxes + constants[:, None, None]
    return total


def expands(metric: Metric) -> bool:
    """Tell whether the cross terms of a metric's expansion are multiples of p·k."""
    terms = read(metric)
    if terms is None or any((f, g) != ("p", "p") for f, g, _ in terms.crosses):
        return False
    return definition(metric).invariant if terms.box else terms.constant == "0"


def _module(way: Way, problem: Problem) -> ModuleType:
    return quads if spreads(way, problem) else lanes


def _choice(way: Way, problem: Problem) -> tuple[Instruction, ...]:
    sad = MPSAD if spreads("sad", problem) else PSAD
    return {"sad": sad, "min": MIN, "dot": DOT}[way]


def _found(way: Way, problem: Problem) -> Instruction:
    found = instruction(_choice(way, problem))
    assert found is not None
    return found
