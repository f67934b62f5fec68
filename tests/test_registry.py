"""Metrics and backends of one's own, known by name."""

import dataclasses
from unittest import mock

import pytest
import torch
from hypothesis import given

import patchsim
from patchsim import planner
from patchsim.backends import BACKENDS
from patchsim.metrics import METRICS
from patchsim.testing import cases, check, expect

FAST = dataclasses.replace(
    BACKENDS["unfold"],
    name="fast",
    work=lambda problem, metric: patchsim.Work(operations=1, bytes=8, steps=0),
)
CUBED = patchsim.Metric(
    "cubed",
    lambda p, k: abs(p - k) ** 3,
    degree=3,
    majorant=lambda x: 4 * abs(x) ** 3,
    roundings=5,
)


@pytest.fixture
def registered():
    with mock.patch.dict(METRICS), mock.patch.dict(BACKENDS):
        yield patchsim.register(CUBED), patchsim.register(FAST)
    planner.forget()


@pytest.mark.usefixtures("registered")
def test_they_have_variants_of_their_own():
    image = torch.rand(1, 9, 8)
    scores = patchsim.cubed_fast(image, image[:, 2:5, 1:4])
    assert scores[2, 1] == 1
    assert torch.equal(scores, patchsim.similarity(image, image[:, 2:5, 1:4], "cubed"))
    assert {"cubed_loop", "cubed_fast", "l1_fast"} <= set(map(str, patchsim.variants()))
    assert "cubed_fast" in dir(patchsim)


@pytest.mark.usefixtures("registered")
def test_a_backend_that_is_cheap_is_chosen():
    image, kernel = torch.rand(1, 9, 8), torch.rand(1, 3, 3)
    assert patchsim.plan(image, kernel, "l2").backend == "fast"
    assert patchsim.find(image, kernel, "zncc").skipped == ()


def test_they_are_gone_afterwards():
    assert patchsim.plan(torch.rand(1, 9, 8), torch.rand(1, 3, 3)).backend == "fused"
    with pytest.raises(AttributeError, match="no attribute 'cubed_loop'"):
        _ = patchsim.cubed_loop


@given(cases(torch.uint8))
def test_the_suite_tests_them(case):
    check(case, expect(case, CUBED), CUBED, FAST)


@pytest.mark.parametrize(
    ("own", "error", "message"),
    [
        (3, TypeError, "takes a Metric, a Statistic or a Backend, got 3"),
        (dataclasses.replace(CUBED, name="l1"), ValueError, "a metric 'l1' already"),
        (dataclasses.replace(FAST, name="fft"), ValueError, "a backend 'fft' already"),
        (dataclasses.replace(FAST, name="auto"), ValueError, "other than 'auto'"),
        (dataclasses.replace(CUBED, name="two words"), ValueError, "must be an identifier"),
    ],
)
def test_what_is_wrong_is_said(own, error, message):
    with pytest.raises(error, match=message):
        patchsim.register(own)
