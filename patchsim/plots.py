"""Pictures of matches and maps. Needs matplotlib (``pip install 'patchsim[cli]'``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from patchsim.search import Match

_DPI = 100


def draw_matches(axes: Axes, image: Tensor, matches: Sequence[Match]) -> Axes:
    """Draw an image, (C, H, W), with a labelled box around each match."""
    pixels = image.permute(1, 2, 0).numpy()
    if pixels.shape[2] == 1:
        axes.imshow(pixels[:, :, 0], cmap="gray", interpolation="nearest")
    else:
        axes.imshow(pixels, interpolation="nearest")
    for match in reversed(matches):  # the best on top
        corner = match.x - 0.5, match.y - 0.5
        box = Rectangle(corner, match.width, match.height, fill=False, edgecolor="lime", lw=2)
        axes.add_patch(box)
        above = match.y > 20
        axes.annotate(
            f"{match.score:.3f}",
            (match.x, match.y if above else match.y + match.height),
            xytext=(0, 3 if above else -3),
            textcoords="offset points",
            va="bottom" if above else "top",
            color="black",
            fontsize=9,
            bbox={"facecolor": "lime", "edgecolor": "none", "pad": 1.5},
        )
    return axes


def draw_map(axes: Axes, scores: Tensor, label: str) -> Axes:
    """Draw a map, (Ho, Wo), as a heat map with a colour bar."""
    picture = axes.imshow(scores.numpy(), cmap="viridis", interpolation="nearest")
    axes.set_xlabel("window, across")
    axes.set_ylabel("window, down")
    figure = axes.get_figure()
    assert figure is not None
    figure.colorbar(picture, ax=axes, label=label)
    return axes


def save_matches(path: str | Path, image: Tensor, matches: Sequence[Match]) -> None:
    """Write `draw_matches` at the image's own size."""
    height, width = image.shape[1:]
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    draw_matches(axes, image, matches)
    figure.savefig(path)


def save_map(path: str | Path, scores: Tensor, label: str) -> None:
    """Write `draw_map`."""
    height, width = scores.shape
    figure = Figure(figsize=(7, max(2.0, min(12.0, 6 * height / width))), layout="constrained")
    draw_map(figure.add_subplot(), scores, label)
    figure.savefig(path, dpi=_DPI)
