"""Window sums of integers, by instructions that take four bytes of neighbouring taps at a time.

For every start, such an instruction compares (or multiplies) four pixels with four taps, or two of
int16, and adds up the results. It wants the pixels spread out, so that those of neighbouring starts
lie side by side in a register: an image is spread once, and then every four bytes of a template are
one shift of it. Where windows lie some columns apart, image and templates are split into as many
phases, which count as channels.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchsim import threads
from patchsim.kernels import jit
from patchsim.kernels.instructions import MPSAD, Instruction
from patchsim.kernels.intrinsics import LINE
from patchsim.problem import Problem
from patchsim.sums import slide
from patchsim.sums.box import expression_sum
from patchsim.sums.slide import Planes

Array = np.ndarray[Any, Any]

#: How many columns windows lie apart at most: those that are spread over a register come from four.
FURTHEST = 6


def fit(instruction: Instruction, problem: Problem) -> bool:
    """Tell whether int32 holds the sums, also of the taps that `add` fills templates up with."""
    h, w = problem.kernel_size
    width = w + _missing(instruction, problem)
    return problem.channels * (h + 2) * width * instruction.peak < instruction.taps * 2**31


def filled(instruction: Instruction, problem: Problem) -> float:
    """Return how many taps windows are compared with for each of a template's."""
    width = problem.kernel_size[1]
    return (width + _missing(instruction, problem)) / width


def _missing(instruction: Instruction, problem: Problem) -> int:
    """Count the columns that a template lacks for all its phases to be whole."""
    width, across = problem.kernel_size[1], problem.stride[1]
    return -width % (instruction.taps * across)


def add(
    instruction: Instruction,
    factor: float,
    image: Tensor,
    kernel: Array,
    problem: Problem,
    sums: Array,
) -> None:
    """Add `factor` times every window's sum to `sums` (B, N, Ho, Wo), in float64.

    Where no tap is neutral, to those that `begun` returns.
    """
    kernel = slide.enlarged(kernel, (0, _missing(instruction, problem)), instruction.neutral or 0)
    spread = _Spread(image, instruction, problem)
    kernel = spread.phases(kernel)
    if instruction.neutral is not None:
        if surplus := spread.surplus():
            sums -= factor * surplus
        spread.add(factor, kernel, 0, sums)
        return
    width = kernel.shape[3]
    eights = width // 8 * 8
    for first, last in ((0, eights), (eights, width)):
        if last > first:
            spread.add(factor, kernel[..., first:last], first, sums)


def begun(instruction: Instruction, image: Tensor, problem: Problem) -> Array:
    """Return what `add` makes sums of |p − k| of, (B, N, Ho, Wo).

    Templates are filled up with taps of 0, which add the pixels that they meet, 0 beyond the image.
    """
    (height, width), missing = problem.kernel_size, _missing(instruction, problem)
    if not missing:
        return np.zeros((problem.batch, problem.templates, *problem.map_size))
    end = problem.stride[1] * (problem.map_size[1] - 1) + width + missing
    inside = image[..., width:end]
    columns = slide.enlarged(inside.numpy(), (0, end - width - inside.shape[3]))
    own = replace(problem, kernel_size=(height, missing), image_size=columns.shape[2:])
    pixels, nothing = torch.from_numpy(columns), np.zeros(problem.channels)
    sums = expression_sum("(0-p)", pixels, Planes(pixels, (1, 1)), nothing, own)
    return sums if problem.templates == 1 else sums.repeat(problem.templates, 1)


