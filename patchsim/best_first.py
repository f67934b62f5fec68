"""Best-first search: greedy suppression over windows of which only bounds are known at first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from patchsim.suppression import Suppression

Array = np.ndarray[Any, np.dtype[Any]]

#: Windows that are scored at first, and looked at in one step.
FEW, CHUNK = 64, 1024


@dataclass(frozen=True)
class Windows:
    """Windows in which to search, in the order in which equal scores are reported.

    Attributes
    ----------
    template, row, col : array of int, shape (M,)
        Which template, and where in its map.
    upper : array of float64, shape (M,)
        What the score is at most.
    """

    template: Array
    row: Array
    col: Array
    upper: Array


@dataclass(frozen=True)
class Found:
    """A window and its score."""

    score: float
    template: int
    row: int
    col: int


def best_first(
    windows: Windows,
    score: Callable[[Array], Array],
    suppression: Suppression,
    k: int | None,
    least: float,
) -> list[Found]:
    """Find what greedy suppression keeps of all windows that score at least `least`.

    Parameters
    ----------
    windows : Windows
    score : callable
        Indices of windows -> their scores, −inf for those that can't be matches.
    suppression : Suppression
        Which windows are suppressed from the start; it learns those that are kept.
    k : int or None
        How many to keep at most.
    least : float

    Returns
    -------
    list of Found, by score

    Notes
    -----
    The window with the best score among those scored is the next match once no other can be better:
    no bound is, or is equal. So the result is that of scoring all (Coq: ``pruning_top_k``).
    """
    search = _Search(windows, score, suppression, least)
    found: list[Found] = []
    while k is None or len(found) < k:
        best = search.next()
        if best is None:
            break
        found.append(best)
    return found


class _Search:
    """Windows whose score is known, best first, and those whose isn't, by their bounds."""

    def __init__(
        self,
        windows: Windows,
        score: Callable[[Array], Array],
        suppression: Suppression,
        least: float,
    ) -> None:
        self.windows, self.score, self.suppression = windows, score, suppression
        self.least = least
        self.scores = np.empty(len(windows.upper))
        self.known = np.empty(0, dtype=np.int64)
        self.unknown = np.argsort(-windows.upper, kind="stable")

    def next(self) -> Found | None:
        """Return the best of the windows that aren't suppressed, which it suppresses."""
        many = FEW
        while True:
            self.known = self._rest(self.known)
            self.unknown = self._rest(self.unknown)
            best = self.scores[self.known[0]] if len(self.known) else -np.inf
            if not len(self.unknown) or self.windows.upper[self.unknown[0]] < best:
                return self._take() if len(self.known) else None
            self._look(many, best)
            many *= 2

    def _take(self) -> Found:
        i = self.known[0]
        place = int(self.windows.template[i]), int(self.windows.row[i]), int(self.windows.col[i])
        self.suppression.keep(*place)
        return Found(float(self.scores[i]), *place)

    def _rest(self, ordered: Array) -> Array:
        """Leave out the first windows as long as they are suppressed."""
        for first in range(0, len(ordered), CHUNK):
            free = ~self._blocked(ordered[first : first + CHUNK])
            if free.any():
                return ordered[first + int(free.argmax()) :]
        return ordered[:0]

    def _blocked(self, indices: Array) -> Array:
        own = self.windows
        return self.suppression.blocks(own.template[indices], own.row[indices], own.col[indices])

    def _look(self, many: int, best: float) -> None:
        """Score the next windows that may be as good as the best."""
        chunk = self.unknown[:many]
        chunk = chunk[self.windows.upper[chunk] >= best]
        self.unknown = self.unknown[len(chunk) :]
        chunk = chunk[~self._blocked(chunk)]
        self.scores[chunk] = self.score(chunk)
        chunk = chunk[self.scores[chunk] >= self.least]
        merged = np.sort(np.concatenate([self.known, chunk[np.isfinite(self.scores[chunk])]]))
        self.known = merged[np.argsort(-self.scores[merged], kind="stable")]
