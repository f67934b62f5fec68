"""Every variant against the original loop in exact arithmetic, tables first: a new metric or
backend is tested as soon as it is registered."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from depth import USUAL, deep_unless
from hypothesis import given
from hypothesis import strategies as st

import patchsim
from patchsim import reference
from patchsim.backends import BACKENDS
from patchsim.metrics import METRICS, Metric
from patchsim.problem import DTYPES, FLOATS, problem_of
from patchsim.testing import Case, cases, check, expect

#: Those that are sums of a distance of the values themselves; of labels only where they are
#: integers. The others are in test_statistics.py and test_prepared.py.
SUMS = {n: m for n, m in METRICS.items() if isinstance(m, Metric) and m.prepare is None}
HOMOGENEOUS = [m for m in SUMS.values() if m.degree]
each_metric = pytest.mark.parametrize("metric", HOMOGENEOUS, ids=lambda m: m.name)
VARIANTS = [
    v
    for v in patchsim.variants()
    if METRICS[v.metric] in HOMOGENEOUS and not BACKENDS[v.backend].approximate
]
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)

#: Largest errors of float32 mean distances met on the grid below, on images in 0 to 1, doubled.
#: Measured, unlike `error_bound`: they guard against a loss of accuracy that the bound allows.
MEASURED = {"l1": 1.2e-6, "l2": 6e-7, "rmse": 1.2e-6}


def check_all(case: Case, metric) -> None:
    expected = expect(case, metric)
    problem = problem_of(case.image, case.kernel, case.stride, case.padding, case.dilation)
    for backend in BACKENDS.values():
        if not backend.refuse(problem, metric):
            check(case, expected, metric, backend)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@each_metric
@given(data=st.data())
def test_variants_agree_with_the_loop(metric, dtype, data):
    check_all(data.draw(cases(dtype)), metric)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@each_metric
@given(data=st.data())
def test_nan_and_inf_spoil_only_the_windows_that_hold_them(metric, dtype, data):
    check_all(data.draw(cases(dtype, finite=False)), metric)


def test_no_variant_is_lost():
    # A backend can't pass the tests above by refusing what it should do.
    direct, algebraic = ["loop", "unfold", "shift", "fused", "values"], ["conv2d", "fft"]
    expanded = {"l2", "l4", "rmse", "hue", "hsv", "ncc", "zncc", "ssim"}
    absolute = {"l1", "intersection"}
    assert set(METRICS) == expanded | absolute | {"hamming", "hue_l1"}
    assert {str(v) for v in patchsim.variants()} == {
        *(f"{name}_{backend}" for name in METRICS for backend in direct),
        *(f"{name}_{backend}" for name in expanded for backend in algebraic),
        *(f"{name}_{backend}" for name in absolute for backend in ("levels", "lowrank")),
    }


@each_metric
@given(data=st.data())
def test_reference_obeys_the_law(metric, data):
    """The loop itself, with its own padding, against the exact oracle."""
    case = data.draw(cases(torch.int16 if metric.degree < 4 else torch.uint8))
    image = case.image if case.image.dim() == 4 else case.image[None]
    kernel = case.kernel if case.kernel.dim() == 4 else case.kernel[None]
    (y, x), exact = case.padding, expect(dataclasses.replace(case, weight=None), metric)
    pads = y, y, x, x
    sums = reference.window_sums(
        image.long(), kernel.long(), metric.pointwise, case.stride, pads, case.dilation
    )
    assert np.array_equal(sums.numpy().astype(object), exact.sums)


def _grid():
    sides, kernels = (99, 100, 101), (9, 10, 11)
    return itertools.product((1, 2, 3), sides, sides, kernels, kernels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.bool], ids=str)
@given(data=st.data())
def test_labels(dtype, data):
    check_all(data.draw(cases(dtype)), METRICS["hamming"])


@pytest.mark.deep
@pytest.mark.parametrize("name", ["l1", "l2", "rmse"])
def test_the_grid_of_the_known_answer(name):
    """Stride 1-3, images 99-101 by 99-101, kernels 9-11 by 9-11, float32 against float64."""
    metric = METRICS[name]
    generator = torch.Generator().manual_seed(0)
    scene, template = (torch.rand(3, side, side, generator=generator) for side in (101, 11))
    # values and levels make hundreds of correlations for templates of as many values.
    slow = ("values", "levels", "lowrank")
    backends = [
        v.backend for v in patchsim.variants() if v.metric == name and v.backend not in slow
    ]
    if name == "rmse":
        backends.remove("loop")  # its slow sums are those of l2_loop
    for stride, height, width, h, w in _grid():
        image, kernel = scene[:, :height, :width], template[:, :h, :w]
        exact = _exact_distance(metric, image.double(), kernel.double(), stride)
        # float64 has roundings of its own, at most one per tap and a few.
        slack = 2.0**-53 * (kernel.numel() + 8) * (1 + exact)
        for backend in backends:
            bound = patchsim.error_bound(image, kernel, metric, backend, stride=stride)
            found = patchsim.distance(image, kernel, metric, stride=stride, backend=backend)
            error = (found.double() - exact).abs()
            where = f"{backend}, stride {stride}, {height}x{width}, {h}x{w}"
            assert found.shape == exact.shape, where
            assert bool((error <= bound + slack).all()), where
            assert error.max() <= MEASURED.get(name, 1), where


def _exact_distance(metric, image, kernel, stride):
    windows = image.unfold(1, kernel.shape[1], stride).unfold(2, kernel.shape[2], stride)
    return metric.finish(metric.pointwise(windows, kernel[:, None, None]).mean((0, 3, 4)))


def _skip_where_refused(variant, dtype):
    if variant.metric == "l4" and dtype is torch.int16:
        pytest.skip("sums exceed 64 bits")


@each_variant
@pytest.mark.parametrize("dtype", deep_unless(USUAL.__contains__, DTYPES), ids=str)
def test_black_on_black_is_one(variant, dtype):
    _skip_where_refused(variant, dtype)
    image = torch.ones(3, 12, 12).to(dtype)
    image[:, 2:9, 3:10] = 0
    kernel = torch.zeros(3, 4, 5).to(dtype)
    scores = variant(image, kernel, data_range=1)
    error = torch.zeros_like(scores)
    if dtype.is_floating_point and variant.backend in ("values", "levels"):
        # They may take FFTs of the places of 0 in the template.
        error = patchsim.error_bound(image, kernel, variant.metric, variant.backend)
    assert ((scores - 1).abs() <= error)[2:6, 3:6].all()
    assert (scores[0, :3] < 1).all()


@each_variant
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_copy_is_one_at_its_place(variant, dtype):
    _skip_where_refused(variant, dtype)
    generator = torch.Generator().manual_seed(1)
    image = (torch.rand(3, 40, 50, generator=generator) * 255).to(dtype)
    kernel = image[:, 11:24, 17:34]
    score = variant(image, kernel, data_range=255)[11, 17]
    if variant.metric == "l1" or not dtype.is_floating_point:
        assert score == 1
    assert score <= 1
    bound = patchsim.error_bound(image, kernel, variant.metric, variant.backend, data_range=255)
    assert 1 - score.double() <= bound[11, 17]


def _extremes(shape, dtype):
    low, high = (0, 255) if dtype is torch.uint8 else (-32768, 32767)
    return torch.full(shape, low, dtype=dtype), torch.full(shape, high, dtype=dtype)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        # l1 in float32 up to 65793 = ⌊2²⁴ / 255⌋ taps, in float64 from there.
        ((1, 1, 65793), torch.uint8),
        ((1, 1, 65794), torch.uint8),
        # l2 in float32 up to 258 = ⌊2²⁴ / 255²⌋ taps, in float64 from there.
        ((1, 1, 258), torch.uint8),
        ((1, 1, 259), torch.uint8),
        # conv2d in one block up to 1024 = 2²⁴ / 128² taps, in several from there.
        ((1, 32, 32), torch.uint8),
        ((1, 25, 41), torch.uint8),
        ((3, 50, 50), torch.uint8),
        # l2 of int16 in float64 up to 2²¹ = ⌊2⁵³ / 65535²⌋ taps, in int64 from there.
        ((1, 1024, 2048), torch.int16),
        ((1, 1024, 2049), torch.int16),
        # conv2d in one block up to 2²³ = 2⁵³ / 2³⁰ taps, in several from there.
        pytest.param((1, 2048, 4097), torch.int16, marks=pytest.mark.deep),
    ],
    ids=str,
)
@pytest.mark.parametrize("metric", [METRICS["l1"], METRICS["l2"]], ids=["l1", "l2"])
def test_integers_are_exact_at_the_bounds_of_each_arithmetic(metric, shape, dtype, monkeypatch):
    monkeypatch.setattr(patchsim.options, "max_memory", 2**31)
    low, high = _extremes(shape, dtype)
    mixed = low.clone()
    mixed[..., ::3] = high[..., ::3]
    numbers = low.numel()
    for image, kernel in ((low, high), (mixed, low)):
        exact = metric.pointwise(image.long(), kernel.long()).sum()  # below 2⁵⁶
        for variant in patchsim.variants():
            # A tap of `shift` is a step of Python, and its sums are those of `unfold`; values and
            # levels expect a correlation for every tap.
            if variant.metric != metric.name or variant.backend == "lowrank":
                continue
            if variant.backend in ("shift", "values", "levels") and numbers > 10**5:
                continue
            found = patchsim.distance(
                image, kernel, metric, backend=variant.backend, reduction="sum"
            )
            assert found.item() == exact, variant


def test_integers_are_finished_in_float64():
    # Their sums are exact in float32, but not the similarities, where the range is small.
    image = torch.full((2, 1, 4), 32767, dtype=torch.int16)
    image[0, 0, 0] = -32768
    case = Case(image, torch.full((2, 1, 4), -32768, dtype=torch.int16), data_range=4095)
    check_all(case, METRICS["l1"])


@each_metric
def test_differences_may_overflow_before_they_are_weighted(metric):
    image = torch.full((1, 1, 2), 2.0**127)
    weight = torch.full((1, 1), 2.0**-100, dtype=torch.float64)
    check_all(Case(image, -image[..., :1], weight=weight), metric)


@each_variant
def test_a_kernel_with_nan_or_inf_spoils_the_map(variant):
    image, kernel = torch.rand(2, 9, 9), torch.rand(2, 3, 3)
    kernel[1, 0, 2] = torch.inf
    assert (variant(image, kernel) == -torch.inf).all()
    kernel[1, 0, 2] = torch.nan
    assert variant(image, kernel).isnan().all()


@each_variant
def test_cancellation_costs_no_accuracy(variant):
    """Bright, nearly flat images: the terms p² and 2pk are 10⁸ times their difference."""
    generator = torch.Generator().manual_seed(2)
    image = 1e4 + torch.rand(3, 30, 30, generator=generator)
    kernel = image[:, 5:15, 7:19].clone()
    exact = _exact_distance(METRICS[variant.metric], image.double(), kernel.double(), 1)
    found = patchsim.distance(image, kernel, variant.metric, backend=variant.backend)
    assert (found - exact).abs().max() <= 5e-3  # measured; 1 without centring
    bound = patchsim.error_bound(image, kernel, variant.metric, variant.backend)
    assert ((found - exact).abs() <= bound).all()


@each_variant
def test_an_empty_batch_gives_an_empty_map(variant):
    assert variant(torch.ones(0, 3, 8, 8), torch.ones(2, 3, 3, 3)).shape == (0, 2, 6, 6)
