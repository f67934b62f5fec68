"""Compiles every kernel ahead, so that no later call has to wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from patchsim.api import find, similarity
from patchsim.arguments import read
from patchsim.backends import BACKENDS
from patchsim.calibration import DTYPES
from patchsim.kernels.phases import STRIDES
from patchsim.metrics import METRICS, AnyMetric
from patchsim.problem import INTEGER_RANGES, Problem
from patchsim.search import pruning
from patchsim.sums.equal_pixels import flat_windows, repeating
from patchsim.sums.quads import FURTHEST

#: The least template that is transformed tile by tile, however the image is cut into bands.
IMAGE, TEMPLATE = (8, 8), (4, 4)
#: Of so many taps that the processor's instructions for integers pay, also at a stride; and of as
#: many columns as they take at a time, and half as many more, but one.
LARGE_IMAGE, LARGE_TEMPLATE = (256, 256), (28, 27)
#: So large that it pays to spread out pixels whose windows lie as far apart as they may.
LARGEST_TEMPLATE = (80, 80)


def warmup(progress: Callable[[list[Any]], Iterable[Any]] = iter) -> None:
    """Make small calls that need every kernel, two or three minutes when none is on the disk yet.

    `progress` wraps the list of calls, as ``tqdm.tqdm`` does.
    """
    metrics = [m for m in METRICS.values() if m.name != "hsv"]  # whose kernels are those of l2
    calls = product(metrics, ("fused", "conv2d", "fft"), DTYPES, (False, True))
    for metric, backend, dtype, weighted in progress(list(calls)):
        if BACKENDS[backend].refuse(Problem(1, 1, IMAGE, 1, TEMPLATE, dtype=dtype), metric.summed):
            continue
        image, kernel = (torch.ones(1, *size).to(dtype) for size in (IMAGE, TEMPLATE))
        weight = torch.ones(TEMPLATE) if weighted else None
        score = partial(similarity, metric=metric, weight=weight, data_range=1, backend=backend)
        for stride in (1, *STRIDES, 7):
            score(image, kernel, stride=stride)
            if backend == "fused" and dtype.is_floating_point:  # others' gradients are torch's
                scores = score(image.requires_grad_(), kernel.requires_grad_(), stride=stride)
                scores.sum().backward()  # type: ignore[no-untyped-call]
                image, kernel = image.detach(), kernel.detach()
        _search(image, kernel, metric, weight, backend)
        if backend == "fused" and dtype in INTEGER_RANGES and not weighted:
            _use_instructions(metric, dtype)
    for dtype in DTYPES:  # of which large images are looked through, and finished, by kernels
        image, kernel = (torch.ones(1, *size).to(dtype) for size in (LARGE_IMAGE, TEMPLATE))
        for backend in ("auto", "fft"):
            similarity(image, kernel, "l2", data_range=1, backend=backend)


def _use_instructions(metric: AnyMetric, dtype: torch.dtype) -> None:
    """Slide over an image so large that the processor's instructions for integers pay."""
    sizes = LARGE_IMAGE, LARGE_TEMPLATE, LARGEST_TEMPLATE
    image, kernel, larger = (torch.ones(1, *size).to(dtype) for size in sizes)
    fused = partial(similarity, image, metric=metric, data_range=1, backend="fused")
    for stride in (1, (2, 1), 2):
        fused(kernel, stride=stride)
    for across in range(2, FURTHEST + 1):
        fused(larger, stride=(1, across))


def _search(
    image: Tensor, kernel: Tensor, metric: AnyMetric, weight: Tensor | None, backend: str
) -> None:
    """Search, and bound windows in each way that searches may choose."""
    find(image, kernel, metric, weight=weight, data_range=1, backend=backend)
    call = read(
        image[None], kernel[None], metric, (1, 0, 1), weight, 1, backend, bounds_only=True
    ).ready()
    if pruning.possible(call):
        pruning.of_blocks(call)
    for equal in (flat_windows, repeating):
        equal(call.image, call.problem.kernel_size, (1, 1))
