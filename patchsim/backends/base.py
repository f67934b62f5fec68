"""How window sums are computed: a backend as a record of functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from patchsim.bounds import Flat
from patchsim.metrics.base import Metric
from patchsim.problem import Problem
from patchsim.sums.box import Array

#: (metric, problem, image, kernel, weight) -> Tensor of shape (B, N, Ho, Wo). The problem has no
#: padding and no overhang: image (B, C, H, W) holds all windows (and perhaps rows and columns after
#: them that none reaches), kernel and weight (when there is one) are (N, C, h, w), all in
#: ``problem.value_dtype``.
WindowFunction = Callable[[Metric, Problem, Tensor, Tensor, Tensor | None], Tensor]

#: image -> the same of it, for templates that it knows.
OfImage = Callable[[Tensor], Tensor]

#: (metric, problem, kernel, weight) -> what computes with these, prepared once for many images.
Bind = Callable[[Metric, Problem, Tensor, Tensor | None], OfImage]


#: Nanoseconds of a step and of an operation.
Rate = tuple[float, float]


@dataclass(frozen=True)
class Work:
    """What a run costs.

    Attributes
    ----------
    operations : int
        Arithmetic operations on elements.
    bytes : int
        Memory beyond input and output.
    steps : int
        Calls from Python into torch, each of which takes microseconds however small its data.
    """

    operations: int
    bytes: int
    steps: int


@dataclass(frozen=True, eq=False)
class Backend:
    """One way to compute window sums.

    Attributes
    ----------
    name : str
    run : WindowFunction
        The window sums Σ weight·d. For integers they are exact, in any dtype that holds them.
    error : WindowFunction
        A bound on |computed − exact| of the sums of floats, in float64, broadcastable to the map.
        Of any part of a problem it is that part of the bound.
    refuse : callable
        (problem, metric) -> reasons why this backend can't compute it; empty when it can.
    work : callable
        (problem, metric) -> Work.
    memory : str
        What the memory beyond input and output grows with, in a few words.
    rates : dict of str to (float, float)
        For each value dtype, nanoseconds of a step and of an operation, as `patchsim calibrate`
        measured them on one machine (2 cores with AVX-512). Plans depend on their ratios only.
    windows : callable, optional
        (problem, metric) -> the number of windows beyond which larger tiles make it slower.
    bind : Bind, optional
        Prepares templates once for many images, each of which it then computes as `run` does.
    parallel : bool
        Whether it is faster to compute several tiles at a time on a CPU, each on one thread.
    approximate : bool
        Whether its error is a property of the method, not only of rounding. The planner doesn't
        choose it.
    differentiable : bool
        Whether it has gradients.
    flat : callable, optional
        (flat window, problems of tiles) -> as `error`, the error of windows like that in images of
        those problems, (N,), where `error` would take long or depends on more than a window.
    engine : callable, optional
        (problem, metric) -> which of its engines computes this, if it has several.
    mixed : callable, optional
        (metric, problem) -> whether images of float32 needn't be converted where sums are taken in
        float64.
    alike : WindowFunction, optional
        What is to be added to `error` for all windows of an image alike, (1, N, 1, 1): that which
        depends on the whole image that `run` is given.
    """

    name: str
    run: WindowFunction
    error: WindowFunction
    refuse: Callable[[Problem, Metric], list[str]]
    work: Callable[[Problem, Metric], Work]
    memory: str
    rates: Mapping[str, Rate]
    windows: Callable[[Problem, Metric], int] | None = None
    bind: Bind | None = None
    parallel: bool = False
    approximate: bool = False
    differentiable: bool = True
    flat: Callable[[Flat, tuple[Problem, ...]], Array] | None = None
    alike: WindowFunction | None = None
    engine: Callable[[Problem, Metric], str] | None = None
    mixed: Callable[[Metric, Problem], bool] | None = None

    def bound(
        self, metric: Metric, problem: Problem, kernel: Tensor, weight: Tensor | None
    ) -> OfImage:
        """Return what sums over windows of images, with templates prepared if it can."""
        if self.bind is not None:
            return self.bind(metric, problem, kernel, weight)
        return bound_to(self.run, metric, problem, kernel, weight)

    def flat_error(
        self, window: Flat, parts: tuple[Problem, ...], kernel: Tensor, weight: Tensor | None
    ) -> Array:
        """Bound the error of sums of such windows in images of those problems, (N,)."""
        if self.flat is not None:
            return self.flat(window, parts)
        problem = window.problem
        kernel = kernel.detach().to(problem.value_dtype)
        colour = torch.from_numpy(window.pixels + window.middle).to(kernel)
        image = colour[:, None, None].expand(1, -1, *problem.extent)
        weight = None if weight is None else weight.to(problem.value_dtype)
        error = self.whole_error(window.metric, problem, image, kernel, weight)
        found: Array = error.expand(1, problem.templates, 1, 1).flatten().cpu().numpy()
        return found

    def whole_error(
        self, metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
    ) -> Tensor:
        """Bound the sums' error in one go: `error`, and what is `alike`."""
        error = self.error(metric, problem, image, kernel, weight)
        if self.alike is None:
            return error
        return error + self.alike(metric, problem, image, kernel, weight)


def bound_to(
    function: WindowFunction,
    metric: Metric,
    problem: Problem,
    kernel: Tensor,
    weight: Tensor | None,
) -> OfImage:
    """Return a window function of images alone, that prepares nothing."""

    def of_image(image: Tensor) -> Tensor:
        return function(metric, problem, image, kernel, weight)

    return of_image
