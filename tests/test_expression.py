"""Expressions read off metrics: what they say, their derivatives and their ranges."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchsim.kernels.expression import (
    Expression,
    K,
    P,
    derivative,
    function,
    interval,
    parse,
    sign,
    trace,
)
from patchsim.metrics import METRICS, Metric

numbers = st.integers(-8, 8)
expressions = st.recursive(
    st.sampled_from([P, K]) | numbers.map(lambda n: Expression("number", value=n)),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: pair[0] + pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] - pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] * pair[1]),
        inner.map(abs),
        inner.map(lambda x: -x),
        st.tuples(inner, st.integers(1, 3)).map(lambda pair: pair[0] ** pair[1]),
    ),
    max_leaves=8,
)


POINTWISE = {n: m for n, m in METRICS.items() if isinstance(m, Metric)}


@pytest.mark.parametrize("metric", POINTWISE.values(), ids=POINTWISE)
@given(p=numbers, k=numbers)
def test_a_metric_is_what_its_expression_says(metric, p, k):
    expression = trace(metric.pointwise)
    assert function(expression)(p, k) == metric.pointwise(p, k)
    assert parse(str(expression)) == expression


def test_what_is_not_an_expression():
    assert trace(lambda p, k: torch.maximum(p, k)) is None
    assert trace(lambda p, k: p if p > k else k) is None
    assert trace(lambda p, k: (p - k) ** 0.5) is None
    assert trace(lambda p, k: 3) is None


@given(expressions, numbers, numbers)
def test_text_and_back(expression, p, k):
    again = parse(str(expression))
    assert function(again)(p, k) == function(expression)(p, k)


@given(expressions, st.tuples(numbers, numbers), st.tuples(numbers, numbers), st.data())
def test_intervals_hold_every_value(expression, ps, ks, data):
    ps, ks = sorted(ps), sorted(ks)
    low, high = interval(expression, tuple(ps), tuple(ks))
    p, k = data.draw(st.integers(*ps)), data.draw(st.integers(*ks))
    assert low <= function(expression)(p, k) <= high


@given(expressions, numbers, numbers, st.sampled_from("pk"))
def test_derivatives_are_those_of_torch(expression, p, k, by):
    values = {"p": torch.tensor(float(p)).double(), "k": torch.tensor(float(k)).double()}
    values[by].requires_grad_()
    result = torch.as_tensor(function(expression)(**values)) + 0 * values[by]
    result.backward()
    names = {name: value.detach() for name, value in values.items()}
    slope = eval(str(derivative(expression, by)), {"abs": abs, "sign": torch.sign, **names})
    assert slope == values[by].grad


def test_the_second_derivative_of_a_sign_is_zero():
    assert derivative(sign(P), "p") == Expression("number", value=0)
