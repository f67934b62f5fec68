"""Where the windows lie: the geometry of a sliding comparison, without any data.

Letters used in shapes throughout the package:
``B`` batch, ``N`` templates, ``C`` channels, ``H W`` image height and width,
``h w`` template height and width, ``Ho Wo`` map height and width.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cache, lru_cache, partial
from typing import Any, Literal

import numpy as np
import torch
from torch._C import _are_functorch_transforms_active as _functions_active
from torch.autograd import forward_ad

IntOrPair = int | Sequence[int]
Padding = IntOrPair | str
Pair = tuple[int, int]
Weighting = Literal["none", "mask", "real"]

#: The least and greatest value of each integer dtype (bool counts as 0 and 1).
INTEGER_RANGES: dict[torch.dtype, Pair] = {
    torch.bool: (0, 1),
    torch.uint8: (0, 255),
    torch.int16: (-32768, 32767),
}
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DTYPES = (*FLOATS, *INTEGER_RANGES)


@cache
def name_of(dtype: torch.dtype) -> str:
    """Return a dtype's name, which NumPy and Numba share."""
    return str(dtype).removeprefix("torch.")


def dtype_of(array: np.ndarray[Any, Any]) -> torch.dtype:
    """Return torch's dtype of an array's numbers."""
    dtype: torch.dtype = getattr(torch, array.dtype.name)
    return dtype


