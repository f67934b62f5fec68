"""Processors' instructions for sums over four neighbouring bytes, or two int16, as LLVM code."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import torch


@dataclass(frozen=True)
class Instruction:
    """A processor's instruction for sums over the pixels in four bytes.

    Attributes
    ----------
    name : str
        What LLVM calls it.
    feature : str
        The processor's feature that it belongs to.
    register : int
        Bytes that it takes.
    step, size : int
        So many neighbouring starts find their pixels in so many bytes of the register.
    part : str
        The type of its sums, of which there are as many bytes as of pixels.
    peak : int
        The largest magnitude of the sum over four bytes.
    dtype : torch.dtype
        Of pixels and taps.
    neutral : int
        The value of a tap that adds the same to every sum, namely itself.
    """

    name: str
    feature: str
    register: int
    step: int
    size: int
    part: str
    peak: int
    dtype: torch.dtype = torch.uint8
    neutral: int = 0

    @property
    def limit(self) -> int:
        """How many sums over four bytes a part can hold."""
        bits = 8 * self.spread - (0 if self.part.startswith("u") else 1)
        return ((1 << bits) - 1) // self.peak

    @property
    def taps(self) -> int:
        """How many taps four bytes are."""
        return 4 // self.dtype.itemsize

    @property
    def spread(self) -> int:
        """Bytes for each pixel of an image, and of each sum."""
        return self.size // self.step


#: Sums of |p − k|: 16 neighbouring bytes hold all pixels of four taps for eight starts, and of the
#: next four taps as well.
SAD = (
    Instruction("llvm.x86.avx512.dbpsadbw.512", "avx512bw", 64, 8, 16, "uint16", 4 * 255),
    Instruction("llvm.x86.avx2.mpsadbw", "avx2", 32, 8, 16, "uint16", 4 * 255),
)
#: Sums of p·(k − CENTRE), signed bytes: each start has four bytes of its own.
DOT = (
    Instruction("llvm.x86.avx512.vpdpbusd.512", "avx512vnni", 64, 1, 4, "int32", 4 * 255 * 128),
    Instruction("llvm.x86.avx512.vpdpbusd.256", "avxvnni", 32, 1, 4, "int32", 4 * 255 * 128),
)
CENTRE = 128
#: Sums of min(p, k), by multiplying the minima with ones.
MIN = (
    Instruction(
        "llvm.x86.avx512.vpdpwssd.512",
        "avx512vnni",
        64,
        1,
        4,
        "int32",
        2**16,
        torch.int16,
        -(2**15),
    ),
    Instruction(
        "llvm.x86.avx512.vpdpwssd.256", "avxvnni", 32, 1, 4, "int32", 2**16, torch.int16, -(2**15)
    ),
)


@cache
def instruction(choice: tuple[Instruction, ...]) -> Instruction | None:
    """Return the first of these that this processor has."""
    import llvmlite.binding  # type: ignore[import-untyped]

    features = llvmlite.binding.get_host_cpu_features()
    return next((i for i in choice if features.get(i.feature)), None)


def sweep(instruction: Instruction, words: int, groups: int, templates: int) -> Any:
    """Make a function for Numba's code: (parts, start, offsets, taps, registers, part, template).

    Adds to `registers` registers of sums of each of `templates` templates what `groups` groups of
    `words` times four taps add to them. Group t begins with the pixels at start + offsets[t]. The
    first four are addresses; templates' sums lie `part` bytes apart, their taps `template` bytes.
    """
    from numba import extending, types

    definition = types.void(*[types.int64] * 7), _Sweep(instruction, words, groups, templates)

    def sweep(
        context: Any,
        parts: Any,
        start: Any,
        offsets: Any,
        taps: Any,
        registers: Any,
        part: Any,
        template: Any,
    ) -> Any:
        return definition

    return extending.intrinsic(sweep)


class _Sweep:
    """Writes the LLVM code of `sweep`."""

    def __init__(self, instruction: Instruction, words: int, groups: int, templates: int) -> None:
        from llvmlite import ir

        self.instruction, self.groups = instruction, groups
        self.templates, self.words = range(templates), range(words)
        size = instruction.register
        self.byte, self.word, self.number = ir.IntType(8), ir.IntType(32), ir.IntType(64)
        self.pixels = ir.VectorType(self.byte, size)
        self.fours = ir.VectorType(self.word, size // 4)
        bits = 8 * instruction.spread
        self.sums = ir.VectorType(ir.IntType(bits), size // instruction.spread)
        self.zeros = ir.Constant(self.fours, [0] * self.fours.count)

    def __call__(self, context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        from numba.core import cgutils

        parts, start, offsets, taps, registers, to_part, to_template = arguments
        number = self.number
        places = [build.add(parts, build.mul(number(n), to_part)) for n in self.templates]
        starts, fours = [], {}
        for t in range(self.groups):
            offset = self._load(build, build.add(offsets, number(8 * t)), number)
            starts.append(build.add(start, offset))
            for n, i in product(self.templates, self.words):
                mine = build.add(taps, build.mul(number(n), to_template))
                place = build.add(mine, number(4 * (len(self.words) * t + i)))
                fours[n, t, i] = self._everywhere(build, self._load(build, place, self.word))
        with cgutils.for_range(build, registers) as loop:
            shift = build.mul(loop.index, number(self.instruction.register))
            here = [build.add(place, shift) for place in places]
            sums = [self._load(build, place, self.sums) for place in here]
            for t, first in enumerate(starts):
                pixels = self._load(build, build.add(first, shift), self.pixels)
                for n, i in product(self.templates, self.words):
                    sums[n] = self._add(build, sums[n], pixels, fours[n, t, i], i)
            for place, total in zip(here, sums, strict=True):
                build.store(total, build.inttoptr(place, self.sums.as_pointer())).align = 1
        return context.get_dummy_value()

    def _load(self, build: Any, address: Any, type_: Any) -> Any:
        value = build.load(build.inttoptr(address, type_.as_pointer()))
        value.align = 1
        return value

    def _everywhere(self, build: Any, value: Any) -> Any:
        vector = build.insert_element(self.zeros, value, self.word(0))
        return build.shuffle_vector(vector, vector, self.zeros)

    def _add(self, build: Any, sums: Any, pixels: Any, taps: Any, which: int) -> Any:
        """Add one instruction's sums, with the first or second four taps of a group."""
        name = self.instruction.name
        if "dpbusd" in name:
            function = self._declare(build, self.fours, [self.fours] * 3)
            return build.call(function, [sums, build.bitcast(pixels, self.fours), taps])
        if "dpwssd" in name:
            return self._add_minima(build, sums, pixels, taps)
        taps = build.bitcast(taps, self.pixels)
        if "mpsadbw" in name:  # bit 2 moves the pixels on by four, in the upper half bit 5
            small, first, second = self.byte, pixels, taps
            control = (0b000000, 0b100100)[which]
        else:  # two bits each: which four pixels come first, second, third and fourth
            small, first, second = self.word, taps, pixels
            control = (0b10010100, 0b11101001)[which]
        function = self._declare(build, self.sums, [self.pixels, self.pixels, small])
        return build.add(sums, build.call(function, [first, second, small(control)]))

    def _add_minima(self, build: Any, sums: Any, pixels: Any, taps: Any) -> Any:
        from llvmlite import ir

        pairs = ir.VectorType(ir.IntType(16), 2 * self.fours.count)
        pixels, taps = build.bitcast(pixels, pairs), build.bitcast(taps, pairs)
        minima = build.select(build.icmp_signed("<", pixels, taps), pixels, taps)
        ones = ir.Constant(self.fours, [2**16 + 1] * self.fours.count)
        function = self._declare(build, self.fours, [self.fours] * 3)
        return build.call(function, [sums, build.bitcast(minima, self.fours), ones])

    def _declare(self, build: Any, result: Any, arguments: list[Any]) -> Any:
        from llvmlite import ir

        kind = ir.FunctionType(result, arguments)
        return build.module.declare_intrinsic(self.instruction.name, (), kind)
