"""Compiles every kernel ahead, so that no later call has to wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import torch
from torch import Tensor

from patchsim import lower_bounds, pruning
from patchsim.api import similarity
from patchsim.backends import BACKENDS
from patchsim.calibration import DTYPES
from patchsim.call import read
from patchsim.equal_pixels import flat_windows, repeating
from patchsim.metrics import METRICS, AnyMetric
from patchsim.phases import STRIDES
from patchsim.problem import Problem
from patchsim.search import find


def warmup(progress: Callable[[list[Any]], Iterable[Any]] = iter) -> None:
    """Make small calls that need every kernel, a minute or two when none is on the disk yet.

    `progress` wraps the list of calls, as ``tqdm.tqdm`` does.
    """
    metrics = [m for m in METRICS.values() if m.name != "hsv"]  # whose kernels are those of l2
    calls = product(metrics, ("fused", "conv2d", "fft"), DTYPES, (False, True))
    for metric, backend, dtype, weighted in progress(list(calls)):
        if BACKENDS[backend].refuse(Problem(1, 1, (4, 4), 1, (2, 2), dtype=dtype), metric.summed):
            continue
        floating = dtype.is_floating_point
        image = torch.ones(1, 4, 4).to(dtype).requires_grad_(floating)
        kernel = torch.ones(1, 2, 2).to(dtype).requires_grad_(floating)
        weight = torch.ones(2, 2) if weighted else None
        for stride in (1, *STRIDES, 3):
            scores = similarity(
                image,
                kernel,
                metric,
                stride=stride,
                weight=weight,
                data_range=1,
                backend=backend,
            )
            if floating:
                scores.sum().backward()  # type: ignore[no-untyped-call]
                with torch.no_grad():
                    similarity(image, kernel, metric, stride=stride, backend=backend)
        _search(image.detach(), kernel.detach(), metric, weight, backend)


def _search(
    image: Tensor, kernel: Tensor, metric: AnyMetric, weight: Tensor | None, backend: str
) -> None:
    """Search, and bound windows in each way that searches may choose."""
    find(image, kernel, metric, weight=weight, data_range=1, backend=backend)
    call = read(image[None], kernel[None], metric, (1, 0, 1), weight, 1, backend).ready()
    if pruning.possible(call):
        pruning.of_blocks(call)
    if lower_bounds.sharpens(call):
        lower_bounds.sharper(call)
    for equal in (flat_windows, repeating):
        equal(call.image, call.problem.kernel_size, (1, 1))
