"""Window sums of integers, by instructions that take four bytes of neighbouring taps at a time.

For every start, such an instruction compares (or multiplies) four pixels with four taps, or two of
int16, and adds up the results. It wants the pixels spread out, so that those of neighbouring starts
lie side by side in a register: an image is spread once, and then every four bytes of a template are
one shift of it.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchsim import threads
from patchsim.kernels import jit
from patchsim.kernels.instructions import MPSAD, Instruction
from patchsim.problem import Problem
from patchsim.sums import slide

Array = np.ndarray[Any, Any]


def fit(instruction: Instruction, problem: Problem) -> bool:
    """Tell whether int32 holds the sums, also of the taps that `add` fills templates up with."""
    h, w = problem.kernel_size
    return problem.channels * (h + 2) * (w + 3) * instruction.peak < instruction.taps * 2**31


def add(
    instruction: Instruction,
    factor: float,
    image: Tensor,
    kernel: Array,
    problem: Problem,
    sums: Array,
) -> None:
    """Add `factor` times every window's sum to `sums` (B, N, Ho, Wo), in float64.

    Windows must lie in neighbouring columns.
    """
    spread = _Spread(image, instruction, problem)
    if instruction.neutral is not None:
        if surplus := spread.surplus(kernel):
            sums -= factor * surplus
        spread.add(factor, kernel, 0, sums)
        return
    width = kernel.shape[3]
    eights, fours = width // 8 * 8, width // 4 * 4
    for first, last in ((0, eights), (eights, fours)):
        if last > first:
            spread.add(factor, kernel[..., first:last], first, sums)
    if width > fours:
        # No instruction leaves a byte out: the last columns one by one.
        rest, tail = image[..., fours:], torch.from_numpy(kernel[..., fours:])
        more = slide.sums(rest, tail, None, "abs((p-k))", problem.stride, (1, 1))
        sums += factor * more.numpy()


class _Spread:
    """Images spread out for an instruction."""

    def __init__(self, image: Tensor, instruction: Instruction, problem: Problem) -> None:
        self.instruction, self.problem = instruction, problem
        batch, channels, rows, cols = image.shape
        self.pitch = instruction.spread * (-(-cols // 8) * 8)
        # The last rows of a block may lie below the image, and the last register reaches beyond it.
        self.together = self._rows_together()
        slack = (self.together - 1) * problem.stride[0] * self.pitch + 4 * instruction.register
        self.flat = np.empty(batch * channels * rows * self.pitch + slack, np.uint8)
        lines = self.flat[:-slack].reshape(batch, channels, rows, self.pitch)
        self.steps = lines.strides[0], lines.strides[1]
        planes = slide.Planes(image, (1, 1))
        layout = (*planes.steps[:2], planes.pitch), cols
        size = instruction.size // image.itemsize
        spread = jit.spread(instruction.step, size, image.dtype)
        run = partial(spread, planes.flat, lines.view(planes.flat.dtype), *layout)
        threads.share(run, batch * channels * rows, 5 * lines.size)

    def add(self, factor: float, kernel: Array, shift: int, sums: Array) -> None:
        """Add to every window `factor` times the sums over templates' columns from `shift` on."""
        neutral, each = self.instruction.neutral or 0, self.instruction.taps
        templates, channels, height, width = kernel.shape
        down, rows, filled = self.problem.stride[0] * self.pitch, self.together, -width % each
        # The next row's template is this one's, moved: their loads are the same.
        shape = templates, rows, channels, height + rows - 1, width + filled
        taller = np.full(shape, neutral, kernel.dtype)
        for row in range(rows):
            taller[:, row, :, row : row + height, :width] = kernel
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

    def surplus(self, kernel: Array) -> int:
        """Return what the neutral taps that `add` fills templates up with add to every sum."""
        _, channels, height, width = kernel.shape
        filled = (height + self.together - 1) * (width + -width % self.instruction.taps)
        found: int = (self.instruction.neutral or 0) * channels * (filled - height * width)
        return found

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
