"""Image files as tensors. Needs Pillow, tifffile and imagecodecs (``pip install 'patchsim[cli]'``).

Pillow reads files of 8 bits a channel; deeper ones it would cut to 8 bits are read by tifffile and
imagecodecs, or refused (`deep`). What white is in them, `whites` tell.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from patchsim.deep import (
    Array,
    Picture,
    UnreadableError,
    cut,
    from_numbers,
    is_tiff,
    of_codec,
    of_tiff,
)
from patchsim.whites import whites

#: Pixels that a file may have unless more are allowed: what claims more is likely an attack.
MAX_PIXELS = 180_000_000


def read_images(
    *paths: str | Path,
    page: int | None = None,
    data_range: float | None = None,
    max_pixels: int = MAX_PIXELS,
) -> list[Tensor]:
    """Read image files so that they can be compared.

    Parameters
    ----------
    *paths : str or Path
        Files of any format that Pillow or tifffile reads, turned upright as their EXIF data say.
    page : int, optional
        Which page of files that hold several, counted from 0: of a stack, an animation, or a photo
        with further views. Without it such files are refused.
    data_range : float, optional
        The value of white in files of more than 8 bits a channel; by default see `whites`. 8 bits
        have 255, unless all files have 8 bits.
    max_pixels : int
        Pixels that a file may have.

    Returns
    -------
    list of Tensor, each (C, H, W)
        uint8, or floats of which white is 1 when any file has more than 8 bits a channel: float32,
        or float64 where a file has more bits than that holds. RGB when any file has colour, else
        grey; CMYK, YCbCr and Lab become RGB without colour profiles. Transparency is dropped.

    Raises
    ------
    OSError
        For a file that doesn't exist, can't be read or is no image.
    ValueError
        For a file that can't be read as it is meant: of several pages, too many pixels or further
        bands, or of values whose white isn't known beside other files.
    """
    pictures = [read_picture(path, page, max_pixels) for path in paths]
    return comparable(pictures, data_range)[0]


def comparable(
    pictures: Sequence[Picture], data_range: float | None = None
) -> tuple[list[Tensor], str]:
    """Bring pictures into one dtype and number of channels; see `read_images`.

    Returns
    -------
    list of Tensor, each (C, H, W)
    str
        What was taken for white, if that had to be guessed.
    """
    channels = max(picture.values.shape[2] for picture in pictures)
    arrays: list[Array] = [
        np.broadcast_to(p.values, (*p.values.shape[:2], channels)) for p in pictures
    ]
    note = ""
    if data_range is not None or any(array.dtype != np.uint8 for array in arrays):
        found, note = whites(pictures, data_range)
        exact = all(np.can_cast(array.dtype, np.float32) for array in arrays)
        dtype = "float32" if exact else "float64"
        arrays = [a.astype(dtype) / np.array(w, dtype) for a, w in zip(arrays, found, strict=True)]
    return [torch.from_numpy(np.array(a.transpose(2, 0, 1), order="C")) for a in arrays], note


def read_alpha(
    path: str | Path, page: int | None = None, max_pixels: int = MAX_PIXELS
) -> Tensor | None:
    """Read how opaque an image file is, as weights of its pixels.

    Returns
    -------
    Tensor, shape (H, W), float32 in 0 to 1
        None where all of it is opaque.

    Raises
    ------
    OSError, ValueError
        As `read_images`.
    """
    return opacity(read_picture(path, page, max_pixels))


def opacity(picture: Picture) -> Tensor | None:
    """Return how opaque a picture's pixels are, (H, W), or None where all are."""
    alpha = picture.alpha
    return None if alpha is None or bool((alpha == 1).all()) else torch.from_numpy(alpha)


def read_mask(path: str | Path, page: int | None = None, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Read an image file as weights: black doesn't count, white does, colours by their mean.

    Returns
    -------
    Tensor, shape (H, W), float32 in 0 to 1

    Raises
    ------
    OSError, ValueError
        As `read_images`.
    """
    [values], _ = comparable([read_picture(path, page, max_pixels)])
    mean = values.double().mean(0)
    return (mean if values.is_floating_point() else mean / 255).float()


def read_picture(
    path: str | Path, page: int | None = None, max_pixels: int = MAX_PIXELS
) -> Picture:
    """Read an image file as it is; see `read_images`."""
    try:
        with warnings.catch_warnings(), _any_size():
            warnings.simplefilter("ignore")  # an error says what is wrong with the file
            return _read(str(path), page, max_pixels)
    except UnreadableError as error:
        raise ValueError(f"{path}: {error}") from error
    except MemoryError as error:
        raise MemoryError(f"{path} doesn't fit") from error
    except Exception as error:  # decoders of broken files raise anything
        if isinstance(error, UnidentifiedImageError) or getattr(error, "filename", None):
            raise  # it names the file
        text = str(error) or type(error).__name__
        raise OSError(f"can't read {path}: {text}") from error


@contextmanager
def _any_size() -> Iterator[None]:
    """Let Pillow open files of any size; see `_check_size`."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _read(path: str, page: int | None, max_pixels: int) -> Picture:
    frame = None
    if is_tiff(path):
        picture, frame = of_tiff(path, lambda count: _frame(count, page), max_pixels)
        if picture is not None:
            return picture
    with Image.open(path) as image:
        if frame is None:
            # The layers of PSD make up one picture.
            frame = _frame(1 if image.format == "PSD" else getattr(image, "n_frames", 1), page)
        if frame:
            image.seek(frame)
        _check_size(image, max_pixels)
        if reason := cut(path, image):
            return of_codec(path, image, frame, reason)
        return _of_pillow(path, image)


def _frame(count: int, page: int | None) -> int:
    """Choose a page of so many."""
    if count == 1:
        return 0
    if page is None:
        raise UnreadableError(
            f"holds {count} pages; choose one with --page (`page`), from 0 to {count - 1}"
        )
    if not 0 <= page < count:
        raise UnreadableError(f"holds pages 0 to {count - 1}, got page {page}")
    return page


def _check_size(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise UnreadableError(
            f"has {image.width}x{image.height} pixels, more than {max_pixels}; "
            "--max-pixels (`max_pixels`) allows more"
        )


def _of_pillow(path: str, image: Image.Image) -> Picture:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        white = None
        values: Array = np.asarray(upright)
        if upright.mode == "I" and image.format == "PPM":  # which Pillow scales to that
            values, white = values.astype(np.uint16), 65535.0
        return from_numbers(path, values[:, :, None], None, white)
    alpha = None
    if upright.has_transparency_data:
        alpha = np.array(upright.convert("RGBA").getchannel("A")).astype(np.float32) / 255
    grey = upright.mode in ("1", "L", "LA", "La")
    pixels = np.array(upright.convert("L" if grey else "RGB"))
    return Picture(path, pixels.reshape(*pixels.shape[:2], -1), alpha)
