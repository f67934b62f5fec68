"""Measures how fast each backend is here, for `patchsim.rates`."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from patchsim import options, rates, tiling
from patchsim.backends import BACKENDS, Backend
from patchsim.backends.base import Rate
from patchsim.metrics import METRICS, Metric
from patchsim.problem import Problem, name_of

#: Sides of image and template, with three channels: all overhead, and all arithmetic.
SMALL, LARGE = (24, 4), (384, 24)
#: Spent on measuring one of them.
SECONDS = 0.2
DTYPES = (torch.float32, torch.float64, torch.uint8, torch.int16)


def calibrate(progress: Callable[[list[Any]], Iterable[Any]] = iter) -> Path:
    """Measure every backend for every dtype, about 20 seconds, and write `rates_path`.

    `progress` wraps the list of what is to be measured, as ``tqdm.tqdm`` does.
    """
    measured: dict[str, dict[str, Rate]] = {name: {} for name in BACKENDS}
    jobs = [(b, d) for b in BACKENDS.values() for d in DTYPES if not b.approximate]
    for backend, dtype in progress(jobs):
        measured[backend.name][name_of(dtype)] = measure(backend, dtype)
    path = rates.rates_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    today = datetime.date.today().isoformat()
    found = {"machine": rates.machine(), "date": today, "rates": measured}
    # Whoever reads meanwhile finds the old file or the new one, whole.
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)
    rates.measured.cache_clear()
    return path


def measure(backend: Backend, dtype: torch.dtype) -> Rate:
    """Solve for the time of a step and of an operation, given the times of two calls."""
    metric = METRICS["l2"].summed
    works, times = [], []
    for side, taps in (SMALL, LARGE):
        problem = Problem(1, 3, (side, side), 1, (taps, taps), dtype=dtype)
        work = tiling.work(backend, metric, problem, options.max_memory)
        works.append((work.steps, work.operations))
        times.append(1e9 * _time(backend, problem, metric))
    step, operation = np.linalg.solve(np.array(works, dtype=float), np.array(times))
    if step <= 0 or operation <= 0:  # noise: take each call for what dominates it
        step, operation = times[0] / works[0][0], times[1] / works[1][1]
    return float(step), float(operation)


def _time(backend: Backend, problem: Problem, metric: Metric) -> float:
    """Return the least time of several calls, the least disturbed, after one that may compile."""
    generator = torch.Generator().manual_seed(0)
    shapes = (1, 3, *problem.image_size), (1, 3, *problem.kernel_size)
    image, kernel = (
        (255 * torch.rand(shape, generator=generator)).to(problem.dtype) for shape in shapes
    )

    def call() -> float:
        start = time.perf_counter()
        steps = tiling.Steps(None, backend.bound, torch.clone, problem.value_dtype)
        given = metric, problem, kernel, None
        tiling.Tiles(steps, backend, *given, options.max_memory)(image)
        return time.perf_counter() - start

    call()
    times = [call()]
    while sum(times) < SECONDS:
        times.append(call())
    return min(times)
