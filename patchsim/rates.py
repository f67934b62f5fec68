"""How fast each backend is here: as ``patchsim calibrate`` measured it, else by default."""

from __future__ import annotations

import datetime
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from patchsim import options, tiling
from patchsim.backends import BACKENDS, Backend
from patchsim.backends.base import Rate
from patchsim.metrics import METRICS, Metric
from patchsim.problem import Problem, name_of

#: Sides of image and template, with three channels: all overhead, and all arithmetic.
SMALL, LARGE = (24, 4), (384, 24)
#: Spent on measuring one of them.
SECONDS = 0.2
DTYPES = (torch.float32, torch.float64, torch.uint8, torch.int16)


def rate(backend: Backend, dtype: torch.dtype) -> Rate:
    """Return nanoseconds of a step and of an operation on values of a dtype."""
    measured = _measured(rates_path(), torch.get_num_threads())
    return measured.get(backend.name, {}).get(name_of(dtype)) or backend.rates[name_of(dtype)]


def seconds(backend: Backend, problem: Problem, metric: Metric) -> float:
    """Predict the time of a call: steps and operations, each at its measured rate."""
    steps, operations = _work(backend, problem, metric)
    step, operation = rate(backend, problem.value_dtype)
    return (steps * step + operations * operation) * 1e-9


def _work(backend: Backend, problem: Problem, metric: Metric) -> tuple[int, int]:
    work = backend.work(problem, metric)
    tiles = tiling.count(backend, metric, problem, options.max_memory)
    return work.steps * tiles, work.operations


def rates_path() -> Path:
    """Return the file that `calibrate` writes, in the user's cache directory."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "patchsim" / "rates.json"


@lru_cache(maxsize=8)
def _measured(path: Path, threads: int) -> dict[str, dict[str, Rate]]:
    """Read the measured rates; none where there are none, or those of another machine."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["machine"] != machine():
            return {}
        return {
            backend: {
                dtype: (float(step), float(operation)) for dtype, (step, operation) in of.items()
            }
            for backend, of in found["rates"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def machine() -> dict[str, Any]:
    """Describe what rates depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration, IndexError):
        processor = platform.processor() or platform.machine()
    return {
        "processor": processor,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def calibrate(progress: Callable[[list[Any]], Iterable[Any]] = iter) -> Path:
    """Measure every backend for every dtype, about 20 seconds, and write `rates_path`.

    `progress` wraps the list of what is to be measured, as ``tqdm.tqdm`` does.
    """
    rates: dict[str, dict[str, Rate]] = {name: {} for name in BACKENDS}
    jobs = [(b, d) for b in BACKENDS.values() for d in DTYPES if not b.approximate]
    for backend, dtype in progress(jobs):
        rates[backend.name][name_of(dtype)] = measure(backend, dtype)
    path = rates_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"machine": machine(), "date": datetime.date.today().isoformat(), "rates": rates}
    # Whoever reads meanwhile finds the old file or the new one, whole.
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)
    _measured.cache_clear()
    return path


def measure(backend: Backend, dtype: torch.dtype) -> Rate:
    """Solve for the time of a step and of an operation, given the times of two calls."""
    metric = METRICS["l2"].summed
    works, times = [], []
    for side, taps in (SMALL, LARGE):
        problem = Problem(1, 3, (side, side), 1, (taps, taps), dtype=dtype)
        works.append(_work(backend, problem, metric))
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
        tiling.run(backend.run, torch.clone, backend, metric, problem, (image, kernel, None))
        return time.perf_counter() - start

    call()
    times = [call()]
    while sum(times) < SECONDS:
        times.append(call())
    return min(times)
