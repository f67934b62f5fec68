"""Search against a plain greedy suppression of scores that a loop computes."""

import dataclasses
import itertools
import math
import re
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from depth import deep_unless, usual
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

import patchsim
from patchsim.arguments import read
from patchsim.bounds import gamma
from patchsim.images import read_images
from patchsim.metrics import METRICS, Metric
from patchsim.search import cells, direct, pruning

IMAGES = Path(__file__).parents[1] / "experiments" / "images"
[PHOTO] = read_images(IMAGES / "astronaut.png")

#: Metrics whose sums of multiples of powers of 2 have no rounding, whatever the order.
EXACT = [m.name for m in METRICS.values() if isinstance(m, Metric) and m.prepare is None]
ROUNDED = sorted(set(METRICS) - set(EXACT))


def overlap(one, other):
    height = max(0, min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0]))
    width = max(0, min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1]))
    both = height * width
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def candidates(distances, sizes, stride):
    """All windows, as (distance, y, x, template, (y, x, h, w)), in order."""
    found = [
        (float(own[i, j]), i * stride, j * stride, n, (i * stride, j * stride, *sizes[n]))
        for n, own in enumerate(distances)
        for i in range(own.shape[0])
        for j in range(own.shape[1])
        if np.isfinite(own[i, j])
    ]
    return sorted(found)


def greedy(distances, sizes, score, stride, k, threshold, max_overlap):
    kept = []
    for one in candidates(distances, sizes, stride):
        far = all(overlap(one[4], other[4]) <= max_overlap for other in kept)
        if far and (threshold is None or score(one[0]) >= threshold):
            kept.append(one)
    return [(score(distance), y, x, n) for distance, y, x, n, _ in kept[:k]]


def score_of(metric):
    return lambda d: 1 - float(METRICS[metric].finish(torch.tensor(d, dtype=torch.float64)))


