"""Each metric's declarations against its pointwise definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchsim.metrics import METRICS

values = st.fractions(-100, 100)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@given(p=values, k=values, c=st.fractions(1, 9))
def test_declarations(metric, p, k, c):
    distance = metric.pointwise(p, k)
    most = metric.majorant(p) + metric.majorant(k)
    assert 0 <= distance <= most
    assert metric.pointwise(p + c, k + c) == distance
    assert metric.pointwise(c * p, c * k) == c**metric.degree * distance
    if metric.terms:
        terms = [
            term.scale * (term.f(p) if term.f else 1) * (term.g(k) if term.g else 1)
            for term in metric.terms
        ]
        assert sum(terms) == distance
        assert sum(map(abs, terms)) <= most


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@given(p=st.integers(0, 255), k=st.integers(0, 255))
def test_peak(metric, p, k):
    assert metric.pointwise(p, k) <= metric.peak(0, 255)
