"""Random tensors: values, weights and layouts, each drawn by a generator of its own seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fuzzing.oracle import INTEGERS, STATISTICS, Array

Rng = np.random.Generator

DTYPES = {
    torch.float32: 30,
    torch.uint8: 22,
    torch.float64: 12,
    torch.int16: 12,
    torch.float16: 9,
    torch.bool: 8,
    torch.bfloat16: 7,
}
RANGES = {torch.bool: (0, 1), torch.uint8: (0, 255), torch.int16: (-32768, 32767)}


def pick(rng: Rng, weights: dict[Any, float]) -> Any:
    """Draw a key, as often as its weight says."""
    total, options = sum(weights.values()), list(weights)
    at = rng.random() * total
    for option in options:
        at -= weights[option]
        if at < 0:
            return option
    return options[-1]


def chance(rng: Rng, share: float) -> bool:
    return bool(rng.random() < share)


def integer(rng: Rng, low: int, high: int) -> int:
    """Draw from low … high, both included."""
    return int(rng.integers(low, high + 1))


def one_of(rng: Rng, options: Sequence[Any]) -> Any:
    return options[int(rng.integers(len(options)))]


def pattern(rng: Rng, shape: tuple[int, ...]) -> Array:
    """Draw numbers in 0 … 1."""
    kind = pick(
        rng,
        {
            "noise": 40,
            "levels": 15,
            "constant": 8,
            "periodic": 10,
            "stripes": 5,
            "one-hot": 5,
            "slope": 6,
            "extremes": 6,
            "patches": 5,
        },
    )
    height, width = shape[-2:]
    if kind == "levels":
        count = integer(rng, 2, 5)
        return rng.integers(0, count, shape) / (count - 1)
    if kind == "extremes":
        return rng.integers(0, 2, shape).astype(float)
    if kind == "one-hot":
        values = np.zeros(shape)
        if values.size:
            values.flat[integer(rng, 0, values.size - 1)] = 1
        return values
    if kind == "slope":
        y, x = np.linspace(0, 0.5, height)[:, None], np.linspace(0, 0.5, width)
        return np.broadcast_to(y + x, shape).copy()
    if kind == "patches":
        coarse = rng.random((*shape[:-2], -(-height // 4), -(-width // 4)))
        return coarse.repeat(4, -2).repeat(4, -1)[..., :height, :width]
    period = {"constant": (1, 1), "periodic": (3, 4), "stripes": (1, 2)}.get(kind)
    if period is None:
        return rng.random(shape)
    tile = rng.random((*shape[:-2], *period))
    return np.tile(tile, (height, width))[..., :height, :width]


class Values:
    """How numbers 0 … 1 become values of a dtype, the same for image and templates.

    Parameters
    ----------
    rng : Generator
    dtype : torch.dtype
    metric : str
    """

    def __init__(self, rng: Rng, dtype: torch.dtype, metric: str) -> None:
        self.dtype, self.metric = dtype, metric
        self.ordinary, self.whole = True, False
        self.low, self.high = self._limits(rng)
        if dtype in INTEGERS:
            self.whole = True
        elif metric == "hamming":
            self.whole = not chance(rng, 0.2)
        else:
            # Multiples of a power of 2, whose sums have no rounding.
            self.dyadic = chance(rng, 0.25)

    dyadic = False

    def __call__(self, numbers: Array) -> Tensor:
        low, high = self.low, self.high
        values = np.clip(low + numbers * (high - low), low, high)
        if self.whole:
            values = np.clip(np.floor(low + numbers * (high - low + 1)), low, high)
        elif self.dyadic:
            unit = 2.0 ** max(-1074, math.frexp(high - low)[1] - 6)
            values = np.round(values / unit) * unit
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        if self.dtype in INTEGERS:
            return tensor.to(torch.int64).to(self.dtype)
        most = torch.finfo(self.dtype).max
        return tensor.clamp(-most, most).to(self.dtype)

    def outside(self, kernel: Tensor) -> bool:
        """Tell whether values are beyond the metric's domain, so that they may be refused."""
        if self.metric == "hamming":
            return not self.whole or self.high > 2**24
        if self.metric == "hsv":
            return self.high > 1 and self.dtype not in INTEGERS
        negative = self.low < 0 or bool((kernel < 0).any())
        return self.metric == "intersection" and negative

    def _limits(self, rng: Rng) -> tuple[float, float]:
        if self.dtype in INTEGERS:
            return self._of_integers(rng)
        if self.metric == "hamming":
            top = 2**26 if chance(rng, 0.1) else 5
            return 0, min(top, torch.finfo(self.dtype).max)
        if self.metric in ("hue", "hue_l1"):
            many = chance(rng, 0.1)
            return (-1e6, 1e6) if many else one_of(rng, [(0, 1), (0, 1), (-1, 2)])
        if self.metric == "hsv":
            return (0, 3) if chance(rng, 0.1) else (0, 1)
        return self._of_floats(rng)

    def _of_integers(self, rng: Rng) -> tuple[int, int]:
        low, high = RANGES[self.dtype]
        if self.metric == "hsv":
            low = 0
        few = max(low, 0), min(high, 3)
        near = max(low, high - 2), high
        return one_of(rng, [(low, high), (low, high), few, near, (low, min(high, low + 2))])

    def _of_floats(self, rng: Rng) -> tuple[float, float]:
        info = torch.finfo(self.dtype)
        self.ordinary = not chance(rng, 0.12)
        if self.ordinary:
            scale = one_of(rng, [1.0, 1.0, 1.0, 255.0, 0.01, 40.0])
        else:
            root = math.sqrt(info.max)
            scales = [root, root / 1e4, info.max / 8, info.tiny, info.tiny * 1e4]
            scales += [math.sqrt(info.tiny), info.tiny * info.eps * 8, 1e3, 1e-3]
            scale = float(one_of(rng, scales))
        offsets = [0.0, 0.0, 0.0, -0.5, -1.0]
        if self.ordinary:
            offsets += [10.0, 300.0, 600.0 if self.dtype is not torch.float16 else 100.0]
        offset = float(one_of(rng, offsets))
        if self.metric == "intersection" and chance(rng, 0.8):
            offset = abs(offset)
        return offset * scale, (offset + 1) * scale


