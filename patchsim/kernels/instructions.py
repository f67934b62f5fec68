"""Processors' instructions that sum over neighbouring bytes, or int16."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch


@dataclass(frozen=True)
class Instruction:
    """A processor's instruction for sums over the pixels in four bytes, or in eight.

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
        The largest magnitude of such a sum.
    dtype : torch.dtype
        Of pixels and taps.
    neutral : int or None
        The value of a tap that adds the same to every sum, namely itself, if there is one.
    """

    name: str
    feature: str
    register: int
    step: int
    size: int
    part: str
    peak: int
    dtype: torch.dtype = torch.uint8
    neutral: int | None = 0

    @property
    def limit(self) -> int:
        """How many sums a part can hold."""
        bits = 8 * self.spread - (0 if self.part.startswith("u") else 1)
        return ((1 << bits) - 1) // self.peak

    @property
    def taps(self) -> int:
        """How many taps a sum is over."""
        return (self.size if self.step == 1 else 4) // self.dtype.itemsize

    @property
    def spread(self) -> int:
        """Bytes for each pixel of an image, and of each sum."""
        return self.size // self.step


#: Sums of |p − k| over four bytes: 16 neighbouring bytes hold all pixels of four taps for eight
#: starts, and of the next four taps as well.
MPSAD = (
    Instruction(
        "llvm.x86.avx512.dbpsadbw.512", "avx512bw", 64, 8, 16, "uint16", 4 * 255, neutral=None
    ),
    Instruction("llvm.x86.avx2.mpsadbw", "avx2", 32, 8, 16, "uint16", 4 * 255, neutral=None),
)
#: Sums of |p − k| over eight bytes.
PSAD = (
    Instruction(
        "llvm.x86.avx512.psad.bw.512", "avx512bw", 64, 1, 8, "int64", 8 * 255, neutral=None
    ),
    Instruction("llvm.x86.avx2.psad.bw", "avx2", 32, 1, 8, "int64", 8 * 255, neutral=None),
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
