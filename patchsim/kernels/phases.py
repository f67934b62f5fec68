"""Splits lines of pixels into their phases, every n-th pixel each, as LLVM code."""

from __future__ import annotations

from typing import Any

from patchsim.kernels.butterflies import REGISTER
from patchsim.kernels.intrinsics import of_addresses, prefetch

#: Strides for which registers are rearranged, as those of larger ones would be too many.
STRIDES = (2, 3, 4, 5, 6, 8)

#: Bytes by which pixels are asked for ahead: processors don't by themselves from page to page.
AHEAD = 2**13

#: See `patchsim.kernels.jit.phases`. The last registers may overlap those before. What fills none,
#: and other strides, are copied one by one.
PHASES = """
def kernel(image, planes, stride, rows, cols, first, last):
    (down, across), (height, width) = stride, image.shape[2:]
    batch, channels, deep, wide, size = planes.shape
    across, wide = {stride} or across, {stride} or wide
    to_batch, to_channel, to_row, to_pixel = image.strides
    from_batch, from_channel, from_row, to_phase, item = planes.strides
    whole = width // across if {split} and to_pixel == item and width >= across * {lanes} else 0
    b, c, y = first // rows // channels, first // rows % channels, first % rows
    for _ in range(first, last):
        # Unsigned, so that no index counts from the end.
        start, step = np.uint64(y * cols), np.uint64(across)
        for i in range(deep):
            source = y * down + i
            if source < height and whole:
                line = image.ctypes.data + b * to_batch + c * to_channel + source * to_row
                target = planes.ctypes.data + b * from_batch + c * from_channel + i * from_row
                target += y * cols * item
                split(line, target, to_phase, whole // {lanes})
                last_one = (whole - {lanes}) * item
                split(line + across * last_one, target + last_one, to_phase, 1)
            for j in range(wide):
                inside = (width - j + across - 1) // across if source < height else 0
                for x in range(np.uint64(min(whole, inside)), np.uint64(inside)):
                    planes[b, c, i, j, start + x] = image[b, c, source, np.uint64(j) + x * step]
                for x in range(np.uint64(inside), np.uint64(cols)):
                    planes[b, c, i, j, start + x] = 0
        y += 1
        if y == rows:
            c, y = c + 1, 0
            if c == channels:
                b, c = b + 1, 0
"""


def source(stride: int, itemsize: int) -> str:
    """Write the kernel for a stride across."""
    return PHASES.format(lanes=REGISTER // itemsize, split=stride in STRIDES, stride=stride)


def split(stride: int, itemsize: int) -> Any:
    """Make a function for Numba's code: (line, target, step, count).

    Of count·stride registers at the address `line` every stride-th number goes to the address
    `target`, every next to `step` bytes after it, and so on: `count` registers each.
    """
    from llvmlite import ir  # type: ignore[import-untyped]
    from numba.core import cgutils

    lanes, address = REGISTER // itemsize, ir.IntType(64)
    register = ir.VectorType(ir.IntType(8 * itemsize), lanes)

    def at(build: Any, place: Any) -> Any:
        return build.inttoptr(place, register.as_pointer())

    def code(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        line, target, step, count = arguments
        with cgutils.for_range(build, count) as loop:
            here = build.add(line, build.mul(loop.index, address(stride * REGISTER)))
            there = build.add(target, build.mul(loop.index, address(REGISTER)))
            loaded = []
            for _ in range(stride):
                prefetch(build, build.add(here, address(AHEAD)))
                loaded.append(build.load(at(build, here), align=itemsize))
                here = build.add(here, address(REGISTER))
            for phase in _phases(build, loaded):
                build.store(phase, at(build, there), align=itemsize)
                there = build.add(there, step)
        return context.get_dummy_value()

    return of_addresses(code, 4)


def _phases(build: Any, line: list[Any]) -> list[Any]:
    """Take every n-th lane, n being a prime, and those after them; of each of these again."""
    count = len(line)
    if count == 1:
        return line
    prime = next(n for n in range(2, count + 1) if count % n == 0)
    groups = [line[i : i + prime] for i in range(0, count, prime)]
    split = [_phases(build, [_take(build, g, first) for g in groups]) for first in range(prime)]
    return [phase for some in zip(*split, strict=True) for phase in some]


def _take(build: Any, line: list[Any], first: int) -> Any:
    """Of so many registers take as many lanes apart, from the first on."""
    from llvmlite import ir

    lanes = line[0].type.count
    places = [first + len(line) * lane for lane in range(lanes)]
    taken = line[0]
    for i in range(1, len(line)):
        # What is there already stays where it is; what isn't yet, a later register has.
        there = places if i == 1 else range(lanes)
        index = [
            t if place < lanes * i else lanes + place % lanes
            for t, place in zip(there, places, strict=True)
        ]
        taken = build.shuffle_vector(taken, line[i], ir.VectorType(ir.IntType(32), lanes)(index))
    return taken
