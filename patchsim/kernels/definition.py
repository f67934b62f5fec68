"""What can be known of a metric's definition, which users may have written in any way.

Expressions are read off functions that know nothing of it, and could be others than what these
compute. So each is compared with its function, on a few numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from patchsim.kernels import expression as expressions
from patchsim.kernels.expression import Expression, Interval, trace
from patchsim.metrics.base import Metric, Scalar, Term

#: Numbers to try functions with, and those of them that any definition should know.
UNIT = (0.0, 0.125, 0.5, 0.75, 1.0)
NUMBERS = (*UNIT, -1.0, -2.5, 2.0, 3.0, 7.0, -40.0, 100.0, 255.0)

#: How far what is the same up to rounding can be off, as a share of the largest number met.
ROUNDING = 1e-9

Function = Callable[[Any, Any], Any]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Definition:
    """How a metric's d is to be computed, and what is known of it.

    Attributes
    ----------
    expression : Expression or None
        What it is written as; None where it isn't written with + − * ** and abs().
    function : callable
        d of tensors of floats; leaves them as they are.
    whole : bool
        Whether d of integers is known to be a whole number, and so are its expansion's terms.
    invariant : bool
        Whether d(p + c, k + c) = d(p, k), as the metric says.
    positive, finite : bool
        Whether d was never negative, and always finite, when tried.
    """

    expression: Expression | None
    function: Function
    whole: bool
    invariant: bool
    positive: bool
    finite: bool


def _constant(function: Callable[..., Result]) -> Callable[..., Result]:
    """Let torch.compile call a function while it traces, and keep what it returns.

    As `torch.compiler.assume_constant_result`, which imports the compiler, does.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@lru_cache(maxsize=512)
@_constant
def definition(metric: Metric) -> Definition:
    """Read a metric's definition, once.

    Raises
    ------
    ValueError
        If it writes into its arguments.
    """
    return _apart(_read, metric)


@lru_cache(maxsize=512)
@_constant
def checked(metric: Metric) -> bool:
    """Tell that what a metric says of its definition holds where it is tried.

    Raises
    ------
    ValueError
        If its expansion is of something else, or its majorant isn't one.
    """
    return _apart(_check, metric)


