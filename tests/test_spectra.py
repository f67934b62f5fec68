"""The transforms of overlap-save against NumPy's."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchsim.kernels import jit
from patchsim.kernels.butterflies import REGISTER, radices, roots
from patchsim.problem import Problem
from patchsim.sums import overlap_save
from patchsim.sums.overlap_save import _axis, _lengths, _smooth

LENGTHS = [n for n in _smooth(8) if n <= 1200]


def reversed_digits(length):
    """Frequencies in the order in which the transform leaves them."""
    order, step = np.zeros(1, int), 1
    for radix in radices(length):
        order = (order[:, None] + step * np.arange(radix)).ravel()
        step *= radix
    return order


@pytest.mark.parametrize("length", LENGTHS)
def test_radices_and_roots(length):
    assert math.prod(radices(length)) == length
    factors = iter(roots(length))
    left = length
    for radix in radices(length):
        for j in range(left // radix):
            for k in range(1, radix):
                assert abs(next(factors) - np.exp(-2j * np.pi * j * k / left)) < 1e-15
        left //= radix
    assert next(factors, None) is None


@given(st.data(), st.sampled_from([torch.float32, torch.float64]))
def test_spectra(data, dtype):
    """Each transform errs by less than the bound that fft's error bound is made of."""
    lengths = [n for n in _smooth(REGISTER // dtype.itemsize) if n <= 320]
    size = data.draw(st.tuples(*2 * [st.sampled_from(lengths)]))
    shape = data.draw(st.tuples(st.integers(1, 3), *(st.integers(1, n) for n in size)))
    seed = data.draw(st.integers(0, 2**32 - 1))
    factors = np.random.default_rng(seed).normal(size=shape).astype(str(dtype)[6:])
    spectra = np.empty((shape[0], 2 * math.prod(size)), factors.dtype)
    axes = [array for length in size for array in _axis(length, dtype)]
    jit.spectra(dtype)(factors, spectra, size, *axes, 0, shape[0])

    lanes = REGISTER // dtype.itemsize
    blocks = spectra.reshape(shape[0], size[0] // lanes, size[1], 2, lanes).astype(float)
    found = (blocks[:, :, :, 0] + 1j * blocks[:, :, :, 1]).swapaxes(2, 3).reshape(-1, *size)
    exact = np.fft.fft2(factors.astype(float), size) / math.prod(size)
    exact = exact[:, reversed_digits(size[0])][:, :, reversed_digits(size[1])]
    epsilon = 9 * torch.finfo(dtype).eps / 2 * math.log2(math.prod(size))
    error = np.linalg.norm(found - exact, axis=(1, 2))
    # NumPy's own transform, in float64, errs by as much as ours does there.
    slack = 9 * 2.0**-53 * math.log2(math.prod(size))
    assert (error <= (epsilon + slack) * np.linalg.norm(exact, axis=(1, 2))).all()


@given(st.integers(1, 3000), st.integers(1, 300), st.sampled_from([8, 16]))
def test_lengths(size, extent, lanes):
    extent = min(size, extent)
    lengths = _lengths(extent, size, lanes)
    assert lengths
    assert all(n >= extent and n % lanes == 0 for n in lengths)


@given(*4 * [st.integers(1, 200)], st.integers(1, 3), st.integers(1, 4))
def test_tiles_hold_every_window(height, width, h, w, batch, threads):
    problem = Problem(batch, 1, (max(height, h), max(width, w)), 1, (h, w))
    size = overlap_save._tile(problem, threads)
    grid, valid = overlap_save._grid(problem, size), overlap_save._valid(problem, size)
    for axis in range(2):
        assert grid[axis] * valid[axis] >= problem.map_size[axis]
        assert valid[axis] >= 1


TRANSFORMS = """
import sys
import torch
from patchsim.kernels import jit
from patchsim.sums import overlap_save
from patchsim.arguments import read
for dtype in map(torch.__dict__.get, sys.argv[1:]):
    kernel = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    call = read(torch.zeros(1, 1, 64, 64, dtype=dtype), kernel, "l2", (1, 0, 1), None, None, "fft")
    bound = overlap_save.bind(call.metric, call.problem, kernel)
    factors, (down, across) = -2 * (kernel - kernel.mean()).numpy(), bound.size
    energies = [(values.astype("float64") ** 2).sum() for values in (bound.spectra, factors)]
    assert abs(energies[0] * down * across / energies[1] - 1) < 1e-4  # Parseval
"""


@pytest.mark.deep
def test_kernels_of_several_processes_keep_their_own_functions(tmp_path):
    """Each is right alone; loaded together from the disk, one may call what the other brings."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONHASHSEED": "0"}
    for dtypes in (["float32"], ["float64"], ["float32", "float64"], ["float64", "float32"]):
        command = [sys.executable, "-c", TRANSFORMS, *dtypes]
        subprocess.run(command, check=True, env=environment)
