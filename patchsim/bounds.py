"""How far computed window sums of floats can lie from the exact ones.

u is the unit roundoff and γ_n = n·u / (1 − n·u), so that n successive roundings multiply a number
by 1 + θ with |θ| ≤ γ_n (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., lemma
3.1) (Coq: ``product_of_roundings``). The bounds hold for sums taken in any order (Coq:
``sum_error``).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from patchsim import threads
from patchsim.kernels import passes
from patchsim.metrics.base import Metric
from patchsim.once import once
from patchsim.problem import Problem
from patchsim.sums import algebra, box
from patchsim.sums.box import Array, box_sum
from patchsim.sums.factors import each_channel
from patchsim.sums.slide import Planes

Numbers = TypeVar("Numbers", Tensor, Array)

#: Values whose extremes are sought at a time.
RUN = 2**15
#: Makes up for the roundings in computing a bound itself, in float64: fewer than 2⁴² of them.
_SAFETY = 1 + 2**-10

P = ParamSpec("P")
R = TypeVar("R")


def overflowing(function: Callable[P, R]) -> Callable[P, R]:
    """Let NumPy's numbers overflow without a warning: they bound nothing then, which they tell."""

    @wraps(function)
    def quiet(*args: P.args, **kwargs: P.kwargs) -> R:
        with np.errstate(over="ignore", invalid="ignore"):
            return function(*args, **kwargs)

    return quiet


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
    image, kernel = image.detach().double(), kernel.detach().double()
    weights = torch.ones_like(kernel) if weight is None else weight.double()
    heaviest = weights.amax((1, 2, 3))[:, None, None]
    windows = box_sum(_majorant(metric, image, centre), problem)
    templates: Tensor = (_majorant(metric, kernel, centre) * weights).sum((1, 2, 3))
    return _SAFETY * (heaviest * windows + templates[:, None, None])


def _majorant(metric: Metric, values: Tensor, centre: Tensor | int) -> Tensor:
    """Bound what values add to d once they are centred, and before, if they were rounded there."""
    assert metric.majorant is not None
    centred: Tensor = metric.majorant(values - centre)
    return torch.maximum(centred, metric.majorant(values)) if metric.prepare else centred


