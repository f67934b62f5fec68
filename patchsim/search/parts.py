"""A search in parts, each of some templates and some rows of an image, so that memory is bounded.

Of each part the windows are measured that are near enough, and all these are kept. What greedy
suppression takes of the windows up to a distance depends on no others (Coq: ``pruning_top_k``): so
the result is that of the whole. Where there is no room for all, the nearest are searched first, and
then the rest for what these leave.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from patchsim.call import Call
from patchsim.metrics import AnyMetric, Statistic
from patchsim.problem import Pair, Problem
from patchsim.search.best_first import Found, best_first
from patchsim.search.suppression import Array, Suppression, Windows, joined
from patchsim.search.survey import Survey
from patchsim.tiling import PREPARED

#: Bytes that a window takes that may be a match: where it is, how far, and their orders.
CANDIDATE = 100
#: Rows of pixels that a part has at least, in heights of templates: the next part needs those of
#: one again.
FEWEST = 4


@dataclass(frozen=True)
class Part:
    """Windows of some templates of a size, in rows of their map from first to last.

    `problem` is that of the part alone.
    """

    members: tuple[int, ...]
    first: int
    last: int
    problem: Problem
    metric: AnyMetric

    def cut(self, memory: int, *, dense: bool = False) -> Iterator[Part]:
        """Cut it into parts that are held in so much memory, see `held`."""
        templates, rows = self.problem.templates, self.last - self.first
        down, height = self.problem.stride[0], self.problem.kernel_size[0]
        while (templates, rows) != (1, 1):
            if held(self._problem(templates, rows), self.metric, dense=dense) <= memory:
                break
            if rows > 1 and (templates == 1 or rows * down >= 2 * FEWEST * height):
                rows = (rows + 1) // 2
            else:
                templates = (templates + 1) // 2
        for top in range(self.first, self.last, rows):
            bottom = min(top + rows, self.last)
            for n in range(0, len(self.members), templates):
                some = self.members[n : n + templates]
                part = self._problem(len(some), bottom - top)
                yield Part(some, top, bottom, part, self.metric)

    def _problem(self, templates: int, rows: int) -> Problem:
        (height, width), (down, _) = self.problem.image_size, self.problem.stride
        height = min(height, (rows - 1) * down + self.problem.kernel_size[0])
        return dataclasses.replace(self.problem, templates=templates, image_size=(height, width))


#: Makes a call of some templates, in rows of their map from first to last.
Make = Callable[[Sequence[int], int, int], Call]


def held(problem: Problem, metric: AnyMetric, *, dense: bool = False) -> int:
    """Estimate the bytes that a search holds beside those of the maps' computation.

    Bounds of all windows, and the image, if it is converted or prepared; and all windows that may
    be matches, where they are `dense`.
    """
    size = 8 if problem.value_dtype.itemsize == 8 else 4
    each = size * (2 if isinstance(metric, Statistic) else 1) + 3
    each += CANDIDATE * dense
    pixels = math.prod(problem.image_size)
    own = PREPARED if metric.prepare else 0
    if problem.value_range is None:  # copied in a row, and its channels added
        own += problem.value_dtype.itemsize + 8 // problem.channels
    windows = problem.templates * math.prod(problem.map_size)
    return each * windows + own * pixels * problem.channels


@dataclass
class Search:
    """One search.

    Attributes
    ----------
    make : Make
    groups : list of Part
        All templates, those of a size together, and all rows of their maps.
    sizes : array of int, shape (templates, 2)
        Heights and widths.
    stride : pair of int
    k : int or None
    most, max_overlap : float
        See `Survey.matches`.
    memory : int
        Bytes to stay within.
    """

    make: Make
    groups: list[Part]
    sizes: Array
    stride: Pair
    k: int | None
    most: float
    max_overlap: float
    memory: int
    found: list[Found] = field(default_factory=list)

    def matches(self) -> list[Found]:
        """Find the nearest windows by greedy suppression."""
        complete = False
        while not complete and len(self.found) != self.k:
            slab = _Slab(self)
            slab.collect()
            self.found += slab.picks()
            complete = slab.complete
        return self.found

    @property
    def wanted(self) -> int | None:
        """How many more matches are."""
        return None if self.k is None else self.k - len(self.found)

    @property
    def room(self) -> int:
        """How many windows there is room for."""
        return max(1024, self.memory // 4 // CANDIDATE)

    def survey(self, part: Part) -> Survey:
        """Bound the windows of a part."""
        call = self.make(part.members, part.first, part.last)
        call = dataclasses.replace(call, memory=self.memory // 2)
        return Survey([(call.ready(), list(part.members))], self.k)

    def free(self, windows: Windows) -> Windows:
        """Leave out those that a match suppresses already."""
        suppression = self.suppression(windows)
        reach = int(self.sizes[:, 0].max()) // self.stride[0] + 1
        rows = (windows.row[0] - reach, windows.row[-1] + reach) if len(windows) else (0, 0)
        for own in self.found:
            if rows[0] <= own.row <= rows[1]:
                suppression.keep(own.template, own.row, own.col)
        return windows[~suppression.blocked]

    def suppression(self, windows: Windows) -> Suppression:
        """Begin with nothing suppressed."""
        return Suppression(windows, self.sizes, self.stride, self.max_overlap)

    def greedy(self, windows: Windows, count: int | None, most: float) -> list[Found]:
        """Take the nearest of measured windows, one after the other."""
        measure = windows.lower.__getitem__
        return best_first(windows, measure, self.suppression(windows), count, most)


_NOWHERE = np.empty(0, np.int64)
_NONE = Windows(_NOWHERE, _NOWHERE, _NOWHERE, np.empty(0))


class _Slab:
    """The nearest windows of all that no match suppresses yet, as many as there is room for."""

    def __init__(self, search: Search) -> None:
        self.search, self.pool, self.seeds = search, _NONE, _NONE
        # All windows up to there are in the pool: in the order of distance, row, column, template.
        self.limit: tuple[float, ...] = (search.most, math.inf, math.inf, math.inf)

    @property
    def complete(self) -> bool:
        """Whether no windows are left out but those that are too far."""
        return self.limit[0] >= self.search.most and self.limit[1] == math.inf

    def collect(self) -> None:
        """Look through all parts; again at those in which too many windows seemed near at first."""
        search, crowded = self.search, []
        for whole in search.groups:
            for part in whole.cut(search.memory // 4):
                if not self._visit(part, sparse=True):
                    crowded.append(part)
        for whole in crowded:
            for part in whole.cut(search.memory // 4, dense=True):
                self._visit(part, sparse=False)

    def picks(self) -> list[Found]:
        """Return the matches among them."""
        return self.search.greedy(self.pool, self.search.wanted, self.limit[0])

    def _visit(self, part: Part, *, sparse: bool) -> bool:
        """Measure what is near in a part, or tell that there is too much."""
        survey = self.search.survey(part)
        if sparse and self.search.wanted:
            self._approach(survey, part)
        near = survey.near(self.limit[0], self.search.room if sparse else None)
        if near is None:
            return False
        near = self.search.free(_moved(near, part.first))
        self._add(_moved(survey.measured(_moved(near, -part.first), self.limit[0]), part.first))
        return True

    def _approach(self, survey: Survey, part: Part) -> None:
        """Learn from likely matches how far as many as are wanted can be."""
        wanted = self.search.wanted
        assert wanted
        seeds = self.search.free(_moved(survey.likely(4 * wanted + 8), part.first))
        seeds = joined([self.seeds, seeds[np.isfinite(seeds.lower)]])
        # Twice as many, as better ones may suppress some; but the nearest of all is a match.
        number = 1 if self.search.k == 1 else 2 * wanted
        found = self.search.greedy(seeds, number, math.inf)
        if len(found) == number:
            self._lower((found[-1].distance, math.inf, math.inf, math.inf))
            seeds = seeds[seeds.lower <= found[-1].distance]
        self.seeds = seeds

    def _add(self, windows: Windows) -> None:
        self.pool = joined([self.pool, windows])
        self._lower(self.limit)
        if len(self.pool) > self.search.room:
            own = self.pool
            order = np.lexsort((own.template, own.col, own.row, own.lower))
            last = own[order[self.search.room // 2 - 1 : self.search.room // 2]]
            key = (last.lower[0], last.row[0], last.col[0], last.template[0])
            self._lower(tuple(map(float, key)))

    def _lower(self, limit: tuple[float, ...]) -> None:
        """Leave out what is further than a limit."""
        self.limit = min(self.limit, limit)
        distance, *place = self.limit
        own = self.pool
        before, same = own.lower < distance, own.lower == distance
        for values, last in zip((own.row, own.col, own.template), place, strict=True):
            before |= same & (values < last)
            same &= values == last
        if not (before | same).all():
            self.pool = own[before | same]


def _moved(windows: Windows, rows: int) -> Windows:
    return dataclasses.replace(windows, row=windows.row + rows)
