"""Lower bounds on l1 and l2 distances from sums of blocks, which cost a tap a block.

By the triangle inequality Σ|p − k| is at least Σ_B |Σ_B p − Σ_B k| over blocks B of taps (Coq:
``block_l1_window``), and by Cauchy-Schwarz Σ(p − k)² is at least Σ_B (Σ_B p − Σ_B k)² / |B| (Coq:
``block_l2``). A block is b·b pixels of all channels, so that the sums of an image's blocks are one
plane, made once for all templates of a size. Taps beyond the last whole block are left out.

Rounding. With unit roundoff u, a block's computed sum errs by at most γ_m·Σ_B|p|, where m counts
the numbers in a block and the conversion of its sum (Coq: ``sum_error``). For l1 the errors of all
blocks add up to at most γ·(Σ|p| + Σ|k|), with γ = γ_n for the n = m + blocks + 4 roundings that a
number passes. For l2 they are a vector that, divided by √|B|, is by Cauchy-Schwarz no longer than
γ·(‖p‖ + ‖k‖), by which the norm of the differences errs; its own rounding is a factor 1 − 2γ.
What underflows is off by at most the least normal number, for each pixel, block and square.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import numpy as np
import torch

from patchsim import threads
from patchsim.bounds import gamma, overflowing
from patchsim.call import Call
from patchsim.kernels import jit
from patchsim.kernels.definition import text_of
from patchsim.metrics.base import Metric, Statistic
from patchsim.metrics.l2 import METRIC as L2
from patchsim.metrics.zncc import METRIC as ZNCC
from patchsim.planner import make_plan
from patchsim.problem import Problem
from patchsim.search import correlated_blocks
from patchsim.search.cells import size_of
from patchsim.search.correlated_blocks import deviations, largest, pooled
from patchsim.search.direct import Direct
from patchsim.search.lower_bounds import LowerBounds, arrays
from patchsim.sums import slide

#: What is summed, as `patchsim.kernels.expression` writes it, and the power of differences.
POWERS = {"abs((p-k))": 1, "((p-k)*(p-k))": 2}

#: Seconds for a value of the image, for a window and for a block of a window, of sums and of
#: statistics, and for each tap of a window that is measured: what pruning takes on the machine of
#: the backends' default rates.
PER_VALUE, PER_WINDOW, PER_BLOCK, PER_TAP = 0.25e-9, (0.3e-9, 1.6e-9), (0.015e-9, 0.025e-9), 0.2e-9
#: Seconds that bounds by blocks take, however small the image.
FIXED = 2e-4
#: Shares of the time of a map that bounds may take where few windows are left; or without asking a
#: sample; and that a sample may take.
BOUNDS, UNASKED, SAMPLE = 0.8, 0.2, 0.2
#: A sample's bands of windows, and the rows of each.
BANDS, ROWS = 3, 16
#: Sums from which their squares may overflow.
LARGE = 1e15


def possible(call: Call) -> bool:
    """Tell whether sums of blocks bound this metric here."""
    problem, metric = call.problem, call.metric
    known = isinstance(metric, Metric) and text_of(metric) in POWERS
    if not known and metric is not ZNCC:
        return False
    whole = problem.weighting == "none" and not any(problem.overhang)
    return whole and jit.usable(problem) and min(problem.kernel_size) >= 2


def promising(call: Call, alone: bool) -> bool:
    """Tell whether bounds by blocks are likely to be faster than the call's map.

    `alone`: if only one match is wanted.
    """
    dense, own = seconds(call), cost(call, call.problem)
    if own > BOUNDS * dense:
        return False
    if own <= UNASKED * dense:
        return True
    height, width = call.problem.image_size
    rows = ROWS * call.problem.stride[0] + call.problem.kernel_size[0]
    band = dataclasses.replace(call.problem, image_size=(rows, width))
    if 2 * BANDS * rows > height or BANDS * cost(call, band) > SAMPLE * dense:
        return False
    return _sampled(call, band, affordable(call, 1 - own / dense), alone)


def seconds(call: Call) -> float:
    """Predict the time of the call's map."""
    plan = make_plan(call.problem, call.metric.summed)
    # The moments of a statistic take as long as its sums.
    sums = 2 if isinstance(call.metric, Statistic) else 1
    return sums * plan.seconds.get(call.backend.name, math.inf)


