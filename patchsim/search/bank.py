"""A bank of templates: each scaled and turned, with a mask where it has no pixels of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from patchsim.problem import INTEGER_RANGES, Pair
from patchsim.search.matches import Skipped

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
    upright : (int, int) or None
        Height and width before it was turned, if it was.
    """

    kernel: Tensor
    weight: Tensor | None
    template: int = 0
    scale: float = 1.0
    angle: float = 0.0
    upright: Pair | None = None


#: By how many pixels a template's corners move at most from one pose of a range to the next.
STEP = 2.0


@dataclass(frozen=True)
class Poses:
    """Which sizes and angles templates are looked for in: lists, or ranges.

    Attributes
    ----------
    scales, angles : tuple of float
    scale_range, angle_range : (float, float) or None
        In place of a list, from the least to the greatest. Steps follow from a template's size: its
        corners move by at most `STEP` pixels from one pose to the next.
    """

    scales: tuple[float, ...] = (1.0,)
    angles: tuple[float, ...] = (0.0,)
    scale_range: tuple[float, float] | None = None
    angle_range: tuple[float, float] | None = None

    def of(self, entry: Entry) -> tuple[Sequence[float], Sequence[float]]:
        """List the scales and angles of a template."""
        reach = max(1.0, math.hypot(*entry.kernel.shape[1:]) / 2)
        scales, angles = self.scales, self.angles
        if self.scale_range is not None:
            low, high = self.scale_range
            count = math.ceil((high - low) * reach / STEP)
            scales = tuple(low + (high - low) * i / max(1, count) for i in range(count + 1))
        if self.angle_range is not None:
            low, high = self.angle_range
            furthest = reach * max(scales)
            count = math.ceil(math.radians(high - low) * furthest / STEP)
            # A whole turn ends where it began.
            number = count if high - low == 360 else count + 1
            angles = tuple(low + (high - low) * i / max(1, count) for i in range(number))
        return scales, angles


def bank(
    entries: Sequence[Entry], poses: Poses, image_size: Pair
) -> tuple[list[Entry], list[Skipped]]:
    """Scale and turn every template by every scale and angle, and keep what fits an image.

    Parameters
    ----------
    entries : sequence of Entry
        Templates as they are given.
    poses : Poses
        Scales are positive, 1 leaves the size; angles are in degrees, counter-clockwise, and
        multiples of 90 need no interpolation.
    image_size : (int, int)
        Height and width that a template may have at most.

    Returns
    -------
    list of Entry
        Of each template all scales, of each scale all angles. Dtypes stay: integers are rounded.
        Values where the weight is 0 become 0, and reach no other pixel.
    list of Skipped
        Those that are larger, and those of which no pixel is left. They take no memory, however
        large they would be.

    Raises
    ------
    ValueError
        For a scale that isn't positive and finite, and for angles that aren't finite.
    """
    for scale in poses.scales:
        if not 0 < scale < math.inf:
            raise ValueError(f"`scales` must be positive and finite, got {scale}")
    for angle in poses.angles:
        if not math.isfinite(angle):
            raise ValueError(f"`angles` must be finite, got {angle}")
    kept, skipped = [], []
    for entry in map(_without_hidden, entries):
        for scale, angle in product(*poses.of(entry)):
            size = turned_size(scaled_size(entry, scale), angle)
            made, reason = _made(entry, scale, angle, size, image_size)
            if made is None:
                skipped.append(Skipped(entry.template, scale, angle, size, reason))
            else:
                kept.append(made)
    return kept, skipped


def _made(
    entry: Entry, scale: float, angle: float, size: Pair, image_size: Pair
) -> tuple[Entry | None, str]:
    """Scale and turn a template, or say why not."""
    height, width = entry.kernel.shape[1:]
    if min(size) < 1:
        return None, f"scale {scale:g} leaves nothing of a template of {(height, width)} pixels"
    if size[0] > image_size[0] or size[1] > image_size[1]:
        return None, (
            f"no window fits: the template covers {size[0]}x{size[1]} pixels and the image has "
            f"{image_size[0]}x{image_size[1]}"
        )
    upright = scaled(entry, scale)
    made = turned(upright, angle)
    if angle % 180:
        made = replace(made, upright=(upright.kernel.shape[1], upright.kernel.shape[2]))
    if made.weight is not None and not bool((made.weight > 0).any()):
        return None, (
            f"scaled by {scale:g} and turned by {angle:g} degrees nothing is left of a template of "
            f"{(height, width)} pixels"
        )
    return made, ""


