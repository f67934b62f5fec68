"""unfold: all windows of a tile side by side in memory, compared at once."""

from __future__ import annotations

import torch
from torch import Tensor

from patchsim import bounds, pointwise
from patchsim.backends.base import Backend, Work
from patchsim.metrics.base import Metric
from patchsim.problem import Problem


def run(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Compare all windows with one template after the other."""
    dtype = pointwise.sum_dtype(problem, metric)
    (rows, cols), (sy, sx), (dy, dx) = problem.extent, problem.stride, problem.dilation
    windows = image.to(dtype).unfold(2, rows, sy)[..., ::dy].unfold(3, cols, sx)[..., ::dx]
    # Taps before positions: sums then run along rows of the map, which vectorises.
    windows = windows.permute(0, 1, 4, 5, 2, 3).contiguous()  # (B, C, h, w, Ho, Wo)
    sums = []
    for n in range(problem.templates):
        differences = metric.pointwise(windows, kernel[n, :, :, :, None, None].to(dtype))
        if weight is not None:
            differences = differences * weight[n, :, :, :, None, None].to(dtype)
        sums.append(differences.sum((1, 2, 3)))
    return torch.stack(sums, 1)


def work(problem: Problem, metric: Metric) -> Work:
    """Count the operations; the windows, their differences and distances are in memory at once."""
    rows, cols = problem.map_size
    windows = problem.batch * rows * cols * problem.taps
    itemsize = pointwise.sum_dtype(problem, metric).itemsize
    copies = 3 + 2 * problem.grad * problem.templates + (problem.weighting != "none")
    image = problem.batch * problem.channels * problem.image_size[0] * problem.image_size[1]
    return Work(
        operations=pointwise.operations(problem, metric),
        bytes=(copies * windows + image) * itemsize,
        steps=10 + 5 * problem.templates,
    )


UNFOLD = Backend(
    name="unfold",
    run=run,
    error=bounds.direct,
    refuse=pointwise.never,
    work=work,
    memory="windows of a tile",
    cost=(20_000, 0.6),
    # Past 64 MiB the allocator asks the system for fresh pages at every tile, which takes 4 times
    # as long as the arithmetic (512x512 image, 16x16 template).
    tile_bytes=2**26,
)
