"""shift: one tap of the template at a time over the whole map."""

from __future__ import annotations

from itertools import product

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
    """Add d(shifted image, tap) to the map, tap after tap."""
    dtype = pointwise.sum_dtype(problem, metric)
    (rows, cols), (sy, sx), (dy, dx) = problem.map_size, problem.stride, problem.dilation
    channels = image.to(dtype)[:, None].unbind(2)  # C times (B, 1, H, W)
    taps = _taps(kernel.to(dtype))
    weights = None if weight is None else _taps(weight.to(dtype))
    height, width = problem.kernel_size
    d = definition.function(metric, dtype)
    sums = torch.zeros(
        (problem.batch, problem.templates, rows, cols), dtype=dtype, device=image.device
    )
    for t, (c, i, j) in enumerate(product(range(problem.channels), range(height), range(width))):
        y, x = i * dy, j * dx
        shifted = channels[c][
            ..., y : y + sy * (rows - 1) + 1 : sy, x : x + sx * (cols - 1) + 1 : sx
        ]
        differences = d(shifted, taps[t])  # (B, N, Ho, Wo)
        sums += differences if weights is None else differences * weights[t]
    return sums


def _taps(kernel: Tensor) -> tuple[Tensor, ...]:
    """Split (N, C, h, w) into C·h·w tensors of shape (N, 1, 1)."""
    return kernel.flatten(1).T[..., None, None].unbind(0)


def work(problem: Problem, metric: Metric) -> Work:
    """Count the operations; a few maps are in memory, or all taps' when a gradient needs them."""
    rows, cols = problem.map_size
    maps = problem.batch * problem.templates * rows * cols
    itemsize = pointwise.sum_dtype(problem, metric).itemsize
    copies = 6 + (2 + (problem.weighting != "none")) * problem.grad * problem.taps
    image = problem.batch * problem.channels * problem.image_size[0] * problem.image_size[1]
    return Work(
        operations=pointwise.operations(problem, metric),
        bytes=(copies * maps + image) * itemsize,
        steps=10 + 3 * problem.taps,
    )


SHIFT = Backend(
    name="shift",
    run=run,
    error=bounds.direct,
    refuse=pointwise.refuse,
    work=work,
    memory="a few maps",
    rates={
        "float32": (2000, 0.045),
        "float64": (1900, 0.094),
        "uint8": (1900, 0.097),
        "int16": (1900, 0.093),
    },
)
