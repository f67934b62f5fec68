"""Memory beyond input and output stays under `patchsim.options.max_memory`."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

import patchsim
from patchsim import threads, tiling
from patchsim.backends import BACKENDS
from patchsim.metrics import METRICS, Statistic
from patchsim.problem import problem_of
from patchsim.tiling import tile_size

PEAKS = Path(__file__).with_name("peaks.py")

#: What isn't counted: what the interpreter takes, and each thread, whose freed memory is its own.
MORE, EACH = 16 * 2**20, 2 * 2**20

#: Kinds that went beyond the budget once, each of which takes a second.
ONCE_BEYOND: list[dict[str, Any]] = [
    {"call": "error_bound", "metric": "l2", "backend": "fft", "image": [600, 600], "channels": 3},
    {"backend": "fused", "image": [1024, 1024], "kernel": [512, 512], "stride": 512},
    {"metric": "l4", "backend": "fft", "dtype": "uint8", "channels": 3},
    {"metric": "hue", "backend": "fft", "dtype": "bool", "batch": 3, "padding": 200},
    {"metric": "hsv", "backend": "unfold", "channels": 3, "image": [900, 700], "stride": 2000},
    {"call": "find", "dtype": "uint8", "image": [1500, 1500], "templates": 4, "threads": 4},
    {"call": "find", "metric": "zncc", "templates": 3, "sizes": 2},
    {"call": "find", "dtype": "uint8", "values": "flat", "k": 1, "image": [1500, 1500]},
    {"call": "gradient", "backend": "fused", "kernel": [4, 4], "padding": 100, "channels": 3},
]


def peaks(*arguments: str, given: str = "") -> list[dict[str, Any]]:
    """Measure problems in a process whose memory is its own, and return what was found."""
    command = [sys.executable, str(PEAKS), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=True, input=given)
    return [json.loads(line) for line in run.stdout.splitlines()]


def assert_within(measured: list[dict[str, Any]]) -> None:
    for own in measured:
        assert "error" not in own, own["error"]
        assert (own.get("beyond") or 0) <= MORE + own["threads"] * EACH, own


def test_what_was_beyond_the_budget_once():
    measured = peaks(given="\n".join(map(json.dumps, ONCE_BEYOND)))
    assert len(measured) == len(ONCE_BEYOND)
    assert not any("refused" in own for own in measured)
    assert_within(measured)


def test_random_problems_stay_within_the_budget():
    measured = peaks("5", "4", "600")
    assert sum("refused" not in own for own in measured) == 4
    assert_within(measured)


@pytest.mark.deep
def test_many_random_problems_stay_within_the_budget():
    assert_within(peaks("178", "60", "1500"))


def test_tiles_fit_whatever_the_number_of_threads():
    image, kernel = torch.rand(1, 3, 1500, 1500), torch.rand(1, 3, 64, 64)
    problem, backend, metric = problem_of(image, kernel), BACKENDS["fft"], METRICS["l2"]
    before, budget = torch.get_num_threads(), 24 * 2**20
    try:
        for count in (1, 8, 1):
            torch.set_num_threads(count)
            size = tile_size(backend, metric, problem, budget)
            assert size == tiling._tiling(backend, metric, problem, budget, count)[0]
            _, together = tiling._tiling(backend, metric, problem, budget, count)
            with threads.alone():
                assert together * tiling._needed(backend, metric, problem, size) <= budget
    finally:
        torch.set_num_threads(before)


def _tests():
    for variant, dtype in product(patchsim.variants(), (torch.float32, torch.uint8)):
        # lowrank's range is that of a tile.
        if not BACKENDS[variant.backend].approximate:
            quick = ("l1", "l2") if dtype is torch.uint8 else ("l1", "l2", "zncc")
            few = variant.metric != "zncc" or variant.backend in ("fused", "fft", "conv2d")
            deep = [pytest.mark.deep] * (variant.metric not in quick or not few)
            yield pytest.param(variant, dtype, id=f"{variant}-{dtype}", marks=deep)


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
