"""Pictures of matches, maps and templates. Needs matplotlib (``pip install 'patchsim[cli]'``)."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from patchsim.process import check_target, write_whole
from patchsim.search.bank import Entry
from patchsim.search.matches import Match

_DPI = 100
_COLOUR = "lime"


def draw_matches(image: Tensor, matches: Sequence[Match], ax: Axes | None = None) -> Axes:
    """Draw an image with a box and a score for each match.

    Parameters
    ----------
    image : Tensor, shape (C, H, W)
        One channel is drawn in grey, three as RGB.
    matches : sequence of Match
    ax : Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    Axes
    """
    ax = _axes(ax)
    _show(ax, image)
    for match in reversed(matches):  # the best on top
        corner = match.x - 0.5, match.y - 0.5
        box = Rectangle(corner, match.width, match.height, fill=False, edgecolor=_COLOUR, lw=2)
        ax.add_patch(box)
        above = match.y > 20
        ax.annotate(
            _label(match),
            (match.x, match.y if above else match.y + match.height),
            xytext=(0, 3 if above else -3),
            textcoords="offset points",
            va="bottom" if above else "top",
            color="black",
            fontsize=9,
            bbox={"facecolor": _COLOUR, "edgecolor": "none", "pad": 1.5},
        )
    return ax


def _label(match: Match) -> str:
    """Tell a score, and how the template was changed if it was."""
    text = f"{match.score:.3f}"
    if match.scale != 1:
        text += f"  ×{match.scale:g}"
    if match.angle != 0:
        text += f"  {match.angle:+g}°"
    return text


def heatmap(map: Tensor, ax: Axes | None = None, label: str = "similarity") -> Axes:
    """Draw a map, (Ho, Wo), in colours, with a colour bar.

    Parameters
    ----------
    map : Tensor, shape (Ho, Wo)
    ax : Axes, optional
        Where to draw; by default on a new figure.
    label : str
        What the colours mean.

    Returns
    -------
    Axes
    """
    ax = _axes(ax)
    picture = ax.imshow(map.numpy(), cmap="viridis", interpolation="nearest")
    ax.set_xlabel("window, across")
    ax.set_ylabel("window, down")
    figure = ax.get_figure()
    assert figure is not None
    figure.colorbar(picture, ax=ax, label=label, fraction=0.046, pad=0.03)
    return ax


def template_bank(entries: Sequence[Entry], ax: Axes | None = None) -> Axes:
    """Draw templates beside one another, pixels that don't count in white.

    Parameters
    ----------
    entries : sequence of Entry
        As `patchsim.search.bank.bank` makes them.
    ax : Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    Axes
    """
    ax = _axes(ax)
    pictures = [_visible(entry) for entry in entries]
    columns = math.ceil(math.sqrt(2 * len(pictures)))  # a sheet wider than high
    height, width = (max(p.shape[axis] for p in pictures) + 2 for axis in (0, 1))
    sheet = np.ones((math.ceil(len(pictures) / columns) * height, columns * width, 3))
    for i, picture in enumerate(pictures):
        top = i // columns * height + (height - picture.shape[0]) // 2
        left = i % columns * width + (width - picture.shape[1]) // 2
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    ax.imshow(sheet, interpolation="nearest")
    ax.set_axis_off()
    return ax


def _visible(entry: Entry) -> np.ndarray[Any, np.dtype[Any]]:
    """Return the part of a template that counts as RGB in 0 to 1, white between."""
    pixels = _unit(entry.kernel).expand(3, -1, -1).permute(1, 2, 0).double().numpy()
    if entry.weight is None:
        return pixels
    weight = entry.weight.amax(0).double().clamp(0, 1).numpy()
    rows, cols = (np.flatnonzero(weight.any(axis)) for axis in (1, 0))
    part = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
    weight = weight[part][:, :, None]
    return np.asarray(pixels[part] * weight + 1 - weight)


def _unit(image: Tensor) -> Tensor:
    return image.nan_to_num(0).clamp(0, 1) if image.is_floating_point() else image / 255


def _show(ax: Axes, image: Tensor) -> None:
    if len(image) == 1:
        ax.imshow(image[0].numpy(), cmap="gray", interpolation="nearest")
    else:
        ax.imshow(_unit(image).permute(1, 2, 0).numpy(), interpolation="nearest")


def _axes(ax: Axes | None) -> Axes:
    """Return axes, those of a new figure if none are given."""
    return Figure(layout="constrained").add_subplot() if ax is None else ax


def check_picture(path: str | Path) -> None:
    """Check that a picture can be written there, before anything is computed.

    Raises
    ------
    OSError, ValueError
        If no file can be written there, or its name ends in no format that matplotlib writes.
    """
    check_target(path)
    known = FigureCanvasBase.get_supported_filetypes()
    if _format(path) not in known:
        raise ValueError(
            f"can't write {path}: Format {_format(path)!r} is not supported; "
            f"there are {', '.join(sorted(known))}"
        )


def _format(path: str | Path) -> str:
    return Path(path).suffix.lower().removeprefix(".") or "png"


def _save(figure: Figure, path: str | Path, dpi: float) -> None:
    """Write a figure, or nothing if it can't be drawn or the disk is full."""
    picture = io.BytesIO()
    figure.savefig(picture, format=_format(path), dpi=dpi)
    write_whole(path, picture.getvalue())


def save_matches(path: str | Path, image: Tensor, matches: Sequence[Match]) -> None:
    """Write `draw_matches` at the image's own size."""
    height, width = image.shape[1:]
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    draw_matches(image, matches, axes)
    _save(figure, path, _DPI)


def save_map(path: str | Path, scores: Tensor, label: str) -> None:
    """Write `heatmap`."""
    height, width = scores.shape
    figure = Figure(figsize=(7, max(2.0, min(12.0, 6 * height / width))), layout="constrained")
    heatmap(scores, figure.add_subplot(), label)
    _save(figure, path, _DPI)


def save_figure(
    path: str | Path,
    image: Tensor,
    matches: Sequence[Match],
    entries: Sequence[Entry],
    scores: Tensor,
    label: str,
) -> None:
    """Write one picture of matches, templates and the map of the best match's template."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(1.15, 1), height_ratios=(1, 1.5))
    axes = draw_matches(image, matches, figure.add_subplot(grid[:, 0]))
    axes.set_axis_off()
    axes.set_title("matches", loc="left")
    top, bottom = (figure.add_subplot(grid[row, 1]) for row in (0, 1))
    template_bank(entries, top)
    count = f"{len(entries)} templates" if len(entries) > 1 else "template"
    top.set_title(count, loc="left")
    heatmap(scores, bottom, label)
    bottom.set_title("map of the best match's template", loc="left")
    _save(figure, path, 150)
