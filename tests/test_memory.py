"""Memory beyond input and output stays under `patchsim.options.max_memory`."""

import subprocess
import sys
from itertools import product

import pytest
import torch

import patchsim
from patchsim.backends import BACKENDS
from patchsim.metrics import METRICS, Statistic
from patchsim.problem import problem_of
from patchsim.tiling import tile_size

MEASURE = """
import pathlib, re, sys, torch, patchsim
variant, dtype = getattr(patchsim, sys.argv[1]), getattr(torch, sys.argv[2])
size, taps, stride = map(int, sys.argv[3:])
image = (torch.rand(3, size, size) * 255).to(dtype)
kernel = image[:, :taps, :taps].clone()
patchsim.options.max_memory = 16 * 2**20
variant(image[:, :400, :400], kernel)  # loads kernels, and what compiles them
patchsim.options.max_memory = 128 * 2**20
# Not getrusage: it counts what the parent took before this process began.
status = pathlib.Path("/proc/self/status")
peak = lambda: int(re.search("VmHWM:(.*)kB", status.read_text())[1]) * 1024
before = peak()
scores = variant(image, kernel, stride)
print(peak() - before - scores.numel() * scores.itemsize)
"""


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize(
    ("variant", "sizes"),
    [
        ("l1_unfold", (1024, 32, 4)),
        ("l1_shift", (2048, 8, 1)),
        ("l1_fused", (2048, 8, 1)),
        ("l1_fused", (2048, 8, 3)),
        ("l2_conv2d", (2048, 8, 1)),
        ("l2_conv2d", (512, 48, 2)),
        ("l2_fft", (2048, 64, 1)),
    ],
)
def test_peak_memory(variant, sizes, dtype):
    command = [sys.executable, "-c", MEASURE, variant, dtype, *map(str, sizes)]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    # The interpreter and torch's thread pools take a few MiB of their own.
    assert int(process.stdout) < (128 + 16) * 2**20, int(process.stdout) / 2**20


def _tests():
    for variant, dtype in product(patchsim.variants(), (torch.float32, torch.uint8)):
        # lowrank's range is that of a tile.
        if not BACKENDS[variant.backend].approximate:
            yield pytest.param(variant, dtype, id=f"{variant}-{dtype}")


@pytest.mark.parametrize(("variant", "dtype"), list(_tests()))
def test_tiles_make_no_difference(variant, dtype, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    channels = 3 if variant.metric == "hsv" else 2
    image = (torch.rand(3, channels, 21, 17, generator=generator) * 255).to(dtype)
    # Of few values, each of which takes some backends a correlation a tile.
    kernel = (31.7 * torch.randint(8, (2, channels, 6, 5), generator=generator)).to(dtype)
    arguments = {"stride": (1, 2), "padding": (7, 2), "data_range": 255}
    whole = variant(image, kernel, **arguments)
    backend, metric = BACKENDS[variant.backend], METRICS[variant.metric]
    problem = problem_of(image, kernel, (1, 2), (7, 2))
    smallest = 0
    for budget in (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000):
        monkeypatch.setattr(patchsim.options, "max_memory", budget)
        try:
            tiled = variant(image, kernel, **arguments)
        except ValueError:
            continue
        smallest = smallest or budget
        bound = patchsim.error_bound(image, kernel, variant.metric, variant.backend, **arguments)
        if dtype is torch.uint8 and (isinstance(metric, Statistic) or not metric.prepare):
            assert torch.equal(tiled, whole)
        assert ((tiled - whole).abs() <= 2 * bound).all()
    if metric in (METRICS["l1"], METRICS["l2"]):
        assert tile_size(backend, metric, problem, smallest) != (3, *problem.map_size)
