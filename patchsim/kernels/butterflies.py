"""Steps of Fourier transforms as LLVM code, on one register's worth of signals side by side.

A complex number of all signals is a register of real parts followed by one of imaginary parts.
Transforms along an axis of an image then need no shuffling: neighbouring columns are the signals.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Sequence
from typing import Any

from patchsim.kernels.intrinsics import of_addresses
from patchsim.once import made_once

#: Bytes of a register; where a processor's are smaller, LLVM takes several.
REGISTER = 64

#: Lengths of the transforms that are written out.
RADICES = (3, 4, 5, 8)

Complex = tuple[Any, Any]


class _Writer:
    """Writes operations on registers of `bits` wide floats."""

    def __init__(self, build: Any, bits: int) -> None:
        from llvmlite import ir  # type: ignore[import-untyped]

        self.build, self.size, self.lanes = build, bits // 8, 8 * REGISTER // bits
        self.scalar = ir.FloatType() if bits == 32 else ir.DoubleType()
        self.register = ir.VectorType(self.scalar, self.lanes)
        self.index = ir.VectorType(ir.IntType(32), self.lanes)
        self.address = ir.IntType(64)

    def at(self, address: Any, offset: int) -> Any:
        return self.build.add(address, self.address(offset))

    def load(self, address: Any) -> Any:
        return self._load(address, self.register)

    def load_everywhere(self, address: Any) -> Any:
        """Load one number into every lane."""
        none = self.register(None)
        vector = self.build.insert_element(none, self._load(address, self.scalar), self._zero)
        return self.build.shuffle_vector(vector, none, self.index([0] * self.lanes))

    def load_complex(self, address: Any) -> Complex:
        return self.load(address), self.load(self.at(address, REGISTER))

    def store(self, value: Any, address: Any) -> None:
        place = self.build.inttoptr(address, self.register.as_pointer())
        self.build.store(value, place).align = self.size

    def store_complex(self, value: Complex, address: Any) -> None:
        self.store(value[0], address)
        self.store(value[1], self.at(address, REGISTER))

    def add(self, a: Complex, b: Complex) -> Complex:
        return self._plus(a[0], b[0]), self._plus(a[1], b[1])

    def subtract(self, a: Complex, b: Complex) -> Complex:
        return self._minus(a[0], b[0]), self._minus(a[1], b[1])

    def times(self, a: Complex, b: Complex) -> Complex:
        real = self._minus(self._times(a[0], b[0]), self._times(a[1], b[1]))
        return real, self._plus(self._times(a[0], b[1]), self._times(a[1], b[0]))

    def times_conjugate(self, a: Complex, b: Complex) -> Complex:
        real = self._plus(self._times(a[0], b[0]), self._times(a[1], b[1]))
        return real, self._minus(self._times(a[1], b[0]), self._times(a[0], b[1]))

    def times_number(self, a: Complex, number: float) -> Complex:
        factor = self._everywhere(number)
        return self._times(a[0], factor), self._times(a[1], factor)

    def add_i(self, a: Complex, b: Complex) -> Complex:
        """Return a + i·b."""
        return self._minus(a[0], b[1]), self._plus(a[1], b[0])

    def subtract_i(self, a: Complex, b: Complex) -> Complex:
        """Return a − i·b."""
        return self._plus(a[0], b[1]), self._minus(a[1], b[0])

    def interleave(self, a: Any, b: Any) -> tuple[Any, Any]:
        """Take lanes of a and b in turns."""
        turns = [lane for i in range(self.lanes) for lane in (i, self.lanes + i)]
        halves = turns[: self.lanes], turns[self.lanes :]
        first, second = (self.build.shuffle_vector(a, b, self.index(half)) for half in halves)
        return first, second

    @property
    def _zero(self) -> Any:
        return self.index.element(0)

    def _everywhere(self, number: float) -> Any:
        return self.register([number] * self.lanes)

    def _load(self, address: Any, type_: Any) -> Any:
        value = self.build.load(self.build.inttoptr(address, type_.as_pointer()))
        value.align = self.size
        return value

    # Products may be fused with sums, as the error bounds allow.
    def _plus(self, a: Any, b: Any) -> Any:
        return self.build.fadd(a, b, flags=("contract", "nsz"))

    def _minus(self, a: Any, b: Any) -> Any:
        return self.build.fsub(a, b, flags=("contract", "nsz"))

    def _times(self, a: Any, b: Any) -> Any:
        return self.build.fmul(a, b, flags=("contract", "nsz"))


def _transform(write: _Writer, x: Sequence[Complex], sign: int) -> list[Complex]:
    """Write the transform Σ_j x_j·exp(sign·2πi·jk/n) of n = 2, 3, 4, 5 or 8 numbers."""
    return {2: _two, 3: _three, 4: _four, 5: _five, 8: _eight}[len(x)](write, x, sign)


def _two(write: _Writer, x: Sequence[Complex], sign: int) -> list[Complex]:
    return [write.add(*x), write.subtract(*x)]


def _three(write: _Writer, x: Sequence[Complex], sign: int) -> list[Complex]:
    total = write.add(x[1], x[2])
    middle = write.subtract(x[0], write.times_number(total, 0.5))
    turned = write.times_number(write.subtract(x[1], x[2]), sign * math.sqrt(0.75))
    return [write.add(x[0], total), write.add_i(middle, turned), write.subtract_i(middle, turned)]


def _four(write: _Writer, x: Sequence[Complex], sign: int) -> list[Complex]:
    (even, odd), (left, right) = _two(write, x[::2], sign), _two(write, x[1::2], sign)
    up, down = write.add_i(odd, right), write.subtract_i(odd, right)
    if sign < 0:
        up, down = down, up
    return [write.add(even, left), up, write.subtract(even, left), down]


def _five(write: _Writer, x: Sequence[Complex], sign: int) -> list[Complex]:
    one, two = write.add(x[1], x[4]), write.add(x[2], x[3])
    other, another = write.subtract(x[1], x[4]), write.subtract(x[2], x[3])
    (c1, s1), (c2, s2) = ((math.cos(a), sign * math.sin(a)) for a in (0.4 * math.pi, 0.8 * math.pi))

    def sum_of(a: Complex, b: Complex, of_a: float, of_b: float) -> Complex:
        return write.add(write.times_number(a, of_a), write.times_number(b, of_b))

    inner, outer = (write.add(x[0], sum_of(one, two, *factors)) for factors in ((c1, c2), (c2, c1)))
    near, far = sum_of(other, another, s1, s2), sum_of(other, another, s2, -s1)
    return [
        write.add(x[0], write.add(one, two)),
        write.add_i(inner, near),
        write.add_i(outer, far),
        write.subtract_i(outer, far),
        write.subtract_i(inner, near),
    ]


def _eight(write: _Writer, x: Sequence[Complex], sign: int) -> list[Complex]:
    even, odd = _four(write, x[::2], sign), _four(write, x[1::2], sign)
    # Times exp(sign·πi·k/4).
    half = math.sqrt(0.5)
    turn = write.add_i if sign > 0 else write.subtract_i
    back = write.subtract_i if sign > 0 else write.add_i
    first = write.times_number(turn(odd[1], odd[1]), half)
    third = write.times_number(back(odd[3], odd[3]), half)
    pairs = [
        _two(write, (even[0], odd[0]), sign),
        _two(write, (even[1], first), sign),
        [turn(even[2], odd[2]), back(even[2], odd[2])],
        [write.subtract(even[3], third), write.add(even[3], third)],
    ]
    return [pair[0] for pair in pairs] + [pair[1] for pair in pairs]


@made_once
def butterfly(radix: int, inverse: bool, bits: int) -> Any:
    """Make a function for Numba's code: (address, step, roots), in place.

    Transforms `radix` complex numbers, `step` bytes apart. The results but the first are multiplied
    by `roots`, radix − 1 complex numbers; for the inverse, the numbers are multiplied by their
    conjugates before.
    """

    def generate(write: _Writer, address: Any, step: Any, roots: Any) -> None:
        places = [address]
        for _ in range(radix - 1):
            places.append(write.build.add(places[-1], step))
        factors = []
        for k in range(radix - 1):
            parts = (write.at(roots, (2 * k + i) * write.size) for i in range(2))
            factors.append(tuple(write.load_everywhere(part) for part in parts))
        x = [write.load_complex(place) for place in places]
        if inverse:
            x[1:] = map(write.times_conjugate, x[1:], factors)
            x = _transform(write, x, 1)
        else:
            x = _transform(write, x, -1)
            x[1:] = map(write.times, x[1:], factors)
        for value, place in zip(x, places, strict=True):
            write.store_complex(value, place)

    return _intrinsic(generate, 3, bits)


@made_once
def transposition(bits: int) -> Any:
    """Make a function for Numba's code: (source, source_step, target, target_step).

    Lane j of the i-th register of the source, registers being `source_step` bytes apart, becomes
    lane i of the j-th of the target.
    """

    def generate(write: _Writer, source: Any, to_next: Any, target: Any, step: Any) -> None:
        rows, half = [], write.lanes // 2
        for _ in range(write.lanes):
            rows.append(write.load(source))
            source = write.build.add(source, to_next)
        for _ in range(half.bit_length()):
            pairs = zip(rows[:half], rows[half:], strict=True)
            rows = [row for pair in pairs for row in write.interleave(*pair)]
        for row in rows:
            write.store(row, target)
            target = write.build.add(target, step)

    return _intrinsic(generate, 4, bits)


@made_once
def product(bits: int, more: bool) -> Any:
    """Make a function for Numba's code: (target, a, b), which stores a·conj(b) or adds it."""

    def generate(write: _Writer, target: Any, a: Any, b: Any) -> None:
        value = write.times_conjugate(write.load_complex(a), write.load_complex(b))
        if more:
            value = write.add(write.load_complex(target), value)
        write.store_complex(value, target)

    return _intrinsic(generate, 3, bits)


def _intrinsic(generate: Callable[..., None], count: int, bits: int) -> Any:
    """Make an intrinsic of so many addresses."""

    def code(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        generate(_Writer(build, bits), *arguments)
        return context.get_dummy_value()

    return of_addresses(code, count)


def radices(length: int) -> list[int]:
    """Split a length of the form 2ᵃ·3ᵇ·5ᶜ, a ≥ 2 into radices."""
    found = []
    for radix in (5, 3):
        while length % radix == 0:
            found.append(radix)
            length //= radix
    doublings = length.bit_length() - 1
    fours = -doublings % 3
    return found + [8] * ((doublings - 2 * fours) // 3) + [4] * fours


def roots(length: int) -> list[complex]:
    """List the roots of unity that the forward transform's butterflies need, one after the other.

    Of a transform of n = r·m numbers, the k-th result of the j-th butterfly is multiplied by
    exp(−2πi·jk/n); transforms of m numbers follow (decimation in frequency: Cooley and Tukey 1965,
    Gentleman and Sande 1966).
    """
    found = []
    for radix in radices(length):
        part = length // radix
        found += [
            cmath.exp(-2j * math.pi * (j * k % length) / length)
            for j in range(part)
            for k in range(1, radix)
        ]
        length = part
    return found
