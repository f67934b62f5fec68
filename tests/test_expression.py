"""Expressions read off metrics: what they say, their derivatives and their ranges."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchsim.kernels.expression import (
    Expression,
    K,
    P,
    derivative,
    extremes,
    function,
    interval,
    parse,
    reach,
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


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("__import__('os').system('true')", "Call isn't allowed"),
        ("p.__class__", "Attribute isn't allowed"),
        ("(lambda: p)()", "Call isn't allowed"),
        ("[p for p in k]", "ListComp isn't allowed"),
        ("abs(p, k)", "Call isn't allowed"),
        ("abs(x=p)", "Call isn't allowed"),
        ("exec(p)", "Call isn't allowed"),
        ("p if p else k", "IfExp isn't allowed"),
        ("p < k", "Compare isn't allowed"),
        ("p / k", "BinOp isn't allowed"),
        ("~p", "UnaryOp isn't allowed"),
        ("x", "Name isn't allowed"),
        ("'a' * p", "Constant isn't allowed"),
        ("2j * p", "Constant isn't allowed"),
        ("p ** k", "positive whole number"),
        ("p ** 0", "positive whole number"),
        ("9**9**9**9", "positive whole number"),
        ("p ** 1000000000", "too many operations"),
        ("((p**64)**64)**64", "too many operations"),
        ("p;k", "invalid syntax"),
        ("p, k", "Tuple isn't allowed"),
        ("", "invalid syntax"),
        ("\0", "null bytes"),
        ("9" * 400 + "*p", "too large"),
        ("9" * 5000, "expression"),
        ("(" * 5000 + "p" + ")" * 5000, "expression"),
        ("-" * 20000 + "p", "nested too deeply|recursion"),
        ("p+" * 3000 + "p", "nested too deeply|recursion"),
        ("p*" * 15000 + "p", "expression"),
        ("p" * 10**6, "at most 32768 characters, got 1000000"),
    ],
)
def test_texts_that_others_wrote_are_read_not_run(text, why):
    with pytest.raises(ValueError, match=why):
        parse(text)


def test_what_is_not_computed_as_it_is_written_is_not_traced():
    for function_ in (
        lambda p, k: abs(p - k) + (p != k),
        lambda p, k: abs(p - k) * (p > k),
        lambda p, k: abs(p - k) if p else k,
        lambda p, k: min(p, k),
        lambda p, k: {p: k}[p],
        lambda p, k: abs(p - k) / 2,
        lambda p, k: p**0,
        lambda p, k: 2**p,
        lambda p, k: p**1000,
        lambda p, k: sum([abs(p - k)] * 60),
        lambda p, k: 1j * p,
        lambda p, k: "a" * p,
        lambda p, k: torch.ones(2) * p,
    ):
        assert trace(function_) is None
    assert str(trace(lambda p, k: np.float64(2.5) * p - np.int8(3) + k * True)) == "(((2.5*p)-3)+k)"
    assert str(trace(lambda p, k: math.inf * p + 0 * k)) == "((inf*p)+(0*k))"
    assert str(trace(lambda p, k: 2.0 * +p)) == "(2*p)"


@given(expressions, st.tuples(numbers, numbers))
def test_extremes_and_reach_hold_every_value(expression, ends):
    low, high = sorted(ends)
    least, most = extremes(expression, (low, high))
    every = range(low, high + 1)
    values = [function(expression)(p, k) for p in every for k in every]
    assert (least, most) == (min(values), max(values))
    assert reach(expression, (low, high)) >= max(map(abs, values))


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
