"""Lower bounds on zncc distances from sums of blocks.

Let P project on what is constant on whole blocks of b·b pixels of all channels and has the mean 0.
With the deviations p and k of window and template from their channels' means, a = ‖Pp‖ / ‖p‖,
s = ‖Pk‖² / ‖k‖² and the cosine c of Pp and Pk, by Cauchy-Schwarz on both parts

    zncc ≤ a·√s·c + √(1 − a²)·√(1 − s) ≤ √(s·max(c, 0)² + 1 − s).

c is the correlation coefficient of the sums of blocks: no moment of the window itself is needed.

Rounding, in float64. Sums of blocks err as in `patchsim.pruning`. Where their variance exceeds
2¹⁵·(n + 8)·u of the energies of window and template, n being the taps, both c and the zncc that is
measured err by less than 2⁻¹²; elsewhere nothing is said, except of integers.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from patchsim import jit, slide, threads
from patchsim.call import Call
from patchsim.cells import size_of
from patchsim.lower_bounds import LowerBounds

#: Shares of a template's energy below which its blocks, or its deviations, don't count.
LEAST = 2.0**-20


def of_blocks(call: Call, side: int) -> list[LowerBounds]:
    """Bound 1 − zncc of one image's windows and each template."""
    problem, cell = call.problem, size_of(call.problem)
    image = call.image.detach().to(problem.value_dtype)
    kernel = call.kernel.detach().double()
    energies = kernel.square().sum((1, 2, 3))
    deviations = (kernel - kernel.mean((2, 3), keepdim=True)).square().sum((1, 2, 3))
    blocks = kernel.sum(1).unfold(-2, side, side).unfold(-2, side, side).sum((-2, -1))
    blocks = blocks - blocks.mean((1, 2), keepdim=True)  # (N, h / b, w / b)
    squares = blocks.square().sum((1, 2))
    pixels = side * side * problem.channels
    clear = (deviations > LEAST * energies) & (squares > LEAST * pixels * energies)
    shares = torch.where(clear, squares / (pixels * deviations) * (1 - LEAST), 0)
    blocks = torch.where(clear[:, None, None], blocks / squares.sqrt()[:, None, None], 0)
    maps = torch.empty((len(blocks), *problem.map_size), dtype=torch.float64)
    planes = slide.Planes(image, (1, 1))
    layout = (planes.steps[1], planes.pitch), (image.shape[1], image.shape[3])
    off = 2.0**15 * (problem.taps + 8) * 2.0**-53
    more = blocks.contiguous().numpy(), side, problem.stride, maps.numpy()
    scalings = np.zeros(problem.map_size[0]), shares.numpy(), (pixels * energies).numpy()
    exact = problem.value_range is not None
    kernels = jit.correlated_blocks(image.dtype)
    run = partial(kernels, planes.flat, *layout, *more, *scalings, off, exact)
    threads.share(run, problem.map_size[0], 20 * image.numel())
    return [LowerBounds(values, cell, slack=2.0**-12) for values in maps.numpy()]
