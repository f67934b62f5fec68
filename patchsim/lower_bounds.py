"""Lower bounds on the distances of all windows, from a map and the bound on its error."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from patchsim.bounds import finite_range
from patchsim.call import Call
from patchsim.cells import Array, Cells, size_of
from patchsim.metrics.base import Metric, Statistic, identity
from patchsim.problem import Pair

#: Magnitudes whose squares and ratios neither overflow nor underflow in float64.
_ORDINARY = 1e-100, 1e100


@dataclass(frozen=True)
class LowerBounds:
    """A map from which follows how far each window is from a template at least.

    A window of value v has a distance (the mean of d, or 1 − similarity for a statistic) of at
    least ((scale·v)^(1/power) − slack)^power.

    Attributes
    ----------
    values : array, shape (Ho, Wo)
        Floats, of any sign; NaN or inf where no match can be.
    cell : pair of int
        The size of the cells of `cells`.
    scale, slack : float
    power : 1 or 2
        2 where slack is a norm's error.
    """

    values: Array
    cell: Pair
    scale: float = 1.0
    slack: float = 0.0
    power: int = 1

    def __call__(self, values: Array) -> Array:
        """Return the lower bounds, in float64, of some of the values."""
        scaled = self.scale * values.astype(np.float64)
        if self.power == 1:
            return np.asarray(scaled - self.slack)
        return np.asarray(np.maximum(np.sqrt(scaled) - self.slack, 0) ** 2)

    @cached_property
    def cells(self) -> Cells:
        """The map's cells, whose minima tell where to look."""
        return Cells(self.values, self.cell)

    def within(
        self, distance: float, spared: Callable[[], Array] | None = None
    ) -> tuple[Array, Array]:
        """Return the rows and columns of the windows that may be that near, in order.

        If they are many, those are left out where `spared`, (Ho, Wo), is true.
        """
        places = self.cells.below(self._limit(distance), spared)
        row, col = np.divmod(places, self.values.shape[1])
        return row, col

    def count(self, distance: float) -> int:
        """Count the windows that may be that near."""
        return self.cells.count(self._limit(distance))

    def _limit(self, distance: float) -> float:
        """Return the greatest value of windows that may be that near."""
        if self.power == 2:
            largest = (max(distance, 0.0) ** 0.5 + self.slack) ** 2
        else:
            largest = distance + self.slack
        # Some roundings up, so that none of those on the line is lost.
        largest = float(largest) / self.scale
        largest += abs(largest) * 2.0**-20 + 2.0**-140
        # inf is larger.
        return min(largest, float(np.finfo(self.values.dtype).max))


def of_maps(call: Call) -> list[LowerBounds]:
    """Bound the distances of one image to each template by the call's own map."""
    if isinstance(call.metric, Statistic):
        return _of_statistic(call)
    metric = _unfinished(call.metric)
    call = dataclasses.replace(call, metric=metric)
    maps, cell = arrays(call.map("mean", similarity=False)), size_of(call.problem)
    if metric.majorant is None and call.problem.value_range is None:
        slacks = [np.inf] * call.problem.templates  # no error bound is known
    else:
        slacks = call.worst().tolist()
    # Sums in float64 err, too, by as much less as its unit is smaller.
    more = 2 if maps.dtype == np.float64 else 1 + 2.0**-20
    # Where a map may have overflowed, all windows are looked at.
    return [
        LowerBounds(values, cell, slack=more * slack)
        if slack < np.inf
        else LowerBounds(np.zeros_like(values), cell)
        for values, slack in zip(maps, slacks, strict=True)
    ]


def _of_statistic(call: Call) -> list[LowerBounds]:
    peaks = [max(map(abs, finite_range(values))) for values in (call.image, call.kernel)]
    if any(peak and not _ORDINARY[0] < peak < _ORDINARY[1] for peak in peaks):
        # Bounds of rounding errors don't hold: all windows are looked at.
        size, cell = call.problem.map_size, size_of(call.problem)
        return [LowerBounds(np.full(size, -1.0), cell) for _ in range(call.problem.templates)]
    if call.problem.dtype is torch.float32:
        # Errors of sums in single precision are large beside what flat windows deviate.
        problem = dataclasses.replace(call.problem, dtype=torch.float64)
        image, kernel = call.image.double(), call.kernel.double()
        call = dataclasses.replace(call, problem=problem, image=image, kernel=kernel)
    maps, cell = arrays(call.least()), size_of(call.problem)
    # What rounding adds to numbers of at most 2, and that of the similarity itself.
    slack = 4 * float(np.finfo(maps.dtype).eps) + 2.0**-40
    return [LowerBounds(values, cell, slack=slack) for values in maps]


def arrays(maps: Tensor) -> Array:
    """Return the maps of all templates, (N, Ho, Wo)."""
    return np.ascontiguousarray(maps.detach().cpu().flatten(0, -3).numpy())


@lru_cache(maxsize=256)
def _unfinished(metric: Metric) -> Metric:
    """Leave the mean as it is: `finish` can make a small error a large one."""
    return dataclasses.replace(metric, finish=identity, modulus=identity)
