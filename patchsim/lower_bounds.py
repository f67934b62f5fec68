"""Lower bounds on the distances of all windows, from a map and the bound on its error."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchsim.call import Call
from patchsim.metrics.base import Metric, Statistic, identity

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class LowerBounds:
    """A map from which follows how far each window is from a template at least.

    A window of value v has a distance (the mean of d, or 1 − similarity for a statistic) of at
    least ((scale·v)^(1/power) − slack)^power.

    Attributes
    ----------
    values : Tensor, shape (Ho, Wo)
        Floats, of any sign, without NaN; inf where no match can be.
    scale, slack : float
    power : 1 or 2
        2 where slack is a norm's error.
    """

    values: Tensor
    scale: float = 1.0
    slack: float = 0.0
    power: int = 1

    def __call__(self, values: Array) -> Array:
        """Return the lower bounds, in float64, of some of the values."""
        scaled = self.scale * values.astype(np.float64)
        if self.power == 1:
            return np.asarray(scaled - self.slack)
        return np.asarray(np.maximum(np.sqrt(scaled) - self.slack, 0) ** 2)

    def within(self, distance: float) -> Array:
        """Tell which windows may be that near, (Ho, Wo)."""
        if self.power == 2:
            largest = (max(distance, 0.0) ** 0.5 + self.slack) ** 2
        else:
            largest = distance + self.slack
        # Some roundings up, so that none of those on the line is lost.
        largest = largest / self.scale
        largest += abs(largest) * 2.0**-20 + 2.0**-140
        # inf is larger.
        return np.asarray(self.values.numpy() <= min(largest, torch.finfo(self.values.dtype).max))


def of_maps(call: Call) -> list[LowerBounds]:
    """Bound the distances of one image to each template by the call's own map."""
    if isinstance(call.metric, Statistic):
        return _of_statistic(call)
    metric = _unfinished(call.metric)
    call = dataclasses.replace(call, metric=metric)
    if metric.majorant is None and call.problem.value_range is None:
        # No error bound is known: every window is looked at.
        nothing = torch.zeros(call.problem.map_size)
        return [LowerBounds(nothing) for _ in range(call.problem.templates)]
    maps = call.map("mean", similarity=False).detach()
    maps = clean(maps.reshape(-1, *call.problem.map_size))
    # Sums in float64 err, too, by as much less as its unit is smaller.
    more = 2 if maps.dtype is torch.float64 else 1 + 2.0**-20
    return [
        LowerBounds(values, slack=more * slack)
        for values, slack in zip(maps, call.worst().tolist(), strict=True)
    ]


def _of_statistic(call: Call) -> list[LowerBounds]:
    distances = call.map("mean", similarity=False).detach().double()
    bounds = distances - 2 * call.bound("mean")
    bounds = torch.where(distances.isfinite(), bounds.nan_to_num(-torch.inf, None, -torch.inf), torch.inf)
    return [LowerBounds(b.clamp(min=-1)) for b in bounds.reshape(-1, *call.problem.map_size)]


def clean(maps: Tensor) -> Tensor:
    """Put inf in the place of NaN, on the CPU."""
    maps = (maps.float() if maps.element_size() < 4 else maps).cpu()
    return maps.nan_to_num(torch.inf, torch.inf) if bool(maps.amin().isnan()) else maps


@lru_cache(maxsize=256)
def _unfinished(metric: Metric) -> Metric:
    """Leave the mean as it is: `finish` can make a small error a large one."""
    return dataclasses.replace(metric, finish=identity, modulus=identity)
