"""Bounds never exceed the exact distance."""

import dataclasses
import itertools
import math
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
import torch
from depth import FLOATS_AND_BYTES, USUAL, deep_unless
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import patchsim
from patchsim.arguments import read
from patchsim.metrics import METRICS
from patchsim.search import correlated_blocks, lower_bounds, pruning
from patchsim.search.direct import Direct
from patchsim.sums.transform_errors import gain
from patchsim.testing import cases, expect

DTYPES = [torch.uint8, torch.int16, torch.float32, torch.float64, torch.bool]


def exact_means(case, metric, call):
    """Mean distances as Fractions, before `finish`, and which windows are spoiled."""
    found = expect(case, METRICS[metric])
    scale = Fraction(call.finish("mean", similarity=True).scale)
    total = np.array(found.total, dtype=object)[:, None, None]
    return found.sums[0] / (total * scale), found.spoiled[0]


def assert_below(bounds, means, spoiled):
    for own, mean, spoil in zip(bounds, means, spoiled, strict=True):
        for i in np.ndindex(mean.shape):
            if not spoil[i] and mean[i] < 1e300:
                [lower] = own(own.values[i].reshape(1))
                assert lower == -math.inf or Fraction(lower) <= mean[i] * (1 + Fraction(2) ** -50)
                assert i in set(zip(*own.within(float(mean[i]) * (1 + 2.0**-50)), strict=True))


def searched(case):
    """The case as `find` sees it: one image, no padding, dilation or overhang."""
    image = case.image.detach().reshape(-1, *case.image.shape[-3:])[:1]
    kernel, weight = case.kernel.detach(), case.weight
    kernel = kernel.reshape(-1, *kernel.shape[-3:])[..., : image.shape[2], : image.shape[3]]
    weight = None if weight is None else weight[..., : image.shape[2], : image.shape[3]]
    where = {"padding": (0, 0), "dilation": (1, 1)}
    return dataclasses.replace(case, image=image, kernel=kernel, weight=weight, **where)


