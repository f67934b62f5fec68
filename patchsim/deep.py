"""Image files that Pillow doesn't read as they are: of more than 8 bits a channel, and TIFF."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

Array = np.ndarray[Any, np.dtype[Any]]

_LOGGER = logging.getLogger("tifffile")
_LOGGER.addHandler(logging.NullHandler())  # else warnings would be printed

#: How Pillow names samples of 16 bits that it cuts to 8.
_CUT = re.compile(r"^(L|LA|RGB|RGBX|RGBA|RGBa|CMYK|YCbCr);16[BLN]?$")
#: The turns of a picture that its orientation stands for, as EXIF counts them.
_UPRIGHT: dict[int, Callable[[Array], Array]] = {
    2: np.fliplr,
    3: lambda values: np.rot90(values, 2),
    4: np.flipud,
    5: lambda values: values.swapaxes(0, 1),
    6: lambda values: np.rot90(values, -1),
    7: lambda values: np.rot90(values, 2).swapaxes(0, 1),
    8: np.rot90,
}


class UnreadableError(Exception):
    """A file that can't be read as it is meant."""


class _Faults(logging.Handler):
    """Raises what tifffile only logs: it goes on with zeros for data that it doesn't find."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.first = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.first = self.first or record.getMessage()

    def __enter__(self) -> None:
        _LOGGER.addHandler(self)

    def __exit__(self, *error: object) -> None:
        _LOGGER.removeHandler(self)
        if self.first:
            raise OSError(self.first)


@dataclass(frozen=True)
class Picture:
    """An image file's numbers.

    Attributes
    ----------
    path : str
    values : array, shape (H, W, C)
        uint8 for files of at most 8 bits a channel, else as in the file; grey or RGB.
    alpha : array, shape (H, W), or None
        How opaque its pixels are, float32 in 0 to 1.
    white : float or None
        The value of white if the file says it.
    """

    path: str
    values: Array
    alpha: Array | None = None
    white: float | None = None


def from_numbers(
    path: str, values: Array, orientation: int | None, white: float | None = None
) -> Picture:
    """Make a picture of (H, W, C): grey or RGB, or with transparency beside."""
    if values.dtype.kind not in "uif":
        raise UnreadableError(f"holds numbers of type {values.dtype}, which aren't read")
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    values = _UPRIGHT.get(orientation or 1, np.asarray)(values)
    alpha = None
    if values.shape[2] in (2, 4):
        full = white or (1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max)
        alpha = np.ascontiguousarray(values[:, :, -1].astype(np.float32) / np.float32(full))
        values = values[:, :, :-1]
    return Picture(path, values, alpha, white)


def is_tiff(path: str) -> bool:
    """Tell by its first bytes."""
    with open(path, "rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def of_tiff(path: str, choose: Callable[[int], int], max_pixels: int) -> tuple[Picture | None, int]:
    """Read a page of a TIFF file.

    Parameters
    ----------
    path : str
    choose : callable
        Chooses a page of so many.
    max_pixels : int

    Returns
    -------
    Picture or None
        None for palettes, CMYK and the like of 8 bits, and for fewer bits, which Pillow reads.
    int
        Which of all its pages that is, those left out that are small copies or masks of others.
    """
    with _Faults(), tifffile.TiffFile(path) as tiff:
        every: list[Any] = list(tiff.pages)
        pages = [page for page in every if not (page.is_reduced or page.is_mask)]
        if not pages:
            raise UnreadableError("holds no picture but small copies of one, as raw photos do")
        numbers = sum(int(np.prod(page.shape)) for page in every)
        if sum(int(np.prod(series.shape)) for series in tiff.series) > numbers:
            raise UnreadableError("holds a stack that isn't stored as pages; save each page")
        page = pages[choose(len(pages))]
        if page.imagelength * page.imagewidth > max_pixels:
            raise UnreadableError(
                f"has {page.imagewidth}x{page.imagelength} pixels, more than {max_pixels}; "
                "--max-pixels (`max_pixels`) allows more"
            )
        if page.imagedepth > 1:
            raise UnreadableError(f"holds a volume {page.imagedepth} deep, no picture")
        _check_bands(page)
        tag = page.tags.get(274)
        orientation = int(tag.value) if tag else 1
        plain = int(page.photometric) in (0, 1, 2)
        if page.bitspersample in ((1, 2, 4) if plain else (1, 2, 4, 8)):
            if orientation > 4 and page.compression == 1:
                raise UnreadableError("is to be turned, which Pillow does wrongly; save it upright")
            return None, page.index
        return _of_page(path, page, orientation), page.index


def _check_bands(page: Any) -> None:
    """Refuse what is neither grey nor colour, with or without transparency."""
    extra = tuple(page.extrasamples)
    bands = page.samplesperpixel - len(extra)
    wanted = {0: 1, 1: 1, 2: 3}.get(int(page.photometric), bands)
    if bands != wanted or len(extra) > 1 or 0 in extra:
        raise UnreadableError(
            f"has {page.samplesperpixel} bands; save one of them as grey, or three as RGB"
        )


def _of_page(path: str, page: Any, orientation: int) -> Picture:
    kind, bits = int(page.photometric), page.bitspersample
    if kind not in (0, 1, 2) or not isinstance(bits, int):
        raise UnreadableError(
            f"holds {bits} bits a channel of kind {page.photometric}, which aren't read; "
            "save it as grey or RGB"
        )
    values: Array = page.asarray()
    values = np.moveaxis(values, 0, 2) if page.axes == "SYX" else values
    values = values.reshape(*values.shape[:2], -1)
    whole = values.dtype.kind == "u"
    if kind == 0:  # white is 0
        if not whole:
            raise UnreadableError("holds numbers of which white is 0; save it with black as 0")
        values = np.array(2**bits - 1, values.dtype) - values
    if 1 in page.extrasamples:
        raise UnreadableError(
            "holds colours multiplied by their opacity; save it with plain transparency"
        )
    known = float(2**bits - 1) if whole and bits % 8 else None
    return from_numbers(path, values, orientation, known)


def cut(path: str, image: Image.Image) -> str:
    """Say what Pillow would cut to 8 bits of an open file, if anything."""
    if image.mode.startswith(("I", "F")):
        # Of grey PNG files Pillow keeps 16 bits, but not which of them are transparent.
        return "16 bits a channel" if image.format == "PNG" else ""
    for tile in getattr(image, "tile", []):
        args = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if isinstance(args[0], str) and _CUT.match(args[0]):
            return "16 bits a channel"
        if tile[0] == "ppm" and args[-1] > 255:
            return f"values up to {args[-1]}"
    if image.format == "JPEG2000":
        return "JPEG 2000"  # may have any number of bits
    return "10 or 12 bits a channel" if image.format == "AVIF" and _deep_avif(path) else ""


def _deep_avif(path: str) -> bool:
    """Tell by the flag of high bit depth in its configuration (av1C)."""
    with open(path, "rb") as file:
        _, found, after = file.read(4096).partition(b"av1C")
    return bool(found) and len(after) > 2 and bool(after[2] & 0x40)


def of_codec(path: str, image: Image.Image, frame: int, reason: str) -> Picture:
    """Read a file that Pillow would cut, with imagecodecs."""
    import imagecodecs

    decode = {"PNG": imagecodecs.png_decode, "JPEG2000": imagecodecs.jpeg2k_decode}
    if image.format not in decode or frame:
        raise UnreadableError(
            f"has {reason}, which aren't read of {image.format} files; save it as TIFF or PNG"
        )
    values: Array = decode[image.format](Path(path).read_bytes())
    values = values.reshape(*values.shape[:2], -1)
    if values.shape[2] > 4:
        raise UnreadableError(f"has {values.shape[2]} bands; save one of them as grey, or three")
    return from_numbers(path, values, image.getexif().get(274))
