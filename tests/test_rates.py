"""Rates: measured ones are kept and read, and only where they were measured."""

import json

import pytest
import torch

from patchsim import calibration, rates
from patchsim.backends import BACKENDS

FUSED = BACKENDS["fused"]


@pytest.fixture
def calibrated(monkeypatch):
    monkeypatch.setattr(calibration, "measure", lambda backend, dtype: (1.5, 0.25))
    path = calibration.calibrate()
    yield path
    rates.measured.cache_clear()


def test_defaults():
    for backend in BACKENDS.values():
        assert set(backend.rates) == {"float32", "float64", "uint8", "int16"}
    assert rates.rate(FUSED, torch.float32) == FUSED.rates["float32"]


def test_measured_rates_are_used(calibrated):
    assert calibrated == rates.rates_path()
    assert [file.name for file in calibrated.parent.iterdir()] == ["rates.json"]
    assert rates.rate(FUSED, torch.uint8) == (1.5, 0.25)


@pytest.mark.parametrize("change", ["processor", "threads", "torch"])
def test_rates_of_another_machine_are_not(calibrated, change):
    text = json.loads(calibrated.read_text())
    text["machine"][change] = "another"
    calibrated.write_text(json.dumps(text))
    rates.measured.cache_clear()
    assert rates.rate(FUSED, torch.uint8) == FUSED.rates["uint8"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machine": 1, "rates": 2}'])
def test_a_broken_file_does_no_harm(calibrated, text):
    calibrated.write_text(text)
    rates.measured.cache_clear()
    assert rates.rate(FUSED, torch.uint8) == FUSED.rates["uint8"]


@pytest.mark.parametrize("name", ["fused", "conv2d", "fft"])
def test_measuring(name, monkeypatch):
    monkeypatch.setattr(calibration, "SECONDS", 0.01)
    step, operation = calibration.measure(BACKENDS[name], torch.float32)
    assert 0 < step < 1e9
    assert 0 < operation < 1e6
