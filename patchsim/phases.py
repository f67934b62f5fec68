"""Splits lines of pixels into their phases, every n-th pixel each, as LLVM code."""

from __future__ import annotations

from typing import Any

from patchsim.butterflies import REGISTER

#: Strides that halving, and halving again, makes of lines.
STRIDES = (2, 4, 8)

#: See `patchsim.jit.phases`. The last registers may overlap those before. What fills none, and
#: other strides, are copied one by one.
PHASES = """
def kernel(image, planes, rows, cols, first, last):
    batch, channels, down, across, size = planes.shape
    across = {stride} or across
    height, width = image.shape[2:]
    to_batch, to_channel, to_row, to_pixel = image.strides
    from_batch, from_channel, from_row, to_phase, item = planes.strides
    whole = width // across if {split} and to_pixel == item and width >= across * {lanes} else 0
    b, c, y = first // rows // channels, first // rows % channels, first % rows
    for _ in range(first, last):
        # Unsigned, so that no index counts from the end.
        start, step = np.uint64(y * cols), np.uint64(across)
        for i in range(down):
            source = y * down + i
            if source < height and whole:
                line = image.ctypes.data + b * to_batch + c * to_channel + source * to_row
                target = planes.ctypes.data + b * from_batch + c * from_channel + i * from_row
                target += y * cols * item
                split(line, target, to_phase, whole // {lanes})
                last_one = (whole - {lanes}) * item
                split(line + across * last_one, target + last_one, to_phase, 1)
            for j in range(across):
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
    from numba import extending, types
    from numba.core import cgutils

    lanes, address = REGISTER // itemsize, ir.IntType(64)
    register = ir.VectorType(ir.IntType(8 * itemsize), lanes)
    index = ir.VectorType(ir.IntType(32), lanes)

    def at(build: Any, place: Any) -> Any:
        return build.inttoptr(place, register.as_pointer())

    def phases(build: Any, line: list[Any]) -> list[Any]:
        """Take every second lane, and the others; of each of both again."""
        if len(line) == 1:
            return line
        halves = []
        for first in (0, 1):
            lanes_taken = index([first + 2 * lane for lane in range(lanes)])
            pairs = zip(line[::2], line[1::2], strict=True)
            halves.append(phases(build, [build.shuffle_vector(*p, lanes_taken) for p in pairs]))
        return [phase for pair in zip(*halves, strict=True) for phase in pair]

    def code(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        line, target, step, count = arguments
        with cgutils.for_range(build, count) as loop:
            here = build.add(line, build.mul(loop.index, address(stride * REGISTER)))
            there = build.add(target, build.mul(loop.index, address(REGISTER)))
            loaded = []
            for _ in range(stride):
                loaded.append(build.load(at(build, here), align=itemsize))
                here = build.add(here, address(REGISTER))
            for phase in phases(build, loaded):
                build.store(phase, at(build, there), align=itemsize)
                there = build.add(there, step)
        return context.get_dummy_value()

    definition = types.void(*[types.int64] * 4), code

    def split(context: Any, line: Any, target: Any, step: Any, count: Any) -> Any:
        return definition

    return extending.intrinsic(split)
