"""A map seen through the minima of its cells: few of them need be looked into."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from patchsim import threads
from patchsim.kernels import passes
from patchsim.problem import Pair, Problem

Array = np.ndarray[Any, np.dtype[Any]]

#: Least height and width of a cell, and how many values are many.
LEAST, EXPECTED = (16, 32), 4096

#: The first places up to a limit -> which needn't be listed, (Ho, Wo), or None.
Spared = Callable[[Array], Array | None]


def size_of(problem: Problem) -> Pair:
    """Choose cells as large as a template, in which there is one match at most, or larger."""
    steps = zip(problem.kernel_size, problem.stride, LEAST, strict=True)
    high, wide = (max(least, size // step) for size, step, least in steps)
    return high, wide


class Cells:
    """The cells of a map of floats, in which NaN counts as inf.

    Parameters
    ----------
    values : array, shape (Ho, Wo)
    size : pair of int
        How high and wide a cell is. The last ones may be smaller.
    """

    def __init__(self, values: Array, size: Pair) -> None:
        self.values, self.size = values, size
        shape = tuple(-(-length // step) for length, step in zip(values.shape, size, strict=True))
        self.minima = np.empty(shape, values.dtype)
        run = partial(passes.minima(values.dtype.name), values, size, self.minima)
        threads.share(run, shape[0], 20 * values.size)

    def count(self, limit: float, most: int | None = None) -> int:
        """Count the values up to a limit, or tell that they are more than `most`."""
        most = self.values.size if most is None else most
        return self._list(limit, self._none, most, np.empty(0, np.int64))

    def below(self, limit: float, spared: Spared | None = None) -> Array:
        """Return the places of the values up to a limit, in the flat map and in order.

        Without those that are spared.
        """
        places = np.empty(EXPECTED, np.int64)
        count = self._list(limit, self._none, EXPECTED, places)
        places = places[:count]
        mask = spared(places) if spared else None
        if count <= EXPECTED:
            return places if mask is None else places[~mask.ravel()[places]]
        # Room for more than there are likely to be: another pass takes longer.
        mask, places = self._none if mask is None else mask, np.empty(16 * EXPECTED, np.int64)
        count = self._list(limit, mask, self.values.size, places)
        if count > len(places):
            places = np.empty(count, np.int64)
            self._list(limit, mask, count, places)
        return places[:count]

    def least(self, count: int) -> tuple[Array, Array]:
        """Return the rows and columns of the least values of the cells with the least."""
        some = min(count, self.minima.size)
        cells = np.argpartition(self.minima, some - 1, axis=None)[:some]
        cells = cells[np.isfinite(self.minima.flat[cells])]
        places = [self._least_of(*divmod(int(cell), self.minima.shape[1])) for cell in cells]
        row, col = np.array(places, dtype=np.int64).reshape(-1, 2).T
        return row, col

    def _least_of(self, i: int, j: int) -> Pair:
        (high, wide), least = self.size, self.minima[i, j]
        cell = self.values[i * high : (i + 1) * high, j * wide : (j + 1) * wide]
        y, x = divmod(int((cell == least).argmax()), cell.shape[1])
        return i * high + y, j * wide + x

    @property
    def _none(self) -> Array:
        """What leaves out nothing."""
        return np.zeros((1, self.values.shape[1]), bool)

    def _list(self, limit: float, spared: Array, most: int, places: Array) -> int:
        count = np.zeros(1, np.int64)
        given = self.values, self.size, self.minima, self.values.dtype.type(limit), spared
        passes.below(self.values.dtype.name)(*given, most, places, count)
        return int(count[0])