def looped(image, kernel, metric, stride, weight=None):
    """Mean distances by a loop in float64, in which sums of the values drawn have no rounding."""
    metric = METRICS[metric] if isinstance(metric, str) else metric
    image, kernel = image.double(), kernel.double()
    (height, width), (h, w) = image.shape[1:], kernel.shape[1:]
    rows, cols = ((height - h) // stride + 1, (width - w) // stride + 1)
    weight = torch.ones_like(kernel) if weight is None else weight.expand_as(kernel).double()
    scale = RANGE**metric.degree
    means = np.empty((rows, cols))
    for i, j in np.ndindex(rows, cols):
        patch = image[:, i * stride : i * stride + h, j * stride : j * stride + w]
        total = (metric.pointwise(patch, kernel) * weight).sum()
        means[i, j] = total / (weight.sum() * scale * metric.unit)
    return means


RANGE = 4.0


@st.composite
def images(draw):
    """A photo's part, noise of few or many values, a periodic texture, stripes or one colour."""
    kind = draw(st.sampled_from(["photo", "noise", "coarse", "periodic", "stripes", "constant"]))
    height, width = draw(st.integers(9, 22)), draw(st.integers(9, 26))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    channels = draw(st.sampled_from([1, 3]))
    shape = channels, height, width
    if kind == "photo":
        y, x = (int(n) for n in random.integers(0, 400, 2))
        values = PHOTO[:channels, y : y + height, x : x + width].numpy().copy()
    elif kind in ("noise", "coarse"):
        values = random.integers(0, 256 if kind == "noise" else 3, shape)
    else:
        period = {"periodic": (3, 4), "stripes": (1, 2), "constant": (1, 1)}[kind]
        tile = random.integers(0, 256, (channels, *period))
        values = np.tile(tile, (1, height, width))[:, :height, :width]
    values = torch.from_numpy(np.ascontiguousarray(values))
    dtype = draw(st.sampled_from([torch.uint8, torch.int16, torch.float32, torch.float64]))
    if dtype.is_floating_point:
        return values.to(dtype) / 64
    return values.to(dtype)


@st.composite
def searches(draw):
    image = draw(images())
    sizes = draw(st.lists(st.tuples(st.integers(2, 9), st.integers(2, 9)), min_size=1, max_size=3))
    kernels = []
    for h, w in sizes:
        y, x = draw(st.integers(0, image.shape[1] - h)), draw(st.integers(0, image.shape[2] - w))
        kernel = image[:, y : y + h, x : x + w].clone()
        if draw(st.booleans()):
            kernel[..., draw(st.integers(0, h - 1)), :] = 1
        kernels.append(kernel)
    return {
        "image": image,
        "kernel": kernels,
        "k": draw(st.none() | st.integers(1, 6)),
        "threshold": draw(st.none() | st.sampled_from([0.0, 0.5, 0.9, 1.0])),
        "max_overlap": draw(st.sampled_from([0, 0.25, 0.3, 1 / 3, 0.5, 1])),
        "stride": draw(st.sampled_from([1, 1, 2, 3])),
    }


def rest(case):
    return {name: case[name] for name in ("stride", "k", "threshold", "max_overlap")}


def found_by(case, metric, **options):
    matches = patchsim.find(**case, metric=metric, data_range=RANGE, **options)
    return [(m.score, m.y, m.x, m.template) for m in matches]


@pytest.mark.parametrize("metric", deep_unless(["l1", "l2"].__contains__, EXACT))
@settings(max_examples=settings.default.max_examples // 2)
@given(searches(), st.sampled_from(["auto", "unfold"]))
def test_a_search_is_that_of_all_windows(metric, case, backend):
    assume(metric != "l4" or case["image"].dtype is not torch.int16)  # beyond 64 bits
    means = [looped(case["image"], k, metric, case["stride"]) for k in case["kernel"]]
    sizes = [tuple(k.shape[1:]) for k in case["kernel"]]
    assert found_by(case, metric, backend=backend) == greedy(
        means, sizes, score_of(metric), **rest(case)
    )


@pytest.mark.parametrize("metric", ["l1", "l2", "rmse"])
@settings(max_examples=settings.default.max_examples // 2)
@given(searches(), st.sampled_from([0, 1, 2, 4]), st.sampled_from([1, 8, 4096]))
def test_pruning_changes_nothing(metric, case, side, many):
    """Blocks of any size; and windows that repeat others looked for, however few."""
    means = [looped(case["image"], k, metric, case["stride"]) for k in case["kernel"]]
    sizes = [tuple(k.shape[1:]) for k in case["kernel"]]
    with (
        mock.patch.object(pruning, "promising", return_value=side > 0),
        mock.patch.object(pruning, "affordable", return_value=2**62),
        mock.patch.object(
            pruning, "side", lambda problem: 2 ** int(math.log2(min(side, *problem.kernel_size)))
        ),
        mock.patch.object(direct, "MANY", max(2, many)),
        mock.patch.object(direct, "COMPARED", 0),
        mock.patch.object(cells, "EXPECTED", many),
    ):
        assert found_by(case, metric) == greedy(means, sizes, score_of(metric), **rest(case))


@pytest.mark.parametrize("metric", ROUNDED)
@settings(max_examples=settings.default.max_examples // 3)
@given(searches())
def test_a_search_of_rounded_scores_is_greedy(metric, case):
    """Whose order is that of exact scores, up to the rounding of float64."""
    if metric == "hsv" and len(case["image"]) == 1:
        case["image"] = case["image"].expand(3, -1, -1)
        case["kernel"] = [k.expand(3, -1, -1) for k in case["kernel"]]
    pairs = [rounded(metric, case["image"], k, case["stride"]) for k in case["kernel"]]
    scores, errors = zip(*pairs, strict=True)
    sizes = [tuple(k.shape[1:]) for k in case["kernel"]]
    found = found_by(case, metric)
    assert_greedy(found, scores, sizes, slack=2 * max(errors), **rest(case))


UNIT = 2.0**-53


def rounded(metric, image, kernel, stride):
    """Scores in float64, and how far rounding can move each of two computations of them."""
    if isinstance(METRICS[metric], Metric):
        return rounded_means(metric, image, kernel, stride)
    scores = patchsim.similarity(
        image.double(), kernel.double(), metric, stride=stride, data_range=RANGE, backend="loop"
    )
    error = STATISTICS[metric](image.double(), kernel.double(), stride)
    return scores.numpy(), float(error)


def rounded_means(metric, image, kernel, stride):
    """Of pixels prepared in their own precision; n distances pass n + r roundings each."""
    metric = METRICS[metric]
    dtype = image.dtype if image.is_floating_point() else torch.float64
    image, kernel = (metric.prepare(values, RANGE).to(dtype) for values in (image, kernel))
    plain = dataclasses.replace(metric, prepare=None)
    means = looped(image, kernel, plain, stride)
    error = gamma(kernel.numel() + metric.roundings + 2, UNIT) * float(means.max())
    finish = [metric.finish(torch.tensor(values)) for values in (means, error)]
    return 1 - finish[0].numpy(), float(finish[1]) + 4 * UNIT


def error_of_zncc(image, kernel, stride):
    """Bound the error of a quotient of a covariance and variances.

    With E = Σ(p − m)² + Σ(k − m)² around the template's mean m, and γ = γ_{n+8}, sums of squares
    and of products err by γ·E at most, and so do the means' squares and products, twice:
    covariance and variances err by e = 3γ·E. To first order the quotient moves by
    e·(1/√(VW) + 1/2V + 1/2W) ≤ e·(1/V + 1/W) for variances V and W; twice that is for the rest.
    Flat windows and templates have no error, as they are told from others.
    """
    height, width = kernel.shape[1:]
    windows = image.unfold(1, height, stride).unfold(2, width, stride)  # (C, Ho, Wo, h, w)
    around = (windows - kernel.mean((1, 2))[:, None, None, None, None]).square().sum((0, 3, 4))
    own = (windows - windows.mean((3, 4), keepdim=True)).square().sum((0, 3, 4))
    template = (kernel - kernel.mean((1, 2), keepdim=True)).square().sum()
    flat = (windows.amax((3, 4)) == windows.amin((3, 4))).all(0)
    if flat.all() or (kernel.amax((1, 2)) == kernel.amin((1, 2))).all():
        return 0.0
    error = 3 * gamma(kernel.numel() + 8, UNIT) * (around + template)
    return (2 * error * (1 / own + 1 / template))[~flat].max() + 4 * UNIT


def error_of_ssim(image, kernel, stride):
    """Bound what few operations on exact sums do.

    Values are multiples of 2⁻⁶, so that their sums and those of their products are exact. With M
    the largest, covariance and variances err by 12·u·M², which their quotient, at most 1, divides
    by at least c₂ = (0.03·range)²; the luminance has positive terms only.
    """
    largest = max(float(values.max()) for values in (image, kernel))
    return 24 * UNIT * largest**2 / (0.03 * RANGE) ** 2 + 16 * UNIT


def error_of_quotients(image, kernel, stride):
    """Bound a root or two, a product and a quotient, at most 1, of exact sums."""
    return 8 * UNIT


STATISTICS = {
    "zncc": error_of_zncc,
    "ssim": error_of_ssim,
    "ncc": error_of_quotients,
    "intersection": error_of_quotients,
}


def assert_greedy(found, scores, sizes, stride, k, threshold, max_overlap, slack):
    """Assert that each match is as good as any window that those before it leave."""
    least = -np.inf if threshold is None else threshold
    left = candidates([-own for own in scores], sizes, stride)
    for score, y, x, n in found:
        assert abs(score - scores[n][y // stride, x // stride]) <= slack
        assert score >= least
        assert all(-other[0] <= score + slack for other in left)
        place = y, x, *sizes[n]
        assert any(other[4] == place and other[3] == n for other in left)
        left = [
            other
            for other in left
            if overlap(other[4], place) <= max_overlap and (other[3], other[4]) != (n, place)
        ]
    if k is None or len(found) < k:
        assert all(-other[0] <= least + slack for other in left)


@settings(max_examples=settings.default.max_examples // 2)
@given(searches(), st.sampled_from(["l1", "l2", "hamming"]), st.integers(0, 9))
def test_weights(case, metric, seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = [k.shape if seed % 2 else k.shape[1:] for k in case["kernel"]]
    case["weight"] = [torch.randint(0, 3, shape, generator=generator) / 2 for shape in shapes]
    for weight in case["weight"]:
        weight[..., 0, 0] = 1
    if seed % 3 == 0:
        case["weight"] = [weight.ceil() for weight in case["weight"]]
    pairs = zip(case["kernel"], case["weight"], strict=True)
    means = [looped(case["image"], k, metric, case["stride"], w) for k, w in pairs]
    sizes = [tuple(k.shape[1:]) for k in case["kernel"]]
    found = found_by(case, metric)
    expected = greedy(means, sizes, score_of(metric), **rest(case))
    assert [f[1:] for f in found] == [e[1:] for e in expected]
    assert [f[0] for f in found] == pytest.approx([e[0] for e in expected], abs=1e-15)


@pytest.mark.parametrize("variant", deep_unless(usual, patchsim.variants()), ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_copy_scores_exactly_1_on_every_backend(variant, dtype):
    image = PHOTO[:, 100:125, 220:247]
    image = image if dtype is torch.uint8 else (image + 0.25) / 300
    kernel = image[:, 11:17, 13:18]
    arguments = image, kernel, variant.metric
    try:
        patchsim.similarity(*arguments, backend=variant.backend)
    except ValueError:
        return  # refused for this dtype
    [match] = patchsim.find(*arguments, backend=variant.backend)
    assert match.score == 1
    if variant.metric != "intersection":  # 1 wherever the image is brighter
        assert (match.y, match.x) == (11, 13)


@settings(max_examples=settings.default.max_examples // 5)
@given(st.integers(0, 20), st.sampled_from(["l1", "l2", "zncc", "ssim"]))
def test_batches_are_searched_one_by_one(seed, metric):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 2, 15, 17, generator=generator)
    kernels = torch.rand(2, 2, 4, 5, generator=generator)
    together = patchsim.find(images, kernels, metric, k=2)
    for b, image in enumerate(images):
        alone = patchsim.find(image, kernels, metric, k=2)
        own = [match for match in together if match.batch == b]
        assert [(m.score, m.y, m.x, m.template) for m in own] == [
            (m.score, m.y, m.x, m.template) for m in alone
        ]


@pytest.mark.parametrize("metric", ["l1", "l2", "zncc"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_windows_with_nan_or_inf_never_match(metric, value):
    image = torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(0))
    kernel = image[:, 2:6, 3:7].clone()
    image[0, 4, 5] = value
    found = patchsim.find(image, kernel, metric, k=None, max_overlap=1)
    assert len(found) == 81 - 16
    image[:] = value
    assert len(patchsim.find(image, kernel, metric, k=None)) == 0
    with mock.patch.object(pruning, "promising", return_value=True):
        assert len(patchsim.find(image, kernel, metric, k=None)) == 0


@example("l2", 1e30, True)
@example("zncc", 1e30, False)
@given(
    st.sampled_from(["l1", "l2", "zncc", "ncc"]),
    st.sampled_from([1e-42, 1e-20, 1.0, 1e15, 1e30]),
    st.booleans(),
)
def test_numbers_of_any_size(metric, size, blocks):
    """Bounds in float32 may overflow or underflow; the copy is found."""
    generator = torch.Generator().manual_seed(0)
    image = (torch.rand(1, 20, 20, generator=generator) * size).float()
    kernel = image[:, 9:17, 3:11]
    with mock.patch.object(pruning, "promising", return_value=blocks):
        [match] = patchsim.find(image, kernel, metric)
    assert match.score == 1
    assert torch.equal(image[:, match.y : match.y + 8, match.x : match.x + 8], kernel)


def test_a_metric_without_error_bound_is_searched_directly():
    metric = Metric("cubic", lambda p, k: abs(p - k) ** 3, degree=3)
    image = torch.rand(1, 15, 15, generator=torch.Generator().manual_seed(0))
    assert patchsim.find(image, image[:, 3:7, 4:9], metric)[0].box == (4, 3, 9, 7)


def test_a_metric_that_no_kernel_computes():
    metric = Metric("capped", lambda p, k: torch.clamp(abs(p - k), max=0.5), majorant=abs)
    image = torch.rand(1, 15, 15, generator=torch.Generator().manual_seed(0))
    assert patchsim.find(image, image[:, 3:7, 4:9], metric)[0].box == (4, 3, 9, 7)


def test_a_template_larger_than_the_image_by_less_than_a_stride_does_not_fit():
    """A box would lie beyond the image, though maps have that window."""
    image, large = torch.ones(1, 5, 6), torch.ones(1, 6, 6)
    assert patchsim.similarity(image, large, stride=2).shape == (1, 1)
    with pytest.raises(
        ValueError, match=r"no window fits: the template covers 6x6 pixels and .*5x6"
    ):
        patchsim.find(image, large, stride=2)
    [match] = patchsim.find(image, [large, large[:, :4]], stride=2)
    assert match.template == 1


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=3),
    st.lists(st.sampled_from([0.1, 0.5, 1, 1.3, 40, 1e9]), min_size=1, max_size=3),
    st.lists(st.sampled_from([0, 30, 45, 90, 180]), min_size=1, max_size=2),
    st.integers(1, 40) | st.just(2**70),
    st.booleans(),
)
def test_a_search_leaves_out_what_does_not_fit(sizes, scales, angles, stride, subpixel):
    """And finds in the rest what it finds if only that is looked for, within the image."""
    image = torch.rand(1, 20, 24, generator=torch.Generator().manual_seed(0))
    kernels = [torch.rand(1, *size, generator=torch.Generator().manual_seed(1)) for size in sizes]
    rest = {"k": 3, "stride": stride, "subpixel": subpixel}
    try:
        found = patchsim.find(image, kernels, scales=scales, angles=angles, **rest)
    except ValueError as error:
        assert re.search("no window fits: the template covers|nothing", str(error))  # noqa: PT017
        return
    skipped = {(own.template, own.scale, own.angle) for own in found.skipped}
    alone = []
    for n, kernel in enumerate(kernels):
        for scale, angle in itertools.product(scales, angles):
            if (n, scale, angle) in skipped:
                continue
            single = patchsim.find(image, kernel, scales=[scale], angles=[angle], **rest)
            assert single.skipped == ()
            alone += [(-m.score, m.y, m.x, n) for m in single]
    best = found[0]
    assert (-best.score, best.y, best.x, best.template) == pytest.approx(min(alone), abs=1e-12)
    for match in found:
        assert match.y >= 0
        assert match.x >= 0
        assert match.y + match.height <= 20
        assert match.x + match.width <= 24


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_a_window_is_as_far_alone_as_among_others(metric):
    """To the last bit, as how far it is decides what else is looked at."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 40, 50, generator=generator)
    if metric == "hamming":
        image = (4 * image).to(torch.uint8)
    kernel = image[:, :, 5:16, 7:20].clone()
    call = read(image, kernel, metric, (1, 0, 1), None, None, "auto", bounds_only=True).ready()
    own = direct.Direct(call, 0)
    rows, cols = (places.ravel() for places in np.indices(call.problem.map_size))
    together = own.distances(rows, cols)
    alone = [own.distances(rows[i : i + 1], cols[i : i + 1])[0] for i in range(len(rows))]
    assert together.tolist() == alone


def test_nothing_is_modified():
    image = torch.rand(1, 12, 12)
    kernel = image[:, 2:6, 3:7].clone().requires_grad_()
    before = image.clone(), kernel.detach().clone()
    patchsim.find(image, kernel, k=3, subpixel=True, scales=[1, 2], angles=[0, 10])
    assert torch.equal(image, before[0])
    assert torch.equal(kernel, before[1])


def shifted(image, down, across):
    """Shift an image by a fraction of a pixel: as a band-limited function, which it is then."""
    spectrum = np.fft.fft2(image)
    fy, fx = np.fft.fftfreq(image.shape[1])[:, None], np.fft.fftfreq(image.shape[2])
    smooth = np.exp(-40 * (fy**2 + fx**2))
    turned = spectrum * smooth * np.exp(-2j * np.pi * (fy * down + fx * across))
    return torch.from_numpy(np.fft.ifft2(turned).real.astype(np.float32))


@pytest.mark.parametrize(("metric", "accuracy"), [("l2", 0.1), ("zncc", 0.1), ("l1", 0.25)])
def test_subpixel_accuracy(metric, accuracy):
    """Of a smooth photo, shifted by eighths of a pixel."""
    photo = PHOTO[:, 80:208, 150:278].numpy() / 255
    kernel = shifted(photo, 0, 0)[:, 40:64, 50:74]
    errors = []
    for down, across in [(0, 0.125), (0.25, 0.375), (0.5, -0.25), (-0.375, 0.125), (0.125, -0.5)]:
        [match] = patchsim.find(shifted(photo, down, across), kernel, metric, subpixel=True)
        errors += [abs(match.y - 40 - down), abs(match.x - 50 - across)]
    assert max(errors) < accuracy


def test_subpixel_at_a_border_stays():
    image = torch.rand(1, 9, 9, generator=torch.Generator().manual_seed(0))
    [match] = patchsim.find(image, image[:, :4, 5:], "l2", subpixel=True)
    assert (match.y, match.x) == (0, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "`k` must be at least 1, got 0"),
        ({"max_overlap": 1.5}, "`max_overlap` must be between 0 and 1, got 1.5"),
        ({"kernel": []}, "no template"),
        ({"scales": [0]}, "`scales` must be positive and finite, got 0"),
        ({"scales": [0.1]}, r"scale 0.1 leaves nothing of a template of \(3, 3\) pixels"),
        ({"angles": [float("inf")]}, "`angles` must be finite, got inf"),
        ({"weight": [None, None]}, "`weight` has 2 entries for 1 templates"),
        ({"kernel": torch.ones(1, 20, 3)}, "no window fits: .* covers 20x3 .* the image has 9x9"),
        ({"scales": [9, 7, 8, 0.1]}, r"scale 0.1 .*; .* 21x21 .*; .* 24x24 .*; and 1 sizes more"),
        ({"scales": []}, "`scales` is empty"),
        ({"angles": ()}, "`angles` is empty"),
        ({"scales": [float("nan")]}, "`scales` takes a number, got nan"),
        ({"threshold": float("nan")}, "`threshold` takes a number, got nan"),
        ({"max_overlap": float("nan")}, "`max_overlap` takes a number, got nan"),
        ({"kernel": [torch.ones(1, 1, 3, 3)]}, "each template of a sequence must have shape"),
        ({"kernel": torch.ones(0, 1, 3, 3)}, "`kernel` is empty"),
        ({"kernel": torch.ones(3, 3)}, r"`kernel` must have shape .* got \(3, 3\)"),
        ({"metric": "l3"}, "unknown metric 'l3'"),
    ],
)
def test_errors(arguments, message):
    image, kernel = torch.ones(1, 9, 9), torch.ones(1, 3, 3)
    with pytest.raises(ValueError, match=message):
        patchsim.find(**{"image": image, "kernel": kernel, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel": [np.ones((1, 3, 3))]}, "`kernel` must be a torch.Tensor, got numpy.ndarray"),
        ({"image": np.ones((1, 9, 9))}, "`image` must be a torch.Tensor, got numpy.ndarray"),
        ({"kernel": [torch.ones(1, 3, 3)], "weight": torch.ones(3, 3)}, "must be a sequence"),
        ({"kernel": 5}, "`kernel` must be a torch.Tensor, or a sequence of them; got builtins.int"),
        *(({"k": k}, "`k` takes a whole number, or None") for k in (2.5, math.nan, True, "2")),
        *(
            ({name: value}, f"`{name}` takes a number, got")
            for name in ("threshold", "max_overlap")
            for value in ("1", True, torch.ones(1), 1j)
        ),
        *(({"scales": s}, "`scales` takes a sequence of numbers") for s in (1.5, "1", np.array(1))),
        ({"angles": ["a"]}, "`angles` takes a number, got 'a'"),
        ({"subpixel": "yes"}, "`subpixel` must be True or False, got 'yes'"),
        ({"stride": 1.0}, "`stride` takes an int or a pair of ints, got 1.0"),
        ({"data_range": True}, "must be a positive finite number"),
    ],
)
def test_types(arguments, message):
    image, kernel = torch.ones(1, 9, 9), torch.ones(1, 3, 3)
    with pytest.raises((TypeError, ValueError), match=message):
        patchsim.find(**{"image": image, "kernel": kernel, **arguments})


@pytest.mark.parametrize(("k", "threshold", "levels"), [(1, None, 2), (20, None, 256)])
def test_parts_make_no_difference(k, threshold, levels, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(levels, (1, 110, 60), generator=generator).to(torch.uint8)
    sizes = [(9, 7), (9, 7), (5, 12), (14, 14)]
    kernels = [
        torch.randint(levels, (1, *size), generator=generator).to(torch.uint8) for size in sizes
    ]
    kernels[0] = image[:, 60:69, 20:27].clone()
    arguments = {"k": k, "threshold": threshold, "subpixel": True, "data_range": max(1, levels - 1)}
    for metric, dtype in (("l1", torch.uint8), ("zncc", torch.float16), ("hue", torch.uint8)):
        tensors = image.to(dtype), [kernel.to(dtype) for kernel in kernels], metric
        monkeypatch.setattr(patchsim.options, "max_memory", 2**28)
        whole = patchsim.find(*tensors, **arguments)
        monkeypatch.setattr(patchsim.options, "max_memory", 2**18)
        assert patchsim.find(*tensors, **arguments) == whole
