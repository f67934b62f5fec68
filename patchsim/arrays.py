"""Arrays as people have them: taken as tensors, and given back as what they came as."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

AnyArray = Tensor | np.ndarray[Any, Any]
#: An image, and the map that is returned for it.
Image = TypeVar("Image", Tensor, np.ndarray[Any, Any])


def tensor_of(name: str, given: Any) -> Any:
    """Return an array as a tensor of the same memory where torch can; anything else as it is."""
    if isinstance(given, Tensor) or not hasattr(given, "__array__"):
        return given
    array = np.asarray(given)
    try:
        torch.from_numpy(np.empty(0, array.dtype.newbyteorder("=")))
    except TypeError:
        raise TypeError(
            f"`{name}` is an array of {array.dtype}; convert it with .astype(), for example "
            "to uint8 or float32"
        ) from None
    if not array.dtype.isnative or any(step < 0 for step in array.strides):
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("="))  # torch has no others
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Unlocked(array)))


class _Unlocked:
    """An array that may not be written to, whose memory torch takes without a warning."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array  # which owns the memory
        own = array.__array_interface__
        self.__array_interface__ = {**own, "data": (own["data"][0], False)}


def as_array(result: Tensor) -> np.ndarray[Any, Any]:
    """Return a map of an array, as an array."""
    array: np.ndarray[Any, Any] = result.detach().numpy()
    return array


def arranged(given: Any, *, channels_last: bool) -> Any:
    """Bring the channels of an image or of templates first; grey ones get the axis they lack."""
    if not isinstance(given, Tensor) or given.is_nested or given.dim() not in (2, 3, 4):
        return given
    if given.dim() == 2:
        return given.unsqueeze(0)
    return given.movedim(-1, -3) if channels_last else given
