"""All windows of one image as a search sees them: bounds for all, distances of few."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from patchsim.call import Call
from patchsim.search import lower_bounds, pruning
from patchsim.search.best_first import Found, best_first
from patchsim.search.direct import Direct
from patchsim.search.lower_bounds import LowerBounds
from patchsim.search.suppression import Array, Suppression, Windows, joined

#: How many likely matches are measured at least if those measured first aren't near.
MORE = 200


@dataclass(frozen=True)
class Way:
    """A way to bound the windows of a call.

    Attributes
    ----------
    bound : callable
    share : float
        Of the time of a map: if measuring the windows that are left takes less, it isn't worth it.
    near : bool
        Whether distances are known up to errors of rounding, so that mostly the window that seems
        nearest is.
    """

    bound: Callable[[Call], list[LowerBounds]]
    share: float = 0.0
    near: bool = False


@dataclass
class Group:
    """Templates of one size, and bounds of their windows.

    Attributes
    ----------
    call : Call
    members : list of int
        Which of all templates these are.
    directs : list of Direct
    bounds : list of LowerBounds
    ways : list of Way
        That in which they are bounded, and further ones, each of which leaves fewer.
    alone : bool
        Whether only one match is wanted. Then windows that repeat others before them in their row
        needn't be looked at.
    """

    call: Call
    members: list[int]
    directs: list[Direct]
    bounds: list[LowerBounds]
    ways: list[Way]
    alone: bool
    _places: tuple[float, list[tuple[Array, Array]]] | None = None
    _many: tuple[float, bool] | None = None

    def leaves_many(self, limit: float) -> bool:
        """Tell whether to measure what its bounds leave takes longer than to sharpen them."""
        if self._many is None or self._many[0] != limit:
            self._many = limit, self._leaves_many(limit)
        return self._many[1]

    def _leaves_many(self, limit: float) -> bool:
        most = pruning.affordable(self.call, self.ways[1].share)
        if sum(bounds.uncertain(limit, most) for bounds in self.bounds) <= most:
            return False
        return not self.alone or sum(len(row) for row, _ in self.places(limit)) > most

    def places(self, limit: float) -> list[tuple[Array, Array]]:
        """List the rows and columns of windows of each template that may be that near."""
        if self._places is None or self._places[0] != limit:
            # Which windows repeat others doesn't depend on the template.
            spared = self.directs[0].repeats if self.alone else None
            self._places = limit, [bounds.within(limit, spared) for bounds in self.bounds]
        return self._places[1]

    def sharpen(self) -> None:
        """Bound in the next way."""
        # The others make room first.
        self.ways, self.bounds, self._places, self._many = self.ways[1:], [], None, None
        self.bounds = self.ways[0].bound(self.call)


def group(call: Call, members: list[int], alone: bool) -> Group:
    """Bound the windows of some templates, in the way that is likely to be faster."""
    ways, directs = _ways(call, alone), [Direct(call, n) for n in range(len(members))]
    return Group(call, members, directs, ways[0].bound(call), ways, alone)


def _ways(call: Call, alone: bool) -> list[Way]:
    """List ways to bound its windows, the one that is likely to be faster first."""
    blocks, maps = Way(pruning.of_blocks), Way(lower_bounds.of_maps, 1.0, near=True)
    promising = pruning.possible(call) and pruning.promising(call, alone)
    return [*[blocks] * promising, maps]


class Survey:
    """Searches one image for k matches of templates of any sizes, or for all."""

    def __init__(self, calls: list[tuple[Call, list[int]]], k: int | None) -> None:
        self.groups, self.k = [group(*call, k == 1) for call in calls], k
        each = {n: direct for n, direct, _ in self._each()}
        self.directs = [each[n] for n in sorted(each)]

    def matches(self, most: float, max_overlap: float, room: int) -> list[Found] | None:
        """Find the nearest windows, no further than `most`, by greedy suppression.

        Of at most so many windows as there is room for; None if there are more.
        """
        found: list[Found] = []
        for limit in self._limits(most, max_overlap):
            if many := self._many(limit):
                for own in many:
                    own.sharpen()
                return self.matches(most, max_overlap, room)
            if self.crowded(limit, room):
                return None
            windows = self._windows(limit)
            if self.k == 1 and len(windows) == 1 and limit < most:
                # It is the one that is known to be as near.
                only = windows.template[0], windows.row[0], windows.col[0]
                return [Found(limit, *map(int, only))]
            measure = self._measure(windows, limit)
            suppression = self._suppression(windows, max_overlap)
            found = best_first(windows, measure, suppression, self.k, limit)
            if len(found) == self.k:
                break
        return found

    def likely(self, count: int) -> Windows:
        """Measure so many windows of all templates that have the least bounds, one in each cell."""
        each = list(self._each())
        least = [bounds.least_of_cells() for *_, bounds in each]
        limit = math.inf
        if sum(own.size for own in least) > count:
            every = np.concatenate([own.ravel() for own in least])
            limit = float(np.partition(every, count - 1)[count - 1])
        parts = []
        for (n, _, bounds), own in zip(each, least, strict=True):
            if (few := min(count, int((own <= limit).sum()))) == 0:
                continue
            row, col = bounds.likely_cells.least(few)
            parts.append(Windows(np.full(len(row), n), row, col, np.zeros(len(row))))
        windows = joined(parts)
        distances = self._measure(windows, math.inf)(np.arange(len(windows)))
        return dataclasses.replace(windows, lower=distances)

    def near(self, limit: float, room: int | None) -> Windows | None:
        """List the windows that may be that near; None if there is no room for so many."""
        while many := self._many(limit):
            for own in many:
                own.sharpen()
        if room is not None and self.crowded(limit, room):
            return None
        return self._windows(limit)

    def measured(self, windows: Windows, limit: float) -> Windows:
        """Measure windows, and keep those that are no further than a limit."""
        distances = self._measure(windows, limit)(np.arange(len(windows)))
        there = distances <= min(limit, np.finfo(np.float64).max)
        return dataclasses.replace(windows, lower=distances)[there]

    def crowded(self, limit: float, room: int) -> bool:
        """Tell whether more windows may be that near than there is room for."""
        count = 0
        for own in self.groups:
            for bounds in own.bounds:
                count += bounds.count(limit, room)
            if count > room and own.alone:
                count = sum(len(row) for row, _ in own.places(limit))
        return count > room

    def _many(self, limit: float) -> list[Group]:
        """List the groups of which that limit leaves many windows, and that know sharper bounds."""
        return [own for own in self.groups if len(own.ways) > 1 and own.leaves_many(limit)]

    def _each(self) -> Iterator[tuple[int, Direct, LowerBounds]]:
        for own in self.groups:
            yield from zip(own.members, own.directs, own.bounds, strict=True)

    def _limits(self, most: float, max_overlap: float) -> Iterator[float]:
        """Yield distances within which k matches are likely, larger and larger, `most` at last."""
        if self.k:
            number, few = self.k, 4 * self.k + 8
            if number == 1 and all(own.ways[0].near for own in self.groups):
                few = 1
            seeds = self._seeds(few, max_overlap)
            if number <= len(seeds) and few < MORE and self._many(seeds[number - 1]):
                seeds = self._seeds(MORE, max_overlap)
            while number <= len(seeds):
                if seeds[number - 1] < most:
                    yield seeds[number - 1]
                number *= 2
        yield most

    def _seeds(self, count: int, max_overlap: float) -> list[float]:
        """Return the distances of likely matches, the nearest first."""
        known = self.likely(count)
        if self.k == 1:  # the nearest of all is a match
            return sorted(known.lower[np.isfinite(known.lower)])[:1]
        suppression = self._suppression(known, max_overlap)
        found = best_first(known, known.lower.__getitem__, suppression, None, math.inf)
        return [own.distance for own in found]

    def _windows(self, limit: float) -> Windows:
        """List the windows whose bounds allow that distance; see `Group.places`."""
        parts = []
        for own in self.groups:
            found = zip(own.members, own.bounds, own.places(limit), strict=True)
            for n, bounds, (row, col) in found:
                lower = bounds(bounds.values[row, col])
                parts.append(Windows(np.full(len(row), n), row, col, lower))
        return parts[0] if len(parts) == 1 else joined(parts)  # a single one is in order

    def _measure(self, windows: Windows, limit: float) -> Callable[[Array], Array]:
        def measure(indices: Array) -> Array:
            distances = np.empty(len(indices))
            template = windows.template[indices]
            for n, direct, _ in self._each():
                mine = np.flatnonzero(template == n)
                if len(mine):
                    places = windows.row[indices[mine]], windows.col[indices[mine]]
                    y, x = (at * step for at, step in zip(places, direct.stride, strict=True))
                    distances[mine] = direct.distances(y, x, limit)
            return distances

        return measure

    def _suppression(self, windows: Windows, max_overlap: float) -> Suppression:
        sizes = np.array([direct.size for direct in self.directs])
        return Suppression(windows, sizes, self.directs[0].stride, max_overlap)
