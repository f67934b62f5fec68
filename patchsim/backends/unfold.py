"""unfold: all windows of a tile side by side in memory, compared at once."""

from __future__ import annotations

import torch
from torch import Tensor

from patchsim import bounds
from patchsim.backends.base import Backend, Work
from patchsim.kernels import definition
from patchsim.metrics.base import Metric
from patchsim.problem import Problem
from patchsim.sums import pointwise


def run(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Compare all windows of one channel with one template after the other."""
    dtype = pointwise.sum_dtype(problem, metric)
    image, kernel = image.to(dtype), kernel.to(dtype)
    (rows, cols), (sy, sx), (dy, dx) = problem.extent, problem.stride, problem.dilation
    d = definition.function(metric, dtype)
    sums: Tensor | None = None
    for c in range(problem.channels):
        windows = image[:, c].unfold(1, rows, sy)[..., ::dy].unfold(2, cols, sx)[..., ::dx]
        # Taps before positions: sums then run along rows of the map, which vectorises.
        windows = windows.permute(0, 3, 4, 1, 2).contiguous()  # (B, h, w, Ho, Wo)
        parts = []
        for n in range(problem.templates):
            differences = d(windows, kernel[n, c, :, :, None, None])
            if weight is not None:
                differences = differences * weight[n, c, :, :, None, None].to(dtype)
            parts.append(differences.sum((1, 2)))
        channel = torch.stack(parts, 1)  # (B, N, Ho, Wo)
        sums = channel if sums is None else sums + channel
    assert sums is not None
    return sums


def work(problem: Problem, metric: Metric) -> Work:
    """Count the operations; a channel's windows, differences and distances are in memory at once.

    A gradient needs those of all channels and templates.
    """
    rows, cols = problem.map_size
    windows = problem.batch * rows * cols
    weighted = problem.weighting != "none"
    held = (3 + weighted) * problem.kernel_size[0] * problem.kernel_size[1]
    if problem.grad:
        held += (1 + (2 + weighted) * problem.templates) * problem.taps
    maps = 3 * problem.templates
    image = problem.batch * problem.channels * problem.image_size[0] * problem.image_size[1]
    itemsize = pointwise.sum_dtype(problem, metric).itemsize
    return Work(
        operations=pointwise.operations(problem, metric),
        bytes=((held + maps) * windows + image) * itemsize,
        steps=10 + problem.channels * (5 + 5 * problem.templates),
    )


UNFOLD = Backend(
    name="unfold",
    run=run,
    error=bounds.direct,
    refuse=pointwise.refuse,
    work=work,
    memory="windows of a tile",
    rates={
        "float32": (1400, 0.062),
        "float64": (1400, 0.12),
        "uint8": (1400, 0.12),
        "int16": (1500, 0.12),
    },
    # Beyond, a channel's windows no longer fit a core's cache and the allocator fetches fresh pages
    # for each: it takes twice as long (512x512 image, 16x16 template).
    windows=lambda problem, metric: 2**18 // (problem.kernel_size[0] * problem.kernel_size[1]),
)
