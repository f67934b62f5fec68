"""A metric's pointwise definition as a tree, from which fused kernels are generated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Interval = tuple[int, int]


@dataclass(frozen=True)
class Expression:
    """A number, a variable ("p" or "k") or an operation on expressions.

    ``op`` is "number", "p", "k", "+", "-", "*", "abs" or "sign".
    """

    op: str
    args: tuple[Expression, ...] = ()
    value: float = 0

    def __add__(self, other: Operand) -> Expression:
        return _operation("+", self, other)

    def __radd__(self, other: Operand) -> Expression:
        return _operation("+", other, self)

    def __sub__(self, other: Operand) -> Expression:
        return _operation("-", self, other)

    def __rsub__(self, other: Operand) -> Expression:
        return _operation("-", other, self)

    def __mul__(self, other: Operand) -> Expression:
        return _operation("*", self, other)

    def __rmul__(self, other: Operand) -> Expression:
        return _operation("*", other, self)

    def __neg__(self) -> Expression:
        return 0 - self

    def __abs__(self) -> Expression:
        return Expression("abs", (self,))

    def sign(self) -> Expression:
        """Return −1, 0 or 1."""
        return Expression("sign", (self,))

    def __pow__(self, exponent: int) -> Expression:
        if not isinstance(exponent, int) or exponent < 1:
            return NotImplemented
        half = self ** (exponent // 2) if exponent > 1 else self
        if exponent == 1:
            return self
        return half * half * self if exponent % 2 else half * half

    def __str__(self) -> str:
        """Write the expression as Python, from which `parse` reads it back."""
        if self.op == "number":
            return repr(self.value)
        if not self.args:
            return self.op
        args = [str(arg) for arg in self.args]
        return f"{self.op}({args[0]})" if len(args) == 1 else f"({args[0]}{self.op}{args[1]})"


Operand = Expression | int | float

P, K = Expression("p"), Expression("k")


def _operation(op: str, a: Operand, b: Operand) -> Expression:
    """Build an operation, leaving out additions of 0 and multiplications by 0 and 1."""
    a, b = _expression(a), _expression(b)
    zero, one = _expression(0), _expression(1)
    if op == "*":
        if zero in (a, b):
            return zero
        if one in (a, b):
            return b if a == one else a
    elif b == zero:
        return a
    elif op == "+" and a == zero:
        return b
    return Expression(op, (a, b))


def _expression(operand: Operand) -> Expression:
    if isinstance(operand, Expression):
        return operand
    if not isinstance(operand, int | float):
        raise TypeError(f"expected a number, got {operand!r}")
    return Expression("number", value=operand)


@lru_cache(maxsize=256)
def trace(function: Callable[[Any, Any], Any]) -> Expression | None:
    """Read off a function's expression; None where it isn't written with + − * ** and abs()."""
    try:
        result = function(P, K)
    except Exception:  # whatever the function does with its arguments
        return None
    return result if isinstance(result, Expression) else None


@lru_cache(maxsize=256)
def parse(text: str) -> Expression:
    """Read what ``str(expression)`` wrote."""
    names = {"p": P, "k": K, "abs": abs, "sign": Expression.sign}
    return _expression(eval(text, {"__builtins__": {}}, names))


def function(of: Expression) -> Callable[[Any, Any], Any]:
    """Turn an expression without sign() back into a function of tensors or numbers."""
    return lambda p, k: eval(str(of), {"__builtins__": {}}, {"p": p, "k": k, "abs": abs})


def derivative(of: Expression, by: str) -> Expression:
    """Differentiate by "p" or "k"; |x| has derivative sign(x), 0 at 0 as in torch."""
    if of.op in ("number", "p", "k"):
        return _expression(int(of.op == by))
    slopes = [derivative(arg, by) for arg in of.args]
    if of.op == "*":
        return slopes[0] * of.args[1] + of.args[0] * slopes[1]
    if of.op == "abs":
        return of.args[0].sign() * slopes[0]
    if of.op == "sign":
        return _expression(0)
    return _operation(of.op, *slopes)


def interval(of: Expression, p: Interval, k: Interval) -> Interval:
    """Bound an expression of integers in the intervals `p` and `k`."""
    if of.op in ("p", "k"):
        return p if of.op == "p" else k
    if of.op == "number":
        return int(of.value), int(of.value)
    ranges = [interval(arg, p, k) for arg in of.args]
    (low, high), (least, most) = ranges[0], ranges[-1]
    if of.op == "+":
        return low + least, high + most
    if of.op == "-":
        return low - most, high - least
    if of.op == "sign":
        return -1, 1
    if of.op == "abs" or of.args[0] == of.args[1]:
        magnitudes = [abs(low), abs(high)]
        smallest = 0 if low <= 0 <= high else min(magnitudes)
        power = 1 if of.op == "abs" else 2
        return int(smallest**power), int(max(magnitudes) ** power)
    products = [a * b for a in (low, high) for b in (least, most)]
    return min(products), max(products)
