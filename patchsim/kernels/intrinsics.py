"""Functions for Numba's code that are written as LLVM code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

#: Bytes of a line of a cache.
LINE = 64


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


def prefetch(build: Any, place: Any) -> None:
    """Write code that has what will be read at an address, which needn't exist, fetched ahead."""
    from llvmlite import ir  # type: ignore[import-untyped]

    byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
    instruction = build.module.declare_intrinsic("llvm.prefetch", [byte], kind)
    build.call(instruction, [build.inttoptr(place, byte), word(0), word(3), word(1)])


def fetching() -> Any:
    """Make a function for Numba's code: (address, bytes), which prefetches so many bytes there."""

    def code(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        from numba.core import cgutils

        address, size = arguments
        lines = build.add(build.udiv(size, size.type(LINE)), size.type(1))
        with cgutils.for_range(build, lines) as loop:
            prefetch(build, build.add(address, build.mul(loop.index, size.type(LINE))))
        return context.get_dummy_value()

    return of_addresses(code, 2)


def shuffling(bits: int, reach: int, places: Sequence[int]) -> Any:
    """Make a function for Numba's code: (target, source), both addresses.

    It reads so many numbers, of so many bits, and writes those at these places among them.
    """

    def code(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        from llvmlite import ir

        word = ir.IntType(32)
        given, found = (ir.VectorType(ir.IntType(bits), n) for n in (reach, len(places)))
        target, source = arguments
        values = build.load(build.inttoptr(source, given.as_pointer()))
        values.align = 1
        which = ir.Constant(ir.VectorType(word, len(places)), places)
        result = build.shuffle_vector(values, values, which)
        build.store(result, build.inttoptr(target, found.as_pointer())).align = 1
        return context.get_dummy_value()

    return of_addresses(code, 2)
