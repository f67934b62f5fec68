"""LLVM code that compares registers of pixels with taps, by a processor's instruction."""

from __future__ import annotations

from itertools import product
from typing import Any

from patchsim.kernels.instructions import DOT, MIN, MPSAD, Instruction
from patchsim.kernels.intrinsics import of_addresses

#: The most lanes of taps that a sweep over lanes compares with each register of pixels.
GROUPS = 5


def words(instruction: Instruction, words: int, groups: int, templates: int) -> Any:
    """Make a function for Numba's code: (parts, start, offsets, taps, registers, part, template).

    Adds to `registers` registers of sums of each of `templates` templates what `groups` groups of
    `words` times four taps add to them. Group t begins with the pixels at start + offsets[t]. The
    first four are addresses; templates' sums lie `part` bytes apart, their taps `template` bytes.
    """
    return of_addresses(_Words(instruction, words, groups, templates), 7)


def lanes(instruction: Instruction, groups: int, *, masked: bool) -> Any:
    """Make a function for Numba's code.

    (pixels, starts, offsets, count, taps, step, masks, sums, apart), all but count, step and apart
    addresses: the registers that begin at the pixels plus starts are compared with `groups` lanes
    of taps; that is done `count` times, offsets further each time, with taps that lie step bytes
    apart. If `masked`, pixels that meet the last lane lose the bits that masks, of a lane each,
    don't have. Sums with each lane of taps are added to int32, apart bytes from those with the one
    before.
    """
    return of_addresses(_Lanes(instruction, groups, masked), 9)


