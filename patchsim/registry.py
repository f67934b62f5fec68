"""Makes metrics and backends of one's own known by their names."""

from __future__ import annotations

from typing import TypeVar

from patchsim import metrics, planner
from patchsim.backends import BACKENDS, Backend
from patchsim.metrics import Metric, Statistic

Own = TypeVar("Own", Metric, Statistic, Backend)


def register(own: Own) -> Own:
    """Make a metric or a backend known by its name, and its variants by theirs.

    Parameters
    ----------
    own : Metric, Statistic or Backend
        A backend is from then on one of those among which "auto" chooses, by its `work` and
        `rates`, unless it is `approximate`.

    Returns
    -------
    Metric, Statistic or Backend
        The same.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If another one has that name, or the name is no identifier.
    """
    if not isinstance(own, Metric | Statistic | Backend):
        raise TypeError(f"register takes a Metric, a Statistic or a Backend, got {own!r}")
    if not own.name.isidentifier() or own.name == "auto":
        raise ValueError(f"a name must be an identifier other than 'auto', got {own.name!r}")
    if not isinstance(own, Backend):
        metrics.register(own)
    elif BACKENDS.setdefault(own.name, own) is not own:
        raise ValueError(f"there is a backend {own.name!r} already; choose another name")
    else:
        planner.forget()
    return own
