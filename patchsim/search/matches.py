"""What a search returns: matches, as a table, dicts, an array or boxes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np


@dataclass(frozen=True)
class Match:
    """A window that resembles a template.

    Attributes
    ----------
    score : float
        Its similarity, 1 for a perfect match.
    y, x : int, or float if refined
        Its top row and left column in the image, in pixels.
    height, width : int
        Its size in pixels.
    template : int
        Which of the templates it resembles.
    scale, angle : float
        How the template was scaled, and turned counter-clockwise in degrees.
    batch : int
        In which image of a batch it is.
    upright : (int, int) or None
        Height and width of the scaled template before it was turned, where they aren't the box's.
    """

    score: float
    y: float
    x: float
    height: int
    width: int
    template: int = 0
    scale: float = 1.0
    angle: float = 0.0
    batch: int = 0
    upright: tuple[int, int] | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of its box (x, y), which is the template's, too, however it is turned."""
        return self.x + self.width / 2, self.y + self.height / 2

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """Where the template's corners are: (x, y) of its top left one and on, clockwise.

        They are those of its own rectangle, turned; the box holds them.
        """
        (x, y), (height, width) = self.centre, self.upright or (self.height, self.width)
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        right, down = (width / 2 * cos, -width / 2 * sin), (height / 2 * sin, height / 2 * cos)
        signs = (-1, -1), (1, -1), (1, 1), (-1, 1)
        return tuple(
            (x + a * right[0] + b * down[0], y + a * right[1] + b * down[1]) for a, b in signs
        )

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Its corners (x1, y1, x2, y2); x2 and y2 are the first column and row beyond it."""
        return self.x, self.y, self.x + self.width, self.y + self.height


@dataclass(frozen=True)
class Skipped:
    """A template that was left out of a search, as no window can hold it.

    Attributes
    ----------
    template : int
        Which of the templates.
    scale, angle : float
        How it would have been scaled, and turned counter-clockwise in degrees.
    size : (int, int)
        The height and width that it would have had, in pixels.
    reason : str
        Why: it is larger than the image, or nothing of it is left.
    """

    template: int
    scale: float
    angle: float
    size: tuple[int, int]
    reason: str


#: Columns of an array of matches.
_DTYPE = np.dtype(
    [(name, "f8") for name in ("score", "y", "x")]
    + [(name, "i8") for name in ("height", "width", "template")]
    + [(name, "f8") for name in ("scale", "angle")]
    + [("batch", "i8")]
)
_NAMES = _DTYPE.names or ()
#: Columns of a table: those after the first five are left out where all matches have the default.
_COLUMNS = {
    "score": "{:.4f}",
    "x": "{:.6g}",
    "y": "{:.6g}",
    "width": "{}",
    "height": "{}",
    "template": "{}",
    "scale": "{:g}",
    "angle": "{:g}",
    "batch": "{}",
}


class Matches(Sequence[Match]):
    """Matches, best first; prints as a table.

    Attributes
    ----------
    skipped : tuple of Skipped
        Templates, scaled and turned, that were left out of the search. Slices keep it; it doesn't
        count when matches are compared.

    Examples
    --------
    >>> matches = Matches([Match(1.0, 20, 7, 10, 12), Match(0.75, 3, 40, 10, 12)])
    >>> print(matches)
     score  x  y width height
    1.0000  7 20    12     10
    0.7500 40  3    12     10
    >>> matches.boxes()
    array([[ 7., 20., 19., 30.],
           [40.,  3., 52., 13.]])
    """

    def __init__(self, matches: Iterable[Match] = (), skipped: Iterable[Skipped] = ()) -> None:
        self._matches, self.skipped = tuple(matches), tuple(skipped)

    def __len__(self) -> int:
        return len(self._matches)

    @overload
    def __getitem__(self, index: int) -> Match: ...

    @overload
    def __getitem__(self, index: slice) -> Matches: ...

    def __getitem__(self, index: int | slice) -> Match | Matches:
        if isinstance(index, slice):
            return Matches(self._matches[index], self.skipped)
        return self._matches[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Matches) and self._matches == other._matches

    def __hash__(self) -> int:
        return hash(self._matches)

    def __repr__(self) -> str:
        return f"Matches({list(self._matches)!r})"

    def __str__(self) -> str:
        if not self._matches:
            return "no match"
        cells = [[name, *self._cells(name, form)] for name, form in _COLUMNS.items()]
        columns = [own for i, own in enumerate(cells) if i < 5 or self._varies(own[0])]
        widths = [max(map(len, own)) for own in columns]
        rows = zip(*columns, strict=True)
        return "\n".join(
            " ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in rows
        )

    def _cells(self, name: str, form: str) -> list[str]:
        return [form.format(getattr(match, name)) for match in self._matches]

    def _varies(self, name: str) -> bool:
        """Tell whether any match has another value than the default."""
        return any(getattr(match, name) != getattr(Match, name) for match in self._matches)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return each match as a dict of its attributes."""
        return [{name: getattr(match, name) for name in _NAMES} for match in self._matches]

    def to_numpy(self) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        """Return a structured array, whose fields are a match's attributes."""
        rows = [tuple(getattr(match, name) for name in _NAMES) for match in self._matches]
        return np.array(rows, dtype=_DTYPE)

    def boxes(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """Return corners, (matches, 4), each row (x1, y1, x2, y2), as torchvision has them."""
        return np.array([match.box for match in self._matches], dtype=np.float64).reshape(-1, 4)