def image_and_kernels(
    rng: Rng,
    values: Values,
    image_shape: tuple[int, ...],
    kernel_shapes: Sequence[tuple[int, ...]],
    dilation: tuple[int, int] = (1, 1),
) -> tuple[Tensor, list[Tensor]]:
    """Draw an image (…, C, H, W) and templates (C, h, w), many of them cut out of the image."""
    scene = pattern(rng, image_shape)
    scenes = scene.reshape(-1, *image_shape[-3:])
    patterns = []
    for shape in kernel_shapes:
        cut = _cut(rng, scenes, shape, dilation) if chance(rng, 0.55) else None
        if cut is None:
            cut = pattern(rng, shape) if chance(rng, 0.85) else np.zeros(shape)
        elif chance(rng, 0.5):
            cut = np.clip(cut + rng.normal(0, 0.05, shape) * (rng.random(shape) < 0.3), 0, 1)
        patterns.append(cut)
    # Means that differ, as of a template that is brought to mean 0.
    kernels = [values(p) for p in patterns]
    often = 0.3 if values.metric in STATISTICS else 0.1
    if not values.whole and values.metric not in ("hsv", "intersection") and chance(rng, often):
        kernels = [(k.double() - k.double().mean()).to(k.dtype) for k in kernels]
    return values(scene), kernels


def _cut(
    rng: Rng, scenes: Array, shape: tuple[int, ...], dilation: tuple[int, int]
) -> Array | None:
    """Cut a template out, or return None where it doesn't fit."""
    extents = [d * (k - 1) + 1 for k, d in zip(shape[1:], dilation, strict=True)]
    room = [size - extent for size, extent in zip(scenes.shape[2:], extents, strict=True)]
    if min(room) < 0 or not len(scenes):
        return None
    y, x = (integer(rng, 0, most) for most in room)
    own = scenes[integer(rng, 0, len(scenes) - 1)]
    cut = own[:, y : y + extents[0] : dilation[0], x : x + extents[1] : dilation[1]]
    return np.ascontiguousarray(cut)


