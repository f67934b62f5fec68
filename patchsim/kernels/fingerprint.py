"""What a function depends on, as a text: two functions with the same one compute the same."""

from __future__ import annotations

import dis
import math
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType
from typing import Any

import numpy as np
import torch

#: Plain values, which their text tells.
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), np.number, np.bool_)
#: Modules whose contents don't change.
_MODULES = (math, np, torch)


class Unknown(Exception):
    """A function depends on what has no text of its own, or may change."""


def fingerprint(function: Callable[..., Any]) -> str | None:
    """Describe a function's code, defaults, closure and globals, and those of what it calls.

    None where that can't be done: for what is no plain function, or refers to objects that may
    change.
    """
    if not isinstance(function, FunctionType):
        return None
    try:
        return _of(function, ())
    except Unknown:
        return None


def _of(value: Any, callers: tuple[Any, ...]) -> str:
    if any(value is caller for caller in callers):
        return f"call {len(callers)}"  # of itself, or of what calls it
    if isinstance(value, _PLAIN):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, tuple | frozenset):
        return f"{type(value).__name__} {[_of(part, callers) for part in _in_order(value)]}"
    if isinstance(value, CodeType):
        parts = [_of(part, callers) for part in value.co_consts]
        names = value.co_names, value.co_freevars, value.co_flags
        return f"code {value.co_code!r} {parts} {names}"
    if isinstance(value, FunctionType):
        return f"function {[_of(part, (*callers, value)) for part in _parts(value)]}"
    if isinstance(value, BuiltinFunctionType | np.ufunc):
        return f"builtin {getattr(value, '__module__', '')} {value.__name__}"
    if any(value is module for module in _MODULES):
        return f"module {value.__name__}"
    raise Unknown


def _in_order(values: tuple[Any, ...] | frozenset[Any]) -> list[Any]:
    """Return values in an order that doesn't depend on the process."""
    return sorted(values, key=repr) if isinstance(values, frozenset) else list(values)


def _parts(function: FunctionType) -> Iterator[Any]:
    """Go through what a function is made of and refers to."""
    yield from (function.__code__, function.__defaults__)
    yield from (item for pair in sorted((function.__kwdefaults__ or {}).items()) for item in pair)
    try:
        yield from (cell.cell_contents for cell in function.__closure__ or ())
    except ValueError:  # nothing is in it yet
        raise Unknown from None
    for name in sorted(set(_globals(function.__code__))):
        if name in function.__globals__:
            yield from (name, function.__globals__[name])


def _globals(code: CodeType) -> Iterator[str]:
    """List the globals that code, and functions within it, ask for."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _globals(part)
