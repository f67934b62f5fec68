"""The machine that kernels are compiled for and kept on: its instructions and its disk."""

import itertools
import os
import subprocess
import sys

import numba
import numba.core.dispatcher
import numpy as np
import pytest
from numba import types

from patchsim.kernels import jit, keeping
from patchsim.kernels.instructions import named

GENERIC = """
import numba
import torch
import patchsim
from numba.core.registry import cpu_target
from patchsim.kernels import jit
from patchsim.kernels.instructions import DOT, MIN, MPSAD, PSAD, instruction

codegen = cpu_target.target_context.codegen()
assert codegen.magic_tuple()[1:] == ("generic", "")
assert not any(map(instruction, (DOT, MIN, MPSAD, PSAD)))
generator = torch.Generator().manual_seed(1)
for dtype in (torch.uint8, torch.int16, torch.float32):
    image = torch.randint(0, 256, (1, 150, 150), generator=generator).to(dtype)
    kernel = image[:, 30:47, 40:60].clone()
    found = patchsim.distance(image, kernel, "l1", backend="fused", reduction="sum")
    expected = patchsim.distance(image, kernel, "l1", backend="shift", reduction="sum")
    assert torch.equal(found, expected), dtype
    match = patchsim.find(image, kernel, "zncc", data_range=255.0)[0]
    assert (match.y, match.x, match.score) == (30, 40, 1.0), dtype
maps = [patchsim.similarity(image, kernel, "l2", backend=b) for b in ("fft", "shift")]
assert (maps[0] - maps[1]).abs().max() <= 1e-3 * maps[1].abs().max()
compiled = jit.kernel("abs((p-k))", "sums", False, torch.uint8)
assert compiled._cache._index_key(compiled.signatures[0], codegen)[1] == codegen.magic_tuple()
"""


@pytest.mark.deep
def test_a_processor_that_has_no_such_instructions():
    """What is compiled for another processor than this is right, and kept apart."""
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic"}
    command = [sys.executable, "-c", GENERIC]
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_features_that_build_on_others():
    assert {"sse2", "avx", "avx2", "avx512f", "avx512bw"} <= named("+avx512bw")
    assert named("+avx2,+avx512f,+avx512vnni,+avxvnni,-avx512f") >= {"avx2", "avxvnni"}
    assert not named("+avx2,+avx512f,+avx512vnni,-avx512f") & {"avx512f", "avx512vnni"}
    assert not named("+avx512bw,+avxvnni,-avx") & {"avx2", "avxvnni", "avx512bw", "fma"}
    assert "avx512bw" in named("-avx512f,+avx512bw")
    assert named("+avx512bw,-evex512") >= {"avx2"}
    assert "avx512bw" not in named("+avx512bw,-evex512")
    assert named("") == frozenset()


@pytest.fixture
def compiles(monkeypatch, tmp_path):
    """Compile one small kernel that is kept in `tmp_path`; tell how often it was compiled."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    # Files hold numba's numbers of functions, whose digits make them longer.
    identity, millions = numba.core.bytecode.FunctionIdentity, itertools.count(10**6)
    monkeypatch.setattr(identity, "_unique_ids", millions)
    counts = [0]
    core = numba.core.dispatcher._FunctionCompiler._compile_core

    def counted(*arguments):
        counts[0] += 1
        return core(*arguments)

    monkeypatch.setattr(numba.core.dispatcher._FunctionCompiler, "_compile_core", counted)

    def compiled():
        before, numbers = counts[0], np.zeros(1)
        source = "def kernel(numbers):\n    numbers[0] += 7\n"
        jit.compiled(source, [types.void(types.float64[::1])])(numbers)
        assert numbers[0] == 7
        return counts[0] - before

    return compiled


def test_a_damaged_file_is_replaced(compiles, tmp_path):
    assert (compiles(), compiles()) == (1, 0)
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for damaged in (b"", whole[:20], whole[:middle], flipped, whole[::-1], b"\x80\x05."):
        path.write_bytes(damaged)
        assert (compiles(), compiles()) == (1, 0)
        assert path.stat().st_size == len(whole)


def test_a_disk_that_takes_nothing(compiles, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(keeping.os, "replace", full)
        assert (compiles(), compiles()) == (1, 1)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert (compiles(), compiles()) == (1, 0)
    # Where kernels were kept there is a file now, and then nothing at all.
    folder = next(path for path in tmp_path.iterdir())
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_bytes(b"")
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    assert (compiles(), compiles()) == (1, 1)


def test_a_folder_that_vanishes(compiles, tmp_path, monkeypatch):
    place = keeping.place_for

    def gone(function):
        found = place(function)
        for path in [*tmp_path.rglob("*.nbc"), *tmp_path.iterdir()]:
            path.unlink() if path.is_file() else path.rmdir()
        tmp_path.rmdir()
        return found

    monkeypatch.setattr(keeping, "place_for", gone)
    assert compiles() == 1
