"""What stands between the fused kernel on bytes and the processor's own SAD instruction?

`fused` compares bytes by vpmaxub, vpminub and vpsubb, and widens to 16 bits before it adds: seven
operations for 64 differences. vpsadbw takes 64 differences and adds them by eights in one. Numba
reaches it through an intrinsic: for 64 neighbouring windows, eight accumulators, one for each start
modulo 8, stay in registers, and each takes eight taps an instruction. What limits it then are loads
that cross the lines of the cache, as all but one of the eight starts do.

    python experiments/psadbw.py

Needs a processor with AVX-512BW. Image 3×1024×1024, template 3×32×32; medians of turns.
"""

import statistics
import time
from functools import partial

import llvmlite.binding
import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

import patchsim
from patchsim import slide, threads

SIDE, TAPS, CHANNELS, TURNS = 1024, 32, 3, 15
WINDOWS = SIDE - TAPS + 1


@intrinsic
def sums_of_64(context, image, offsets, taps, groups, sums):
    """Sum 64 neighbouring windows over groups of eight taps; all but `groups` are addresses."""
    byte, number, index = ir.IntType(8), ir.IntType(64), ir.IntType(32)
    vector, quads = ir.VectorType(byte, 64), ir.VectorType(number, 8)

    def generate(context, build, signature, arguments):
        image, offsets, taps, groups, sums = arguments
        sad = build.module.declare_intrinsic(
            "llvm.x86.avx512.psad.bw.512", (), ir.FunctionType(quads, [vector, vector])
        )

        def load(address, type_):
            value = build.load(build.inttoptr(address, type_.as_pointer()))
            value.align = 1
            return value

        before = build.block
        loop, after = build.append_basic_block(), build.append_basic_block()
        build.branch(loop)
        build.position_at_end(loop)
        group = build.phi(number)
        group.add_incoming(number(0), before)
        totals = [build.phi(quads) for _ in range(8)]
        step = build.mul(group, number(8))
        eight = ir.Constant(quads, ir.Undefined)
        eight = build.insert_element(eight, load(build.add(taps, step), number), index(0))
        eight = build.shuffle_vector(eight, eight, ir.Constant(ir.VectorType(index, 8), [0] * 8))
        start = build.add(image, load(build.add(offsets, step), number))
        following = build.add(group, number(1))
        group.add_incoming(following, loop)
        for shift, total in enumerate(totals):
            pixels = load(build.add(start, number(shift)), vector)
            more = build.add(total, build.call(sad, [pixels, build.bitcast(eight, vector)]))
            total.add_incoming(ir.Constant(quads, [0] * 8), before)
            total.add_incoming(more, loop)
        build.cbranch(build.icmp_signed("<", following, groups), loop, after)
        build.position_at_end(after)
        for shift, total in enumerate(totals):
            place = build.add(sums, number(64 * shift))
            build.store(total.incomings[1][0], build.inttoptr(place, quads.as_pointer())).align = 8
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@njit(nogil=True)
def rows(address, offsets, taps, sums, first, last):
    """Fill rows of the map."""
    part = np.empty(64, np.int64)
    pointers = offsets.ctypes.data, taps.ctypes.data, part.ctypes.data
    for y in range(first, last):
        for block in range(0, WINDOWS, 64):
            x = min(block, WINDOWS - 64)
            start = address + y * SIDE + x
            sums_of_64(start, pointers[0], pointers[1], offsets.size, pointers[2])
            for shift in range(8):
                for m in range(8):
                    sums[y, x + 8 * m + shift] = part[8 * shift + m]


def median(run):
    """Return the median time of a call."""
    run()
    times = []
    for _ in range(TURNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main():
    """Compare the two, after checking them against each other."""
    if not llvmlite.binding.get_host_cpu_features().get("avx512bw"):
        raise SystemExit("this processor has no AVX-512BW")
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (CHANNELS, SIDE, SIDE), dtype=np.uint8)
    kernel = image[:, 100 : 100 + TAPS, 200 : 200 + TAPS].copy()
    padded = np.concatenate([image.ravel(), np.zeros(128, np.uint8)])  # loads reach beyond the end
    taps = kernel.reshape(-1, 8).view(np.int64).ravel()
    c, i, j = np.ogrid[:CHANNELS, :TAPS, 0:TAPS:8]
    offsets = ((c * SIDE + i) * SIDE + j).ravel()
    sums = np.empty((WINDOWS, WINDOWS), np.int32)
    work = partial(rows, padded.ctypes.data, offsets, taps, sums)
    scene, template = torch.from_numpy(image), torch.from_numpy(kernel)
    differences = WINDOWS**2 * kernel.size

    instruction = median(lambda: threads.share(work, WINDOWS, differences))
    assert torch.equal(
        torch.from_numpy(sums).long(), patchsim.distance(scene, template, reduction="sum")
    )
    arguments = scene[None], template[None], None, "abs((p-k))", (1, 1), (1, 1)
    fused = median(lambda: slide.sums(*arguments))
    for name, seconds in (("vpsadbw", instruction), ("fused", fused)):
        print(f"{name:8} {differences / seconds / 1e9:6.1f} G differences/s")


if __name__ == "__main__":
    main()