class _Spread:
    """Images spread out for an instruction, which sums over their windows."""

    def __init__(self, image: Tensor, instruction: Instruction, problem: Problem) -> None:
        self.instruction, self.problem = instruction, problem
        across = problem.stride[1]
        batch, channels, rows, cols = image.shape
        channels *= across
        # Zeros for the taps beyond the image that templates are filled up with.
        ends = problem.map_size[1] + -(-problem.kernel_size[1] // across) + instruction.taps
        self.pitch = -(-instruction.spread * max(-(-cols // across), ends) // LINE) * LINE
        # The last rows of a block may lie below the image, and the last register reaches beyond it.
        self.together = self._rows_together()
        slack = (self.together - 1) * problem.stride[0] * self.pitch + 4 * instruction.register
        self.flat = np.empty(batch * channels * rows * self.pitch + slack, np.uint8)
        lines = self.flat[:-slack].reshape(batch, channels, rows, self.pitch)
        self.steps = lines.strides[0], lines.strides[1]
        size = instruction.size // image.itemsize
        planes = Planes(image, (1, 1))
        layout = (*planes.steps[:2], planes.pitch), cols
        spread = jit.spread(instruction.step, size, across, image.dtype)
        run = partial(spread, planes.flat, lines.view(planes.flat.dtype), *layout)
        threads.share(run, batch * channels * rows, 5 * lines.size)

    def phases(self, kernel: Array) -> Array:
        """Split templates (N, C, h, w) as the image was split: (N, C·phases, h, columns)."""
        (templates, channels, height, width), across = kernel.shape, self.problem.stride[1]
        split = kernel.reshape(templates, channels, height, width // across, across)
        return split.transpose(0, 1, 4, 2, 3).reshape(templates, -1, height, width // across)

    def add(self, factor: float, kernel: Array, shift: int, sums: Array) -> None:
        """Add to every window `factor` times the sums over templates' columns from `shift` on."""
        neutral, each = self.instruction.neutral or 0, self.instruction.taps
        templates, channels, height, width = kernel.shape
        down, rows = self.problem.stride[0] * self.pitch, self.together
        # The next row's template is this one's, moved: their loads are the same.
        shape = templates, rows, channels, height + rows - 1, width
        taller = np.full(shape, neutral, kernel.dtype)
        for row in range(rows):
            taller[:, row, :, row : row + height] = kernel
        step = each if shape[4] % 8 else max(each, self.instruction.step)
        steps = self.steps[1], self.pitch, self.instruction.spread
        offsets = _offsets(shape[2:], step, steps) + self.instruction.spread * shift
        words = taller.reshape(templates * rows, -1).view(np.int32)
        blocks = -(-self.problem.map_size[0] // rows)
        last = (self.problem.batch - 1) * self.steps[0] + (blocks - 1) * rows * down
        end = self.instruction.spread * sums.shape[3] + 2 * self.instruction.register
        assert last + offsets[-1] + end <= self.flat.size  # the kernel doesn't check
        arguments = self.flat, offsets, words, float(factor), sums, self.steps[0]
        run = partial(
            jit.quads(self.instruction, step // each, rows), *arguments, down, slide.CHUNK
        )
        threads.share(run, self.problem.batch * blocks, 2 * sums.size * words.shape[1])

    def surplus(self) -> int:
        """Return what the neutral taps that templates are filled up with add to every sum."""
        height, width = self.problem.kernel_size
        wide = width + _missing(self.instruction, self.problem)
        more = (height + self.together - 1) * wide - height * width
        return (self.instruction.neutral or 0) * self.problem.channels * more

    def _rows_together(self) -> int:
        """Choose how many rows of windows to sum at a time."""
        if self.instruction in MPSAD or self.instruction.register < 64:
            return 1  # no tap is neutral in differences; and not so many registers
        return 3 if self.problem.stride[0] == 1 and self.problem.kernel_size[0] >= 4 else 1


@lru_cache(maxsize=256)
def _offsets(size: tuple[int, ...], step: int, steps: tuple[int, ...]) -> Array:
    """Return where every `step`-th column of (C, h, w) taps lies, the last one furthest."""
    c, i, j = np.ogrid[: size[0], : size[1], 0 : size[2] : step]
    return np.ravel(c * steps[0] + i * steps[1] + j * steps[2])
