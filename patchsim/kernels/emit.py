"""Instructions for an expression: which number types it needs, and its LLVM code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from patchsim.kernels import intrinsics
from patchsim.kernels.expression import Expression, Interval, extremes, interval
from patchsim.problem import INTEGER_RANGES, name_of

#: Taps compared in one pass over a run of pixels.
UNROLL = 8


class Arithmetic:
    """The number types in which an expression of values of one dtype is evaluated and summed.

    Floats keep their type. Integers take the narrowest that gives the right result: as +, − and *
    are right modulo 2ⁿ, it must hold the result and what an abs or sign is taken of, no more. A
    group of as many terms as the partial sums can hold is added to them before they are added to
    the total.

    Attributes
    ----------
    possible : bool
        Whether 64 bits suffice for one term, and terms of integers are whole numbers.
    signed : bool
        Whether terms of integers may be negative.
    """

    def __init__(self, expression: Expression, dtype: torch.dtype) -> None:
        self.expression = expression
        self.value = name_of(dtype)
        self.range = INTEGER_RANGES.get(dtype)
        self.width, self.part, self.total, self.group = 0, self.value, self.value, 2**62
        self.signed = False
        if self.range is not None and expression.whole:
            low, high = extremes(expression, self.range)
            self.signed, peak = low < 0, max(high, -low)
            self.width = next((w for w in (8, 16, 32, 64) if self._holds(w)), 0)
            bits = next((b for b in (16, 32) if UNROLL * peak < 2**b and not self.signed), 64)
            # Numba adds int64 and uint64 as floats.
            self.part, self.total = f"uint{bits}" if bits < 64 else "int64", "int64"
            self.group = max(1, (2 ** min(bits, 63) - 1) // max(1, peak))
        self.possible = self.range is None or self.width > 0

    def _interval(self, expression: Expression) -> Interval:
        assert self.range is not None
        return interval(expression, self.range, self.range)

    def _holds(self, width: int) -> bool:
        assert self.range is not None
        low, high = extremes(self.expression, self.range)
        values = sum(self.range) < 2**width and -self.range[0] <= 2 ** (width - 1)
        most = 2 ** (width - self.signed)
        return values and -most <= low and high < most and self._keeps_signs(self.expression, width)

    def _keeps_signs(self, expression: Expression, width: int) -> bool:
        if expression.op in ("abs", "sign") and not _is_difference(expression):
            low, high = self._interval(expression.args[0])
            if low < -(2 ** (width - 1)) or high >= 2 ** (width - 1):
                return False
        return all(self._keeps_signs(arg, width) for arg in expression.args)


def _is_difference(expression: Expression) -> bool:
    """Tell |p − k|, which is max(p, k) − min(p, k) and so needs no bit for a sign."""
    if expression.op != "abs" or expression.args[0].op != "-":
        return False
    return {arg.op for arg in expression.args[0].args} == {"p", "k"}


class _Emitter:
    """Writes an expression as instructions, each common subexpression once."""

    def __init__(self, builder: Any, arithmetic: Arithmetic, variables: dict[str, Any]) -> None:
        from llvmlite import ir  # type: ignore[import-untyped]

        self.builder, self.arithmetic = builder, arithmetic
        self.integer = arithmetic.range is not None
        self.signed = self.integer and arithmetic.range != (0, 255)
        first = next(iter(variables.values()))
        self.type = ir.IntType(arithmetic.width) if self.integer else first.type
        self.done = {Expression(name): self._widened(v) for name, v in variables.items()}

    def _widened(self, value: Any) -> Any:
        if value.type == self.type:
            return value
        return (self.builder.sext if self.signed else self.builder.zext)(value, self.type)

    def emit(self, expression: Expression) -> Any:
        if expression not in self.done:
            self.done[expression] = self._operation(expression)
        return self.done[expression]

    def _operation(self, expression: Expression) -> Any:
        if expression.op == "number":
            return self.type(self._number(expression.value))
        if _is_difference(expression) and self.integer:
            return self._distance(*map(self.emit, expression.args[0].args))
        args = [self.emit(arg) for arg in expression.args]
        if self.integer:
            return self._integer_operation(expression.op, args)
        return self._float_operation(expression.op, args)

    def _number(self, value: float) -> float:
        """Return a number of this type: an integer modulo 2ⁿ, or the nearest float, perhaps inf."""
        number: float
        if self.integer:
            half = 2 ** (self.arithmetic.width - 1)
            number = (int(value) + half) % (2 * half) - half
        else:
            with np.errstate(over="ignore"):
                number = np.dtype(self.arithmetic.value).type(value).item()
        return number

    def _integer_operation(self, op: str, args: list[Any]) -> Any:
        build, zero, one = self.builder, self.type(0), self.type(1)
        if op == "abs":
            negative = build.icmp_signed("<", args[0], zero)
            return build.select(negative, build.neg(args[0]), args[0])
        if op == "sign":
            positive = build.select(build.icmp_signed(">", args[0], zero), one, zero)
            return build.select(build.icmp_signed("<", args[0], zero), build.neg(one), positive)
        return {"+": build.add, "-": build.sub, "*": build.mul}[op](*args)

    def _distance(self, p: Any, k: Any) -> Any:
        compare = self.builder.icmp_signed if self.signed else self.builder.icmp_unsigned
        larger = compare(">", p, k)
        most, least = self.builder.select(larger, p, k), self.builder.select(larger, k, p)
        return self.builder.sub(most, least)

    def _float_operation(self, op: str, args: list[Any]) -> Any:
        build = self.builder
        if op == "abs":
            return build.call(build.module.declare_intrinsic("llvm.fabs", [self.type]), args)
        if op == "sign":
            ordered = (build.fcmp_ordered(sign, args[0], self.type(0)) for sign in "><")
            above, below = (build.uitofp(bit, self.type) for bit in ordered)
            return build.fsub(above, below)
        return {"+": build.fadd, "-": build.fsub, "*": build.fmul}[op](*args)


def intrinsic(arithmetic: Arithmetic, names: Sequence[str]) -> Any:
    """Make term(sum, values of `names`) -> sum + the expression, a function for Numba's code."""
    from llvmlite import ir
    from numba import types

    expression = arithmetic.expression
    for factor in ("w", "g"):
        if factor in names:
            expression = Expression(factor) * expression

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        emitter = _Emitter(builder, arithmetic, dict(zip(names, values[1:], strict=True)))
        value = emitter.emit(expression)
        if arithmetic.range is None:
            return builder.fadd(values[0], value)
        part = ir.IntType(int(arithmetic.part.lstrip("uint")))
        widen = builder.sext if arithmetic.signed else builder.zext
        widen = widen if part.width > arithmetic.width else builder.trunc
        return builder.add(values[0], value if part == value.type else widen(value, part))

    part, value = getattr(types, arithmetic.part), getattr(types, arithmetic.value)
    return intrinsics.intrinsic(part(part, *[value] * len(names)), generate, ["part", *names])
