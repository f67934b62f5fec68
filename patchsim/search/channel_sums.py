"""Lower bounds on l1, l2 and zncc distances from the sums of all channels.

A pixel's channels are a block as in `patchsim.search.pruning` and
`patchsim.search.correlated_blocks`: their sum bounds l1 and l2 (Coq: ``block_l1_window``,
``block_l2``) and, by the correlation coefficient c of the sums, zncc ≤ √(s·max(c, 0)² + 1 − s), s
being their share of a template's variance (Coq: ``projected_cosine``, ``block_cosine``). What
bounds a window is a map of one channel, which takes one correlation where the call's own takes one
a channel; and in photos, whose channels vary together, s is near 1.

Rounding. A sum of C channels of at most P, computed in float64 and rounded with unit roundoff u, is
off by at most e = (u + C·2⁻⁵²)·C·P. For l1 that, and as much of the template's, is added to the
error of the map. The root mean square of l2's differences errs by as much, so that their mean
square, of at most A², errs by 2·A·e.

zncc is bounded in float64. Let E be the energy that windows have at most around a template's means,
and K = 4·(n + 8)·2⁻⁵³ for n taps, so that the moments of a window that is measured err by K·E.
Where the sums of a window vary by less than 4·K·C·E/σ, with σ = 2⁻⁹, nothing is known; elsewhere
the window itself varies by more than 4·K·E/σ, so that its zncc errs by less than σ. What the sums
of channels themselves err moves their moments by a little more.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from patchsim import threads
from patchsim.backends import BACKENDS
from patchsim.bounds import finite_range
from patchsim.call import Call
from patchsim.kernels import jit
from patchsim.kernels.definition import text_of
from patchsim.metrics.base import Metric
from patchsim.metrics.zncc import METRIC as ZNCC
from patchsim.once import made_once
from patchsim.planner import make_plan
from patchsim.search import pruning
from patchsim.search.cells import Array, size_of
from patchsim.search.correlated_blocks import LEAST, deviations
from patchsim.search.direct import Direct
from patchsim.search.lower_bounds import LowerBounds, of_maps, of_statistic, settle_flat
from patchsim.sums.slide import Planes

#: Channels from which on it pays to add them.
MANY = 3
#: Seconds of a map from which on it does.
WORTH = 3e-3
#: What the zncc of a window that is measured may err.
SLACK = 2.0**-9

#: See `adding`.
ADDING = """
def kernel(image, steps, channels, sums, ends, first, last):
    to_channel, to_row = steps
    width = sums.shape[3]
    total = np.zeros(width)
    low, high = np.full(width, np.inf, image.dtype), np.full(width, -np.inf, image.dtype)
    for y in range(first, last):
        line = sums[0, 0, y]
        for c in range(channels):
            start = c * to_channel + y * to_row
            pixels = image[start : start + width]
            if c < channels - 1:
                for x in range(width):
                    total[x] += pixels[x]
            else:
                for x in range(width):
                    line[x] = total[x] + pixels[x]
                    total[x] = 0
            for x in range(width):
                value = pixels[x]
                low[x] = value if value < low[x] else low[x]
                high[x] = value if value > high[x] else high[x]
    ends[first, 0] = low.min()
    ends[first, 1] = high.max()
"""


@made_once
def adding(dtype: torch.dtype, total: torch.dtype) -> jit.Kernel:
    """Compile (image, (to_channel, to_row), C, sums, ends, first, last).

    Rows first to last of sums (1, 1, H, W), of dtype `total`, get the sums of the channels of a
    flat image of `dtype`, added in float64; ends[first], of (H, 2), gets the least and the greatest
    pixel of all these rows, but for NaN.
    """
    from numba import types

    layout = jit.type_of(dtype)[::1], jit.tuple_of(2), types.int64
    more = jit.type_of(total)[:, :, :, ::1], types.float64[:, ::1]
    return jit.compiled(ADDING, [types.void(*layout, *more, *[types.int64] * 2)])


@dataclass(frozen=True)
class CorrelationBounds(LowerBounds):
    """Lower bounds on 1 − zncc that follow from those on 1 − c, which are as `LowerBounds`.

    So are `values` and `likely`.

    Attributes
    ----------
    share : float
        s, see above.
    """

    share: float = 0.0

    def __call__(self, values: Array) -> Array:
        """Return the lower bounds, in float64, of some of the values."""
        cosine = np.clip(1 - super().__call__(values), 0, 1)
        return np.asarray(1 - np.sqrt(1 - self.share * (1 - cosine**2)) - SLACK)

    def uncertain(self, distance: float, most: int) -> int:
        """Count them all, as the channels themselves tell more."""
        return self.count(distance, most)

    def _limit(self, distance: float) -> float:
        similarity = max(0.0, 1 - distance - 2 * SLACK)
        square = 1 - (1 - similarity**2) / self.share if self.share else 0.0
        # Where a cosine of 0 is enough, so is any.
        return super()._limit(1 - math.sqrt(square) if square > 0 else 4.0)


def possible(call: Call) -> bool:
    """Tell whether sums of channels bound this metric here."""
    return call.problem.dtype.is_floating_point and pruning.possible(call)


def promising(call: Call) -> bool:
    """Tell whether bounds by sums of channels are likely to be faster than the call's map."""
    return call.problem.channels >= MANY and pruning.seconds(call) > WORTH


