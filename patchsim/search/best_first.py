"""Best-first search: greedy suppression over windows of which only bounds are known at first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from patchsim.search.suppression import Array, Suppression, Windows

#: Windows that are measured at first, and looked at in one step.
FEW, CHUNK = 256, 1024


@dataclass(frozen=True)
class Found:
    """A window and its distance."""

    distance: float
    template: int
    row: int
    col: int


def best_first(
    windows: Windows,
    measure: Callable[[Array], Array],
    suppression: Suppression,
    k: int | None,
    most: float,
) -> list[Found]:
    """Find what greedy suppression keeps of all windows that are no further than `most`.

    Parameters
    ----------
    windows : Windows
    measure : callable
        Indices of windows -> their distances, inf for those that can't be matches.
    suppression : Suppression
        Of these windows, some of which may be suppressed from the start; it learns those that are
        kept.
    k : int or None
        How many to keep at most.
    most : float

    Returns
    -------
    list of Found, the nearest first

    Notes
    -----
    The nearest of the measured windows is the next match once no other can be as near: all bounds
    are beyond it. So the result is that of measuring all (Coq: ``pruning_top_k``).
    """
    search = _Search(windows, measure, suppression, most)
    found: list[Found] = []
    while k is None or len(found) < k:
        best = search.next()
        if best is None:
            break
        found.append(best)
    return found


class _Search:
    """Windows of known distance, the nearest first, and of unknown ones, by their bounds."""

    def __init__(
        self,
        windows: Windows,
        measure: Callable[[Array], Array],
        suppression: Suppression,
        most: float,
    ) -> None:
        self.windows, self.measure, self.suppression = windows, measure, suppression
        self.most = most
        self.distances = np.empty(len(windows.lower))
        self.known = np.empty(0, dtype=np.int64)
        self.unknown = np.argsort(windows.lower, kind="stable")

    def next(self) -> Found | None:
        """Return the nearest of the windows that aren't suppressed, which it suppresses."""
        many = FEW
        while True:
            self.known = self._rest(self.known)
            self.unknown = self._rest(self.unknown)
            nearest = self.distances[self.known[0]] if len(self.known) else np.inf
            if not len(self.unknown) or self.windows.lower[self.unknown[0]] > nearest:
                return self._take() if len(self.known) else None
            self._look(many, nearest)
            many *= 8

    def _take(self) -> Found:
        i = self.known[0]
        place = int(self.windows.template[i]), int(self.windows.row[i]), int(self.windows.col[i])
        self.suppression.keep(*place)
        return Found(float(self.distances[i]), *place)

    def _rest(self, ordered: Array) -> Array:
        """Leave out the first windows as long as they are suppressed."""
        for first in range(0, len(ordered), CHUNK):
            free = ~self.suppression.blocked[ordered[first : first + CHUNK]]
            if free.any():
                return ordered[first + int(free.argmax()) :]
        return ordered[:0]

    def _look(self, many: int, nearest: float) -> None:
        """Measure the next windows that may be as near as the nearest."""
        chunk = self.unknown[:many]
        chunk = chunk[self.windows.lower[chunk] <= nearest]
        self.unknown = self.unknown[len(chunk) :]
        # In order of their places: pixels of windows beside one another are read together.
        chunk = np.sort(chunk[~self.suppression.blocked[chunk]])
        self.distances[chunk] = self.measure(chunk)
        near = self.distances[chunk] <= min(self.most, np.finfo(np.float64).max)
        merged = np.sort(np.concatenate([self.known, chunk[near]]))
        self.known = merged[np.argsort(self.distances[merged], kind="stable")]
