"""Lower bounds on zncc distances from sums of blocks.

Let P project on what is constant on whole blocks of b·b pixels of all channels and has the mean 0.
With the deviations p and k of window and template from their channels' means, a = ‖Pp‖ / ‖p‖,
s = ‖Pk‖² / ‖k‖² and the cosine c of Pp and Pk, by Cauchy-Schwarz on both parts

    zncc ≤ a·√s·c + √(1 − a²)·√(1 − s) ≤ √(s·max(c, 0)² + 1 − s)

(Coq: ``projected_cosine``, ``block_cosine``), and a smaller share bounds zncc, too (Coq:
``block_cosine_share``). c is the correlation coefficient of the sums of blocks: no moment of the
window itself is needed.

Rounding, in float64. Sums of blocks err as in `patchsim.pruning`. Where their variance exceeds
2¹⁵·(n + 8)·u of the energies of window and template, n being the taps, both c and the zncc that is
measured err by less than 2⁻¹²; elsewhere nothing is said, except of integers.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from patchsim import jit, slide, templates, threads
from patchsim.call import Call
from patchsim.cells import size_of
from patchsim.emit import Arithmetic
from patchsim.expression import parse
from patchsim.lower_bounds import LowerBounds, settled

#: Shares of a template's energy below which its blocks, or its deviations, don't count.
LEAST = 2.0**-20


#: What turns products of sums into bounds on correlations: see `kernel`.
CORRELATED = {
    "more": """
@njit
def add_moments(whole, squares, rows, across):
    for x in range(whole.size):
        value = rows[x * across]
        whole[x] += value
        squares[x] += value * value
""",
    "arguments": ", shares, energies, off, exact",
    "before": """
        whole, squares = np.zeros(bounds.shape[2]), np.zeros(bounds.shape[2])
        for i in range(high):
            for t in range(wide):
                add_moments(whole, squares, sums[(top + i * side) % reach, side * t :], across)
""",
    "after": """
            count, share, energy = high * wide, shares[n], energies[n]
            for x in range(line.size):
                square = squares[x]
                variance, lost = square - whole[x] * whole[x] / count, off * (square + energy)
                cosine, known = 0.0, variance > lost
                if known:
                    cosine = line[x] / np.sqrt(variance) + off
                    cosine = 0.0 if cosine < 0 else (1.0 if cosine > 1 else cosine)
                elif exact and square < 2.0**40 and 2 * count * variance < 1:
                    known = True
                bound = 1 - np.sqrt(1 - share * (1 - cosine * cosine))
                line[x] = (bound if known else -1.0) + 0 * whole[x]
""",
}


@cache
def kernel(dtype: torch.dtype) -> jit.Kernel:
    """Compile bounds from the correlation of sums of blocks, in float64.

    (image, (to_channel, to_row), (C, W), blocks, side, (sy, sx), bounds, peaks, shares, energies,
    off, exact, first, last): as `patchsim.jit.blocks`, but those of each template have the mean 0
    and the norm 1, and with their cosine c with a window's, bounds gets 1 − √(1 − share·(1 − c²)),
    c being 0 where it is negative. It is -1, nothing being known, where the variance of a window's
    sums is no more than the share `off` of their squares and a template's energy; but c is 0 if
    they are `exact` and the same.
    """
    from numba import types

    sums, numbers, total = types.float64[:, :, ::1], types.float64[::1], torch.float64
    layout = jit.type_of(dtype)[::1], jit.tuple_of(2), jit.tuple_of(2)
    more = types.int64, jit.tuple_of(2), sums, *[numbers] * 3, types.float64, types.boolean
    signature = types.void(*layout, sums, *more, *[types.int64] * 2)
    source = templates.BLOCKS.format(total="float64", **CORRELATED)
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
    maps = torch.empty((len(blocks), *problem.map_size), dtype=torch.float64)
    planes = slide.Planes(image, (1, 1))
    layout = (planes.steps[1], planes.pitch), (image.shape[1], image.shape[3])
    off = 2.0**15 * (problem.taps + 8) * 2.0**-53
    more = blocks.contiguous().numpy(), side, problem.stride, maps.numpy()
    scalings = np.zeros(problem.map_size[0]), shares.numpy(), (pixels * energies).numpy()
    exact = problem.value_range is not None
    compiled = kernel(image.dtype)
    run = partial(compiled, planes.flat, *layout, *more, *scalings, off, exact)
    threads.share(run, problem.map_size[0], 20 * image.numel())
    found = [LowerBounds(values, cell, slack=2.0**-12) for values in maps.numpy()]
    return settled(call, found)
