"""Window sums of integers, by instructions that sum over the pixels in each lane of a register.

The lanes of a register hold the same few columns of windows that lie a lane apart, and are compared
with those taps repeated over all lanes. The next taps of the same windows meet the lanes after
them. So a register is loaded once for several lanes of taps; the sums of each are kept apart, and
added in the end, moved by a window. Windows less than a lane apart begin in registers of their own.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from textwrap import indent
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchsim import threads
from patchsim.kernels import jit, sweeps
from patchsim.kernels.instructions import Instruction
from patchsim.kernels.jit import Kernel
from patchsim.once import made_once
from patchsim.problem import Problem
from patchsim.sums.slide import Planes, enlarged

Array = np.ndarray[Any, Any]

#: Rows of windows that are computed at a time, and rows of taps.
BAND, CHUNK = 8, 32

#: See `_compiled`. For a few registers of pixels at a time, a few rows of windows are compared with
#: a few rows of taps: what they have in common then stays in the first-level cache.
LANES = """
@njit
def gather(line, parts, count):
    size = line.size
    for g in range(count % 2, count, 2):
        one, two = parts[g, g:], parts[g + 1, g + 1 :]
        for x in range(size):
            line[x] += one[x] + two[x]
    if count % 2:
        one = parts[0]
        for x in range(size):
            line[x] += one[x]