def _apart(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a thread of its own.

    What torch is told to do otherwise, as by torch.export, holds for one thread.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()


def expression_of(metric: Metric) -> Expression | None:
    """Return what a metric's d is written as, if it can be told."""
    return definition(metric).expression


@lru_cache(maxsize=512)
@_constant
def text_of(metric: Metric) -> str:
    """Return the same as a text, "None" for None."""
    return str(definition(metric).expression)


@lru_cache(maxsize=512)
@_constant
def exact(metric: Metric, values: Interval) -> bool:
    """Tell whether sums of integers in that range are sums of whole numbers."""
    known = definition(metric)
    return known.whole if known.expression else known.whole and _table(metric, values) is not None


@lru_cache(maxsize=512)
@_constant
def extremes(metric: Metric, values: Interval) -> Interval:
    """Return the least and the greatest d of such integers, of a metric that is `exact`; or bounds.

    They are whole numbers.
    """
    found = definition(metric).expression
    known = expressions.extremes(found, values) if found else _table(metric, values)
    assert known is not None
    return known


def peak(metric: Metric, values: Interval) -> int:
    """Return the largest magnitude of the same."""
    low, high = extremes(metric, values)
    return max(high, -low)


def reach(metric: Metric, values: Interval) -> int:
    """Bound the magnitudes of what is met in computing it: the arithmetic must hold them all.

    Of what isn't an expression nothing is known: it was tried in float64, and is to be computed so.
    """
    found = definition(metric).expression
    return expressions.reach(found, values) if found else 2**53


def function(metric: Metric, dtype: torch.dtype) -> Function:
    """Return d as a function of tensors of a dtype.

    Integers would become floats where numbers are written as such: their expression has integers.
    """
    known = definition(metric)
    if dtype.is_floating_point or known.expression is None:
        return known.function
    return expressions.function(known.expression)


def _read(metric: Metric) -> Definition:
    wide = _grid_of(metric)
    with torch.no_grad():
        found, changes = _traced(metric.pointwise), _changes(metric.pointwise)
        if changes and found is None:
            raise ValueError(
                f"`pointwise` of metric {metric.name!r} changes the tensors that it is given; "
                "write p = p - k, not p -= k"
            )
        values = _tried(metric.pointwise, *wide)
        values = torch.zeros(()) if values is None else values
        invariant = metric.invariant and _moves(metric.pointwise)
    # What isn't an expression may still be a whole number: see `_table`.
    whole = (found is None or found.whole) and all(map(_whole, metric.expansion))
    chosen = expressions.function(found) if changes and found else metric.pointwise
    if not _keeps_dtype(chosen):
        chosen = _in_their_dtype(chosen)
    positive, finite = not bool((values < 0).any()), bool(values.isfinite().all())
    return Definition(found, chosen, whole, invariant, positive, finite)


def _check(metric: Metric) -> bool:
    with torch.no_grad():
        _check_expansion(metric, *_grid_of(metric))
        _check_majorant(metric, *_grid_of(metric))
    return True


def _traced(pointwise: Function) -> Expression | None:
    """Read off an expression that gives what the function gives, each time."""
    found = trace(pointwise)
    if found is None:
        return None
    grid = _grid(NUMBERS)
    same = _same(_tried(pointwise, *grid), _tried(expressions.function(found), *grid))
    return found if same and trace(pointwise) == found else None


def traced(scalar: Scalar) -> Expression | None:
    """Read off the expression of a function of one number, p."""
    return _traced(lambda p, k: scalar(p))


def _grid_of(metric: Metric) -> tuple[Tensor, Tensor]:
    """Return pairs that a metric's d should know: what is prepared may be of any kind."""
    return _grid(UNIT if metric.prepare else NUMBERS)


def _grid(numbers: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    every = torch.tensor(numbers, dtype=torch.float64, device="cpu")
    p, k = torch.meshgrid(every, every, indexing="ij")
    return p.contiguous(), k.contiguous()


def _tried(pointwise: Function, p: Tensor, k: Tensor) -> Tensor | None:
    """Compute a function of all pairs in float64; None where it can't be."""
    with suppress(Exception):  # whatever the function does with its arguments
        found = pointwise(p.clone(), k.clone())
        if isinstance(found, Tensor) and not found.is_complex():
            return found.double().expand_as(p)
    return None


def _in_their_dtype(pointwise: Function) -> Function:
    """Return a function's values in the dtype of its arguments, such as those of a comparison."""
    return lambda p, k: pointwise(p, k).to(p.dtype)


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return False
    largest = one.nan_to_num(0, 0, 0).abs().max().item()
    return torch.allclose(one, other, ROUNDING, ROUNDING * largest, equal_nan=True)


def _changes(pointwise: Function) -> bool:
    """Tell whether a function writes into what it is given."""
    given = _grid(UNIT)
    with suppress(Exception):
        pointwise(*given)
    return not all(map(torch.equal, given, _grid(UNIT)))


def _keeps_dtype(pointwise: Function) -> bool:
    """Tell whether a function of float64 gives float64, or can't be tried."""
    with suppress(Exception):
        return bool(pointwise(*_grid(UNIT)).dtype is torch.float64)
    return True


def _moves(pointwise: Function) -> bool:
    """Tell whether a function stays the same when a number is added to both; or can't be tried."""
    p, k = _grid(UNIT)
    here, there = _tried(pointwise, p, k), _tried(pointwise, p + 0.25, k + 0.25)
    return here is None or there is None or _same(here, there)


def _check_expansion(metric: Metric, p: Tensor, k: Tensor) -> None:
    """Refuse an expansion of something else."""
    if not metric.expansion.terms or metric.expansion is metric.pointwise:
        return
    one, other = _tried(metric.pointwise, p, k), _tried(metric.expansion, p, k)
    if one is not None and other is not None and not _same(one, other):
        place = (one - other).abs().nan_to_num(0).argmax()
        raise ValueError(
            f"`expansion` of metric {metric.name!r} is of something else than `pointwise`: at "
            f"p, k = {_pair(p, k, place)} they are {_at(other, place)} and {_at(one, place)}"
        )


def _check_majorant(metric: Metric, p: Tensor, k: Tensor) -> None:
    """Refuse a majorant that isn't as large as d and the terms of its expansion."""
    majorant = metric.majorant
    if majorant is None:
        return
    limit = _tried(lambda p, k: majorant(p) + majorant(k), p, k)
    terms = [Term(abs(t.scale), t.f, t.g) for t in metric.expansion]
    sums: list[Function] = [metric.pointwise]
    if terms:
        sums.append(lambda p, k: sum(term(p, k).abs() + 0 * (p + k) for term in terms))
    for own in sums:
        found = _tried(own, p, k)
        if limit is None or found is None:
            continue
        over = found - limit - ROUNDING * limit.abs()
        if bool((over > 0).any()):
            place = over.nan_to_num(0, 0, 0).argmax()
            raise ValueError(
                f"`majorant` A of metric {metric.name!r} must have d(p, k), and the magnitudes of "
                f"the terms of its expansion, ≤ A(p) + A(k): at p, k = {_pair(p, k, place)} these "
                f"are {_at(found, place)} and {_at(limit, place)}"
            )


def _pair(p: Tensor, k: Tensor, place: Tensor) -> str:
    return f"{_at(p, place)}, {_at(k, place)}"


def _at(values: Tensor, place: Tensor) -> str:
    return f"{values.flatten()[int(place)]:g}"


def _whole(term: Term) -> bool:
    """Tell whether a term of an expansion is a product of whole numbers for integers."""
    parts = (traced(h) for h in (term.f, term.g) if h is not None)
    return float(term.scale).is_integer() and all(part and part.whole for part in parts)


@lru_cache(maxsize=512)
@_constant
def _table(metric: Metric, values: Interval) -> Interval | None:
    """Return the extremes of a function of few integers, if they are whole numbers; else None."""
    low, high = values
    if (high - low + 1) ** 2 > expressions.PAIRS:
        return None
    every = tuple(map(float, range(low, high + 1)))
    found = _apart(lambda: _tried(metric.pointwise, *_grid(every)))
    if found is None or not bool((found == found.round()).all()):
        return None
    least, most = (float(bound) for bound in found.aminmax())
    return (int(least), int(most)) if max(map(abs, (least, most))) < math.inf else None
