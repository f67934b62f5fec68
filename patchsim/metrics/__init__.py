"""The metrics: every module of this folder that defines ``METRIC``."""

from __future__ import annotations

import importlib
import pkgutil

from patchsim.metrics.base import Expansion, Metric, Statistic, Term

__all__ = ["METRICS", "AnyMetric", "Expansion", "Metric", "Statistic", "Term", "register"]

AnyMetric = Metric | Statistic


def _load() -> dict[str, AnyMetric]:
    modules = (
        importlib.import_module(f"{__name__}.{info.name}")
        for info in pkgutil.iter_modules(__path__)
    )
    metrics = [module.METRIC for module in modules if hasattr(module, "METRIC")]
    return {metric.name: metric for metric in metrics}


#: Every metric by name.
METRICS: dict[str, AnyMetric] = _load()


def register(metric: AnyMetric) -> AnyMetric:
    """Make a metric known by its name.

    Parameters
    ----------
    metric : Metric or Statistic

    Returns
    -------
    The metric itself.

    Raises
    ------
    ValueError
        If another metric has that name.
    """
    if METRICS.get(metric.name, metric) is not metric:
        raise ValueError(f"there is a metric {metric.name!r} already; choose another name")
    METRICS[metric.name] = metric
    return metric
