"""Where between pixels a template is nearest: the bottom of parabolas through distances."""

from __future__ import annotations

import dataclasses

import numpy as np

from patchsim.search.direct import Direct
from patchsim.search.matches import Match


def refine(match: Match, direct: Direct, top: int = 0) -> Match:
    """Move a match to where its distance is least between pixels, at most half a pixel away.

    Parameters
    ----------
    match : Match
        At whole pixels.
    direct : Direct
        Measures windows for its template.
    top : int
        The row of pixels in which what it measures begins.

    Returns
    -------
    Match
        Its place refined on each axis by the parabola through three distances; its score stays
        that of the window at whole pixels. An axis on which a neighbour is missing, or nearer,
        stays.
    """
    height, width = direct.image.shape[2:]
    y, x = int(match.y) - top, int(match.x)
    down = _bottom(direct, [y - 1, y, y + 1], [x] * 3, y > 0 and y + match.height < height)
    across = _bottom(direct, [y] * 3, [x - 1, x, x + 1], x > 0 and x + match.width < width)
    return dataclasses.replace(match, y=top + y + down, x=x + across)


def _bottom(direct: Direct, rows: list[int], cols: list[int], inside: bool) -> float:
    """Return where the parabola through three distances is lowest, from the middle one."""
    if not inside:
        return 0.0
    before, here, after = direct.distances(np.array(rows), np.array(cols))
    # From the middle one, so that no rounding moves the bottom by more than half a pixel.
    left, right = before - here, after - here
    if not (left >= 0 and right >= 0 and 0 < left + right < np.inf):
        return 0.0
    return float((left - right) / (2 * (left + right)))
