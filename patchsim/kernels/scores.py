"""Statistics as kernels: similarities of windows from their sums and moments, in one pass."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from patchsim.kernels import jit
from patchsim.kernels.fingerprint import fingerprint
from patchsim.metrics import base
from patchsim.metrics.base import Statistic
from patchsim.metrics.product import PRODUCT
from patchsim.once import made_once

#: (sums (B, N, Ho, Wo), windows (B, N or 1, C, rows, Wo), pp (B, N or 1, rows, Wo), templates
#: (N, C), kk (N,), totals (N, C), offsets (N,) of sums of products, probes (N,), rounding, range,
#: similarity, output (B, N, Ho, Wo), first) -> None, for rows from `first`; see
#: `patchsim.metrics.base.Moments`.
#: For bounds, `similarity` are three arguments: errors (N,) of the sums, the share of pp + kk by
#: which moments may be off, and by how much more, which isn't 0; output is (B, 2N, Ho, Wo), bounds
#: first, then distances.
Kernel = Callable[..., None]


class Numbers(NamedTuple):
    """What a statistic is a function of, for one window: see `patchsim.metrics.base.Moments`."""

    total: float
    p: float
    k: float
    pp: float
    kk: float
    pk: float
    mean_pp: float
    mean_kk: float
    mean_pk: float
    sums: float
    flat: float
    range: float


_SOURCE = """
{spread_at}
@njit
def at(total, p, k, pp, kk, pk, mean_pp, mean_kk, mean_pk, sums, flat, span):
    return statistic(
        Numbers(total, p, k, pp, kk, pk, mean_pp, mean_kk, mean_pk, sums, flat, span)
    )

def kernel(sums, windows, pp, templates, kk, totals, offsets, probes, \
rounding, span, {arguments}, output, first):
    batch, count, _, cols = sums.shape
    each, channels, rows = windows.shape[1:4]
    whole, squares, products = np.empty(cols), np.empty(cols), np.empty(cols)
    for b in range(batch):
        for n in range(count):
            k, mean_kk, total, m = 0.0, 0.0, 0.0, min(n, each - 1)
            for c in range(channels):
                k += templates[n, c]
                total += totals[n, c]
                if totals[n, c] > 0:
                    mean_kk += templates[n, c] * templates[n, c] / totals[n, c]
            for y in range(rows):
                whole[:] = 0
                squares[:] = 0
                products[:] = 0
                for c in range(channels):
                    share = 1 / totals[n, c] if totals[n, c] > 0 else 0.0
                    line, own = windows[b, m, c, y], templates[n, c] * share
                    for x in range(cols):
                        whole[x] += line[x]
                        squares[x] += line[x] * line[x] * share
                        products[x] += line[x] * own
                energies = pp[b, m, y]
                values, here = sums[b, n, first + y], output[b, n, first + y]
                for x in range(cols):
                    value, energy = np.float64(values[x]), energies[x]
                    cross = {cross}
                    score = at(
                        total, whole[x], k, energy, kk[n], cross, squares[x], mean_kk, products[x],
                        value, rounding * (energy + probes[n]), span,
                    )
                    {finish}
"""

#: The score itself, NaN where a window or template isn't finite.
_SCORE = """
                    score += 0 * (value + energy)
                    here[x] = score if similarity else 1 - score
"""

#: A lower bound on the distance: the least at the corners of the intervals in which the numbers
#: lie; half of them needn't be looked at where it is monotone in the sums. A corner is NaN
#: where a root's argument may be 0 or less; then nothing is known, unless the window is 0, which
#: has no rounding, and the bound is -1. It is at most 2, which bounds what rounding adds to it. And
#: the distance.
_BOUND = """
                    change = share_off * (energy + kk[n] + probes[n])
                    off, error = {off}, errors[n]
                    most, known, corners = -1.0, True, {corners}
                    for corner in range(corners):
                        up, more = 1 - corner // 2 * 2, corner % 2 * 2 - 1
                        here_at = at(
                            total, whole[x], k, energy + more * (change + more_off), kk[n],
                            cross + up * off, squares[x], mean_kk, products[x],
                            value - up * error, -np.inf, span,
                        )
                        most = here_at if here_at > most else most
                        known &= here_at == here_at
                    most = most if known else (score if energy == 0 else 2.0)
                    most = -1.0 if most < -1 else (2.0 if most > 2 else most)
                    here[x] = 1 - most + 0 * energy
                    output[b, count + n, first + y, x] = 1 - score + 0 * energy
