"""Lower bounds on zncc distances from sums of blocks.

Let P project on what is constant on whole blocks of b·b pixels of all channels and has the mean 0.
With the deviations p and k of window and template from their channels' means, a = ‖Pp‖ / ‖p‖,
s = ‖Pk‖² / ‖k‖² and the cosine c of Pp and Pk, by Cauchy-Schwarz on both parts

    zncc ≤ a·√s·c + √(1 − a²)·√(1 − s) ≤ √(s·max(c, 0)² + 1 − s)

(Coq: ``projected_cosine``, ``block_cosine``), and a smaller share bounds zncc, too (Coq:
``block_cosine_share``). c is the correlation coefficient of the sums of blocks: no moment of the
window itself is needed.

Rounding, in float64. Let each number pass at most r roundings, in sums of blocks, their moments and
those of a window that is measured, and K be 2¹³·r·u. The bound is used where the variance of a
window's sums exceeds K·(their squares + |B|·‖k‖²), |B| being the taps of a block, and for templates
that vary by at least K·(n·P² + ‖k‖²), with n taps and pixels of at most P. There

- the sums' own errors, of a norm of at most r·u·√|B|·‖p‖, are a share of at most 2⁻¹³ of their
  deviations, and a variance, a difference of moments, errs by 2⁻¹² of itself: c errs by less than
  2⁻¹¹;
- of a measured window the moments, around the template's means, are at most 6/K times its variance,
  which so errs by less than 2⁻¹⁰ of itself, as does the covariance (times both deviations): its
  zncc errs by less than 3·2⁻¹¹.

Together that is no more than 2⁻⁹. Elsewhere nothing is said, except of integers, whose sums are
exact.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from patchsim import threads
from patchsim.bounds import finite_range
from patchsim.call import Call
from patchsim.kernels import jit, sources, windows
from patchsim.kernels.emit import Arithmetic
from patchsim.kernels.expression import parse
from patchsim.once import made_once
from patchsim.search.cells import Array, size_of
from patchsim.search.lower_bounds import LowerBounds, settled
from patchsim.sums import slide

#: Shares of a template's energy below which its blocks, or its deviations, don't count.
LEAST = 2.0**-20
#: How far c and a measured zncc may be off together, and by which factor moments may exceed what
#: would lose all digits.
SLACK, CLEAR = 2.0**-9, 2.0**13


#: What turns products of sums into bounds on correlations: see `kernel`.
CORRELATED = {
    "more": """
@njit
def add_moments(columns, column_squares, rows):
    for x in range(rows.size):
        value = rows[x]
        columns[x] += value
        column_squares[x] += value * value

@njit
def add_four_moments(columns, column_squares, a, b, c, d):
    for x in range(columns.size):
        columns[x] += (a[x] + b[x]) + (c[x] + d[x])
        column_squares[x] += (a[x] * a[x] + b[x] * b[x]) + (c[x] * c[x] + d[x] * d[x])

@njit
def spread(line, columns, side, count, across):
    t = 0
    while t + 4 <= count and across == 1:
        a, b, c = columns[side * t :], columns[side * (t + 1) :], columns[side * (t + 2) :]
        d = columns[side * (t + 3) :]
        for x in range(line.size):
            line[x] += (a[x] + b[x]) + (c[x] + d[x])
        t += 4
    while t < count:
        a = columns[side * t :]
        if across == 1:  # with steps it wouldn't be vectorised
            for x in range(line.size):
                line[x] += a[x]
        else:
            for x in range(line.size):
                line[x] += a[x * across]
        t += 1
""",
    "arguments": ", shares, energies, off, exact",
    "before": """
        columns, column_squares = np.zeros(width), np.zeros(width)
        t = 0
        while t + 4 <= high:
            add_four_moments(
                columns, column_squares, sums[(top + t * side) % reach],
                sums[(top + (t + 1) * side) % reach], sums[(top + (t + 2) * side) % reach],
                sums[(top + (t + 3) * side) % reach],
            )
            t += 4
        while t < high:
            add_moments(columns, column_squares, sums[(top + t * side) % reach])
            t += 1
        whole, squares = np.zeros(bounds.shape[2]), np.zeros(bounds.shape[2])
        spread(whole, columns, side, wide, across)
        spread(squares, column_squares, side, wide, across)
        products = np.empty(bounds.shape[2])