def unweighted(data, dtype, metric):
    """Draw a case without weights, whose images of floats hold NaN and inf, and its call."""
    case = searched(data.draw(cases(dtype, finite=not dtype.is_floating_point)))
    case = dataclasses.replace(case, weight=None)
    assume(min(case.kernel.shape[2:]) > 1)
    geometry = case.stride, 0, 1
    return case, read(
        case.image, case.kernel, metric, geometry, None, case.data_range, "auto", bounds_only=True
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("metric", ["l1", "l2"])
@settings(max_examples=settings.default.max_examples // 2)
@given(st.data(), st.sampled_from([1, 2, 4]))
def test_blocks(metric, dtype, data, side):
    case, call = unweighted(data, dtype, metric)
    assert pruning.possible(call)
    largest = 2 ** int(math.log2(min(side, *call.problem.kernel_size)))
    with mock.patch.object(pruning, "side", return_value=largest):
        bounds = pruning.of_blocks(call)
    assert_below(bounds, *exact_means(case, metric, call))


@pytest.mark.parametrize("dtype", deep_unless(USUAL.__contains__, FLOATS_AND_BYTES), ids=str)
@pytest.mark.parametrize("metric", deep_unless(["l1", "l2"].__contains__, ["l1", "l2", "l4"]))
@settings(max_examples=settings.default.max_examples // 2)
@given(st.data())
def test_maps(metric, dtype, data):
    case = searched(data.draw(cases(dtype, finite=not dtype.is_floating_point)))
    geometry = case.stride, 0, 1
    call = read(
        case.image,
        case.kernel,
        metric,
        geometry,
        case.weight,
        case.data_range,
        "auto",
        bounds_only=True,
    )
    bounds = lower_bounds.of_maps(call)
    assert_below(bounds, *exact_means(case, metric, call))


def assert_below_direct(call, bounds):
    """What a search would measure, in float64, is no nearer than its bounds."""
    rows, cols = np.indices(call.problem.map_size).reshape(2, -1)
    down, across = call.problem.stride
    for n, own in enumerate(bounds):
        distances = Direct(call, n).distances(rows * down, cols * across)
        lower = own(own.values.flatten())
        assert (~np.isfinite(distances) | ((lower <= distances) & np.isfinite(lower))).all()


@pytest.mark.parametrize("dtype", deep_unless(USUAL.__contains__, DTYPES), ids=str)
@given(st.data(), st.sampled_from([1, 2, 4]))
def test_blocks_of_zncc(dtype, data, side):
    _, call = unweighted(data, dtype, "zncc")
    largest = 2 ** int(math.log2(min(side, *call.problem.kernel_size)))
    assert_below_direct(call, correlated_blocks.of_blocks(call, largest))


HARD = {
    "blocks": lambda call: correlated_blocks.of_blocks(call, 2),
    "pixels": lambda call: correlated_blocks.of_blocks(call, 1),
}


@pytest.mark.parametrize("bound", HARD.values(), ids=HARD)
@settings(max_examples=3 * settings.default.max_examples)
@given(st.integers(0, 9999), st.integers(-40, -10), st.integers(-30, 0), st.integers(0, 10))
def test_images_that_hardly_vary(bound, seed, variation, colour, level):
    """About a level that dwarfs that; together or against one another, or by their colour."""
    random = np.random.default_rng(seed)
    image = 2.0**level + 2.0**variation * random.normal(size=(1, 1, 24, 26)).repeat(3, 1)
    image[:, 0] += 2.0**colour * random.normal(size=(24, 26)) * (np.arange(26) > 13)
    image[:, 1] = 2 * 2.0**level - image[:, 0] if seed % 3 == 0 else image[:, 1]
    kernel = image[:, :, 5:12, 9:18] + 2.0**variation * random.normal(size=(1, 3, 7, 9)) / 8
    kernel = kernel if seed % 2 else random.random((1, 3, 1, 1)) + random.normal(size=(1, 3, 7, 9))
    tensors = torch.from_numpy(image), torch.from_numpy(kernel)
    call = read(*tensors, "zncc", (1, 0, 1), None, None, "auto", bounds_only=True)
    assert_below_direct(call, bound(call))


@pytest.mark.parametrize("bound", HARD.values(), ids=HARD)
@settings(max_examples=2 * settings.default.max_examples)
@given(st.integers(0, 9999), st.integers(-40, 60), st.integers(-50, 0))
def test_blocks_that_cancel(bound, seed, size, variation):
    """A chessboard, whose sums are all but 0, and a template of another size."""
    random = np.random.default_rng(seed)
    board = 1 - 2 * (np.indices((24, 26)).sum(0) % 2)
    image = 2.0**size * (board * 0.1 + 2.0**variation * random.normal(size=(1, 3, 24, 26)))
    kernel = random.normal(size=(1, 3, 8, 8)) + image[:, :, 3:11, 5:13] * 2.0**-size * (seed % 2)
    tensors = torch.from_numpy(image), torch.from_numpy(kernel)
    call = read(*tensors, "zncc", (1, 0, 1), None, None, "auto", bounds_only=True)
    assert_below_direct(call, bound(call))


@pytest.mark.parametrize("dtype", deep_unless(USUAL.__contains__, FLOATS_AND_BYTES), ids=str)
@pytest.mark.parametrize(
    "metric", deep_unless("zncc".__eq__, ["zncc", "ncc", "ssim", "intersection"])
)
@settings(max_examples=settings.default.max_examples // 2)
@given(st.data())
def test_maps_of_statistics(metric, dtype, data):
    case = searched(data.draw(cases(dtype, finite=not dtype.is_floating_point)))
    geometry = case.stride, 0, 1
    image, kernel = case.image, case.kernel
    if metric == "intersection":
        image, kernel = image.abs(), kernel.abs()
    arguments = metric, geometry, case.weight, case.data_range, "auto"
    call = read(image, kernel, *arguments, bounds_only=True)
    assert_below_direct(call, lower_bounds.of_maps(call))


@pytest.mark.parametrize("backend", ["fused", "conv2d", "fft", "shift"])
@settings(max_examples=settings.default.max_examples // 5)
@given(st.integers(0, 99))
def test_one_number_bounds_the_error_of_every_window(backend, seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(3, 40, 40, generator=generator) * 2 ** (seed % 7) + seed % 5
    kernel = image[:, 3:12, 5:16] + torch.rand(3, 9, 11, generator=generator)
    image[0, 20, 20] = torch.nan
    call = read(image[None], kernel[None], "l2", (1, 0, 1), None, None, backend, bounds_only=True)
    bound = patchsim.error_bound(image, kernel, "l2", backend)
    found = patchsim.distance(image, kernel, "l2", backend=backend).double()
    exact = patchsim.distance(image.double(), kernel.double(), "l2", backend="unfold")
    fine = exact.isfinite()
    [worst] = call.worst().tolist()
    assert ((found - exact).abs()[fine] <= worst).all()
    if backend != "fft":  # whose bound there is that of the whole image
        assert bound[fine].max() <= worst * (1 + 1e-9)


@pytest.mark.parametrize(
    ("backend", "metric"),
    [("fused", "l1"), *itertools.product(["fused", "conv2d", "fft", "shift"], ["l2", "l4"])],
)
@settings(max_examples=settings.default.max_examples // 5)
@given(cases(torch.float32))
def test_the_bound_of_a_flat_window_is_that_of_its_map(backend, metric, case):
    kernel = case.kernel.reshape(-1, *case.kernel.shape[-3:])
    size = (d * (n - 1) + 1 for d, n in zip(case.dilation, kernel.shape[2:], strict=True))
    image = case.image.flatten()[0].expand(1, kernel.shape[1], *size)
    geometry = 1, 0, case.dilation
    call = read(image, kernel, metric, geometry, case.weight, None, backend, bounds_only=True)
    found, wanted = call.worst(), call.bound("mean").amax((0, 2, 3)).numpy()
    if backend == "fft":  # whose bound of a map is sharper, and of values centred in float32
        assert (found >= (1 - 1e-4) * wanted).all()
    else:
        assert np.allclose(found, wanted, rtol=1e-9, atol=0)


@given(st.integers(0, 999), st.integers(1, 12), st.integers(1, 12))
def test_no_correlation_lengthens_more(seed, height, width):
    """Than the peak of a template's spectrum, sampled at any frequencies."""
    random = np.random.default_rng(seed)
    kernel = random.normal(size=(2, 3, height, width))
    spectra = np.sqrt((np.abs(np.fft.fft2(kernel, s=(97, 101))) ** 2).sum(1))
    assert (spectra.max((1, 2)) <= gain(kernel)).all()
    assert (gain(kernel) <= np.abs(kernel).sum((1, 2, 3))).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_flat_windows_are_settled(dtype):
    """Rounding hides that a window is flat; zncc's bounds of them are their distance, 1."""
    image = torch.full((3, 90, 120), 77).to(dtype)
    y, x = torch.arange(30)[:, None], torch.arange(40)
    image[:, 40:70, 50:90] = (77 + 60 * (y / 5).sin() * (x / 7).sin()).to(dtype)
    kernel = image[:, 42:58, 52:68].clone()
    call = read(image[None], kernel[None], "zncc", (1, 0, 1), None, None, "fft", bounds_only=True)
    for [bounds] in (lower_bounds.of_maps(call), correlated_blocks.of_blocks(call, 4)):
        assert bounds.count(0.5) < 2000  # of 7875, most of which are flat
        assert_below_direct(call, [bounds])


def test_a_match_among_nearly_flat_windows_is_found():
    """Where errors in float32 would exceed what windows deviate."""
    random = torch.Generator().manual_seed(0)
    image = 1e-4 * torch.randn(1, 200, 220, generator=random)
    image[:, :20, :20] += 100
    kernel = image[:, 90:110, 90:110] + 1e-6 * torch.randn(1, 20, 20, generator=random)
    with mock.patch.object(pruning, "promising", return_value=False):
        [match] = patchsim.find(image, kernel, "zncc", backend="fft")
    assert (match.y, match.x) == (90, 90)


@pytest.mark.parametrize("metric", ["l1", "l2"])
def test_smooth_images_are_pruned(metric):
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(1, 3, 16, 24, generator=generator)
    image = torch.nn.functional.interpolate(rough, size=(512, 768), mode="bicubic")[0]
    kernel = image[:, 100:164, 200:264] + 0.02 * torch.randn(3, 64, 64, generator=generator)
    call = read(image[None], kernel[None], metric, (1, 0, 1), None, None, "auto", bounds_only=True)
    [bounds] = pruning.of_blocks(call)
    best = patchsim.distance(image, kernel, metric).min()
    assert bounds.count(float(best)) < 1000


def test_what_cannot_be_pruned():
    image, kernel = torch.rand(1, 1, 40, 40), torch.rand(1, 1, 16, 16)
    for metric, weight in (("hamming", None), ("ncc", None), ("l1", torch.ones(16, 16))):
        call = read(image, kernel, metric, (1, 0, 1), weight, None, "auto", bounds_only=True)
        assert not pruning.possible(call)


@pytest.mark.parametrize("metric", ["l1", "l2", "rmse", "zncc", "ncc"])
@pytest.mark.parametrize("size", [1e-170, 1e-20, 1e-10, 1e20, 1e120])
def test_matches_of_any_size_are_found(metric, size):
    """Squares of block sums may underflow or overflow, beside pixels of an ordinary size, too."""
    if size == 1e-170 and metric in ("l2", "rmse"):
        pytest.skip("all distances are 0 in float64")
    dtype = torch.float32 if 1e-30 < size < 1e30 else torch.float64
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(1, 150, 200, generator=generator, dtype=torch.float64)
    kernel = image[:, 60:92, 90:122] + 0.1 * torch.rand(1, 32, 32, generator=generator)
    image[:, 100:] *= 1e9
    [match] = patchsim.find((image * size).to(dtype), (kernel * size).to(dtype), metric)
    assert (match.y, match.x) == (60, 90)
    [plain] = patchsim.find(image.to(dtype), kernel.to(dtype), metric)
    if metric in ("ncc", "zncc"):
        assert abs(match.score - plain.score) < 1e-5
