"""Expansions as objects, metrics made of them, and l1 by levels and low rank."""

import math

import numpy as np
import pytest
import torch
from depth import deep_unless
from hypothesis import given
from hypothesis import strategies as st

import patchsim
from patchsim import Expansion, Metric, lowrank
from patchsim.backends.lowrank import _BASES
from patchsim.metrics import METRICS
from patchsim.metrics.expansion import identity, square
from patchsim.metrics.l4 import even_power
from patchsim.problem import problem_of
from patchsim.sums import fitted

SQUARED = Expansion.of((1, square, None), (-2, identity, identity), (1, None, square))


@given(p=st.fractions(), k=st.fractions())
def test_sums_and_products(p, k):
    assert SQUARED(p, k) == (p - k) ** 2
    assert (SQUARED + SQUARED)(p, k) == (2 * SQUARED)(p, k) == 2 * (p - k) ** 2
    assert (SQUARED * SQUARED)(p, k) == (p - k) ** 4
    assert even_power(6).expansion(p, k) == (p - k) ** 6


def test_costs():
    assert (SQUARED.rank, SQUARED.crosses) == (3, 1)
    assert METRICS["l4"].expansion.crosses == 3
    assert even_power(6).expansion.crosses == 5
    assert not METRICS["l1"].expansion.terms


@pytest.mark.parametrize("levels", [2, 3, 8, 32])
def test_a_table_has_its_rank(levels):
    x = np.arange(levels)
    for table, rank in (
        (np.abs(x[:, None] - x), levels),  # Coq: abs_rank
        ((x[:, None] - x) ** 2.0, min(levels, 3)),
        ((x[:, None] != x) * 1.0, levels),
        (np.ones((levels, levels)), 1),
    ):
        expansion = Expansion.from_table(table)
        found = [[expansion(p, k) for k in range(levels)] for p in range(levels)]
        assert expansion.rank == rank
        exact = rank == len(np.unique(table, axis=1).T)
        assert np.abs(np.array(found) - table).max() <= (0 if exact else 1e-10 * levels**2)


def test_bad_tables():
    with pytest.raises(ValueError, match="one row and one column a label"):
        Expansion.from_table([[1, 2]])
    with pytest.raises(ValueError, match="finite"):
        Expansion.from_table([[math.nan]])


def test_a_metric_from_a_table():
    table = torch.tensor([[0.0, 1, 5], [1, 0, 2], [5, 2, 0]])
    metric = Metric.of_expansion("costs", Expansion.from_table(table.tolist()))
    image, kernel = torch.randint(0, 3, (1, 9, 9)).byte(), torch.randint(0, 3, (1, 3, 2)).byte()
    windows = image.unfold(1, 3, 1).unfold(2, 2, 1)[0].long()
    exact = table[windows, kernel[0].long()].mean((2, 3))
    for backend in ("conv2d", "fft", "loop", "values"):
        found = patchsim.distance(image, kernel, metric, backend=backend)
        torch.testing.assert_close(found, exact)
    with pytest.raises(ValueError, match="no error bound is known for 'costs'"):
        patchsim.error_bound(image, kernel, metric)


def test_registering():
    metric = Metric("cubic", lambda p, k: abs(p - k) ** 3, degree=3)
    try:
        assert patchsim.register(metric) is metric
        image = torch.rand(1, 6, 6)
        assert patchsim.similarity(image, image[:, :2, :2], "cubic")[0, 0] == 1
        with pytest.raises(ValueError, match="there is a metric 'cubic' already"):
            patchsim.register(Metric("cubic", lambda p, k: abs(p - k)))
    finally:
        del METRICS["cubic"]