def registers(instruction: Instruction, groups: int) -> int:
    """Choose how many registers a sweep over lanes takes, so that its sums stay in registers."""
    return min(8, instruction.register // 4 // groups)


class _Code:
    """Writes an instruction, and loads what it takes."""

    def __init__(self, instruction: Instruction) -> None:
        from llvmlite import ir  # type: ignore[import-untyped]

        self.instruction = instruction
        self.byte, self.word, self.number = ir.IntType(8), ir.IntType(32), ir.IntType(64)
        self.lane = ir.IntType(8 * instruction.taps * instruction.dtype.itemsize)
        size, spread = instruction.register, instruction.spread
        self.pixels = ir.VectorType(self.byte, size)
        self.taps = ir.VectorType(self.lane, 8 * size // self.lane.width)
        self.sums = ir.VectorType(ir.IntType(8 * spread), size // spread)

    def load(self, build: Any, address: Any, type_: Any) -> Any:
        value = build.load(build.inttoptr(address, type_.as_pointer()))
        value.align = 1
        return value

    def load_taps(self, build: Any, address: Any) -> Any:
        """Load the taps of a sum, repeated over a register."""
        from llvmlite import ir

        zeros = ir.Constant(self.taps, [0] * self.taps.count)
        first = build.insert_element(zeros, self.load(build, address, self.lane), self.word(0))
        places = ir.Constant(ir.VectorType(self.word, self.taps.count), [0] * self.taps.count)
        return build.shuffle_vector(first, first, places)

    def add(self, build: Any, sums: Any, pixels: Any, taps: Any, which: int = 0) -> Any:
        """Add one instruction's sums; of four bytes in pixels that two share, the `which` ones'."""
        if self.instruction in DOT:
            return self._call(build, sums, build.bitcast(pixels, self.taps), taps)
        if self.instruction in MIN:
            return self._call(build, sums, *self._minima(build, pixels, taps))
        pixels, taps = build.bitcast(pixels, self.pixels), build.bitcast(taps, self.pixels)
        if self.instruction not in MPSAD:
            return build.add(sums, self._call(build, pixels, taps))
        if self.instruction.register == 32:  # bit 2 moves the pixels by four, in the upper half 5
            control = self.byte((0b000000, 0b100100)[which])
            return build.add(sums, self._call(build, pixels, taps, control))
        # Two bits each: which four pixels come first, second, third and fourth.
        control = self.word((0b10010100, 0b11101001)[which])
        return build.add(sums, self._call(build, taps, pixels, control))

    def _minima(self, build: Any, pixels: Any, taps: Any) -> tuple[Any, Any]:
        """Return minima of pairs, and ones to multiply them with."""
        from llvmlite import ir

        pairs = ir.VectorType(ir.IntType(16), 2 * self.taps.count)
        pixels, taps = build.bitcast(pixels, pairs), build.bitcast(taps, pairs)
        minima = build.select(build.icmp_signed("<", pixels, taps), pixels, taps)
        ones = ir.Constant(self.taps, [2**16 + 1] * self.taps.count)
        return build.bitcast(minima, self.taps), ones

    def _call(self, build: Any, *arguments: Any) -> Any:
        from llvmlite import ir

        kind = ir.FunctionType(self.sums, [argument.type for argument in arguments])
        function = build.module.declare_intrinsic(self.instruction.name, (), kind)
        return build.call(function, arguments)


class _Words(_Code):
    """Writes the LLVM code of `words`."""

    def __init__(self, instruction: Instruction, words: int, groups: int, templates: int) -> None:
        super().__init__(instruction)
        self.words, self.groups, self.templates = range(words), groups, range(templates)

    def __call__(self, context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        from numba.core import cgutils

        parts, start, offsets, taps, registers, to_part, to_template = arguments
        number = self.number
        places = [build.add(parts, build.mul(number(n), to_part)) for n in self.templates]
        starts, fours = [], {}
        for t in range(self.groups):
            offset = self.load(build, build.add(offsets, number(8 * t)), number)
            starts.append(build.add(start, offset))
            for n, i in product(self.templates, self.words):
                mine = build.add(taps, build.mul(number(n), to_template))
                place = build.add(mine, number(4 * (len(self.words) * t + i)))
                fours[n, t, i] = self.load_taps(build, place)
        with cgutils.for_range(build, registers) as loop:
            shift = build.mul(loop.index, number(self.instruction.register))
            here = [build.add(place, shift) for place in places]
            sums = [self.load(build, place, self.sums) for place in here]
            for t, first in enumerate(starts):
                pixels = self.load(build, build.add(first, shift), self.pixels)
                for n, i in product(self.templates, self.words):
                    sums[n] = self.add(build, sums[n], pixels, fours[n, t, i], i)
            for place, total in zip(here, sums, strict=True):
                build.store(total, build.inttoptr(place, self.sums.as_pointer())).align = 1
        return context.get_dummy_value()


class _Lanes(_Code):
    """Writes the LLVM code of `lanes`."""

    def __init__(self, instruction: Instruction, groups: int, masked: bool) -> None:
        super().__init__(instruction)
        self.masked, self.size = masked, self.lane.width // 8
        self.groups, self.registers = range(groups), range(registers(instruction, groups))

    def __call__(self, context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        from llvmlite import ir
        from numba.core import cgutils

        pixels, starts, offsets, count, taps, step, masks, sums, apart = arguments
        number, size = self.number, self.size
        places = []
        for q in self.registers:
            start = self.load(build, build.add(starts, number(8 * q)), number)
            places.append(build.add(pixels, start))
        small = ir.VectorType(self.word, self.sums.count)
        targets, totals = {}, {}
        for g, q in product(self.groups, self.registers):
            shift = build.add(build.mul(apart, number(g)), number(4 * self.sums.count * q))
            targets[g, q] = build.add(sums, shift)
            total = self.load(build, targets[g, q], small)
            total = total if self.sums == small else build.sext(total, self.sums)
            totals[g, q] = build.alloca(self.sums)  # which becomes a register
            build.store(total, totals[g, q])
        with cgutils.for_range(build, count) as loop:
            offset = build.add(offsets, build.mul(loop.index, number(8)))
            offset = self.load(build, offset, number)
            row = build.add(taps, build.mul(loop.index, step))
            lanes = [self.load_taps(build, build.add(row, number(size * g))) for g in self.groups]
            mask = build.add(masks, build.mul(loop.index, number(size)))
            mask = self.load_taps(build, mask) if self.masked else None
            for q, place in enumerate(places):
                run = self.load(build, build.add(place, offset), self.taps)
                for g in self.groups:
                    last = self.masked and g == self.groups[-1]
                    seen = build.and_(run, mask) if last else run
                    total = self.add(build, build.load(totals[g, q]), seen, lanes[g])
                    build.store(total, totals[g, q])
        for place, target in targets.items():
            total = build.load(totals[place])
            total = total if self.sums == small else build.trunc(total, small)
            build.store(total, build.inttoptr(target, small.as_pointer())).align = 4
        return context.get_dummy_value()
