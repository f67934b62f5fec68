"""What kernels make of templates, against NumPy in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchsim.bounds import gamma
from patchsim.metrics import METRICS
from patchsim.problem import Problem
from patchsim.sums import factors
from patchsim.sums.box import additions
from patchsim.sums.recipe import read

SHAPES = st.tuples(*[st.integers(1, n) for n in (3, 3, 9, 70)])
FLOATS = [torch.float32, torch.float64]
each_dtype = pytest.mark.parametrize("dtype", FLOATS, ids=str)


def _templates(shape, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@each_dtype
@given(SHAPES, st.integers(0, 99))
def test_mean_colours(dtype, shape, seed):
    kernel = _templates(shape, dtype, seed)
    found = factors.mean_colour(kernel.transpose(2, 3))  # of any layout
    exact = kernel.double().numpy().mean((0, 2, 3))
    # Summed in float64, rounded once to the dtype.
    size = np.abs(kernel.double().numpy()).mean((0, 2, 3))
    unit = torch.finfo(dtype).eps / 2
    assert (np.abs(found - exact) <= (unit + 2 * gamma(kernel.numel() + 1, 2.0**-53)) * size).all()


def test_mean_colours_are_finite():
    kernel = torch.ones(1, 3, 2, 2)
    kernel[0, 0, 0, 0], kernel[0, 1, 1, 1] = torch.nan, torch.inf
    assert factors.mean_colour(kernel).tolist() == [0, 0, 1]


@pytest.mark.parametrize("name", ["l2", "l4"])
@each_dtype
@given(SHAPES, st.integers(0, 99))
def test_factors_and_constants(dtype, name, shape, seed):
    kernel, terms = _templates(shape, dtype, seed), read(METRICS[name])
    centre = factors.mean_colour(kernel)
    constants, found = factors.read(terms.constant, terms.factors, kernel, centre)
    centred = kernel.numpy() - centre[:, None, None]
    wanted = [scale * eval(g, {"p": centred}) for _, g, scale in terms.crosses]
    # Products of up to three numbers are taken in the dtype, in whatever order.
    assert np.allclose(found, np.concatenate(wanted, 1), rtol=4 * torch.finfo(dtype).eps, atol=0)
    exact = eval(terms.constant, {"p": centred.astype(np.longdouble)}).sum((1, 2, 3))
    height = additions(Problem(1, shape[1], shape[2:], shape[0], shape[2:])) + 3
    unit = torch.finfo(dtype).eps / 2
    assert (np.abs(constants - exact) <= (unit + gamma(height, 2.0**-53)) * exact).all()


def test_what_is_not_finite_spoils_constants_but_no_factor():
    kernel, terms = torch.ones(2, 1, 3, 4), read(METRICS["l2"])
    kernel[0, 0, 1, 2], kernel[1, 0, 0, 0] = torch.nan, -torch.inf
    constants, found = factors.read(terms.constant, terms.factors, kernel, np.zeros(1, np.float32))
    assert np.isnan(constants[0])
    assert constants[1] == np.inf
    assert sorted(set(found.ravel().tolist())) == [-2, 0]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16], ids=str)
def test_integers_are_exact(dtype):
    low, high = (0, 255) if dtype is torch.uint8 else (-(2**15), 2**15 - 1)
    values = np.random.default_rng(0).integers(low, high + 1, (2, 3, 9, 70))
    kernel, terms = torch.from_numpy(values).to(dtype), read(METRICS["l2"])
    constants, found = factors.read(terms.constant, terms.factors, kernel, np.full(3, 128.0))
    assert (constants == ((values - 128) ** 2).sum((1, 2, 3))).all()
    assert (found == -2 * (values - 128)).all()