@pytest.mark.parametrize(("basis", "most"), [("fitted", 0.136), ("sines", 4 / math.pi**2)])
@given(data=st.data())
def test_low_rank_keeps_its_bound(basis, most, data):
    """Values at which the errors are largest are near each other, the ends and the nodes."""
    draw = data.draw
    terms = draw(st.integers(1, 20))
    last = 8 * terms + 32
    nodes = st.integers(0, last).map(lambda i: i / last)
    halfway = st.integers(0, last - 1).map(lambda i: (i + 0.5) / last)
    ends = st.sampled_from([0.0, 1.0, 0.5, 1 / terms])
    values = st.floats(0, 1, width=32) | nodes | halfway | ends
    image = torch.tensor(draw(st.lists(values, min_size=4, max_size=12)))[None, None]
    kernel = torch.tensor(draw(st.lists(values, min_size=1, max_size=4)))[None, None]
    backend = lowrank(terms=terms, basis=basis)
    exact = patchsim.distance(image.double(), kernel.double(), "l1")
    error = (patchsim.distance(image, kernel, "l1", backend=backend).double() - exact).abs()
    bound = patchsim.error_bound(image, kernel, "l1", backend)
    span = max(image.max(), kernel.max()) - min(image.min(), kernel.min())
    assert (error <= bound).all()
    assert (bound <= 1.01 * most / terms * (span or 1) + 1e-3).all()


def _table(factors, values):
    found = factors.alone(values)[:, None] + factors.alone(values)
    magnitude = factors.alone(values).abs()[:, None] + factors.alone(values).abs()
    for f, g in factors.products(values, values):
        found, magnitude = found + f[:, None] * g, magnitude + (f[:, None] * g).abs()
    return found, magnitude


@pytest.mark.parametrize("basis", _BASES)
@pytest.mark.parametrize("terms", deep_unless(lambda n: n < 10, [1, 2, 3, 8, 19, 64]))
def test_a_basis_is_off_by_no_more_than_it_says(basis, terms):
    """Ask for every pair of 1601 values, which are mostly no nodes, and half of a fit's nodes."""
    factors = _BASES[basis][0](terms)
    for values in (torch.linspace(0, 1, 1601).double(), torch.arange(0, 1, 0.5 / (8 * terms + 32))):
        values = values.double()
        found, magnitude = _table(factors, values)
        worst = float((found - (values[:, None] - values).abs()).abs().max())
        assert worst <= factors.truncation * (1 + 1e-6)
        assert magnitude.max() <= 4
        slopes = found.diff(dim=0).abs() / values.diff()[:, None]
        assert slopes.max() <= factors.steepness
        if basis == "fitted":  # nor much less
            assert worst > 0.9 * factors.truncation


@pytest.mark.parametrize("terms", deep_unless(lambda n: n < 30, [1, 5, 16, 64]))
def test_no_fit_beats_the_mean_square(terms):
    """Of R products beside functions of x or y the best leave (2 / π²)·√(Σ_{j>R} 1 / j⁴)."""
    least = 2 / math.pi**2 * math.sqrt(sum(j**-4 for j in range(terms + 1, 10**4)))
    assert least < fitted.fit(terms).error < 0.158 / terms


def test_fitted_terms_need_fewer_than_sines():
    def terms(basis):
        problem = problem_of(torch.rand(1, 9, 9), torch.rand(1, 3, 3))
        return lowrank(basis=basis, error=0.01).work(problem, METRICS["l1"]).steps - 1

    assert terms("fitted") <= 11
    assert terms("sines") == 41


def test_low_rank_from_a_wanted_error():
    image = torch.rand(3, 40, 40)
    kernel = image[:, 5:15, 5:15]
    exact = patchsim.distance(image, kernel)
    for wanted in (0.3, 0.03, 0.003):
        for basis in _BASES:
            found = patchsim.distance(image, kernel, backend=lowrank(error=wanted, basis=basis))
            assert (found - exact).abs().max() <= wanted
    wrong = {"error": 0}, {"error": 2}, {"terms": 0}, {"basis": "hats"}, {"terms": 129}
    for arguments in (*wrong, {"error": 1e-5}):
        with pytest.raises(ValueError, match="must be"):
            lowrank(**arguments)


@given(seed=st.integers(0, 2**31), levels=st.integers(1, 6))
def test_levels_are_exact_for_images_of_other_values(seed, levels):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (2, 9, 9), generator=generator).byte()
    kernel = torch.randint(0, 256, (levels,), generator=generator)[
        torch.randint(0, levels, (2, 3, 3), generator=generator)
    ].byte()
    found = patchsim.distance(image, kernel, backend="levels", reduction="sum")
    assert torch.equal(found, patchsim.distance(image, kernel, backend="loop", reduction="sum"))
