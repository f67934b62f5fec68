"""Greedy non-maximum suppression over windows of templates of any sizes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from patchsim.problem import Pair

#: An array of any numbers.
Array = np.ndarray[Any, np.dtype[Any]]


class Suppression:
    """Remembers which windows overlap a kept one by more than `max_overlap`.

    Parameters
    ----------
    shapes : list of pair of int
        Size of each template's map of windows.
    sizes : list of pair of int
        Size of each template, in pixels.
    stride : pair of int
    max_overlap : float
        Of areas: intersection over union.
    """

    def __init__(
        self, shapes: list[Pair], sizes: list[Pair], stride: Pair, max_overlap: float
    ) -> None:
        self.sizes, self.stride, self.max_overlap = sizes, stride, max_overlap
        self.maps = [np.zeros(shape, dtype=bool) for shape in shapes]

    def keep(self, template: int, row: int, col: int) -> None:
        """Keep a window: those that overlap it too much, itself included, are no matches."""
        for size, blocked in zip(self.sizes, self.maps, strict=True):
            mask, above, before = overlapping(
                self.sizes[template], size, self.stride, self.max_overlap
            )
            top, left = row - above, col - before
            first, start = max(0, -top), max(0, -left)
            region = blocked[top + first : top + mask.shape[0], left + start : left + mask.shape[1]]
            region |= mask[
                first : first + region.shape[0],
                start : start + region.shape[1],
            ]
        self.maps[template][row, col] = True

    def blocks(self, template: Array, row: Array, col: Array) -> Array:
        """Tell which windows are suppressed, or kept already."""
        result = np.empty(len(row), dtype=bool)
        for n, blocked in enumerate(self.maps):
            mine = slice(None) if len(self.maps) == 1 else template == n
            result[mine] = blocked[row[mine], col[mine]]
        return result


@lru_cache(maxsize=4096)
def overlapping(kept: Pair, size: Pair, stride: Pair, max_overlap: float) -> tuple[Array, int, int]:
    """Tell which windows of one size overlap a kept one of another by more than `max_overlap`.

    Returns a mask over the windows around the kept one, and how many rows above and columns before
    it the mask begins.
    """
    sides, before = [], []
    for own, other, step in zip(kept, size, stride, strict=True):
        # Windows from `first` to `last` steps after the kept one share pixels with it.
        first, last = -((other - 1) // step), (own - 1) // step
        offsets = np.arange(first, last + 1) * step
        sides.append(np.minimum(own, offsets + other) - np.maximum(0, offsets))
        before.append(-first)
    intersection = sides[0][:, None] * sides[1]
    union = kept[0] * kept[1] + size[0] * size[1] - intersection
    return intersection / union > max_overlap, before[0], before[1]