def spoil(rng: Rng, tensor: Tensor) -> Tensor:
    """Put a few NaN and inf in."""
    tensor = tensor.clone(memory_format=torch.contiguous_format)
    for _ in range(integer(rng, 1, 3)):
        bad = one_of(rng, [math.nan, math.inf, -math.inf])
        tensor.view(-1)[integer(rng, 0, tensor.numel() - 1)] = bad
    return tensor


def weights(rng: Rng, shapes: Sequence[tuple[int, ...]], real: bool) -> Tensor:
    """Draw a mask or real weights, of one of these shapes; each template has some."""
    shape = one_of(rng, shapes)
    values = (rng.random(shape) < one_of(rng, [0.3, 0.7, 1.0])).astype(float)
    corner = tuple(integer(rng, 0, size - 1) for size in shape[-2:])
    values[..., corner[0], corner[1]] = 1
    if real:
        sizes = [1.0, 1.0, 1.0, 9.0, 1e-3, 1e3]
        if chance(rng, 0.1):
            values = values * integer(rng, 1, 3) / 2
        else:
            values = values * rng.random(shape) * one_of(rng, sizes)
            values[..., corner[0], corner[1]] += 0.25
        return torch.from_numpy(values).to(one_of(rng, [torch.float32, torch.float64]))
    kinds = [torch.float32, torch.float64, torch.bool, torch.uint8, torch.float16]
    return torch.from_numpy(values).to(one_of(rng, kinds))


def laid_out(rng: Rng, tensor: Tensor) -> Tensor:
    """Lay values out in another way; where strides of 0 need it, other values."""
    kind = one_of(rng, list(_LAYOUTS))
    if not tensor.numel() or chance(rng, 0.4):
        return tensor
    if kind == "negative" and chance(rng, 0.7):
        return tensor
    return _LAYOUTS[kind](rng, tensor)


def _permuted(rng: Rng, tensor: Tensor) -> Tensor:
    return tensor.movedim(-3, -1).contiguous().movedim(-1, -3) if tensor.dim() > 2 else tensor


def _channels_last(rng: Rng, tensor: Tensor) -> Tensor:
    if tensor.dim() != 4:
        return _permuted(rng, tensor)
    return tensor.contiguous(memory_format=torch.channels_last)


def _transposed(rng: Rng, tensor: Tensor) -> Tensor:
    return tensor.mT.contiguous().mT


def _flipped(rng: Rng, tensor: Tensor) -> Tensor:
    return tensor.flip(-1).contiguous().flip(-1)


def _sliced(rng: Rng, tensor: Tensor) -> Tensor:
    """Put values amid others, at an offset and in steps."""
    *leading, height, width = tensor.shape
    (top, left), (down, across) = rng.integers(0, 4, 2).tolist(), rng.integers(1, 4, 2).tolist()
    canvas = tensor.new_empty((*leading, top + down * height, left + across * width))
    canvas.fill_(math.nan if tensor.is_floating_point() else 1)
    canvas[..., top::down, left::across] = tensor
    return canvas[..., top::down, left::across]


def _expanded(rng: Rng, tensor: Tensor) -> Tensor:
    """Repeat values along some axes by strides of 0."""
    for axis in range(tensor.dim()):
        if chance(rng, 0.4):
            tensor = tensor.narrow(axis, 0, 1).expand(tensor.shape)
    return tensor


def _of_numpy(rng: Rng, tensor: Tensor) -> Tensor:
    if tensor.dtype is torch.bfloat16:
        return tensor
    array = np.asarray(tensor.numpy(), order=one_of(rng, ["C", "F"]))
    return torch.from_numpy(array.copy(order="K"))


def _offset(rng: Rng, tensor: Tensor) -> Tensor:
    more = integer(rng, 1, 7)
    flat = torch.cat([tensor.new_ones(more), tensor.flatten()])
    return flat[more:].view(tensor.shape)


def _negative(rng: Rng, tensor: Tensor) -> Tensor:
    if tensor.dtype not in (torch.float32, torch.float64):
        return tensor
    return torch.complex(torch.zeros_like(tensor), -tensor).conj().imag


_LAYOUTS = {
    "permuted": _permuted,
    "channels last": _channels_last,
    "transposed": _transposed,
    "flipped": _flipped,
    "sliced": _sliced,
    "expanded": _expanded,
    "numpy": _of_numpy,
    "offset": _offset,
    "negative": _negative,
}
