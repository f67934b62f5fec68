"""What white is in image files of more than 8 bits a channel, so that they can be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from patchsim.deep import Picture


def whites(pictures: Sequence[Picture], data_range: float | None) -> tuple[list[float], str]:
    """Tell the value of white in each of some pictures.

    Files of one type of number share it. 8 bits have 255, floats in 0 to 1 have 1, and 16 bits have
    65535 if their values need all bits or repeat those of 8 (all are multiples of 257). Of other
    values it isn't known: of integers 2ⁿ − 1 is taken, n even, that holds them or, signed, their
    span; of floats their span.

    Parameters
    ----------
    pictures : sequence of Picture
    data_range : float, optional
        White of those that have more than 8 bits, or of all if none has.

    Returns
    -------
    list of float
        One for each picture.
    str
        What was taken if it isn't known, else "".

    Raises
    ------
    ValueError
        If it isn't known and there are files of other types.
    """
    groups: dict[str, list[Picture]] = {}
    for picture in pictures:
        groups.setdefault(f"{picture.values.dtype} {picture.white}", []).append(picture)
    found, note = {}, ""
    for name, group in groups.items():
        known = _known(group)
        if data_range is not None and (name != "uint8 None" or len(groups) == 1):
            known = data_range
        if known is None and len(groups) > 1:
            low, high = _span(group)
            raise ValueError(
                f"{group[0].path} holds values from {low:g} to {high:g}, beside files of other "
                "types: say what white is with --data-range (`data_range`), such as 1, 255, 4095 "
                "or 65535"
            )
        if known is None:
            known = _guessed(group)
            low, high = _span(group)
            note = (
                f"values are from {low:g} to {high:g}, so that differences count as parts of "
                f"{known:g}; --data-range says what white is"
            )
        found[name] = known
    return [found[f"{p.values.dtype} {p.white}"] for p in pictures], note


def _known(group: Sequence[Picture]) -> float | None:
    """Return the value of white if there is no doubt."""
    dtype, (low, high) = group[0].values.dtype, _span(group)
    if dtype == np.uint8:
        return 255.0
    if group[0].white is not None:
        return group[0].white
    if dtype.kind == "f":
        return 1.0 if low >= 0 and high <= 1 else None
    if dtype == np.uint16:
        full = high >= 2**14 or all(not (picture.values % 257).any() for picture in group)
        return 65535.0 if full else None
    return None


def _guessed(group: Sequence[Picture]) -> float:
    dtype, (low, high) = group[0].values.dtype, _span(group)
    if dtype.kind == "f":
        return min(high - low, float(np.finfo(np.float64).max)) or max(abs(high), 1.0)
    bits = int(high - min(low, 0)).bit_length()
    return float(2 ** max(8, bits + bits % 2) - 1)


def _span(group: Sequence[Picture]) -> tuple[float, float]:
    """Return the least and the greatest finite value, 0 if there is none."""
    low, high = math.inf, -math.inf
    for picture in group:
        finite = picture.values
        if finite.dtype.kind == "f":
            finite = finite[np.isfinite(finite)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high) if low <= high else (0.0, 0.0)
