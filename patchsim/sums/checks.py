"""Checks of what operators are called with: a program that others exported can ask for anything.

The kernels behind them check nothing, so that what doesn't fit would read memory beyond a tensor.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from patchsim.kernels.emit import Arithmetic
from patchsim.kernels.expression import extremes, parse
from patchsim.problem import INTEGER_RANGES, Pair, name_of

#: What kernels are generated for.
DTYPES = (torch.float32, torch.float64, torch.uint8, torch.int16)


def check(
    image: Tensor,
    kernel: Tensor,
    weight: Tensor | None,
    expression: str,
    stride: Sequence[int],
    dilation: Sequence[int],
    gradient: Tensor | None = None,
) -> tuple[Pair, Pair]:
    """Check the arguments of an operator; return stride and dilation as pairs.

    A stride that leaves one window is made no longer than the image.

    Raises
    ------
    ValueError, TypeError
        For what the operator of `patchsim.sums.slide` of that name isn't made for.
    """
    _check_shapes(image, kernel, weight)
    _check_kinds(image, kernel, weight, gradient)
    steps, apart = _pair("stride", stride), _pair("dilation", dilation)
    lengths = list(zip(image.shape[2:], kernel.shape[2:], steps, apart, strict=True))
    map_size = []
    for length, taps, step, gap in lengths:
        covered = gap * (taps - 1) + 1
        if covered > length:
            raise ValueError(
                f"no window fits: `kernel` covers {covered} pixels (dilation included) of "
                f"{length} that `image` has, in shapes {tuple(kernel.shape)} and "
                f"{tuple(image.shape)}"
            )
        map_size.append((length - covered) // step + 1)
    if gradient is not None and gradient.shape != (len(image), len(kernel), *map_size):
        raise ValueError(
            f"`gradient` must have the shape of the sums, {(len(image), len(kernel), *map_size)}, "
            f"got {tuple(gradient.shape)}"
        )
    _check_sums(image.dtype, kernel[0].numel() if len(kernel) else 0, weight, expression)
    (height, width), (down, across) = image.shape[2:], steps
    return (min(down, height), min(across, width)), apart


def _check_shapes(image: Tensor, kernel: Tensor, weight: Tensor | None) -> None:
    for name, tensor in (("image", image), ("kernel", kernel)):
        if tensor.dim() != 4 or 0 in tensor.shape[1:]:
            raise ValueError(f"`{name}` must have four dimensions, got {tuple(tensor.shape)}")
    if image.shape[1] != kernel.shape[1]:
        raise ValueError(f"`image` has {image.shape[1]} channels, `kernel` {kernel.shape[1]}")
    if weight is not None and weight.shape != kernel.shape:
        raise ValueError(
            f"`weight` must have the shape of `kernel`, {tuple(kernel.shape)}, got "
            f"{tuple(weight.shape)}"
        )


def _check_kinds(
    image: Tensor, kernel: Tensor, weight: Tensor | None, gradient: Tensor | None
) -> None:
    if image.dtype not in DTYPES or (gradient is not None and not image.is_floating_point()):
        known = DTYPES if gradient is None else DTYPES[:2]
        names = ", ".join(map(name_of, known))
        raise TypeError(f"`image` must be of {names}, got {name_of(image.dtype)}")
    others = {"kernel": kernel, "weight": weight, "gradient": gradient}
    for name, tensor in others.items():
        if tensor is not None and (tensor.dtype, tensor.device) != (image.dtype, image.device):
            raise TypeError(
                f"`{name}` is of {name_of(tensor.dtype)} on {tensor.device}, `image` of "
                f"{name_of(image.dtype)} on {image.device}: they must be the same"
            )


def _pair(name: str, given: Sequence[int]) -> Pair:
    if len(given) != 2 or min(given) < 1:
        raise ValueError(f"`{name}` must be two numbers of at least 1, got {list(given)}")
    return int(given[0]), int(given[1])


def _check_sums(dtype: torch.dtype, taps: int, weight: Tensor | None, expression: str) -> None:
    """Check that the expression can be read and, of integers, that 64 bits hold all sums."""
    found = parse(expression)
    if dtype not in INTEGER_RANGES:
        return
    if not Arithmetic(found, dtype).possible:
        raise ValueError(
            f"{expression} of {name_of(dtype)} isn't a whole number that 64 bits hold: use floats"
        )
    if taps * max(map(abs, extremes(found, INTEGER_RANGES[dtype]))) >= 2**63:
        raise ValueError(f"sums of {expression} of {name_of(dtype)} exceed 2**63: use floats")
    if weight is not None and not bool(((weight == 0) | (weight == 1)).all()):
        raise ValueError("`weight` of integers must be 0 or 1: use floats")
