"""Each metric's declarations against its pointwise definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchsim.kernels.definition import peak
from patchsim.metrics import METRICS, Metric

#: Pointwise distances of the values themselves.
POINTWISE = {n: m for n, m in METRICS.items() if isinstance(m, Metric) and not m.prepare}

values = st.fractions(-100, 100)


@pytest.mark.parametrize("metric", POINTWISE.values(), ids=POINTWISE)
@given(p=values, k=values, c=st.fractions(1, 9))
def test_declarations(metric, p, k, c):
    distance = metric.pointwise(p, k)
    most = metric.majorant(p) + metric.majorant(k)
    assert 0 <= distance <= most
    assert metric.pointwise(p + c, k + c) == distance
    if metric.degree:
        assert metric.pointwise(c * p, c * k) == c**metric.degree * distance
    if metric.expansion.terms:
        assert metric.expansion(p, k) == distance
        assert sum(abs(term(p, k)) for term in metric.expansion) <= most


@pytest.mark.parametrize("metric", POINTWISE.values(), ids=POINTWISE)
@given(p=st.integers(0, 255), k=st.integers(0, 255))
def test_peak(metric, p, k):
    assert metric.pointwise(p, k) <= peak(metric, (0, 255))