""",
    "line": "products",
    "after": """
            count, share, energy = high * wide, shares[n], energies[n]
            flat, result = 1 - np.sqrt(1 - share), bounds[n, top // down]
            for x in range(line.size):
                square, product = squares[x], max(line[x], 0.0)
                variance, lost = square - whole[x] * whole[x] / count, off * (square + energy)
                cosine2 = min(product * product / max(variance, lost) + 3 * off, 1.0)
                bound = 1 - np.sqrt(1 - share * (1 - cosine2))
                same = exact and square < 2.0**40 and 2 * count * variance < 1
                unknown = flat if same else -1.0
                result[x] = (bound if variance > lost else unknown) + 0 * whole[x]
""",
}


@made_once
def kernel(dtype: torch.dtype) -> jit.Kernel:
    """Compile bounds from the correlation of sums of blocks, in float64.

    (image, (to_channel, to_row), (C, W), blocks, side, (sy, sx), bounds, peaks, shares, energies,
    off, exact, first, last): as `patchsim.kernels.jit.blocks`, but those of each template have the
    mean 0 and the norm 1, and with their cosine c with a window's, bounds gets
    1 − √(1 − share·(1 − c²)), c being 0 where it is negative, in float32. It is -1, nothing being
    known, where the variance of a window's sums is no more than the share `off` of their squares
    and a template's energy; but c is 0 if they are `exact` and the same.
    """
    from numba import types

    numbers, total = types.float64[::1], torch.float64
    sums, maps = (number[:, :, ::1] for number in (types.float64, types.float32))
    layout = jit.type_of(dtype)[::1], jit.tuple_of(2), jit.tuple_of(2)
    more = types.int64, jit.tuple_of(2), maps, *[numbers] * 3, types.float64, types.boolean
    signature = types.void(*layout, sums, *more, *[types.int64] * 2)
    source = sources.BLOCKS.format(total="float64", **CORRELATED)
    return jit.compiled(
        source, [signature], *jit.term_of(Arithmetic(parse("(p*k)"), total), ["p", "k"])
    )


def pooled(values: Tensor, side: int) -> Tensor:
    """Sum blocks of side·side values, those that are whole.

    Not by torch's pooling, which wakes threads: they would then wait for more work, and keep those
    of the next kernel from theirs.
    """
    return values.unfold(-2, side, side).unfold(-2, side, side).sum((-2, -1))


def deviations(kernel: Tensor) -> Tensor:
    """Sum the squared deviations of templates (N, C, h, w) from their channels' means: (N,)."""
    return (kernel - kernel.mean((2, 3), keepdim=True)).square().sum((1, 2, 3))


def of_blocks(call: Call, side: int) -> list[LowerBounds]:
    """Bound 1 − zncc of one image's windows and each template."""
    problem, cell = call.problem, size_of(call.problem)
    image = call.image.detach().to(problem.value_dtype)
    given = call.kernel.detach().double()
    energies = given.square().sum((1, 2, 3))
    varying, blocks = deviations(given), pooled(given.sum(1), side)
    blocks = blocks - blocks.mean((1, 2), keepdim=True)  # (N, h / b, w / b)
    squares = blocks.square().sum((1, 2))
    pixels = side * side * problem.channels
    clear = (varying > LEAST * energies) & (squares > LEAST * pixels * energies)
    shares = torch.where(clear, squares / (pixels * varying) * (1 - LEAST), 0)
    blocks = torch.where(clear[:, None, None], blocks / squares.sqrt()[:, None, None], 0)
    maps = torch.empty((len(blocks), *problem.map_size), dtype=torch.float32)
    planes = slide.Planes(image, (1, 1))
    layout = (planes.steps[1], planes.pitch), (image.shape[1], image.shape[3])
    off = CLEAR * roundings(call, side) * 2.0**-53
    more = blocks.contiguous().numpy(), side, problem.stride, maps.numpy()
    peaks = np.zeros(problem.map_size[0])
    scalings = peaks, shares.numpy(), (pixels * energies).numpy()
    exact = problem.value_range is not None
    compiled = kernel(image.dtype)
    run = partial(compiled, planes.flat, *layout, *more, *scalings, off, exact)
    threads.share(run, problem.map_size[0], 20 * image.numel())
    peak = largest(image, peaks)
    for n in range(len(maps)):
        if not exact and varying[n] < off * (problem.taps * peak * peak + energies[n]):
            maps[n] = -1
    found = [LowerBounds(values, cell, slack=SLACK) for values in maps.numpy()]
    return settled(call, found)


def largest(image: Tensor, peaks: Array) -> float:
    """Return the greatest magnitude of an image's finite pixels, given that of parts of it."""
    peak = float(peaks.max())
    return peak if peak < math.inf else max(map(abs, finite_range(image)))


def roundings(call: Call, side: int) -> int:
    """Bound how many roundings a number passes in sums of blocks and in a window's moments."""
    problem = call.problem
    blocks = sum(length // side for length in problem.kernel_size)
    blocks += math.prod(length // side for length in problem.kernel_size)
    parts = windows.RUN + problem.taps // windows.RUN + problem.channels
    return max(parts, problem.channels + 2 * side + blocks) + 16
