"""Processors' instructions that sum over neighbouring bytes, or int16."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from patchsim.once import made_once


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


#: What features build on: to lack one is to lack all that build on it.
_BASES = {
    "sse2": ("sse",),
    "sse3": ("sse2",),
    "ssse3": ("sse3",),
    "sse4.1": ("ssse3",),
    "sse4.2": ("sse4.1",),
    "avx": ("sse4.2",),
    "f16c": ("avx",),
    "fma": ("avx",),
    "avx2": ("avx",),
    "avxvnni": ("avx2",),
    "avx512f": ("avx2", "f16c", "fma"),
    "avx512bw": ("avx512f",),
    "avx512vnni": ("avx512f",),
}


@made_once
def instruction(choice: tuple[Instruction, ...]) -> Instruction | None:
    """Return the first of these that kernels may use."""
    features = _features()
    return next((i for i in choice if i.feature in features), None)


@made_once
def _features() -> frozenset[str]:
    """Tell for which of the features in `_BASES` Numba compiles.

    They need not be the processor's: ``NUMBA_CPU_NAME``, ``NUMBA_CPU_FEATURES`` and
    ``NUMBA_ENABLE_AVX`` choose others, and LLVM ends the process for an instruction that isn't
    among them. What only a processor's name implies isn't counted.
    """
    from numba.core.registry import cpu_target

    _, _, text = cpu_target.target_context.codegen().magic_tuple()
    return named(text)


def named(text: str) -> frozenset[str]:
    """Read LLVM's list of features, such as "+avx2,-avx512f", of which later ones prevail."""
    found: set[str] = set()
    for part in text.split(","):
        name = part.strip()[1:]
        if part.strip().startswith("+"):
            found |= _built_on(name)
        else:
            found = {other for other in found if name not in _built_on(other)}
    if "-evex512" in text.replace(" ", "").split(","):  # registers of 64 bytes
        found -= {other for other in found if "avx512f" in _built_on(other)}
    return frozenset(found)


def _built_on(feature: str) -> set[str]:
    """List a feature and all that it builds on."""
    return {feature}.union(*map(_built_on, _BASES.get(feature, ())))
