"""Window sums of bytes, by instructions that take four neighbouring taps at a time.

For every start, such an instruction compares (or multiplies) four pixels with four taps and adds up
the results. It wants the pixels spread out, so that those of neighbouring starts lie side by side
in a register: an image is spread once, and then every four taps of a template are one shift of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from patchsim import jit, slide, threads
from patchsim.box import expression_sum
from patchsim.instructions import CENTRE, DOT, SAD, Instruction, instruction
from patchsim.metrics.base import Metric, identity
from patchsim.problem import Problem
from patchsim.recipe import read


def can(choice: tuple[Instruction, ...], problem: Problem) -> bool:
    """Tell whether `sad` or `expansion` computes this problem: bytes, no tap of a row left out."""
    plain = problem.value_dtype is torch.uint8 and problem.device.type == "cpu"
    # Products may be completed with zeros, magnitudes may not.
    fours = 1 if choice is DOT else problem.stride[1]
    adjacent = problem.dilation == (1, 1) and problem.kernel_size[1] >= 4 * fours
    if not plain or not adjacent or problem.weighting != "none" or torch.compiler.is_compiling():
        return False
    found = instruction(choice)
    return found is not None and problem.taps * found.peak < 2**31


def sad(image: Tensor, kernel: Tensor, problem: Problem) -> Tensor:
    """Sum |p − k| over every window: (B, N, Ho, Wo), integers in float64."""
    shape = problem.batch, problem.templates, *problem.map_size
    sums = torch.zeros(shape, dtype=torch.float64)
    for part, taps in _phases(image, kernel, problem):
        _add_magnitudes(part, taps, problem, sums)
    return sums


def _phases(image: Tensor, kernel: Tensor, problem: Problem) -> Iterator[tuple[Tensor, Tensor]]:
    """Split columns by the stride: every phase of a template slides by ones over the image's."""
    stride = problem.stride[1]
    if stride == 1:
        yield image, kernel
        return
    planes, cols = slide.phases(image, (1, stride))
    whole = torch.from_numpy(planes)[:, :, 0, :, : image.shape[2] * cols]
    for j in range(min(stride, kernel.shape[3])):
        yield whole[:, :, j].reshape(*image.shape[:3], cols), kernel[..., j::stride]


def _add_magnitudes(image: Tensor, kernel: Tensor, problem: Problem, sums: Tensor) -> None:
    """Add |p − k| of windows in neighbouring columns."""
    found, width = instruction(SAD), kernel.shape[3]
    assert found is not None
    eights, fours = width // 8 * 8, width // 4 * 4
    if width > fours:
        # No instruction leaves a byte out: the last columns one by one.
        rest, tail = image[..., fours:], kernel[..., fours:]
        more = slide.sums(rest, tail, None, "abs((p-k))", (problem.stride[0], 1), (1, 1))
        sums += more[..., : sums.shape[3]]
    lanes = Lanes(image, found, problem)
    for first, last in ((0, eights), (eights, fours)):
        if last > first:
            lanes.add(1, kernel[..., first:last], first, sums)


def expansion(metric: Metric, image: Tensor, kernel: Tensor, problem: Problem) -> Tensor:
    """Sum a metric that `expands` over every window: (B, N, Ho, Wo), integers in float64."""
    terms, found = read(metric), instruction(DOT)
    assert terms is not None
    assert found is not None
    centre = torch.full((problem.channels,), CENTRE, dtype=torch.float64)
    centred = kernel.double() - CENTRE
    constants = terms.constant(centred)
    # Σ(p − c)·(k − c) = Σp·(k − c) − c·Σ(k − c)
    factor = sum(scale for *_, scale in terms.crosses)
    constants -= factor * CENTRE * centred.sum((1, 2, 3))
    boxes = expression_sum(terms.box, image, slide.Planes(image, (1, 1)), centre, problem)
    sums = boxes + constants[:, None, None]
    for part, taps in _phases(image, kernel ^ CENTRE, problem):
        signed = torch.nn.functional.pad(taps, (0, -taps.shape[3] % 4))
        Lanes(part, found, problem).add(factor, signed, 0, sums)
    return sums


def expands(metric: Metric) -> bool:
    """Tell whether the cross terms of a metric's expansion are multiples of p·k."""
    terms = read(metric)
    products = terms is not None and all(f == "p" and g is identity for f, g, _ in terms.crosses)
    return products and metric.invariant


class Lanes:
    """Images spread out for an instruction."""

    def __init__(self, image: Tensor, instruction: Instruction, problem: Problem) -> None:
        self.instruction, self.problem = instruction, problem
        batch, channels, rows, cols = image.shape
        self.pitch = instruction.spread * (-(-cols // 8) * 8)
        # The last rows of a block may lie below the image, and the last register reaches beyond it.
        self.together = self._rows_together()
        slack = (self.together - 1) * problem.stride[0] * self.pitch + 4 * instruction.register
        self.flat = np.empty(batch * channels * rows * self.pitch + slack, np.uint8)
        spread = self.flat[:-slack].reshape(batch, channels, rows, self.pitch)
        self.steps = spread.strides[0], spread.strides[1]
        planes = slide.Planes(image, (1, 1))
        layout = (*planes.steps[:2], planes.pitch), cols
        run = partial(jit.spread(instruction.step, instruction.size), planes.flat, spread, *layout)
        threads.share(run, batch * channels * rows, 5 * spread.size)

    def add(self, factor: float, kernel: Tensor, shift: int, sums: Tensor) -> None:
        """Add to every window `factor` times the sums over templates' columns from `shift` on."""
        templates, channels, height, width = kernel.shape
        down, rows = self.problem.stride[0] * self.pitch, self.together
        if rows > 1:
            # The next row's template is this one's, moved: their loads are the same.
            taller = kernel.new_zeros((templates, rows, channels, height + rows - 1, width))
            for row in range(rows):
                taller[:, row, :, row : row + height] = kernel
            kernel, height = taller, height + rows - 1
        step = 4 if width % 8 else max(4, self.instruction.step)
        c, i, j = np.ogrid[:channels, :height, 0:width:step]
        offsets = c * self.steps[1] + i * self.pitch + self.instruction.spread * (shift + j)
        words = kernel.contiguous().numpy().reshape(templates * rows, -1).view(np.int32)
        blocks = -(-self.problem.map_size[0] // rows)
        last = (self.problem.batch - 1) * self.steps[0] + (blocks - 1) * rows * down
        end = self.instruction.spread * sums.shape[3] + 2 * self.instruction.register
        assert last + offsets.max() + end <= self.flat.size  # the kernel doesn't check
        arguments = self.flat, offsets.ravel(), words, float(factor), sums.numpy(), self.steps[0]
        run = partial(jit.quads(self.instruction, step // 4, rows), *arguments, down, slide.CHUNK)
        threads.share(run, self.problem.batch * blocks, sums.numel() * words.shape[1] // 2)

    def _rows_together(self) -> int:
        """Choose how many rows of windows to sum at a time."""
        if self.instruction not in DOT or self.instruction.register < 64:
            return 1  # zeros are neutral in products only; and not so many registers
        return 3 if self.problem.stride[0] == 1 and self.problem.kernel_size[0] >= 4 else 1
