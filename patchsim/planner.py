"""Which backend to use: those that can first, the cheapest of them second."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from patchsim import options, rates, tiling
from patchsim.backends import BACKENDS, Backend
from patchsim.metrics.base import Metric
from patchsim.problem import Problem


@dataclass(frozen=True)
class Plan:
    """What ``backend="auto"`` runs and why.

    Attributes
    ----------
    backend : str
        The cheapest eligible backend.
    seconds : dict of str to float
        Predicted time of every eligible backend.
    engines : dict of str to str
        Which of their engines those would use that have several.
    reasons : dict of str to list of str
        Why the others can't.

    Examples
    --------
    >>> from patchsim import plan
    >>> import torch
    >>> print(str(plan(torch.zeros(1, 400, 400).byte(), torch.zeros(1, 20, 20).byte()))[:11])
    fused (sad)
    """

    backend: str
    seconds: dict[str, float]
    engines: dict[str, str]
    reasons: dict[str, list[str]]

    def __str__(self) -> str:
        lines = []
        for name, seconds in sorted(self.seconds.items(), key=lambda item: item[1]):
            engine = f" ({self.engines[name]})" if name in self.engines else ""
            chosen = " <- chosen" if name == self.backend else ""
            lines.append(f"{name + engine:20}{seconds * 1e3:12.3f} ms{chosen}")
        lines += [f"{name:20}refused: {'; '.join(why)}" for name, why in self.reasons.items()]
        return "\n".join(lines)


def make_plan(problem: Problem, metric: Metric) -> Plan:
    """Predict the time of every backend that can compute the metric on this problem."""
    return _plan(problem, metric, options.max_memory)


def forget() -> None:
    """Forget plans, as there are other backends now."""
    _plan.cache_clear()


@lru_cache(maxsize=512)
def _plan(problem: Problem, metric: Metric, max_memory: int) -> Plan:
    reasons = {name: _refusals(backend, metric, problem) for name, backend in BACKENDS.items()}
    seconds = {
        name: _seconds(BACKENDS[name], problem, metric, max_memory)
        for name, why in reasons.items()
        if not why
    }
    if not seconds:
        why = "; ".join(f"{name}: {', '.join(reasons[name])}" for name in reasons)
        raise ValueError(f"no backend can compute {metric.name!r} here: {why}")
    return Plan(
        backend=min(seconds, key=seconds.__getitem__),
        seconds=seconds,
        engines={
            name: engine(problem, metric)
            for name in seconds
            if (engine := BACKENDS[name].engine) is not None
        },
        reasons={name: why for name, why in reasons.items() if why},
    )


def _refusals(backend: Backend, metric: Metric, problem: Problem) -> list[str]:
    if backend.approximate:  # whatever memory it takes, which not all know at once
        return backend.refuse(problem, metric) or ["it is approximate: name it to use it"]
    return tiling.refusals(backend, metric, problem)


def _seconds(backend: Backend, problem: Problem, metric: Metric, max_memory: int) -> float:
    work = tiling.work(backend, metric, problem, max_memory)
    return rates.seconds(backend, work, problem.value_dtype)
