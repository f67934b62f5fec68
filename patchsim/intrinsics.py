"""Functions for Numba's code that are written as LLVM code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def intrinsic(signature: Any, code: Callable[..., Any], names: Iterable[str]) -> Any:
    """Make a function of arguments of these names; `code` writes what it does, as for Numba."""
    from numba import extending

    namespace = {"definition": (signature, code)}
    # Numba wants every argument by name.
    exec(f"def intrinsic(context, {', '.join(names)}): return definition", namespace)
    return extending.intrinsic(namespace["intrinsic"])


def of_addresses(code: Callable[..., Any], count: int) -> Any:
    """Make a function of so many addresses or other numbers, which returns nothing."""
    from numba import types

    names = (f"number{i}" for i in range(count))
    return intrinsic(types.void(*[types.int64] * count), code, names)
