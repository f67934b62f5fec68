"""How far computed window sums of floats can lie from the exact ones.

u is the unit roundoff and γ_n = n·u / (1 − n·u), so that n successive roundings multiply a number
by 1 + θ with |θ| ≤ γ_n (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., lemma
3.1) (Coq: ``product_of_roundings``). The bounds hold for sums taken in any order (Coq:
``sum_error``).
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from patchsim import algebra, passes, threads
from patchsim.box import box_sum
from patchsim.metrics.base import Metric
from patchsim.problem import Problem
from patchsim.slide import Planes

#: Values whose extremes are sought at a time.
RUN = 2**15
#: Makes up for the roundings in computing a bound itself, in float64: fewer than 2⁴² of them.
_SAFETY = 1 + 2**-10


def gamma(roundings: int, unit: float) -> float:
    """γ_n, infinite where n·u ≥ 1 (Coq: ``gamma_plus``)."""
    return roundings * unit / (1 - roundings * unit) if roundings * unit < 1 else float("inf")


def majorant(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Bound Σ w·d and the sum of all terms' magnitudes, (B, N, Ho, Wo) in float64.

    The bounds of `direct` and `expanded` need both (Coq: ``direct_bound``, ``expanded_bound``).
    """
    if metric.majorant is None:
        raise ValueError(f"no error bound is known for {metric.name!r}: its `majorant` isn't given")
    centre = algebra.middle(problem, kernel, metric)
    image, kernel = image.detach().double() - centre, kernel.detach().double() - centre
    weights = torch.ones_like(kernel) if weight is None else weight.double()
    heaviest = weights.amax((1, 2, 3))[:, None, None]
    windows = box_sum(metric.majorant(image), problem)
    templates: Tensor = (metric.majorant(kernel) * weights).sum((1, 2, 3))[:, None, None]
    return _SAFETY * (heaviest * windows + templates)


def direct(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Bound the error of adding w·d(p, k) over the taps, in any order (Coq: ``direct_bound``).

    Each of n taps passes `metric.roundings`, two for the weight (its own and that of the product)
    and at most n − 1 for the sum.
    """
    roundings = problem.taps + metric.roundings + 1
    return rounded(roundings, metric, problem, image, kernel, weight)


def expanded(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Bound the error of summing the expansion, each sum in any order (Coq: ``expanded_bound``).

    Beyond `direct`, centring perturbs both factors (`metric.degree` times in a product), and the
    terms are added.
    """
    roundings = problem.taps + metric.roundings + metric.degree + metric.expansion.rank + 2
    return rounded(roundings, metric, problem, image, kernel, weight)


def rounded(
    roundings: int,
    metric: Metric,
    problem: Problem,
    image: Tensor,
    kernel: Tensor,
    weight: Tensor | None,
) -> Tensor:
    """Bound the error of sums of which each tap passes so many roundings."""
    info = torch.finfo(problem.value_dtype)
    magnitude = majorant(metric, problem, image, kernel, weight)
    # A result below the least normal number may be flushed to 0: at most 8 operations a tap, and
    # three times that in an expansion (Coq: ``expanded_bound``).
    underflow = (
        24 * problem.taps * info.tiny * (1.0 if weight is None else 1.0 + float(weight.max()))
    )
    error = _SAFETY * (gamma(roundings, info.eps / 2) * magnitude + underflow)
    # A difference may overflow before a small weight makes it less.
    largest = magnitude if weight is None else majorant(metric, problem, image, kernel, None)
    return error.masked_fill(~(torch.maximum(magnitude, largest) < info.max), torch.inf)


def finite_range(image: Tensor) -> tuple[float, float]:
    """Return the least and the greatest finite value of floats; 0 if none is."""
    low, high = _range(image.detach())
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    low, high = (float(bound) for bound in image.detach().nan_to_num(0, 0, 0).aminmax())
    return low, high


def finite(image: Tensor) -> bool:
    """Tell whether all numbers of an image of floats on the CPU, (B, C, H, W), are finite."""
    if image.numel() <= RUN:
        return bool(np.isfinite(image.detach().numpy()).all())
    # By a kernel, as `finite_range`.
    planes, height = Planes(image.detach(), (1, 1)), image.shape[2]
    spoiled = np.empty(len(image) * image.shape[1] * height, bool)
    layout = (*planes.steps[:2], planes.pitch), tuple(image.shape[1:])
    run = partial(passes.spoiled(image.dtype), planes.flat, *layout, spoiled)
    threads.share(run, len(spoiled), 5 * image.numel())
    return not spoiled.any()


def _range(image: Tensor) -> tuple[float, float]:
    """Return the least and the greatest value, whatever is made of NaN."""
    if image.device.type != "cpu" or image.dtype not in (torch.float32, torch.float64):
        low, high = (float(bound) for bound in image.aminmax())
        return low, high
    # By a kernel: torch's threads would wait for more work, and keep those of the next kernel from
    # theirs.
    values = image.contiguous().flatten().numpy()
    lows, highs = np.empty((2, -(-values.size // RUN)), values.dtype)
    run = partial(passes.extremes(image.dtype, RUN), values, lows, highs)
    threads.share(run, len(lows), 10 * values.size)
    return float(lows.min()), float(highs.max())
