"""Metrics and statistics of one's own, written in any way: right on every backend, or refused."""

import functools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import patchsim
from patchsim import Metric, Statistic
from patchsim.backends import BACKENDS
from patchsim.kernels import scores
from patchsim.kernels.definition import definition, exact, extremes
from patchsim.metrics import METRICS
from patchsim.metrics.base import Expansion, clamp, identity, inverse_root, square
from patchsim.problem import INTEGER_RANGES


def scaled(factor):
    return lambda p, k: factor * abs(p - k)


def keyword(p, k, factor):
    return factor * abs(p - k)


class Scale:
    """A callable with a state, equal to all others, and no key of a dictionary."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, p, k):
        return self.factor * abs(p - k)

    def __eq__(self, other):
        return True

    def method(self, p, k):
        return abs(p - k) * self.factor


def by_type(p, k):
    return abs(p - k) if isinstance(p, torch.Tensor) else (p - k) ** 2


def in_place(p, k):
    p -= k
    return abs(p)


def counting(calls=[]):  # noqa: B006
    def d(p, k):
        calls.append(0)
        return abs(p - k) + 0 * len(calls)

    return d


def branching(p, k):
    return abs(p - k) if p is not None and p is not k else p


#: d, and the same for numbers in float64.
FUNCTIONS = {
    "half": (lambda p, k: 0.5 * abs(p - k), None),
    "other": (lambda p, k: abs(p - k) + (p != k), None),
    "same": (lambda p, k: 1.0 * (p == k), None),
    "less": (lambda p, k: abs(p - k) * (p < k), None),
    "most": (lambda p, k: torch.maximum(p, k), None),
    "numpy": (lambda p, k: np.float64(2.5) * abs(p - k) + np.int64(1), None),
    "float32": (lambda p, k: abs(p - k) * np.float32(0.1), None),
    "true": (lambda p, k: abs(p - k) + True, None),
    "quotient": (lambda p, k: abs(p - k) / 2, None),
    "floor": (lambda p, k: abs(p - k) // 3, None),
    "remainder": (lambda p, k: (p - k) % 7, None),
    "root": (lambda p, k: abs(p - k) ** 0.5, None),
    "power": (lambda p, k: abs(p - k) ** np.int64(3), None),
    "wide": (lambda p, k: 2.0 * abs(p * p * p - k * k * k), None),
    "long": (lambda p, k: sum((abs(p - k) for _ in range(300)), 0 * p), None),
    "large": (lambda p, k: abs(1e6 * abs(p - k) + 1 - abs(1e6 * abs(p - k) - 1)), None),
    "beyond": (lambda p, k: abs(p - k) + 70000 - 70000, None),
    "periodic": (lambda p, k: 16 - abs(abs(abs(abs(p - k) - 64) - 32) - 16), None),
    "negative": (lambda p, k: 90 - abs(abs(p - k) - 90), None),
    "lopsided": (lambda p, k: abs(p - 2 * k) + (p - k), None),
    "moved": (lambda p, k: abs(p * p - k * k), None),
    "of NaN": (lambda p, k: abs(p - k) * math.nan, None),
    "factory": (scaled(3), None),
    "factory of reals": (scaled(0.3), None),
    "partial": (functools.partial(keyword, factor=0.25), lambda p, k: 0.25 * abs(p - k)),
    "instance": (Scale(1.5), None),
    "another": (Scale(2), None),
    "method": (Scale(0.5).method, None),
    "type": (by_type, lambda p, k: abs(p - k)),
    "in place": (in_place, lambda p, k: abs(p - k)),
    "counting": (counting(), None),
    "branching": (branching, lambda p, k: abs(p - k)),
}

OTHER_DTYPES = ("half", "other", "wide", "large", "negative", "floor", "in place")


def tensors(dtype):
    generator = torch.Generator().manual_seed(3)
    low, high = INTEGER_RANGES.get(dtype, (-9, 9))
    values = [
        torch.randint(low, high + 1, (2, *size), generator=generator) for size in ((9, 11), (3, 4))
    ]
    values[1][:] = values[0][:, 2:5, 3:7]
    values[1][0, 0, 0] = high
    return [own.to(dtype) if dtype in INTEGER_RANGES else own.to(dtype) / 4 for own in values]


def expected(d, image, kernel):
    """Sum over windows, in float64, by torch."""
    image, kernel = image.double(), kernel.double()
    windows = image.unfold(1, kernel.shape[1], 1).unfold(2, kernel.shape[2], 1)
    differences = d(windows.clone(), kernel[:, None, None].expand(windows.shape).clone())
    return differences.double().sum((0, 3, 4))


def computed(image, kernel, metric, backend, reduction):
    """Return distances, or None where the backend refuses in words."""
    try:
        return patchsim.distance(
            image, kernel, metric, reduction=reduction, backend=backend, data_range=255.0
        )
    except ValueError as error:
        if "can't compute" not in str(error):
            raise
        return None


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.deep] * (i % 6 > 0)) for i, n in enumerate(FUNCTIONS)],
)
def test_any_function_is_computed_right(name):
    """On every backend, of bytes as well; and the window where it is least is found first."""
    d, plain = FUNCTIONS[name]
    metric = Metric(name, d)
    # Each dtype takes kernels of its own, and bytes show most.
    others = (torch.int16, torch.float32) if name in OTHER_DTYPES else ()
    for dtype in (torch.uint8, *others):
        image, kernel = tensors(dtype)
        before = image.clone()
        right = expected(plain or d, image, kernel)
        for backend in ("auto", *BACKENDS):
            if backend != "auto" and BACKENDS[backend].approximate:
                continue
            calls = (image, kernel, metric, backend)
            found, means = computed(*calls, "sum"), computed(*calls, "mean")
            if found is None:
                assert backend != "auto"
                continue
            # "large" loses in float32 what it adds.
            near = (0.3 if name == "large" else 1e-5) if dtype is torch.float32 else 1e-12
            torch.testing.assert_close(
                found.double(),
                right,
                rtol=near,
                atol=near * float(right.abs().nan_to_num(0).max()),
                equal_nan=True,
            )
            whole = dtype in INTEGER_RANGES and bool((right == right.round()).all())
            if found.dtype is torch.int64:
                assert whole
                assert torch.equal(found.double(), right)
            torch.testing.assert_close(
                means.double(), right / kernel.numel() / 255, rtol=1e-5, atol=1e-6, equal_nan=True
            )
        assert torch.equal(image, before), "it wrote to its input"
        matches = patchsim.find(image, kernel, metric, data_range=255.0)
        if math.isfinite(float(right[0, 0])):
            least = float(right.min()) / kernel.numel() / 255
            assert math.isclose(1 - matches[0].score, least, rel_tol=1e-6, abs_tol=1e-12)


def test_what_is_read_off_is_what_it_is():
    wholes = {"float32": False, "half": False, "numpy": False, "factory": True, "true": True}
    for name, whole in wholes.items():
        found = definition(Metric(name, FUNCTIONS[name][0]))
        assert found.expression is not None, name
        assert found.expression.whole == whole, name
    for name in ("other", "less", "most", "quotient", "remainder", "root", "long", "type"):
        assert definition(Metric(name, FUNCTIONS[name][0])).expression is None, name
    assert not definition(Metric("moved", FUNCTIONS["moved"][0])).invariant
    for name, values, found in (
        ("periodic", (0, 255), (-127, 16)),
        ("negative", (0, 255), (-75, 90)),
        ("other", (0, 255), (0, 256)),
        ("floor", (0, 255), (0, 85)),
    ):
        metric = Metric(name, FUNCTIONS[name][0])
        assert exact(metric, values)
        assert extremes(metric, values) == found
    assert not exact(Metric("floor", FUNCTIONS["floor"][0]), (-32768, 32767))


@pytest.mark.parametrize("factor", [Fraction(1, 2), 10**400, "2", torch.ones(2, 3)])
def test_what_torch_can_not_compute_raises(factor):
    image, kernel = tensors(torch.uint8)
    with pytest.raises((TypeError, ValueError, RuntimeError, OverflowError)):
        patchsim.similarity(image, kernel, Metric("wrong", scaled(factor)))


def test_what_writes_into_its_arguments_is_refused():
    def d(p, k):
        p.sub_(k)
        return abs(p)

    image, kernel = tensors(torch.uint8)
    with pytest.raises(ValueError, match=r"`pointwise` of metric 'writing' changes the tensors"):
        patchsim.similarity(image, kernel, Metric("writing", d))


def test_a_similarity_that_saturates_is_found():
    image, kernel = tensors(torch.uint8)
    for finish in (lambda x: x.clamp(max=0.2), lambda x: x / (1 + x), lambda x: 0 * x):
        metric = Metric("saturating", lambda p, k: abs(p - k), finish=finish)
        for threshold in (None, 0.0, 0.8, 0.5, -1e300, 2.0):
            found = patchsim.find(image, kernel, metric, k=2, threshold=threshold)
            assert threshold == 2 or (found[0].y, found[0].x) == (2, 3)


def test_wrong_claims_are_refused():
    image, kernel = tensors(torch.float32)
    expansion = Expansion.of((1, square, None), (-2, identity, identity), (2, None, square))
    wrong = Metric("wrong", lambda p, k: (p - k) ** 2, expansion, degree=2)
    with pytest.raises(ValueError, match="`expansion` of metric 'wrong' is of something else"):
        patchsim.similarity(image, kernel, wrong)
    wrong = Metric("low", lambda p, k: (p - k) ** 2, majorant=abs, degree=2)
    with pytest.raises(ValueError, match="`majorant` A of metric 'low' must have"):
        patchsim.error_bound(image, kernel, wrong)


@pytest.mark.parametrize(
    "scale", [pytest.param(s, marks=pytest.mark.deep) for s in (0.5, 1.0, np.float64(2.0))]
)
def test_expansions_of_any_numbers(scale):
    """Of bytes, with one that is said to be invariant and isn't, and is negative."""
    terms = (scale, square, None), (-2 * scale, identity, identity), (scale, None, square)
    products = (-scale, identity, identity), (scale, square, None)
    for own in (terms, products):
        expansion = Expansion.of(*own)
        metric = Metric("own", lambda p, k, e=expansion: e(p, k), expansion, degree=2)
        for dtype in (torch.uint8, torch.float64):
            image, kernel = tensors(dtype)
            right = expected(expansion, image, kernel)
            for backend in ("loop", "fused", "conv2d", "fft", "values"):
                found = patchsim.distance(image, kernel, metric, backend=backend, reduction="sum")
                assert found.dtype is (
                    torch.int64 if dtype is torch.uint8 and scale != 0.5 else torch.float64
                )
                torch.testing.assert_close(found.double(), right, rtol=1e-9, atol=1e-7)
            best = patchsim.find(image, kernel, metric, data_range=1.0)[0]
            assert math.isclose(1 - best.score, float(right.min()) / kernel.numel(), rel_tol=1e-9)