def cost(call: Call, problem: Problem) -> float:
    """Predict the time of the bounds of the call's windows, or of a part of them."""
    kind = isinstance(call.metric, Statistic)
    windows = _windows(problem)
    blocks = math.prod(length // side(problem) for length in problem.kernel_size)
    values = problem.channels * math.prod(problem.image_size)
    return FIXED + PER_VALUE * values + windows * (PER_WINDOW[kind] + PER_BLOCK[kind] * blocks)


def affordable(call: Call, share: float) -> int:
    """Return how many windows can be measured in a share of the time of the call's map."""
    most = share * seconds(call) / (call.problem.taps * PER_TAP)
    return int(min(most, _windows(call.problem)))


def _windows(problem: Problem) -> int:
    return problem.templates * math.prod(problem.map_size)


def side(problem: Problem) -> int:
    """Choose how wide and high blocks are: 8 to 16 of them beside one another.

    Of small templates it is 4 to 8, so that few blocks are single pixels.
    """
    length = min(problem.kernel_size)
    return 2 ** int(math.log2(length / 8)) if length >= 16 else 1 + (length >= 8)


def _sampled(call: Call, problem: Problem, most: int, alone: bool) -> bool:
    """Tell whether bounds leave at most so many windows: if one band has more, stop at once."""
    height, rows = call.problem.image_size[0], problem.image_size[0]
    each = _windows(call.problem) / (BANDS * _windows(problem))
    survivors, fine = 0, _fine(call)
    for number in range(BANDS):
        top = (height - rows) * (2 * number + 1) // (2 * BANDS)
        image = call.image[:, :, top : top + rows]
        part = dataclasses.replace(call, image=image, problem=problem)
        spared = Direct(part, 0).repeats if alone else None
        for own, limit in zip(of_blocks(part), fine, strict=True):
            survivors += len(own.within(limit, spared)[0])
        if survivors * each > most:
            return False
    return True


@overflowing
def _fine(call: Call) -> list[float]:
    """Guess how far the matches are: as far as the templates are from the means of 2·2 pixels.

    It is noise that keeps a match from being a copy, and where images are smooth there is little
    but noise within so few pixels. Of l2 their means take away one part in four.
    """
    height, width = (length // 2 for length in call.problem.kernel_size)
    kernel = call.kernel[:, :, : 2 * height, : 2 * width].detach().double()
    cells = kernel.numpy().reshape(*kernel.shape[:2], height, 2, width, 2)
    means = cells.mean((3, 5), keepdims=True)
    own = L2 if call.metric is ZNCC else call.metric.summed
    sums = own.pointwise(cells, means).sum((1, 2, 3, 4, 5))
    if call.metric is ZNCC:
        varying = deviations(kernel).clamp(min=2.0**-100).numpy()
        left = np.maximum(1 - 4 / 3 * sums / varying, 0)
        return [1 - float(own) ** 0.5 for own in left]
    sums = sums / Direct(call, 0).unit
    return [4 / 3 * float(own) for own in sums]


def of_blocks(call: Call) -> list[LowerBounds]:
    """Bound the mean distances of one image's windows to each template."""
    if call.metric is ZNCC:
        return correlated_blocks.of_blocks(call, side(call.problem))
    problem, metric = call.problem, call.metric
    assert isinstance(metric, Metric)
    text, b, cell = text_of(metric), side(problem), size_of(problem)
    image, kernel = (t.detach().to(problem.value_dtype) for t in (call.image, call.kernel))
    dtype = torch.float64 if image.dtype is torch.float64 else torch.float32
    blocks = pooled(kernel.double().sum(1), b)  # (N, h / b, w / b)
    maps = torch.empty((len(blocks), *problem.map_size), dtype=dtype)
    planes = slide.Planes(image, (1, 1))
    layout = (planes.steps[1], planes.pitch), (image.shape[1], image.shape[3])
    peaks = np.zeros(problem.map_size[0], maps.numpy().dtype)
    more = blocks.to(dtype).numpy(), b, problem.stride, maps.numpy(), peaks
    run = partial(jit.blocks(text, image.dtype, dtype), planes.flat, *layout, *more)
    threads.share(run, problem.map_size[0], 20 * image.numel())
    unit = Direct(call, 0).unit
    peak = largest(image, peaks)
    if max(peak, float(kernel.abs().max())) * problem.taps > LARGE:
        return [LowerBounds(np.zeros(problem.map_size), cell) for _ in blocks]
    roundings = b * b * problem.channels + blocks[0].numel() + 4
    share = (1 + 2.0**-10) * gamma(roundings, torch.finfo(dtype).eps / 2)
    lost = 4 * (problem.taps + roundings) * torch.finfo(dtype).tiny
    found = []
    for own, values in zip(kernel.double(), arrays(maps), strict=True):
        if POWERS[text] == 1:
            slack = (share * (problem.taps * peak + float(own.abs().sum())) + lost) / unit
            found.append(LowerBounds(values, cell, 1 / unit, slack))
        else:
            slack = share * (problem.taps**0.5 * peak + float(own.norm())) + lost**0.5
            slack /= unit**0.5
            scale = (1 - 2 * share) / (unit * b * b * problem.channels)
            found.append(LowerBounds(values, cell, scale, slack, 2))
    return found