def of_channels(call: Call) -> list[LowerBounds]:
    """Bound the distances of one image's windows to each template."""
    if call.metric is ZNCC:
        return _of_zncc(call)
    own, (low, high) = _added(call, call.problem.value_dtype)
    assert isinstance(call.metric, Metric)
    power = pruning.POWERS[text_of(call.metric)]
    channels = call.problem.channels
    peaks = max(-low, high) + float(call.kernel.detach().abs().max())
    if not peaks * call.problem.taps < pruning.LARGE:
        nothing = np.zeros(call.problem.map_size)
        return [LowerBounds(nothing, size_of(call.problem)) for _ in call.kernel]
    error = (1 + 2.0**-10) * _error(channels, peaks, own.problem.dtype)
    if power == 2:
        error *= 2 * (1 + 2.0**-10) * channels * peaks
    error *= call.problem.taps / Direct(call, 0).unit
    share = channels**-power
    return [
        dataclasses.replace(bounds, scale=share, slack=share * (bounds.slack + error))
        for bounds in of_maps(own)
    ]


def _of_zncc(call: Call) -> list[LowerBounds]:
    own, (low, high) = _added(call, torch.float64)
    kernel, channels = call.kernel.detach().double(), call.problem.channels
    pixels = math.prod(call.problem.kernel_size)
    middles = kernel.mean((2, 3))  # (N, C)
    furthest = torch.maximum(high - middles, middles - low)
    energy = pixels * float(furthest.square().sum(1).max())
    rounding = 4 * (call.problem.taps + 8) * 2.0**-53
    error = _error(channels, max(-low, high), torch.float64)
    off = 4 * rounding * channels * energy / SLACK
    off += 4 * pixels * error * (channels * float(furthest.max()) + error)
    varying, sums = deviations(kernel), deviations(kernel.sum(1, keepdim=True))
    clear = varying * energy * SLACK > 4 * rounding * (energy + varying) ** 2
    shares = torch.where(clear, (1 - LEAST) * sums / (channels * varying), 0)
    found = settle_flat(call, of_statistic(own, off))
    return [
        CorrelationBounds(b.values, b.cell, slack=b.slack, likely=b.likely, share=share)
        for b, share in zip(found, shares.tolist(), strict=True)
    ]


def _error(channels: int, peak: float, dtype: torch.dtype) -> float:
    """Bound the error of a sum of channels that is rounded to `dtype`."""
    return (torch.finfo(dtype).eps / 2 + channels * 2.0**-52) * channels * peak


def _added(call: Call, dtype: torch.dtype) -> tuple[Call, tuple[float, float]]:
    """Make the call of the sums of channels; and tell the image's least and greatest pixel."""
    problem = dataclasses.replace(call.problem, channels=1, dtype=dtype)
    image = call.image.detach().to(call.problem.value_dtype)
    planes, (height, width) = Planes(image, (1, 1)), image.shape[2:]
    sums = image.new_empty((1, 1, height, width), dtype=dtype)
    ends = np.tile([math.inf, -math.inf], (height, 1))
    layout = (planes.steps[1], planes.pitch), image.shape[1]
    run = partial(adding(image.dtype, dtype), planes.flat, *layout, sums.numpy(), ends)
    threads.share(run, height, 10 * image.numel())
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    if not (math.isfinite(low) and math.isfinite(high)):
        low, high = finite_range(image)
    kernel = call.kernel.detach().double().sum(1, keepdim=True).to(dtype)
    backend = BACKENDS[make_plan(problem, call.metric.summed).backend]
    own = dataclasses.replace(call, problem=problem, backend=backend, image=sums, kernel=kernel)
    # Which takes less time than to look at all sums.
    channels = image.shape[1]
    error = _error(channels, max(-low, high), dtype)
    own.extremes = channels * low - error, channels * high + error
    return own, (low, high)