def statistic(factor, power=1.0):
    def similarity(m):
        return clamp(factor * m.pk * inverse_root(m.pp, m.flat) * inverse_root(m.kk, 0), -1, power)

    return similarity


FACTOR = 0.25


def of_a_global(m):
    return FACTOR * m.pk * inverse_root(m.pp, m.flat) * inverse_root(m.kk, 0)


@pytest.mark.deep
def test_statistics_differ_in_all_that_they_refer_to():
    """Kernels are kept under what identifies them: closures, defaults, globals."""
    image, kernel = (values.float() for values in tensors(torch.uint8))
    ncc = patchsim.similarity(image, kernel, "ncc").double()

    def similar(function):
        return patchsim.similarity(
            image, kernel, Statistic("own", METRICS["l2"], function)
        ).double()

    global FACTOR
    for factor in (0.5, 0.125):
        FACTOR = factor
        for function in (
            statistic(factor),
            functools.partial(statistic(factor)),
            of_a_global,
            lambda m, f=factor: f * m.pk * inverse_root(m.pp, m.flat) * inverse_root(m.kk, 0),
        ):
            torch.testing.assert_close(similar(function), factor * ncc, rtol=1e-5, atol=1e-6)
    most = similar(statistic(1.0, 0.75))
    torch.testing.assert_close(most, ncc.clamp(max=0.75), rtol=1e-5, atol=1e-6)
    best = patchsim.find(
        image, kernel, Statistic("own", METRICS["l2"], functools.partial(statistic(0.5)))
    )
    assert (best[0].y, best[0].x) == divmod(int(ncc.argmax()), ncc.shape[1])
    kept = [
        scores.kernel(
            Statistic("own", METRICS["l2"], own), torch.float32, torch.float32, bound=False
        )
        for own in (statistic(0.5), statistic(0.125), functools.partial(statistic(0.5)))
    ]
    assert kept[0].__name__ != kept[1].__name__
    assert kept[2] is None


