"""A metric's pointwise definition as a tree, from which fused kernels are generated."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch

Interval = tuple[int, int]

#: Nodes and depth of what is traced, and the length of its text; and of what is read from a text,
#: derivatives included.
MOST, DEEPEST = 256, 50
MOST_READ, DEEPEST_READ, LONGEST = 2**12, 160, 2**15

#: Beyond what floats hold.
LARGEST = 2**1000

#: Pairs of integers up to which extremes are looked for one by one.
PAIRS = 2**17


class TooLarge(ValueError):
    """An expression has more operations than kernels should be made of."""


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

    def __pow__(self, exponent: int) -> Expression:
        if not isinstance(exponent, int | np.integer) or exponent < 1:
            return NotImplemented
        if exponent * self.size > MOST_READ:
            raise TooLarge(f"a power of {exponent} takes too many operations")
        if exponent == 1:
            return self
        half = self ** (exponent // 2)
        return half * half * self if exponent % 2 else half * half

    def __str__(self) -> str:
        """Write the expression as a text, from which `parse` reads it back."""
        if self.op == "number":
            return repr(self.value)
        if not self.args:
            return self.op
        args = list(map(str, self.args))
        return f"{self.op}({args[0]})" if len(args) == 1 else f"({args[0]}{self.op}{args[1]})"

    @cached_property
    def size(self) -> int:
        """The number of nodes, each as often as it is written."""
        return 1 + sum(arg.size for arg in self.args)

    @cached_property
    def depth(self) -> int:
        """How many nodes lie within each other."""
        return 1 + max((arg.depth for arg in self.args), default=0)

    @cached_property
    def whole(self) -> bool:
        """Whether it is a whole number wherever p and k are."""
        own = self.op != "number" or isinstance(self.value, int) or self.value.is_integer()
        return own and all(arg.whole for arg in self.args)

    @cached_property
    def of_difference(self) -> bool:
        """Whether p and k are met in p − k or k − p only."""
        if self.op == "-" and {arg.op for arg in self.args} == {"p", "k"}:
            return True
        return self.op not in ("p", "k") and all(arg.of_difference for arg in self.args)


Number = int | float | np.integer[Any] | np.floating[Any]
Operand = Expression | Number

P, K = Expression("p"), Expression("k")


def _operation(op: str, a: Operand, b: Operand) -> Expression:
    """Build an operation, leaving out additions of 0 and multiplications by 1."""
    a, b = _expression(a), _expression(b)
    zero, one = _expression(0), _expression(1)
    if op == "*" and one in (a, b):
        return b if a == one else a
    if op != "*" and b == zero:
        return a
    if op == "+" and a == zero:
        return b
    return Expression(op, (a, b))


def _expression(operand: Operand) -> Expression:
    if isinstance(operand, Expression):
        return operand
    if not isinstance(operand, int | float | np.integer | np.floating):
        raise TypeError(f"expected a number, got {operand!r}")
    value = int(operand) if isinstance(operand, int | np.integer) else float(operand)
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise TooLarge("a number is too large")
    # Whole numbers as integers: of tensors of integers floats would make others.
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return Expression("number", value=value)


def sign(x: Expression) -> Expression:
    """Return −1, 0 or 1."""
    return Expression("sign", (x,))


class _Symbol:
    """Stands for a value while a function is traced.

    It knows the operations that expressions have. What else is asked of it, be it a comparison,
    whether it is true, or to be a key, raises: it has no answer.
    """

    __slots__ = ("expression",)
    __array_ufunc__ = None  # so that NumPy's numbers leave operations to it

    def __init__(self, expression: Expression) -> None:
        if expression.size > MOST or expression.depth > DEEPEST:
            raise TooLarge("it takes too many operations")
        self.expression = expression

    def __abs__(self) -> _Symbol:
        return _Symbol(abs(self.expression))

    def __neg__(self) -> _Symbol:
        return _Symbol(-self.expression)

    def __pos__(self) -> _Symbol:
        return self

    def __pow__(self, exponent: Any) -> _Symbol:
        return _Symbol(operator.pow(self.expression, exponent))

    def _unknown(self, *_: Any) -> Any:
        raise TypeError("a symbol has no value")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __hash__ = _unknown


def _binary(apply: Callable[[Any, Any], Expression]) -> Callable[[_Symbol, Any], Any]:
    def method(self: _Symbol, other: Any) -> Any:
        if isinstance(other, _Symbol):
            return _Symbol(apply(self.expression, other.expression))
        if isinstance(other, int | float | np.integer | np.floating):
            return _Symbol(apply(self.expression, _expression(other)))
        return NotImplemented

    return method


def _swapped(apply: Callable[[Any, Any], Expression]) -> Callable[[Any, Any], Expression]:
    return lambda a, b: apply(b, a)


for _name, _apply in (("add", operator.add), ("sub", operator.sub), ("mul", operator.mul)):
    setattr(_Symbol, f"__{_name}__", _binary(_apply))
    setattr(_Symbol, f"__r{_name}__", _binary(_swapped(_apply)))


def trace(function: Callable[[Any, Any], Any]) -> Expression | None:
    """Read off a function's expression; None where it isn't written with + − * ** and abs().

    A function may know what it is given, or not do the same each time: that its expression gives
    the same is to be checked (see `patchsim.kernels.definition`).
    """
    try:
        result = function(_Symbol(P), _Symbol(K))
    except Exception:  # whatever the function does with its arguments
        return None
    if not isinstance(result, _Symbol):
        return None
    found = result.expression
    slopes = (derivative(found, by) for by in "pk")
    fits = all(len(str(text)) <= LONGEST and text.size <= MOST_READ for text in (found, *slopes))
    return found if fits else None


@lru_cache(maxsize=256)
def parse(text: str) -> Expression:
    """Read an expression: what ``str(expression)`` writes, and nothing that could do harm.

    Numbers, p, k, +, −, *, ** with a whole number, abs() and sign(). Texts may come with programs
    that others made, so that they are read node by node, and never run.

    Raises
    ------
    ValueError
        For anything else, and for what is too long or nested too deeply.
    """
    if len(text) > LONGEST:
        raise ValueError(f"an expression has at most {LONGEST} characters, got {len(text)}")
    try:
        tree = ast.parse(text, mode="eval").body
        found = _read(tree, DEEPEST_READ)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        raise ValueError(
            f"{shown!r} is no expression of p and k, written with numbers, +, -, *, **, abs() "
            f"and sign(): {str(error) or 'it is nested too deeply'}"
        ) from None
    return found


_BINARY: dict[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}


def _read(node: ast.expr, deepest: int) -> Expression:
    """Read one node of a text, no deeper than that."""
    if deepest == 0:
        raise TooLarge("it is nested too deeply")
    found = _read_operation(node, deepest - 1)
    if found is None:
        found = _read_leaf(node)
    if found.size > MOST_READ or found.depth > DEEPEST_READ:
        raise TooLarge("it takes too many operations")
    return found


def _read_operation(node: ast.expr, deepest: int) -> Expression | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _read(node.operand, deepest)
        return _expression(-inner.value) if inner.op == "number" else -inner
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        exponent = node.right.value if isinstance(node.right, ast.Constant) else None
        if not isinstance(exponent, int) or exponent < 1:
            raise ValueError("an exponent is a positive whole number")
        return _read(node.left, deepest) ** exponent
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        arguments = _read(node.left, deepest), _read(node.right, deepest)
        return _operation(_BINARY[type(node.op)], *arguments)
    if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name in ("abs", "sign"):
            return Expression(name, (_read(node.args[0], deepest),))
    return None


def _read_leaf(node: ast.expr) -> Expression:
    names = {"p": P, "k": K, "inf": _expression(math.inf), "nan": _expression(math.nan)}
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return _expression(node.value)
    raise ValueError(f"{type(node).__name__} isn't allowed")


def function(of: Expression) -> Callable[[Any, Any], Any]:
    """Turn an expression back into a function of tensors, arrays or numbers."""
    return lambda p, k: _evaluate(of, {P: p, K: k})


def _evaluate(of: Expression, known: dict[Expression, Any]) -> Any:
    """Evaluate an expression, each common subexpression once."""
    if of not in known:
        if of.op == "number":
            return of.value
        args = [_evaluate(arg, known) for arg in of.args]
        known[of] = _OPERATIONS[of.op](*args)
    return known[of]


def _sign_of(x: Any) -> Any:
    return torch.sign(x) if isinstance(x, torch.Tensor) else np.sign(x)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "abs": abs,
    "sign": _sign_of,
}


def derivative(of: Expression, by: str) -> Expression:
    """Differentiate by "p" or "k"; |x| has derivative sign(x), 0 at 0 as in torch."""
    if of.op in ("number", "p", "k"):
        return _expression(int(of.op == by))
    slopes = [derivative(arg, by) for arg in of.args]
    if of.op == "*":
        return _sloped(slopes[0], of.args[1]) + _sloped(slopes[1], of.args[0])
    if of.op == "abs":
        return _sloped(slopes[0], sign(of.args[0]))
    if of.op == "sign":
        return _expression(0)
    return _operation(of.op, *slopes)


def _sloped(slope: Expression, factor: Expression) -> Expression:
    """Multiply a slope, which where it is 0 leaves nothing of the factor, by a factor."""
    return slope if slope == _expression(0) else factor * slope


def interval(of: Expression, p: Interval, k: Interval) -> Interval:
    """Bound an expression of integers, whose numbers are `whole`, in the intervals `p` and `k`."""
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


@lru_cache(maxsize=512)
def reach(of: Expression, values: Interval) -> int:
    """Bound the magnitude of whatever is met in computing an expression of such integers."""
    own = max(map(abs, interval(of, values, values)))
    return max([own, *(reach(arg, values) for arg in of.args)])


@lru_cache(maxsize=512)
def extremes(of: Expression, values: Interval) -> Interval:
    """Return the least and the greatest value of a whole expression of such integers.

    By trying all where these are few, which an expression of p − k alone makes fewer; else bounds.
    """
    low, high = values
    if reach(of, values) < 2**53:
        if of.of_difference and 2 * (high - low) < PAIRS:
            return _extremes(of, np.arange(low - high, high - low + 1), np.array(0))
        if (high - low + 1) ** 2 <= PAIRS:
            every = np.arange(low, high + 1)
            return _extremes(of, every[:, None], every)
    return interval(of, values, values)


def _extremes(of: Expression, p: Any, k: Any) -> Interval:
    found = np.asarray(function(of)(p, k))
    return int(found.min()), int(found.max())
