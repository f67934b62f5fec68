"""Keeps what is set around a call, and how its tensors are kept, from changing the answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from patchsim import threads

P = ParamSpec("P")
R = TypeVar("R")


def independent(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function compute the same under autocast and default devices, and after a fork.

    Autocast would compute in half precision; a default device, or another mode of torch's
    functions, would change where tensors are made.
    """

    @wraps(function)
    def alike(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        if threads.forked:
            threads.settle()
        if not (torch._C._len_torch_function_stack() or torch._C._is_any_autocast_enabled()):
            return function(*args, **kwargs)
        with torch._C.DisableTorchFunction(), torch._C._DisableAutocast():
            return function(*args, **kwargs)

    return alike


def plain(name: str, tensor: Any) -> Any:
    """Return a tensor of torch's own class whose memory holds its numbers as they are.

    That is without subclasses, such as parameters or images with boxes, and without the mark that
    a view of complex numbers carries where its numbers are to be negated. What isn't a tensor is
    returned as it is.
    """
    if torch.compiler.is_compiling():  # which traces stand-ins of its own
        return tensor
    if type(tensor) is not Tensor:
        if not isinstance(tensor, Tensor):
            return tensor
        tensor = _of_subclass(name, tensor)
    return tensor.resolve_neg() if tensor.is_neg() else tensor


def _of_subclass(name: str, tensor: Tensor) -> Tensor:
    if type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        raise TypeError(
            f"`{name}` is a {type(tensor).__qualname__}, which computes in its own way or holds no "
            "numbers; convert it to a plain torch.Tensor"
        )
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor)


def refuse_transforms(name: str) -> None:
    """Raise inside `torch.func`'s grad, vmap and the like."""
    if torch._C._are_functorch_transforms_active():
        raise TypeError(f"torch.func can't transform {name}: it has no derivative")
