"""The plan: eligible first, cheap second; and the arithmetic of the cost models."""

import pytest
import torch

import patchsim
from patchsim.backends import BACKENDS
from patchsim.metrics import METRICS
from patchsim.problem import Problem
from patchsim.tiling import tile_size

SMALL = torch.rand(3, 30, 30), torch.rand(3, 5, 5)


def test_a_plan_names_the_cheapest_eligible_backend():
    plan = patchsim.plan(*SMALL, "l1")
    assert plan.seconds.keys() == {"loop", "unfold", "shift", "fused", "values", "levels"}
    assert plan.seconds[plan.backend] == min(plan.seconds.values())
    why = ["l1 has no finite-rank expansion"]
    approximate = ["it is approximate: name it to use it"]
    assert plan.reasons == {"conv2d": why, "fft": why, "lowrank": approximate}


def test_a_plan_prints_every_backend():
    lines = str(patchsim.plan(*SMALL, "l1")).splitlines()
    assert {line.split()[0] for line in lines} == set(BACKENDS)
    assert lines[0].startswith("fused (expression) ")
    assert lines[0].endswith("<- chosen")
    assert "refused: l1 has no finite-rank expansion" in [
        line.split(maxsplit=1)[1] for line in lines
    ]


@pytest.mark.parametrize("metric", METRICS)
def test_auto_runs_the_plan(metric):
    chosen = patchsim.plan(*SMALL, metric).backend
    named = patchsim.similarity(*SMALL, metric, backend=chosen)
    assert torch.equal(patchsim.similarity(*SMALL, metric), named)


@pytest.mark.parametrize(
    ("backend", "operations", "steps"),
    [
        # A difference, its magnitude and an addition for each of 2·4·6·7 windows' 3·4·3 taps, and
        # each sum stored.
        ("loop", 336 * (3 * 36 + 150), 336),
        ("unfold", 336 * (3 * 36 + 150), 85),
        ("shift", 336 * (3 * 36 + 150), 118),
        # Each row is computed as wide as the image, 9 instead of 7 sums, by one thread; and stored.
        ("fused", 2 * 3 * 48 * 9 * 36 + 50 * 4 * 336, 3),
        # A multiplication and an addition, for 8 templates although there are 4; adding the terms;
        # centring 2·3·9·9 pixels; arranging the templates.
        (
            "conv2d",
            2 * 2 * 84 * 36 * 4 + (150 * 4 + 650) * 84 + 150 * 486 + 250 * 8 * 36,
            64,
        ),
        # One pair of tiles of 16·16: 3 channels' and 4 templates' transforms, 4·3 products and as
        # many spectra; the finished sums, and box sums of 2·3·9·9 pixels.
        (
            "fft",
            256 * (3 * 16 + 4 * (16 + 9)) * 2581 // 2560 + 1 + 256 * 12 * 8 + 50 * 336 + 30 * 486,
            116,
        ),
    ],
)
def test_work(backend, operations, steps):
    problem = Problem(2, 3, (9, 9), 4, (4, 3))
    work = BACKENDS[backend].work(problem, METRICS["l2"])
    assert (work.operations, work.steps) == (operations, steps)


@pytest.mark.parametrize("backend", ["unfold", "shift", "fused", "conv2d", "fft"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int16], ids=str)
def test_tiles_fit_the_budget(backend, dtype):
    """A 4096² image with a 64² template, whose windows would take over 200 GB in bytes."""
    budget, metric = 256 * 2**20, METRICS["l2"]
    problem = Problem(1, 3, (4096, 4096), 1, (64, 64), dtype=dtype)
    assert problem.taps * 4033**2 >= 199e9
    _, rows, cols = tile_size(BACKENDS[backend], metric, problem, budget)
    tile = Problem(1, 3, (rows + 63, cols + 63), 1, (64, 64), dtype=dtype)
    assert tile.map_size == (rows, cols)
    assert BACKENDS[backend].work(tile, metric).bytes <= budget
