"""Greedy non-maximum suppression over windows of templates of any sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from patchsim.problem import Pair

#: An array of any numbers.
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Windows:
    """Windows in which to search, in the order in which equally near ones are reported.

    That is by row, column and template.

    Attributes
    ----------
    template, row, col : array of int, shape (M,)
        Which template, and where in its map.
    lower : array of float64, shape (M,)
        How far each is at least.
    """

    template: Array
    row: Array
    col: Array
    lower: Array

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, which: Any) -> Windows:
        """Take some of them."""
        return Windows(self.template[which], self.row[which], self.col[which], self.lower[which])


def joined(parts: list[Windows]) -> Windows:
    """Join lists of windows, and order them by row, column and template."""
    template, row, col, lower = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("template", "row", "col", "lower")
    )
    order = np.lexsort((template, col, row))
    return Windows(template[order], row[order], col[order], lower[order])


class Suppression:
    """Remembers which windows overlap a kept one by more than `max_overlap`.

    Parameters
    ----------
    windows : Windows
    sizes : array of int, shape (templates, 2)
        Height and width of each template, in pixels.
    stride : pair of int
    max_overlap : float
        Of areas: intersection over union.
    """

    def __init__(self, windows: Windows, sizes: Array, stride: Pair, max_overlap: float) -> None:
        self.windows, self.sizes, self.stride = windows, sizes, stride
        self.max_overlap = max_overlap
        self.blocked = np.zeros(len(windows), dtype=bool)

    def keep(self, template: int, row: int, col: int) -> None:
        """Keep a window: those that overlap it too much, itself included, are no matches."""
        own, (down, across) = self.windows, self.stride
        (height, width), (tallest, widest) = self.sizes[template], self.sizes.max(0)
        y, x = row * down, col * across
        rows = (y - tallest) // down + 1, -(-(y + height) // down)
        first, last = np.searchsorted(own.row, rows)
        cols = own.col[first:last]
        beside = (cols * across > x - widest) & (cols * across < x + width)
        near = first + np.flatnonzero(beside)
        tops, lefts, kinds = own.row[near] * down, own.col[near] * across, own.template[near]
        high, wide = self.sizes[kinds].T
        shared = np.maximum(np.minimum(y + height, tops + high) - np.maximum(y, tops), 0)
        shared *= np.maximum(np.minimum(x + width, lefts + wide) - np.maximum(x, lefts), 0)
        overlap = shared / (height * width + high * wide - shared)
        itself = (tops == y) & (lefts == x) & (kinds == template)
        self.blocked[near[(overlap > self.max_overlap) | itself]] = True
