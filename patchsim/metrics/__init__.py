"""The metrics: every module of this folder that defines ``METRIC``."""

from __future__ import annotations

import importlib
import pkgutil

from patchsim.metrics.base import Metric, Term

__all__ = ["METRICS", "Metric", "Term"]


def _load() -> dict[str, Metric]:
    modules = (
        importlib.import_module(f"{__name__}.{info.name}")
        for info in pkgutil.iter_modules(__path__)
    )
    metrics = [module.METRIC for module in modules if hasattr(module, "METRIC")]
    return {metric.name: metric for metric in metrics}


#: Every metric by name.
METRICS: dict[str, Metric] = _load()