"""


#: The same where it is known how far the similarity can move; a window of 0 has no rounding.
_SPREAD = """
                    change = share_off * (energy + kk[n] + probes[n])
                    move = spread_at(
                        total, whole[x], k, energy, kk[n], cross, squares[x], mean_kk, products[x],
                        value, rounding * (energy + probes[n]), span,
                        errors[n] + change, change + more_off,
                    )
                    move = 0.0 if energy == 0 else (move if move < 2 else 2.0)
                    least = 1 - score - move
                    here[x] = (-1.0 if least < -1 else least) + 0 * energy
                    output[b, count + n, first + y, x] = 1 - score + 0 * energy
"""

_SPREAD_AT = """
@njit
def spread_at(total, p, k, pp, kk, pk, mean_pp, mean_kk, mean_pk, sums, flat, span, off, change):
    return spread(
        Numbers(total, p, k, pp, kk, pk, mean_pp, mean_kk, mean_pk, sums, flat, span), off, change
    )
"""


@made_once
def kernel(
    statistic: Statistic,
    sums: torch.dtype,
    output: torch.dtype,
    *,
    bound: bool = False,
) -> Kernel | None:
    """Compile a statistic of sums of one dtype, without weights; None where it isn't known how.

    Numba must be able to, and nothing that its function refers to may change. It gives scores, or
    lower bounds on distances. Operations are as they are written: a ratio times a ratio, as one of
    products, may overflow.
    """
    import numba
    from numba import types

    key = fingerprint(statistic.similarity)
    if key is None:
        return None
    _overload()
    maps, rows = types.float64[:, :, :, ::1], types.float64[:, ::1]
    each = types.float64[:, :, :, :, ::1]
    given, result = (jit.type_of(dtype)[:, :, :, ::1] for dtype in (sums, output))
    numbers = [types.float64] * 2
    scoring = (types.float64[::1], types.float64, types.float64) if bound else (types.boolean,)
    arguments = (
        given,
        each,
        maps,
        rows,
        types.float64[::1],
        rows,
        types.float64[::1],
        types.float64[::1],
        *numbers,
        *scoring,
        result,
        types.int64,
    )
    key = f"{key} {inspect.getsource(sys.modules[__name__])}"
    functions = {
        "statistic": numba.njit(jit.named(statistic.similarity, key), error_model="numpy"),
        "Numbers": Numbers,
    }
    corners, products = 2 if statistic.monotone else 4, statistic.summed is PRODUCT
    off = "errors[n] + change" if products else "errors[n] / 2 + change"
    finish = _BOUND.format(corners=corners, off=off) if bound else _SCORE
    spread_at, moves = "", fingerprint(statistic.spread) if statistic.spread else None
    if bound and products and statistic.spread and moves is not None:
        finish, spread_at, key = _SPREAD, _SPREAD_AT, f"{key} {moves}"
        named = jit.named(statistic.spread, key)
        functions["spread"] = numba.njit(named, error_model="numpy")
    source = _SOURCE.format(
        arguments="errors, share_off, more_off" if bound else "similarity",
        spread_at=spread_at,
        cross="value - offsets[n]" if products else "(energy + kk[n] - value) / 2",
        finish=finish.strip(),
    )
    try:
        return jit.compiled(source, [types.void(*arguments)], functions, key, strict=True)
    except numba.core.errors.NumbaError:  # written with other functions
        return None


@made_once
def _overload() -> None:
    """Tell Numba what the functions of which statistics are made are of numbers."""
    from numba import extending

    @extending.overload(base.inverse_root, strict=False)
    def _(x: Any, least: Any) -> Any:
        return _inverse_root

    @extending.overload(base.ratio, strict=False)
    def _(x: Any, y: Any) -> Any:
        return _ratio

    @extending.overload(base.clamp, strict=False)
    def _(x: Any, low: Any, high: Any) -> Any:
        return _clamp

    @extending.overload(base.unless_positive, strict=False)
    def _(x: Any) -> Any:
        return _unless_positive


# Each has a name of its own: see `patchsim.kernels.jit.named`.
def _inverse_root(x: Any, least: Any) -> Any:
    return 1 / math.sqrt(x) if x > least else 0.0


def _unless_positive(x: Any) -> Any:
    return 0.0 if x > 0 else math.inf


def _ratio(x: Any, y: Any) -> Any:
    return x / y if y > 0 else 0.0


def _clamp(x: Any, low: Any, high: Any) -> Any:
    return low if x < low else (high if x > high else x)
