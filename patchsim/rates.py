"""How fast each backend is here: as ``patchsim calibrate`` measured it, else by default."""

from __future__ import annotations

import json
import os
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from patchsim.backends.base import Backend, Rate, Work
from patchsim.problem import name_of


def rate(backend: Backend, dtype: torch.dtype) -> Rate:
    """Return nanoseconds of a step and of an operation on values of a dtype."""
    here = measured(rates_path(), torch.get_num_threads())
    return here.get(backend.name, {}).get(name_of(dtype)) or backend.rates[name_of(dtype)]


def seconds(backend: Backend, work: Work, dtype: torch.dtype) -> float:
    """Predict the time of steps and operations, each at its measured rate."""
    step, operation = rate(backend, dtype)
    return (work.steps * step + work.operations * operation) * 1e-9


def rates_path() -> Path:
    """Return the file that `calibrate` writes, in the user's cache directory."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "patchsim" / "rates.json"


@lru_cache(maxsize=8)
def measured(path: Path, threads: int) -> dict[str, dict[str, Rate]]:
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