def direct(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Bound the error of adding w·d(p, k) over the taps, in any order (Coq: ``direct_bound``).

    Each of n taps passes `metric.roundings`, two for the weight (its own and that of the product)
    and at most n − 1 for the sum.
    """
    return rounded(_direct(metric, problem), metric, problem, image, kernel, weight)


def _direct(metric: Metric, problem: Problem) -> int:
    return problem.taps + metric.roundings + 1


def expanded(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Bound the error of summing the expansion, each sum in any order (Coq: ``expanded_bound``).

    Beyond `direct`, centring perturbs both factors (`metric.degree` times in a product), and the
    terms are added.
    """
    roundings = expanded_roundings(metric, problem.taps)
    return rounded(roundings, metric, problem, image, kernel, weight)


def expanded_roundings(metric: Metric, additions: int) -> int:
    """Count the roundings of a number in an expansion's sums of so many additions."""
    return additions + metric.roundings + metric.degree + metric.expansion.rank + 2


def rounded(
    roundings: int,
    metric: Metric,
    problem: Problem,
    image: Tensor,
    kernel: Tensor,
    weight: Tensor | None,
) -> Tensor:
    """Bound the error of sums of which each tap passes so many roundings."""
    magnitude = majorant(metric, problem, image, kernel, weight)
    if weight is None:
        return _rounded(roundings, problem, magnitude, magnitude, 0.0)
    plain = majorant(metric, problem, image, kernel, None)
    return _rounded(roundings, problem, magnitude, plain, float(weight.max()))


def _rounded(
    roundings: int, problem: Problem, magnitude: Numbers, plain: Numbers, heaviest: float
) -> Numbers:
    """Bound the same, given the magnitude of the terms, that without weights, and the heaviest."""
    info = torch.finfo(problem.value_dtype)
    # A result below the least normal number may be flushed to 0: at most 8 operations a tap, and
    # three times that in an expansion (Coq: ``expanded_bound``).
    underflow = 24 * problem.taps * info.tiny * (1 + heaviest)
    error = _SAFETY * (gamma(roundings, info.eps / 2) * magnitude + underflow)
    # A difference may overflow before a small weight makes it less.
    return where((magnitude < info.max) & (plain < info.max), error)


def memory(problem: Problem) -> int:
    """Estimate the bytes that it takes to bound errors of windows: a few copies in float64.

    Of the image and the templates, and more of the map.
    """
    pixels = problem.batch * math.prod(problem.image_size)
    maps = problem.batch * problem.templates * math.prod(problem.map_size)
    copies = 6 * (pixels * problem.channels + problem.templates * problem.taps) + 4 * pixels
    return 8 * (copies + 16 * maps) + box.memory(problem)


def where(safe: Numbers, error: Numbers) -> Numbers:
    """Return the error where that is safe, elsewhere inf."""
    if isinstance(error, Tensor):
        return error.masked_fill(~safe, torch.inf)
    return np.where(safe, error, np.inf)


@dataclass(frozen=True)
class Flat:
    """A window of one colour and some templates, in NumPy's arrays.

    torch takes many times as long for so few numbers. Bounds of such a window that differs from
    the templates' mean as much as any pixel of an image does hold for all of the image's windows.

    Attributes
    ----------
    metric, problem : Metric, Problem
        The problem of that window.
    middle, pixels : array of float64, shape (C,)
        The templates' mean, and the window's colour around it.
    kernel, weight : array of float64, shape (N, C, h, w)
        The templates, around their mean; weight may be None.
    """

    metric: Metric
    problem: Problem
    middle: Array
    pixels: Array
    kernel: Array
    weight: Array | None

    @once
    def magnitude(self) -> Array:
        """As `majorant`: (N,)."""
        return self._majorant(self.weight)

    def rounded(self, roundings: int) -> Array:
        """As the function `rounded`: (N,)."""
        if self.weight is None:
            return _rounded(roundings, self.problem, self.magnitude, self.magnitude, 0.0)
        heaviest = float(self.weight.max())
        return _rounded(roundings, self.problem, self.magnitude, self._majorant(None), heaviest)

    def _majorant(self, weight: Array | None) -> Array:
        majorant = self.metric.majorant
        assert majorant is not None
        windows = math.prod(self.problem.kernel_size) * majorant(self.pixels).sum()
        templates = majorant(self.kernel)
        if weight is not None:
            windows, templates = weight.max((1, 2, 3)) * windows, weight * templates
        total: Array = _SAFETY * (windows + templates.sum((1, 2, 3)))
        return total


def furthest(
    metric: Metric,
    problem: Problem,
    kernel: Tensor,
    weight: Tensor | None,
    values: tuple[float, float],
) -> Flat:
    """Return the flat window of pixels in that range furthest from the templates' mean."""
    one = dataclasses.replace(problem, batch=1, image_size=problem.extent, pads=(0, 0, 0, 0))
    kernel = kernel.detach().to(problem.value_dtype)
    centre = algebra.middle(problem, kernel, metric)
    middle = each_channel(centre, problem.channels, torch.float64)
    low, high = values
    pixels = np.where(high - middle > middle - low, high, low) - middle
    weights = None
    if weight is not None:
        weights = weight.cpu().to(problem.value_dtype).double().numpy()
    own = kernel.double().cpu().numpy() - middle[:, None, None]
    if metric.prepare:  # rounded before it is centred: no value is larger, either way
        pixels = abs(pixels) + abs(middle)
        own = abs(own) + abs(middle)[:, None, None]
        middle = np.zeros_like(middle)
    return Flat(metric, one, middle, pixels, own, weights)


def flat_direct(window: Flat, *_: Any) -> Array:
    """Bound as `direct` does, (N,)."""
    return window.rounded(_direct(window.metric, window.problem))


def flat_expanded(window: Flat, *_: Any) -> Array:
    """Bound as `expanded` does, (N,)."""
    return window.rounded(expanded_roundings(window.metric, window.problem.taps))


def finite_range(image: Tensor) -> tuple[float, float]:
    """Return the least and the greatest finite value of floats; 0 if none is."""
    if not image.numel():
        return 0.0, 0.0
    low, high = _range(image.detach())
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    low, high = (float(bound) for bound in image.detach().nan_to_num(0, 0, 0).aminmax())
    return low, high


def finite(image: Tensor) -> bool:
    """Tell whether all numbers of an image of floats, (B, C, H, W), are finite."""
    if image.device.type != "cpu" or image.numel() <= RUN:
        return bool(image.detach().isfinite().all())
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
