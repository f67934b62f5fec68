"""A sample of ``tests/fuzz.py``, and that it finds what is wrong."""

import dataclasses

import fuzz
import pytest
import torch
from fuzzing import draws

import patchsim


@pytest.fixture
def two_dtypes(monkeypatch):
    """Draw those that most other tests compile for, too."""
    monkeypatch.setattr(draws, "DTYPES", {torch.float32: 1, torch.uint8: 1})


@pytest.mark.usefixtures("two_dtypes")
def test_a_few_maps_and_searches():
    """The same ones every time."""
    report = fuzz.run({"map": 120, "search": 10}, seed=22)
    assert not report.found, str(report)


@pytest.mark.deep
def test_many_maps_and_searches():
    """The report says how to run one that fails again; `tests/fuzz.py` runs more."""
    report = fuzz.run({"map": 3000, "search": 150}, 1, seconds=100)
    assert not report.found, str(report)


def wrong(function, change):
    """Return the function, its results changed."""
    return lambda *arguments, **options: change(function(*arguments, **options))


@pytest.mark.usefixtures("two_dtypes")
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("similarity", lambda found: found + 1e-3),
        ("similarity", lambda found: found.roll(1, -1)),
        ("similarity", lambda found: found.double()),
        ("distance", lambda found: -found - 1e-6),
        ("distance", lambda found: found.flip(-2)),
        ("error_bound", lambda found: found * 0),
        ("error_bound", lambda found: found[..., :1]),
    ],
)
def test_maps_that_are_wrong_are_found(name, change, monkeypatch):
    monkeypatch.setattr(patchsim, name, wrong(getattr(patchsim, name), change))
    report = fuzz.run({"map": 40}, seed=1)
    assert report.found


@pytest.mark.usefixtures("two_dtypes")
@pytest.mark.parametrize(
    "change",
    [
        lambda found: found[1:],
        lambda found: found[::-1],
        lambda found: [dataclasses.replace(m, x=m.x + 1) for m in found],
        lambda found: [dataclasses.replace(m, score=m.score - 1e-6) for m in found],
        lambda found: [*found, *found[:1]],
    ],
)
def test_searches_that_are_wrong_are_found(change, monkeypatch):
    monkeypatch.setattr(patchsim, "find", wrong(patchsim.find, change))
    report = fuzz.run({"search": 8}, seed=1)
    assert report.found


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_a_problem_is_drawn_from_its_number_alone(kind):
    first, second = (str(fuzz.problem(kind, 3, 5)) for _ in range(2))
    assert first == second