def _without_hidden(entry: Entry) -> Entry:
    """Put 0 where nothing counts: neither a hidden colour nor NaN may reach other pixels."""
    if entry.weight is None:
        return entry
    kernel = torch.where(entry.weight > 0, entry.kernel, torch.zeros_like(entry.kernel))
    return Entry(kernel, entry.weight, entry.template, entry.scale, entry.angle)


def scaled_size(entry: Entry, scale: float) -> Pair:
    """Return the height and width of a template scaled, 0 where less than half a pixel is left."""
    height, width = entry.kernel.shape[1:]
    # No image has so many pixels; an infinite number can't be rounded.
    return round(min(scale * height, 2.0**62)), round(min(scale * width, 2.0**62))


def scaled(entry: Entry, scale: float) -> Entry:
    """Scale a template by linear interpolation, averaging where it shrinks."""
    if scale == 1:
        return entry
    size = scaled_size(entry, scale)

    def resize(values: Tensor) -> Tensor:
        resized = torch.nn.functional.interpolate(
            values[None], size=size, mode="bilinear", antialias=True
        )
        return resized[0]

    kernel, weight = _changed(entry, resize)
    return Entry(kernel, weight, entry.template, scale, entry.angle)


def turned_size(size: Pair, angle: float) -> Pair:
    """Return the height and width of the box that holds a template turned."""
    height, width = size
    if angle % 90 == 0:
        return (height, width) if angle % 180 == 0 else (width, height)
    if min(size) < 1:
        return 0, 0
    cos, sin = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    # A little less, so that rounding adds no row to a side that is a whole number.
    return (
        math.ceil(height * cos + width * sin - 1e-9),
        math.ceil(height * sin + width * cos - 1e-9),
    )


def turned(entry: Entry, angle: float) -> Entry:
    """Turn a template about its centre, counter-clockwise, in the box that holds all of it."""
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
    kernel, own = _changed(entry, turn)
    return Entry(
        kernel, weight if own is None else weight * own, entry.template, entry.scale, angle
    )


def _grid(kernel: Tensor, angle: float) -> Tensor:
    """Return where in the template each pixel of the turned one lies: (1, h', w', 2), −1 to 1."""
    height, width = kernel.shape[1:]
    rows, cols = turned_size((height, width), angle)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    y = torch.arange(rows, dtype=torch.float64)[:, None] - (rows - 1) / 2
    x = torch.arange(cols, dtype=torch.float64) - (cols - 1) / 2
    # Rows grow downwards, so that this turns back clockwise as seen.
    source = torch.stack([cos * x - sin * y, sin * x + cos * y], -1)
    units = torch.tensor([2 / width, 2 / height], dtype=torch.float64)
    return (source * units)[None].to(kernel.device)


def _changed(entry: Entry, change: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor | None]:
    """Change a template's values as floats, in its dtype again, and its weight.

    Values count by their weight, as colours of pixels that let others through do: a value between
    two is Σ weight·value / Σ weight. Where no weight is, it is 0.
    """
    kernel = entry.kernel
    wide = kernel.float() if kernel.dtype is not torch.float64 else kernel
    weight = None
    if entry.weight is None:
        values = change(wide)
    else:
        most = float(entry.weight.amax())  # so that no product overflows
        part = entry.weight.to(wide.dtype) / most
        counted = change(part)
        values = change(wide * part) / counted
        values = torch.where(counted > 0, values, torch.zeros_like(values))
        weight = (counted * most).float()
    if kernel.dtype in INTEGER_RANGES:
        values = values.round().clamp(*INTEGER_RANGES[kernel.dtype])
    return values.to(kernel.dtype), weight
