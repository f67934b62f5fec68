"""Weights: how much each pixel of a template counts, a mask being the 0/1 case."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from patchsim.ambient import plain
from patchsim.backends.base import Backend, Bind, OfImage
from patchsim.backends.conv2d import CONV2D
from patchsim.bounds import finite
from patchsim.metrics.base import Metric
from patchsim.metrics.product import PRODUCT, SQUARE
from patchsim.problem import Problem, Weighting, check_dense


def read_weight(weight: Tensor, kernel: Tensor) -> tuple[Tensor, Weighting]:
    """Check a weight and expand it to the kernel's shape.

    Parameters
    ----------
    weight : Tensor, shape (h, w), (C, h, w), (N, h, w) or (N, C, h, w)
        Sizes of 1 stand for any number of channels or templates. Three sizes are read as
        (C, h, w) where that fits.
    kernel : Tensor, shape (N, C, h, w)

    Returns
    -------
    Tensor, shape (N, C, h, w)
        In float64. A constant, whether or not the given one requires a gradient.
    "mask" or "real"
        Whether all weights are 0 or 1.
    """
    weight = plain("weight", weight)
    if not isinstance(weight, Tensor):
        raise TypeError(f"`weight` must be a torch.Tensor, got {type(weight).__qualname__}")
    check_dense("weight", weight)
    if weight.is_complex():
        raise TypeError(f"`weight` must be real, got {weight.dtype}")
    if weight.device != kernel.device:
        raise ValueError(
            f"`weight` is on {weight.device} and `kernel` is on {kernel.device}; "
            "move one with .to()"
        )
    expanded = _expand(weight.detach().double(), kernel)
    lowest, highest = (float(bound) for bound in expanded.aminmax())
    if not (lowest >= 0 and highest < float("inf")):
        raise ValueError(
            "`weight` must be finite and non-negative, got values from "
            f"{lowest} to {highest}; mask unwanted pixels with 0"
        )
    if not bool((expanded.sum((1, 2, 3)) > 0).all()):
        raise ValueError("`weight` is zero everywhere for at least one template")
    is_mask = bool(((expanded == 0) | (expanded == 1)).all())
    return expanded, "mask" if is_mask else "real"


def _expand(weight: Tensor, kernel: Tensor) -> Tensor:
    templates, channels, height, width = kernel.shape
    shape = tuple(weight.shape)
    if len(shape) == 3 and shape[0] == templates and shape[0] not in (1, channels):
        weight = weight[:, None]
    try:
        if len(shape) not in (2, 3, 4):
            raise RuntimeError
        return weight.expand(kernel.shape)
    except RuntimeError:
        raise ValueError(
            f"`weight` has shape {shape}; for this kernel it must be ({height}, {width}), "
            f"({channels}, {height}, {width}) or ({templates}, {channels}, {height}, {width})"
        ) from None


def total_weight(weight: Tensor) -> Tensor:
    """Sum each template's weights: (N, C, h, w) -> (N, 1, 1), in float64."""
    return weight.sum((1, 2, 3), dtype=torch.float64)[:, None, None]


def without_uncounted(kernel: Tensor, weight: Tensor) -> Tensor:
    """Replace floats of templates that don't count by the mean of those of the channel that do.

    Whatever they are, sums are then centred on what counts, and don't cancel.
    """
    counts = weight > 0
    own = torch.where(counts, kernel.detach().double(), 0).sum((2, 3), keepdim=True)
    mean = (own / counts.sum((2, 3), keepdim=True)).nan_to_num(0, 0, 0)
    return torch.where(counts, kernel, mean.to(kernel.dtype))


def sparing(bind: Bind) -> Bind:
    """Let NaN and inf in images of floats spoil only the windows in which their weight isn't 0."""

    def bind_sparing(
        metric: Metric, problem: Problem, kernel: Tensor, weight: Tensor | None
    ) -> OfImage:
        assert weight is not None
        function = bind(metric, problem, kernel, weight)

        def of_image(image: Tensor) -> Tensor:
            unread = problem.transformed or torch.compiler.is_compiling()
            if not unread and finite(image):
                return function(image)
            maps = function(torch.where(image.isfinite(), image, 0))
            # There may be several maps of each template: see `patchsim.moments`.
            holes = spoiled(problem, image, weight)
            return maps.masked_fill(
                holes.repeat(1, maps.shape[1] // holes.shape[1], 1, 1), torch.nan
            )

        return of_image

    return bind_sparing


def spoiled(problem: Problem, image: Tensor, weight: Tensor) -> Tensor:
    """Tell which windows hold a NaN or inf that counts: (B, N, Ho, Wo)."""
    counted, holes = (x.detach().to(torch.float32) for x in (weight > 0, ~image.isfinite()))
    number = torch.nn.functional.conv2d(
        holes, counted, stride=problem.stride, dilation=problem.dilation
    )
    return number > 0


def weighted_moments(
    backend: Backend, problem: Problem, image: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Return Σw·p of each channel, (B, N or 1, C, Ho, Wo), and Σw·p² of all: correlations, too.

    In float64. Templates of the same weights have them in common.
    """
    if (weights == weights[:1]).all():
        weights = weights[:1]
    part = dataclasses.replace(problem, templates=len(weights))
    one = dataclasses.replace(part, channels=1)
    pp = _sum(backend, SQUARE, part, image, torch.zeros_like(weights), weights)
    ones = torch.ones_like(weights[:, :1])
    channels = [
        _sum(backend, PRODUCT, one, image[:, c : c + 1], ones, weights[:, c : c + 1])
        for c in range(problem.channels)
    ]
    return torch.stack(channels, 2), pp


def _sum(
    backend: Backend,
    metric: Metric,
    problem: Problem,
    image: Tensor,
    kernel: Tensor,
    weight: Tensor,
) -> Tensor:
    """Sum by the backend, or by conv2d where that can't."""
    able = CONV2D if backend.refuse(problem, metric) else backend
    kernel = kernel.to(problem.value_dtype)
    return able.run(metric, problem, image, kernel, weight.to(kernel.dtype)).double()
