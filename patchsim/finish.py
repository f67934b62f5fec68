"""From window sums to the map that users see, and from the sums' error to the map's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Literal

import torch
from torch import Tensor

from patchsim import threads
from patchsim.bounds import Numbers, where
from patchsim.kernels import definition, jit, passes
from patchsim.metrics.base import Metric, identity
from patchsim.once import once
from patchsim.problem import Problem

Reduction = Literal["mean", "sum"]


def check_reduction(reduction: object) -> None:
    """Refuse any other reduction."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f'`reduction` must be "mean" or "sum", got {reduction!r}')


#: Sums that are finished at a time.
RUN = 2**14
#: Divisors that float32 holds, as it does their inverses and products with numbers of taps.
_ORDINARY = 2.0**-64, 2.0**64


@dataclass(frozen=True)
class Finish:
    """Turns window sums into a raw sum, a distance or a similarity.

    ``total`` is the number of taps or, under a weight, its sum per template, (N, 1, 1); ``scale``
    is what the sums are divided by because values count in units of the data range; ``map_dtype``
    is what means are converted to afterwards, where that isn't the problem's.
    """

    metric: Metric
    problem: Problem
    total: float | Tensor
    scale: float
    reduction: Reduction
    similarity: bool
    map_dtype: torch.dtype

    @once
    def _exact(self) -> bool:
        return self.problem.value_range is not None

    @once
    def dtype(self) -> torch.dtype:
        """The dtype of the map."""
        if self.reduction == "mean" or self.problem.dtype.is_floating_point:
            return self.problem.map_dtype
        return torch.int64 if self._exact else torch.float64

    def __call__(self, sums: Tensor) -> Tensor:
        """Finish a tile of sums."""
        if sums.dtype is self._factor[0] and type(sums) is Tensor and sums.numel() < threads.GRAIN:
            return torch.sub(self._one, sums, alpha=self._factor[1])
        finished = self._finished(sums)
        return finished if self.reduction == "sum" else finished.to(self.map_dtype)

    @once
    def _factor(self) -> tuple[torch.dtype | None, float]:
        """Of which dtype few sums are that are as quickly finished by torch, and their factor."""
        whole = self._exact or not self.similarity or self.reduction == "sum"
        usual = self.metric.finish is identity and self.dtype is self.map_dtype
        ordinary = _ORDINARY[0] < self.scale < _ORDINARY[1]
        plain = isinstance(self.total, int | float) and jit.usable(self.problem)
        if whole or not (usual and ordinary and plain):
            return None, 0.0
        denominator = self._denominator(self.dtype)
        assert isinstance(denominator, float)
        return self.dtype, 1 / denominator

    @once
    def _one(self) -> Tensor:
        return _one(self.dtype, self.problem.device)

    def _finished(self, sums: Tensor) -> Tensor:
        if self.reduction == "sum":
            if self.metric.unit > 1:
                sums = sums.div(self.metric.unit, rounding_mode="floor" if self._exact else None)
            return sums.to(self.dtype)
        if not _ORDINARY[0] < self.scale < _ORDINARY[1]:
            sums = sums.double()  # float32 may hold neither the divisor nor its inverse
        denominator = self._denominator(torch.float64 if self._exact else sums.dtype)
        if self.similarity and self.metric.finish is identity and isinstance(denominator, float):
            # In one pass. torch divides by a number by multiplying with its inverse, too.
            if self._by_kernel(sums):
                if self._exact and sums.is_floating_point():
                    sums = sums.double()  # the kernel computes in float32 what comes in it
                return _complements(sums, 1 / denominator, self.dtype)
            sums = sums.double() if self._exact else sums
            similarity = _complement(sums, 1 / denominator, self.problem.transformed)
            return similarity if similarity.dtype is self.dtype else similarity.to(self.dtype)
        if self._exact:
            sums = sums.double()
        distance = self.metric.finish(sums / denominator)
        return (torch.rsub(distance, 1) if self.similarity else distance).to(self.dtype)

    def _by_kernel(self, sums: Tensor) -> bool:
        """Tell whether to finish sums by a kernel.

        Integers always, so that a similarity doesn't depend on how many there are.
        """
        many = self._exact or sums.numel() >= threads.GRAIN
        return many and type(sums) is Tensor and self._has_kernel

    @once
    def _has_kernel(self) -> bool:
        known = self.dtype in (torch.float32, torch.float64)
        return known and jit.usable(self.problem)

    @property
    def largest(self) -> float | Tensor:
        """The greatest exact sum of integers; under a weight of each template, (N, 1, 1)."""
        assert self.problem.value_range is not None
        return self.total * definition.peak(self.metric, self.problem.value_range)

    def _denominator(self, dtype: torch.dtype) -> float | Tensor:
        denominator = self.total * self.scale * self.metric.unit
        return denominator.to(dtype) if isinstance(denominator, Tensor) else denominator

    def error(self, sums_error: Numbers, magnitude: Numbers) -> Numbers:
        """Bound the map's error, given the sums' error and a bound on the exact sums.

        The division costs at most four roundings (of the weights in the divisor, the divisor, its
        inverse and the product), `finish` and 1 − distance one each, and the conversion to the
        map's dtype one of its own (Coq: ``similarity_converted_error``, ``rmse_error``). Under
        weights the division may cost a quarter of a rounding more (Coq: ``quotient_error``), and
        real ones in float64 are themselves sums of as many roundings as taps.
        """
        working = torch.float64 if self._exact else self.problem.value_dtype
        if self.reduction == "sum":
            if self._exact:
                return 0 * sums_error
            error = sums_error / self.metric.unit
            return converted(error, magnitude / self.metric.unit + error, self.dtype)
        unit, denominator = torch.finfo(working).eps / 2, self._denominator(torch.float64)
        mean, mean_error = magnitude / denominator, sums_error / denominator
        roundings = 4 if self.problem.weighting == "none" else 5
        if self.problem.weighting == "real" and working is torch.float64:
            roundings += self.problem.taps
        mean_error = mean_error + roundings * unit * (mean + mean_error) + torch.finfo(working).tiny
        error = self.metric.modulus(mean_error)
        largest: Numbers = 1 + self.metric.finish(mean) + error
        found: Numbers = error + 2 * unit * largest
        # A mean may overflow of which `finish` would make a number.
        found = where(mean < torch.finfo(working).max, found)
        found = converted(found, largest, self.dtype)
        if self.map_dtype is self.dtype:
            return found
        return converted(found, largest + found, self.map_dtype)