def test_a_statistic_of_a_metric_of_ones_own():
    image, kernel = tensors(torch.uint8)
    for d in (lambda p, k: 0.5 * abs(p - k), lambda p, k: abs(p - k) + (p != k)):
        own = Statistic("own", Metric("summed", d), lambda m: 1 - m.sums / (m.total * m.range))
        right = 1 - expected(d, image, kernel) / kernel.numel() / 255
        for backend in ("loop", "shift", "unfold"):
            found = patchsim.similarity(image, kernel, own, backend=backend)
            torch.testing.assert_close(found.double(), right, rtol=1e-6, atol=1e-6)
        best = patchsim.find(image, kernel, own)[0]
        assert math.isclose(best.score, float(right.max()), rel_tol=1e-9)


@pytest.mark.parametrize("backend", ["unfold", "fused", "conv2d", "fft", "values"])
def test_sums_of_integers_may_be_below_0(backend):
    metric = Metric(
        "signed", lambda p, k: p * k, Expansion.of((1, lambda x: x, lambda x: x)), degree=2,
        invariant=False,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(4)
    image = torch.randint(-300, 300, (2, 9, 11), dtype=torch.int16, generator=generator)
    kernel = torch.randint(-300, 300, (2, 4, 3), dtype=torch.int16, generator=generator)
    found, expected = (
        patchsim.distance(image, kernel, metric, data_range=1, backend=own, reduction="sum")
        for own in (backend, "loop")
    )
    assert expected.min() < 0 < expected.max()
    assert torch.equal(found, expected)