@dataclass(frozen=True)
class Problem:
    """Shapes, stride, padding, dilation, dtype and device of one comparison.

    ``pads`` are the zeros asked for at (top, bottom, left, right). ``grad`` tells whether there are
    derivatives, and ``transformed`` whether by forward mode or a transform of torch.func.

    Attributes
    ----------
    taps : int
        Numbers in one template, C·h·w.
    extent : (int, int)
        Pixels that a dilated template covers, d·(h−1)+1 on each axis.
    padded_size : (int, int)
        Image size with the requested padding, without overhang.
    overhang : (int, int)
        Rows and columns of zeros that complete a window beyond the bottom and right edge: there
        is one where the template is larger than the padded image by less than a stride (Coq:
        ``overhang``).
    map_size : (int, int)
        int((H − h) / stride) + 1, the division truncated toward zero (Coq: ``windows_inside``,
        ``no_window``).
    value_range : (int, int) or None
        Least and greatest value of an integer dtype; None when sums are not exact integers:
        integers under real-valued weights are summed in float64.
    value_dtype : torch.dtype
        The dtype in which values reach a backend.
    map_dtype : torch.dtype
        The dtype of similarity and mean-distance maps.
    """

    batch: int
    channels: int
    image_size: Pair
    templates: int
    kernel_size: Pair
    stride: Pair = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    weighting: Weighting = "none"
    grad: bool = False
    transformed: bool = False

    taps: int = field(init=False, repr=False, compare=False)
    extent: Pair = field(init=False, repr=False, compare=False)
    padded_size: Pair = field(init=False, repr=False, compare=False)
    overhang: Pair = field(init=False, repr=False, compare=False)
    map_size: Pair = field(init=False, repr=False, compare=False)
    value_range: Pair | None = field(init=False, repr=False, compare=False)
    value_dtype: torch.dtype = field(init=False, repr=False, compare=False)
    map_dtype: torch.dtype = field(init=False, repr=False, compare=False)
    _hash: int = field(init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        return self._hash

    def __post_init__(self) -> None:
        (height, width), (top, bottom, left, right) = self.image_size, self.pads
        (h, w), (dy, dx), (sy, sx) = self.kernel_size, self.dilation, self.stride
        rows, cols = extent = dy * (h - 1) + 1, dx * (w - 1) + 1
        padded = height + top + bottom, width + left + right
        sizes = _windows(padded[0], rows, sy), _windows(padded[1], cols, sx)
        if min(sizes) < 1:
            raise ValueError(
                f"no window fits: the template covers {rows}x{cols} pixels (dilation included) and "
                f"the image has {padded[0]}x{padded[1]} (padding included); at stride "
                f"{self.stride} a template may overhang the image by less than one stride. Use a "
                "smaller template or more padding"
            )
        value_range = None if self.weighting == "real" else INTEGER_RANGES.get(self.dtype)
        if self.dtype in INTEGER_RANGES:
            integer = torch.uint8 if self.dtype is torch.bool else self.dtype
            value_dtype = integer if value_range else torch.float64
        else:
            value_dtype = torch.float64 if self.dtype is torch.float64 else torch.float32
        # Computed once here, as every call needs them several times.
        derive = partial(object.__setattr__, self)
        derive("taps", self.channels * h * w)
        derive("extent", extent)
        derive("padded_size", padded)
        derive("overhang", (max(0, rows - padded[0]), max(0, cols - padded[1])))
        derive("map_size", sizes)
        derive("value_range", value_range)
        derive("value_dtype", value_dtype)
        derive("map_dtype", torch.float32 if self.dtype in INTEGER_RANGES else self.dtype)
        compared = (getattr(self, own.name) for own in fields(self) if own.compare)
        derive("_hash", hash(tuple(compared)))  # a problem is a key of many tables


def _windows(size: int, extent: int, stride: int) -> int:
    difference = size - extent
    return (difference // stride if difference >= 0 else -(-difference // stride)) + 1


def as_pair(name: str, value: IntOrPair, least: int) -> Pair:
    """Read an int or a pair of ints (a sequence, array or tensor) that are at least `least`."""
    given = value
    if isinstance(value, np.ndarray | torch.Tensor):
        value = value.tolist()
    try:
        numbers = (
            tuple(operator.index(v) for v in value)
            if isinstance(value, Sequence) and not isinstance(value, str)
            else (operator.index(value),) * 2
        )
    except TypeError:
        numbers = ()
    if len(numbers) != 2:
        raise TypeError(f"`{name}` takes an int or a pair of ints, got {given!r}")
    if min(numbers) < least:
        raise ValueError(f"`{name}` must be at least {least}, got {given!r}")
    return numbers[0], numbers[1]


def _whole(name: str, value: IntOrPair, least: int) -> IntOrPair:
    """Leave ints, and read anything else: 1.0 must not be taken for the 1 of a cached call."""
    if type(value) is int or (type(value) is tuple and [*map(type, value)] == [int, int]):
        return value
    return as_pair(name, value, least)


def _pads(padding: Padding, kernel: Pair, stride: Pair, dilation: Pair) -> tuple[int, ...]:
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        if stride != (1, 1):
            raise ValueError(f'padding="same" needs stride 1, as in conv2d, got stride {stride}')
        y, x = (d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
        return y // 2, y - y // 2, x // 2, x - x // 2
    if isinstance(padding, str):
        raise ValueError(
            f'`padding` takes an int, a pair of ints, "valid" or "same", got {padding!r}'
        )
    y, x = as_pair("padding", padding, 0)
    return y, y, x, x


def problem_of(
    image: torch.Tensor,
    kernel: torch.Tensor,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    weighting: Weighting = "none",
) -> Problem:
    """Check an image against templates that are checked, and describe their comparison."""
    check_tensor("image", image)
    return _problem(
        (tuple(image.shape), tuple(kernel.shape)),
        (image.dtype, kernel.dtype),
        (image.device, kernel.device),
        _whole("stride", stride, 1),
        padding if isinstance(padding, str) else _whole("padding", padding, 0),
        _whole("dilation", dilation, 1),
        weighting,
        *_derivatives(image, kernel),
    )


def check_pair(image: torch.Tensor, kernel: torch.Tensor) -> None:
    """Check two tensors against each other, but for whether a window fits."""
    check_tensor("image", image)
    check_tensor("kernel", kernel)
    _check_shapes(tuple(image.shape), tuple(kernel.shape))
    _check_dtypes(image.dtype, kernel.dtype)
    _check_devices(image.device, kernel.device)


#: Shapes that are known.
_SHAPES = {"image": "(C, H, W) or (B, C, H, W)", "kernel": "(C, h, w) or (N, C, h, w)"}


def check_tensor(name: str, tensor: torch.Tensor) -> None:
    """Check an image or templates by themselves."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(
            f"`{name}` must be a torch.Tensor, got {type(tensor).__module__}."
            f"{type(tensor).__qualname__}; torch.as_tensor converts arrays and lists"
        )
    if tensor.layout is not torch.strided or tensor.is_nested:
        check_dense(name, tensor)
    shape = tensor.shape
    if len(shape) not in (3, 4):
        hint = ". What is grey has one channel: (C, H, W) by .unsqueeze(0)" * (len(shape) == 2)
        raise ValueError(f"`{name}` must have shape {_SHAPES[name]}, got {tuple(shape)}{hint}")
    if 0 in (shape[-3:] if name == "image" else shape):
        raise ValueError(f"`{name}` is empty: its shape is {tuple(shape)}")
    if tensor.dtype not in DTYPES:
        _refuse_dtype(name, tensor.dtype)


def check_dense(name: str, tensor: torch.Tensor) -> None:
    """Refuse tensors whose numbers don't lie side by side: sparse or nested ones."""
    if tensor.is_nested:
        kind, way = "nested", "pass its tensors one by one, or padded to one size"
    elif tensor.layout is not torch.strided:
        kind, way = f"laid out as {tensor.layout}", "convert it with .to_dense()"
    else:
        return
    raise TypeError(f"`{name}` must be a dense tensor, got one that is {kind}; {way}")


def _derivatives(image: torch.Tensor, kernel: torch.Tensor) -> tuple[bool, bool]:
    """Tell whether there are derivatives, and whether these are of the kind `transformed`."""
    if _functions_active() and not torch.compiler.is_compiling():
        _check_not_mapped(image, kernel)
        return True, True
    if forward_ad._current_level >= 0:  # which is cheap to ask
        duals = map(forward_ad.unpack_dual, (image, kernel))
        if any(dual.tangent is not None for dual in duals):
            return True, True
    return torch.is_grad_enabled() and (image.requires_grad or kernel.requires_grad), False


def _check_not_mapped(*tensors: torch.Tensor) -> None:
    functorch = torch._C._functorch
    for tensor in tensors:
        inner = tensor
        while functorch.is_functorch_wrapped_tensor(inner):
            if functorch.is_batchedtensor(inner):
                raise TypeError(
                    "patchsim can't be mapped by torch.func.vmap; it takes batches itself: images "
                    "(B, C, H, W) and templates (N, C, h, w)"
                )
            inner = functorch.get_unwrapped(inner)


Shape = tuple[int, ...]

#: Rows and columns that pictures have at least, whose last axis then is taken for colours.
PICTURE = 16


@lru_cache(maxsize=512)
def _problem(
    shapes: tuple[Shape, Shape],
    dtypes: tuple[torch.dtype, torch.dtype],
    devices: tuple[torch.device, torch.device],
    stride: IntOrPair,
    padding: Padding,
    dilation: IntOrPair,
    weighting: Weighting,
    grad: bool,
    transformed: bool,
) -> Problem:
    _check_shapes(*shapes)
    _check_dtypes(*dtypes)
    _check_devices(*devices)
    image, kernel = shapes
    strides, dilations = as_pair("stride", stride, 1), as_pair("dilation", dilation, 1)
    size = kernel[-2], kernel[-1]
    top, bottom, left, right = _pads(padding, size, strides, dilations)
    return Problem(
        batch=image[0] if len(image) == 4 else 1,
        channels=image[-3],
        image_size=(image[-2], image[-1]),
        templates=kernel[0] if len(kernel) == 4 else 1,
        kernel_size=size,
        stride=strides,
        pads=(top, bottom, left, right),
        dilation=dilations,
        dtype=dtypes[0],
        device=devices[0],
        weighting=weighting,
        grad=grad,
        transformed=transformed,
    )


def _check_shapes(image: Shape, kernel: Shape) -> None:
    if image[-3] != kernel[-3]:
        raise ValueError(
            f"`image` has {image[-3]} channels and `kernel` has {kernel[-3]}, in shapes {image} "
            f"and {kernel}; both need the same number{_hint(image, kernel)}"
        )
    # Pictures of equal height, taken for features of as many channels as they are high.
    last = image[-1]
    if last == kernel[-1] and last in (3, 4) and min(image[-3], image[-2]) >= PICTURE:
        raise ValueError(
            f"`image` and `kernel` look channels-last, in shapes {image} and {kernel}: bring "
            f"channels first with {_permute(image)}. If they do have {image[-3]} channels and are "
            f"only {last} wide, swap height and width of both with .transpose(-1, -2)"
        )


def _hint(image: Shape, kernel: Shape) -> str:
    """Say which of two shapes look channels-last, if any."""
    likely = [
        f"`{name}` looks channels-last: bring channels first with {_permute(shape)}"
        for name, shape in (("image", image), ("kernel", kernel))
        if shape[-1] <= 4 < shape[-3]
    ]
    return "".join(f". {text}" for text in likely)


def _permute(shape: Shape) -> str:
    return ".permute(2, 0, 1)" if len(shape) == 3 else ".permute(0, 3, 1, 2)"


def _check_devices(image: torch.device, kernel: torch.device) -> None:
    if image != kernel:
        raise ValueError(f"`image` is on {image} and `kernel` is on {kernel}; move one with .to()")
    if image.type == "meta":
        raise ValueError(
            "`image` and `kernel` are on the meta device, where tensors hold no numbers; make them "
            "on another one"
        )


def _check_dtypes(image: torch.dtype, kernel: torch.dtype) -> None:
    if image is not kernel:
        raise TypeError(f"`image` is {image} and `kernel` is {kernel}; convert one with .to()")


def _refuse_dtype(name: str, dtype: torch.dtype) -> None:
    known = ", ".join(map(name_of, DTYPES))
    way = "convert it with .to()"
    if dtype.is_complex:
        way = "take .real or .abs()"
    elif "q" in name_of(dtype):
        way = "take .dequantize()"
    raise TypeError(f"`{name}` has dtype {dtype}; {way} to one of {known}")
