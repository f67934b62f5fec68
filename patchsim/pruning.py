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
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial

import numpy as np
import torch

from patchsim import jit, slide, threads
from patchsim.bounds import finite_range, gamma
from patchsim.call import Call
from patchsim.direct import Direct
from patchsim.expression import trace
from patchsim.lower_bounds import LowerBounds, clean
from patchsim.metrics.base import Metric
from patchsim.planner import make_plan
from patchsim.problem import Problem

#: What is summed, as `patchsim.expression` writes it, and the power of differences.
POWERS = {"abs((p-k))": 1, "((p-k)*(p-k))": 2}

#: Seconds for a value of the image, for a window and for a block of a window, and for each tap of a
#: window that is scored: what pruning takes on the machine of the backends' default rates.
PER_VALUE, PER_WINDOW, PER_BLOCK, PER_TAP = 0.4e-9, 1.2e-9, 0.05e-9, 0.1e-9
#: Seconds of a search by blocks, however small.
FIXED = 1e-3
#: Sums from which their squares may overflow.
_LARGE = 1e15
#: Shares of the time of a dense map that a sample may take, the bounds themselves, and scoring.
SAMPLE, TRIAL, SCORING = 0.1, 0.15, 0.3


def possible(call: Call) -> bool:
    """Tell whether sums of blocks bound this metric here."""
    problem, metric = call.problem, call.metric
    if not isinstance(metric, Metric) or str(trace(metric.pointwise)) not in POWERS:
        return False
    whole = problem.weighting == "none" and not any(problem.overhang)
    return whole and jit.usable(problem) and min(problem.kernel_size) >= 2


def promising(call: Call) -> bool:
    """Tell whether bounds by blocks are likely to be faster than the call's map."""
    dense, own = seconds(call), cost(call.problem)
    if own > dense / 2:
        return False
    return own <= TRIAL * dense or _sample(call, dense)


def seconds(call: Call) -> float:
    """Predict the time of the call's map."""
    plan = make_plan(call.problem, call.metric.summed)
    return plan.seconds.get(call.backend.name, math.inf)


def cost(problem: Problem) -> float:
    """Predict the time of the bounds."""
    windows = problem.templates * math.prod(problem.map_size)
    blocks = math.prod(length // side(problem) for length in problem.kernel_size)
    values = problem.channels * math.prod(problem.image_size)
    return FIXED + PER_VALUE * values + windows * (PER_WINDOW + PER_BLOCK * blocks)


def few(call: Call, survivors: int) -> bool:
    """Tell whether it is faster to score so many windows than to compute the call's map."""
    return survivors * call.problem.taps * PER_TAP <= SCORING * seconds(call)


def side(problem: Problem) -> int:
    """Choose how wide and high blocks are: 4 to 8 of them beside one another."""
    return int(max(1, 2 ** int(math.log2(min(problem.kernel_size) / 4))))


def _sample(call: Call, dense: float) -> bool:
    """Compute the bounds of some rows; tell whether few windows there may be the nearest."""
    problem = call.problem
    (height, width), (rows, cols) = problem.image_size, problem.map_size
    share = SAMPLE * dense / cost(problem)
    tall = int(share * height)
    if tall < problem.kernel_size[0] + problem.stride[0]:
        return False
    top = (height - tall) // 2
    image = call.image[:, :, top : top + tall]
    part = dataclasses.replace(call.problem, image_size=(tall, width))
    survivors, windows = 0, 0
    band = dataclasses.replace(call, image=image, problem=part)
    for n, bounds in enumerate(of_blocks(band)):
        best = nearest(Direct(band, n), bounds)
        survivors += int(np.count_nonzero(bounds.within(best)))
        windows += bounds.values.size
    return few(call, survivors * rows * cols * problem.templates // windows)


def nearest(direct: Direct, bounds: LowerBounds) -> float:
    """Return the distance of the best of a few windows with the least bounds, one a row."""
    rows = bounds.values.min(1).argsort()[:8]
    cols = bounds.values[rows].argmin(1)
    places = rows * direct.stride[0], cols * direct.stride[1]
    return float(direct.distances(*places).min())


def of_blocks(call: Call) -> list[LowerBounds]:
    """Bound the mean distances of one image's windows to each template."""
    problem, metric = call.problem, call.metric
    assert isinstance(metric, Metric)
    text, b = str(trace(metric.pointwise)), side(problem)
    image, kernel = (t.detach().to(problem.value_dtype) for t in (call.image, call.kernel))
    dtype = torch.float64 if image.dtype is torch.float64 else torch.float32
    blocks = torch.nn.functional.avg_pool2d(kernel.double().sum(1), b) * b * b  # (N, h / b, w / b)
    maps = torch.empty((len(blocks), *problem.map_size), dtype=dtype)
    planes = slide.Planes(image, (1, 1))
    layout = (planes.steps[1], planes.pitch), (image.shape[1], image.shape[3])
    peaks = np.zeros(problem.map_size[0], maps.numpy().dtype)
    more = blocks.to(dtype).numpy(), b, problem.stride, maps.numpy(), peaks
    run = partial(jit.blocks(text, image.dtype, dtype), planes.flat, *layout, *more)
    threads.share(run, problem.map_size[0], 20 * image.numel())
    unit = Direct(call, 0).unit
    peak = float(peaks.max())
    if peak == math.inf:
        peak = max(map(abs, finite_range(image)))
    if peak * problem.taps > _LARGE:
        return [LowerBounds(np.zeros(problem.map_size)) for _ in blocks]
    roundings = b * b * problem.channels + blocks[0].numel() + 4
    share = (1 + 2.0**-10) * gamma(roundings, torch.finfo(dtype).eps / 2)
    found = []
    for own, values in zip(kernel.double(), clean(maps), strict=True):
        if POWERS[text] == 1:
            slack = share * (problem.taps * peak + float(own.abs().sum())) / unit
            found.append(LowerBounds(values, 1 / unit, slack))
        else:
            slack = share * (problem.taps**0.5 * peak + float(own.norm())) / unit**0.5
            scale = (1 - 2 * share) / (unit * b * b * problem.channels)
            found.append(LowerBounds(values, scale, slack, 2))
    return found
