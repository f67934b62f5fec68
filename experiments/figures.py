"""The style that all figures share: width, type, colours, and names at the ends of lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

#: Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY, BLACK, GREY = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C"),
)
#: Colours of the peers, the same in every figure.
PEERS = {
    "l1 known answer": ORANGE,
    "l1 torch.cdist": AMBER,
    "F.conv2d alone": GREY,
    "l2 OpenCV": PURPLE,
    "zncc scikit-image": SKY,
    "l2 SciPy": "#A05000",
}
#: Figures are 8 inches wide, so that a README of 800 pixels shows 9 points as 12.5 pixels.
WIDTH, DPI = 8.0, 150
STYLE = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "axes.titlelocation": "left",
    "image.cmap": "viridis",
    "image.interpolation": "nearest",
}


def figure(rows: int = 1, columns: int = 1, height: float = 3.6, **options: Any) -> Any:
    """Return a figure of the shared width and style, and its axes."""
    matplotlib.rcParams.update(STYLE)
    drawing = Figure(figsize=(WIDTH, height), layout="constrained")
    return drawing, drawing.subplots(rows, columns, **options)


def label_lines(axes: Axes, lines: Sequence[tuple[Any, Any, str, str]], gap: float = 11) -> None:
    """Write each line's name at its right end, (x, y, name, colour), moved apart where they meet.

    gap is the least distance between names, in points.
    """
    axes.figure.canvas.draw()
    to_points = 72 / axes.figure.dpi
    ends = [(*axes.transData.transform((x, y)) * to_points, x, y, t, c) for x, y, t, c in lines]
    ends.sort(key=lambda end: end[1])
    heights = _spread([end[1] for end in ends], gap)
    for (_, there, x, y, text, colour), height in zip(ends, heights, strict=True):
        axes.annotate(
            text,
            (x, y),
            xytext=(6, height - there),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=9,
            annotation_clip=False,
        )


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move sorted numbers apart to at least a gap, and no group from its centre."""
    groups = [[height, 1] for height in heights]  # centre and size
    merged: list[list[float]] = []
    for group in groups:
        merged.append(group)
        while len(merged) > 1 and (
            merged[-1][0] - merged[-2][0] < gap * (merged[-1][1] + merged[-2][1]) / 2
        ):
            centre, size = merged.pop()
            before, count = merged.pop()
            merged.append([(centre * size + before * count) / (size + count), size + count])
    return [c + gap * (i - (size - 1) / 2) for c, size in merged for i in range(int(size))]


def few_ticks() -> MaxNLocator:
    """Return a locator of at most four ticks, for small axes."""
    return MaxNLocator(3)


def heat_table(
    axes: Axes,
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    log: bool = False,
    form: str = ".2g",
    colours: str = "viridis_r",
) -> None:
    """Draw a table of numbers, coloured by size; NaN leaves a cell empty."""
    values = np.asarray(values, dtype=float)
    norm = (LogNorm if log else Normalize)(np.nanmin(values), np.nanmax(values))
    picture = axes.imshow(values, norm=norm, cmap=colours, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = (
                "white" if np.dot(picture.to_rgba(value)[:3], (0.3, 0.6, 0.1)) < 0.5 else "black"
            )
            axes.text(j, i, f"{value:{form}}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
