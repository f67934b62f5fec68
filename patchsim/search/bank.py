"""A bank of templates: each scaled and turned, with a mask where it has no pixels of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from patchsim.problem import INTEGER_RANGES

#: A turned template's pixel counts where at least so much of it comes from the template.
INSIDE = 0.999


@dataclass(frozen=True)
class Entry:
    """One template of a bank.

    Attributes
    ----------
    kernel : Tensor, shape (C, h, w)
    weight : Tensor, shape (C, h, w), or None
    template : int
        Which of the given templates it is made of.
    scale, angle : float
        How it was scaled, and turned counter-clockwise in degrees.
    """

    kernel: Tensor
    weight: Tensor | None
    template: int = 0
    scale: float = 1.0
    angle: float = 0.0


def bank(
    entries: Sequence[Entry], scales: Sequence[float] | None, angles: Sequence[float] | None
) -> list[Entry]:
    """Scale and turn every template by every scale and angle.

    Parameters
    ----------
    entries : sequence of Entry
        Templates as they are given.
    scales : sequence of float, optional
        Positive; 1 leaves the size.
    angles : sequence of float, optional
        Degrees, counter-clockwise; multiples of 90 need no interpolation.

    Returns
    -------
    list of Entry
        Of each template all scales, of each scale all angles. Dtypes stay: integers are rounded.

    Raises
    ------
    ValueError
        For a scale that isn't positive or leaves no pixel, and for angles that aren't finite.
    """
    return [
        turned(scaled(entry, float(scale)), float(angle))
        for entry in entries
        for scale in ((1.0,) if scales is None else scales)
        for angle in ((0.0,) if angles is None else angles)
    ]


def scaled(entry: Entry, scale: float) -> Entry:
    """Scale a template by linear interpolation, averaging where it shrinks."""
    if not 0 < scale < math.inf:
        raise ValueError(f"`scales` must be positive and finite, got {scale}")
    size = [round(scale * length) for length in entry.kernel.shape[1:]]
    if min(size) < 1:
        raise ValueError(
            f"scale {scale} leaves nothing of a template of {tuple(entry.kernel.shape[1:])} pixels"
        )
    if scale == 1:
        return entry

    def resize(values: Tensor) -> Tensor:
        resized = torch.nn.functional.interpolate(
            values[None], size=size, mode="bilinear", antialias=True
        )
        return resized[0]

    weight = None if entry.weight is None else resize(entry.weight.float())
    return Entry(_as(entry.kernel, resize), weight, entry.template, scale, entry.angle)


def turned(entry: Entry, angle: float) -> Entry:
    """Turn a template about its centre, counter-clockwise, in the box that holds all of it."""
    if not math.isfinite(angle):
        raise ValueError(f"`angles` must be finite, got {angle}")
    if angle % 90 == 0:
        quarters = int(angle // 90) % 4
        weight = None if entry.weight is None else entry.weight.rot90(quarters, (1, 2))
        kernel = entry.kernel.rot90(quarters, (1, 2)).contiguous()
        return Entry(kernel, weight, entry.template, entry.scale, angle)
    grid = _grid(entry.kernel, angle)

    def turn(values: Tensor) -> Tensor:
        sampled = torch.nn.functional.grid_sample(
            values[None], grid.to(values.dtype), padding_mode="border", align_corners=False
        )
        return sampled[0]

    inside = torch.nn.functional.grid_sample(
        torch.ones_like(entry.kernel[None], dtype=torch.float64), grid, align_corners=False
    )[0]
    weight = (inside >= INSIDE).float()
    if entry.weight is not None:
        weight = weight * turn(entry.weight.float())
    if not bool((weight > 0).any()):
        raise ValueError(
            f"turned by {angle} degrees nothing is left of a template of "
            f"{tuple(entry.kernel.shape[1:])} pixels"
        )
    return Entry(_as(entry.kernel, turn), weight, entry.template, entry.scale, angle)


def _grid(kernel: Tensor, angle: float) -> Tensor:
    """Return where in the template each pixel of the turned one lies: (1, h', w', 2), −1 to 1."""
    height, width = kernel.shape[1:]
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # A little less, so that rounding adds no row to a side that is a whole number.
    rows = math.ceil(height * abs(cos) + width * abs(sin) - 1e-9)
    cols = math.ceil(height * abs(sin) + width * abs(cos) - 1e-9)
    y = torch.arange(rows, dtype=torch.float64)[:, None] - (rows - 1) / 2
    x = torch.arange(cols, dtype=torch.float64) - (cols - 1) / 2
    # Rows grow downwards, so that this turns back clockwise as seen.
    source = torch.stack([cos * x - sin * y, sin * x + cos * y], -1)
    units = torch.tensor([2 / width, 2 / height], dtype=torch.float64)
    return (source * units)[None].to(kernel.device)


def _as(kernel: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change a template's values as floats, and return them in its dtype."""
    wide = kernel.float() if kernel.dtype is not torch.float64 else kernel
    changed = change(wide)
    if kernel.dtype not in INTEGER_RANGES:
        return changed.to(kernel.dtype)
    return changed.round().clamp(*INTEGER_RANGES[kernel.dtype]).to(kernel.dtype)
