"""What a search is asked for: how many matches, how good, where, and in which poses."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from operator import index
from typing import Any

import numpy as np
from torch import Tensor

from patchsim.search.bank import Poses

#: x, y, width and height.
Region = tuple[int, int, int, int]


@dataclass(frozen=True)
class Wanted:
    """How many matches are wanted, and how good."""

    k: int | None
    each: bool
    least: float
    max_overlap: float
    regions: tuple[Region, ...]
    subpixel: bool

    @classmethod
    def read(
        cls,
        k: int | None,
        k_each: int | None,
        threshold: float | None,
        max_overlap: float,
        region: Any,
        subpixel: bool,
    ) -> Wanted:
        """Check the arguments of a search: see `patchsim.find`."""
        if k_each is not None:
            if k != 1:
                raise ValueError(f"give `k` (={k}) or `k_each` (={k_each}), not both")
            k = _count(k_each, "k_each")
        elif k is not None:
            k = _count(k, "k")
        least = -math.inf if threshold is None else _number("threshold", threshold)
        if not 0 <= (most := _number("max_overlap", max_overlap)) <= 1:
            raise ValueError(f"`max_overlap` must be between 0 and 1, got {max_overlap}")
        if not isinstance(subpixel, bool | np.bool_):
            raise TypeError(f"`subpixel` must be True or False, got {subpixel!r}")
        regions = _regions(region)
        if len(regions) > 1 and k_each is None:
            raise ValueError("a region for each template needs `k_each`, matches of each of them")
        return cls(k, k_each is not None, least, most, regions, bool(subpixel))

    def insides(self, image: Tensor, count: int) -> list[tuple[int, int, Tensor]]:
        """Cut out where to look, for so many templates: left and top, and the part of the image."""
        if not self.regions:
            return [(0, 0, image)] * count
        if len(self.regions) not in (1, count):
            raise ValueError(f"there are {len(self.regions)} regions for {count} templates")
        height, width = image.shape[-2:]
        for x, y, w, h in self.regions:
            if x + w > width or y + h > height:
                raise ValueError(
                    f"`region` (={(x, y, w, h)}: x, y, width, height) reaches beyond the image, "
                    f"which is {width} wide and {height} high"
                )
        cut = [(x, y, image[..., y : y + h, x : x + w]) for x, y, w, h in self.regions]
        return cut * count if len(cut) == 1 else cut


def _regions(region: Any) -> tuple[Region, ...]:
    """Read one region, or several."""
    if region is None:
        return ()
    given = region.tolist() if isinstance(region, np.ndarray | Tensor) else region
    try:
        several = [tuple(map(index, own)) for own in ([given] if _flat(given) else given)]
    except TypeError:
        several = []
    if not several or any(len(own) != 4 for own in several):
        raise TypeError(
            "`region` takes four whole numbers, x, y, width and height, or such four for each "
            f"template; got {region!r}"
        )
    if any(min(own[:2]) < 0 or min(own[2:]) < 1 for own in several):
        raise ValueError(f"`region` begins at 0 or later and isn't empty; got {region!r}")
    return tuple((x, y, w, h) for x, y, w, h in several)


def _flat(given: Any) -> bool:
    return len(given) > 0 and isinstance(given[0], Integral)


def _count(k: object, name: str) -> int:
    """Read how many matches are wanted."""
    if isinstance(k, bool | np.bool_) or not isinstance(k, Integral):
        raise TypeError(f"`{name}` takes a whole number, or None for all matches; got {k!r}")
    if k < 1:
        raise ValueError(f"`{name}` must be at least 1, got {k}")
    return int(k)


def poses_of(scales: Any, angles: Any, scale_range: Any, angle_range: Any) -> Poses:
    """Check the sizes and angles to look for: see `patchsim.find`."""
    ranges = {}
    for name, values, instead in (
        ("scale_range", scale_range, scales),
        ("angle_range", angle_range, angles),
    ):
        if values is None:
            continue
        if instead is not None:
            raise ValueError(f"give `{name[:-6]}s` or `{name}`, not both")
        ends = _numbers(name, values, 0.0)
        if len(ends) != 2 or not ends[0] <= ends[1] or not all(map(math.isfinite, ends)):
            raise ValueError(f"`{name}` takes the least and the greatest, got {values!r}")
        ranges[name] = ends[0], ends[1]
    if "scale_range" in ranges and ranges["scale_range"][0] <= 0:
        raise ValueError(f"`scale_range` must be positive, got {scale_range!r}")
    if "angle_range" in ranges and ranges["angle_range"][1] - ranges["angle_range"][0] > 360:
        raise ValueError(f"`angle_range` spans at most 360 degrees, got {angle_range!r}")
    lists = tuple(_numbers("scales", scales, 1.0)), tuple(_numbers("angles", angles, 0.0))
    return Poses(*lists, **ranges)


def _number(name: str, value: object) -> float:
    """Read a number."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"`{name}` takes a number, got {value!r}")
    if math.isnan(value):
        raise ValueError(f"`{name}` takes a number, got nan")
    return float(value)


def _numbers(name: str, values: Iterable[float] | None, default: float) -> list[float]:
    """Read scales or angles."""
    if values is None:
        return [default]
    numbers = values.tolist() if isinstance(values, np.ndarray | Tensor) else values
    if isinstance(numbers, str) or not isinstance(numbers, Iterable):
        raise TypeError(f"`{name}` takes a sequence of numbers, such as [0.5, 1], got {values!r}")
    numbers = list(numbers)
    if not numbers:
        raise ValueError(f"`{name}` is empty: leave it out, or give one number at least")
    return [_number(name, number) for number in numbers]