@dataclass(frozen=True)
class Score:
    """Turns a statistic's similarities, `bounded` by −1 and 1 or not, into a map."""

    dtype: torch.dtype
    similarity: bool
    bounded: bool

    @property
    def working(self) -> torch.dtype:
        """The dtype in which kernels write scores: half types are converted to afterwards."""
        return torch.float64 if self.dtype is torch.float64 else torch.float32

    def __call__(self, scores: Tensor) -> Tensor:
        """Finish a tile of similarities."""
        return (scores if self.similarity else 1 - scores).to(self.dtype)

    def error(self, error: Tensor) -> Tensor:
        """Bound the map's error, given the similarities'."""
        found = converted(error, 2 + error, self.dtype)
        return torch.where(error.isfinite(), found.clamp(max=2), found) if self.bounded else found


def converted(error: Numbers, magnitude: Numbers, dtype: torch.dtype) -> Numbers:
    """Add the rounding of numbers of at most that magnitude to `dtype`."""
    info = torch.finfo(dtype)
    return where(magnitude < info.max, error + info.eps / 2 * magnitude + info.tiny)


def _complements(sums: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
    """Return 1 − factor·sums; of integers computed in float64, without keeping them there."""
    result = torch.empty(sums.shape, dtype=dtype)
    given, found = sums.contiguous().view(-1).numpy(), result.view(-1).numpy()
    run = partial(passes.complements(sums.dtype, dtype, RUN), given, factor, found)
    threads.share(run, -(-len(given) // RUN), 10 * len(given))
    return result


def _complement(sums: Tensor, factor: float, transformed: bool) -> Tensor:
    """Return 1 − factor·sums."""
    if transformed or type(sums) is not Tensor or torch.compiler.is_compiling():
        return torch.rsub(sums, 1, alpha=factor)
    # torch takes a microsecond to make a tensor of 1.
    return torch.sub(_one(sums.dtype, sums.device), sums, alpha=factor)


@cache
def _one(dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):
        return torch.ones((), dtype=dtype, device=device)


@lru_cache(maxsize=256)
def unweighted(
    metric: Metric,
    problem: Problem,
    scale: float,
    reduction: Reduction,
    similarity: bool,
    map_dtype: torch.dtype,
) -> Finish:
    """Return what finishes sums without weights, of which much is the same for all calls."""
    return Finish(metric, problem, problem.taps, scale, reduction, similarity, map_dtype)
