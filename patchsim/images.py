"""Image files as tensors. Needs Pillow (``pip install 'patchsim[cli]'``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor


def read_images(*paths: str | Path) -> list[Tensor]:
    """Read image files so that they can be compared.

    Parameters
    ----------
    *paths : str or Path
        Files of any format that Pillow reads, turned upright as their EXIF data say.

    Returns
    -------
    list of Tensor, each (C, H, W)
        uint8, or float32 in 0 to 1 when any of them has more than 8 bits a channel. RGB when any
        of them has colour, else grey. Transparency is dropped.

    Raises
    ------
    OSError
        For a file that doesn't exist or is no image.
    """
    images = [_open(path) for path in paths]
    mode = "L" if all(_is_grey(image) for image in images) else "RGB"
    arrays = [_array(image, mode) for image in images]
    if any(array.dtype != np.uint8 for array in arrays):
        arrays = [
            array if array.dtype == np.float32 else array.astype(np.float32) / 255
            for array in arrays
        ]
    return [torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1))) for array in arrays]


def read_alpha(path: str | Path) -> Tensor | None:
    """Read how opaque an image file is, as weights of its pixels.

    Returns
    -------
    Tensor, shape (H, W), float32 in 0 to 1
        None where all of it is opaque.

    Raises
    ------
    OSError
        For a file that doesn't exist or is no image.
    """
    image = _open(path)
    if not image.has_transparency_data:
        return None
    alpha = np.array(image.convert("RGBA").getchannel("A")).astype(np.float32) / 255
    return None if bool((alpha == 1).all()) else torch.from_numpy(alpha)


def read_mask(path: str | Path) -> Tensor:
    """Read an image file as weights: black pixels don't count, white ones do.

    Returns
    -------
    Tensor, shape (H, W), float32 in 0 to 1

    Raises
    ------
    OSError
        For a file that doesn't exist or is no image.
    """
    grey = np.array(_open(path).convert("L")).astype(np.float32) / 255
    return torch.from_numpy(grey)


def _open(path: str | Path) -> Image.Image:
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image)


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith(("I", "F"))


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA") or _is_deep(image)


def _array(image: Image.Image, mode: str) -> np.ndarray[tuple[int, int, int], np.dtype[np.generic]]:
    """Convert to (H, W, C), uint8 or float32."""
    if _is_deep(image):
        # Modes I and I;16 hold 16-bit samples; F holds numbers taken as they are.
        scale = 1.0 if image.mode == "F" else 65535.0
        grey = np.asarray(image).astype(np.float32)[:, :, None] / np.float32(scale)
        return np.repeat(grey, 3, 2) if mode == "RGB" else grey
    values = np.array(image.convert(mode))
    return values if values.ndim == 3 else values[:, :, None]