def kernel(image, starts, offsets, taps, masks, factor, sums, classes, steps, top, rows, first, \
last):
    batch, templates, height, width = sums.shape
    (to_image, to_row), blocks = steps, (rows + {band} - 1) // {band}
    every = taps.shape[2] // {lane}
    together = -(-every // -(-every // {groups}))
    registers = (starts.size - {spare}) // classes
    run = registers * {lanes}
    length = classes * run
    part = np.empty(({band}, {groups}, starts.size * {lanes}), np.int32)
    total = np.empty(({band}, length), np.int32)
    apart, chunk = part.strides[1], {chunk}
    for job in range(first, last):
        b, y = job // blocks, job % blocks * {band}
        count = min({band}, rows - y)
        for n in range(templates):
            total[:] = 0
            for group in range(0, every, together):
                part[:] = 0
                left = min(together, every - group)
                size = {sizes}[left - 1]
                cut = masks.size and group + left == every
                for register in range(0, starts.size - {spare}, size):
                    begin = starts.ctypes.data + 8 * register
                    for t in range(0, offsets.size, chunk):
                        places = offsets.ctypes.data + 8 * t, min(chunk, offsets.size - t)
                        row = (n * offsets.size + t) * every + group
                        more = taps.ctypes.data + {lane} * row, every * {lane}
                        some = masks.ctypes.data + {lane} * t
                        for i in range(count):
                            pixels = image.ctypes.data + b * to_image + (y + i) * to_row
                            found = part[i].ctypes.data + 4 * {lanes} * register, apart
{sweeps}
                for i in range(count):
                    # What reaches into the next class belongs to no window.
                    gather(total[i, : length + 1 - group - left], part[i, :, group:], left)
            for i in range(count):
                line = sums[b, n, top + y + i]
                for c in range(min(classes, width)):
                    own = total[i, c * run : (c + 1) * run]
                    for x in range((width - c + classes - 1) // classes):
                        line[x * classes + c] += factor * own[x]
"""


def fit(instruction: Instruction, problem: Problem) -> bool:
    """Tell whether int32 holds the sums, also of the taps that `add` fills lanes up with."""
    lanes = problem.channels * problem.kernel_size[0] * count_lanes(instruction, problem)
    return lanes * instruction.peak < 2**31


def add(
    instruction: Instruction,
    factor: float,
    image: Tensor,
    kernel: Array,
    problem: Problem,
    sums: Array,
) -> None:
    """Add `factor` times every window's sum to `sums` (B, N, Ho, Wo), in float64."""
    split = phases(instruction, problem.stride[1])
    taps, masks = _arranged(instruction, kernel, split, count_lanes(instruction, problem) // split)
    if instruction.neutral:
        filled = taps[0].size // image.itemsize - kernel[0].size
        sums -= factor * instruction.neutral * filled
    starts, classes = _starts(instruction, problem, split)
    rows, down = problem.map_size[0], problem.stride[0]
    lines = problem.channels, problem.kernel_size[0]

    def run(image: Tensor, top: int) -> int:
        """Compute rows from `top` on, for which there are pixels; return the next."""
        planes = Planes(image, (1, split))
        to_image, pitch = (n * image.itemsize for n in (planes.steps[0], planes.pitch))
        pixels, rows_of_taps = planes.flat.view(np.uint8), torch.Size((1, *lines, split))
        offsets = planes.offsets(rows_of_taps, (1, 1)) * image.itemsize
        begin = (len(image) - 1) * to_image + int(offsets.max() + starts[-1])
        inside = (pixels.size - begin - instruction.register) // (down * pitch) + 1
        height = min(rows - top, max(0, inside))
        arguments = pixels, starts, offsets, taps, masks, float(factor), sums, classes
        steps = to_image, down * pitch
        work = partial(_compiled(instruction), *arguments, steps, top, height)
        blocks = len(image) * -(-height // BAND)
        threads.share(work, blocks, sums.size * taps[0].size // image.itemsize // 3)
        return top + height

    done = run(image, 0)
    if done < rows:
        # The last registers reach beyond the image.
        line = -(-image.shape[3] // split) * image.itemsize
        below = -(-2 * instruction.register // line)
        rest = image[:, :, done * down :]
        run(torch.from_numpy(enlarged(rest.numpy(), (below, 0))), done)


def phases(instruction: Instruction, stride: int) -> int:
    """Return into how many phases to split columns, so that windows lie parts of a lane apart."""
    return stride // math.gcd(stride, instruction.taps)


def filled(instruction: Instruction, problem: Problem) -> float:
    """Return how many taps windows are compared with for each of a template's."""
    return count_lanes(instruction, problem) * instruction.taps / problem.kernel_size[1]


def count_lanes(instruction: Instruction, problem: Problem) -> int:
    """Count the lanes that a row of taps takes, in all phases."""
    split = phases(instruction, problem.stride[1])
    return split * -(-problem.kernel_size[1] // (split * instruction.taps))


@lru_cache(maxsize=256)
def _starts(instruction: Instruction, problem: Problem, split: int) -> tuple[Array, int]:
    """List where registers of pixels start, class by class of windows, and count the classes.

    The last one is listed again for sweeps that take more.
    """
    step = problem.stride[1] // split
    classes, size = instruction.taps // step, instruction.dtype.itemsize
    lanes = -(-problem.map_size[1] // classes) + count_lanes(instruction, problem) // split - 1
    registers = -(-lanes * instruction.taps * size // instruction.register)
    first = step * size * np.arange(classes)[:, None]
    starts = (first + instruction.register * np.arange(registers)).ravel()
    spare = max(sweeps.registers(instruction, groups + 1) for groups in range(sweeps.GROUPS))
    return np.append(starts, np.full(spare, starts[-1])), classes


def _arranged(
    instruction: Instruction, kernel: Array, split: int, lanes: int
) -> tuple[Array, Array]:
    """Arrange templates' rows in lanes: (N, C·h·split, bytes), and masks (C·h·split, a lane).

    There are masks only where lanes have pixels without a tap and no tap is neutral.
    """
    templates, channels, height, width = kernel.shape
    shape = templates, channels, height, lanes * instruction.taps, split
    missing = math.prod(shape[3:]) - width
    filled = enlarged(kernel, (0, missing), instruction.neutral or 0)
    rows = channels * height * split
    taps = np.ascontiguousarray(filled.reshape(shape).swapaxes(-1, -2)).view(np.uint8)
    masks = np.zeros((0, instruction.taps), np.uint8)
    if instruction.neutral is None and missing:
        there = np.repeat(np.array([255, 0], np.uint8), (width, missing))
        last = there.reshape(-1, split).T[:, -instruction.taps :]
        masks = np.ascontiguousarray(np.tile(last, (channels * height, 1)))
    return taps.reshape(templates, rows, -1), masks


@made_once
def _compiled(instruction: Instruction) -> Kernel:
    """Compile sums over windows by an instruction for sums over lanes of pixels.

    (image, starts, offsets, taps, masks, factor, sums, classes, steps, top, rows, first, last): to
    sums (B, N, Ho, Wo), from row `top` on, `factor` times those of `rows` rows of windows are
    added. Windows of so many classes take turns in a row, those of a class lie a lane apart. At
    starts are their registers, as many for each class, and then some more that a sweep may take in
    vain. The bytes there, all `offsets` further, meet taps (N, offsets, bytes of all lanes), and
    masks (offsets, a lane), if not empty, where the last lanes have pixels without a tap. Images
    and rows of windows lie `steps` bytes apart. Of all images' blocks of BAND rows those from
    `first` to `last` are computed.
    """
    from numba import types

    groups = range(1, sweeps.GROUPS + 1)
    sizes = tuple(sweeps.registers(instruction, n) for n in groups)
    call = "(pixels, begin, *places, *more, some, *found)"
    # Each way of sweeping, and when to take it; the first that fits is taken.
    ways = {"plain": "left"}
    if instruction.neutral is None:
        ways = {"masked": "cut and left", **ways}
    branches = "\nel".join(
        f"if {condition} == {n}:\n    {way}{n}{call}"
        for way, condition in ways.items()
        for n in groups
    )
    source = LANES.format(
        lanes=instruction.register // instruction.size,
        lane=instruction.size,
        groups=sweeps.GROUPS,
        band=BAND,
        chunk=CHUNK,
        spare=max(sizes),
        sizes=sizes,
        sweeps=indent(branches, 28 * " "),
    )
    functions = {
        f"{way}{n}": sweeps.lanes(instruction, n, masked=way == "masked")
        for way in ways
        for n in groups
    }
    pixels = types.uint8
    arrays = pixels[::1], types.int64[::1], types.int64[::1], pixels[:, :, ::1], pixels[:, ::1]
    sums = types.float64, types.float64[:, :, :, ::1], types.int64, jit.tuple_of(2)
    signature = types.void(*arrays, *sums, *[types.int64] * 4)
    return jit.compiled(source, [signature], functions, str(instruction))
