"""ncc, zncc, ssim and intersection against their definitions in float64, and against peers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage import data
from skimage.feature import match_template

import patchsim
from patchsim.kernels import scores
from patchsim.metrics import METRICS, Statistic

STATISTICS = [name for name, metric in METRICS.items() if isinstance(metric, Statistic)]
each_statistic = pytest.mark.parametrize("name", STATISTICS)
BY = {name: [v.backend for v in patchsim.variants() if v.metric == name] for name in STATISTICS}


def defined(name, patch, template, weight, data_range):
    """Compute one similarity by the textbook; arrays (C, h, w) in float64."""
    p, k, w = patch, template, np.broadcast_to(weight, patch.shape)
    if name == "intersection":
        return (w * np.minimum(p, k)).sum() / (w * k).sum() if (w * k).any() else 0.0
    if name == "ncc":
        norm = np.sqrt((w * p * p).sum() * (w * k * k).sum())
        return (w * p * k).sum() / norm if norm else 0.0
    axes = (1, 2) if name == "zncc" else (0, 1, 2)
    total = np.maximum(w.sum(axes, keepdims=True), 1e-300)
    means = [(w * x).sum(axes, keepdims=True) / total for x in (p, k)]
    dp, dk = p - means[0], k - means[1]
    if name == "zncc":
        norm = np.sqrt((w * dp * dp).sum() * (w * dk * dk).sum())
        scale = np.sqrt((w * p * p).sum() * (w * k * k).sum())
        return (w * dp * dk).sum() / norm if norm > 1e-12 * scale else 0.0
    n, c1, c2 = w.sum(), (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mp, mk = (float(m.squeeze()) for m in means)
    covariance, variances = (w * dp * dk).sum() / n, (w * (dp * dp + dk * dk)).sum() / n
    return (2 * mp * mk + c1) * (2 * covariance + c2) / ((mp**2 + mk**2 + c1) * (variances + c2))


def expected(name, image, kernel, weight, data_range, stride=(1, 1)):
    p, k = image.double().numpy(), kernel.double().numpy()
    w = np.ones(()) if weight is None else weight.double().numpy()
    (_, height, width), (_, h, wide) = p.shape, k.shape
    rows, cols = range(0, height - h + 1, stride[0]), range(0, width - wide + 1, stride[1])
    return torch.tensor(
        [
            [defined(name, p[:, y : y + h, x : x + wide], k, w, data_range) for x in cols]
            for y in rows
        ]
    )


@st.composite
def calls(draw, dtype):
    channels, h, w = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    height, width = h + draw(st.integers(0, 5)), w + draw(st.integers(0, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    levels = draw(st.sampled_from([2, 7, 256]))
    shapes = (channels, height, width), (channels, h, w)
    tensors = [torch.randint(0, levels, s, generator=generator) for s in shapes]
    if draw(st.booleans()):
        tensors[0][:, : h + 1] = draw(st.integers(0, levels - 1))  # flat windows
    weight = None
    kind = draw(st.sampled_from(["none", "mask", "real"]))
    if kind != "none":
        weight = torch.randint(0, 2 if kind == "mask" else 5, (h, w), generator=generator) / 1.0
        weight[0, 0] = 1
        weight = weight if kind == "mask" else weight / 7
    image, kernel = (t.to(dtype) if dtype is torch.uint8 else t.to(dtype) / 255 for t in tensors)
    return image, kernel, weight, draw(st.sampled_from([(1, 1), (2, 1), (1, 3)]))


@each_statistic
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
@given(data=st.data())
def test_statistics_agree_with_their_definitions(name, dtype, data):
    image, kernel, weight, stride = data.draw(calls(dtype))
    data_range = 255 if dtype is torch.uint8 else 1
    exact = expected(name, image, kernel, weight, data_range, stride)
    maps = {}
    for backend in BY[name]:
        if backend == "lowrank" and dtype is torch.uint8:
            continue
        found = patchsim.similarity(
            image, kernel, name, stride=stride, weight=weight, backend=backend
        )
        bound = patchsim.error_bound(image, kernel, name, backend, stride=stride, weight=weight)
        assert found.dtype is (torch.float32 if dtype is torch.uint8 else dtype)
        assert bool(((found.double() - exact).abs() <= bound + 1e-9).all()), backend
        assert found.isfinite().all()
        assert name == "intersection" or bool((found.abs() <= 1).all())
        maps[backend] = found
    if dtype is torch.uint8 and weight is None:
        one = maps.pop("loop")
        assert all(torch.equal(one, other) for other in maps.values())


@each_statistic
def test_flat_windows_and_templates_have_finite_similarities(name):
    image = torch.rand(3, 20, 20)
    image[:, :, 8:] = 0.3
    for value in (0.0, 0.3, 1e-20):
        scores = patchsim.similarity(image, torch.full((3, 4, 4), value), name)
        assert scores.isfinite().all()
    if name == "zncc":
        assert (patchsim.similarity(image, image[:, :4, :4], "zncc")[:, 8:] == 0).all()


def _apart(dtype):
    """Make images and templates whose means and sizes are far apart, all of one structure."""
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(2, 11, 13, generator=generator, dtype=torch.float64)
    patch = noise[:, 3:8, 4:10]
    pairs = {
        "pressure": (101325 + 50 * noise, (patch - patch.mean()) / patch.std()),
        "temperature": (290 + noise, patch),
        "two exposures": (noise + 1e4 * (torch.arange(13) > 6), patch + 0.5),
        "dim and bright": (noise * 10.0 ** -(torch.arange(13) // 2), 1e6 * patch),
        "two channels": (noise + torch.tensor([1e5, -3.0])[:, None, None], 1e-3 * patch),
    }
    if dtype is torch.float64:
        pairs |= {"tiny": (1e-170 * noise, 1e-165 * patch), "huge": (1e170 * noise, 1e-30 * patch)}
    return {what: tuple(x.to(dtype) for x in pair) for what, pair in pairs.items()}


@pytest.mark.parametrize("name", ["ncc", "zncc", "ssim"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_means_and_sizes_may_be_far_apart(name, dtype):
    for what, (image, kernel) in _apart(dtype).items():
        if name == "ssim" and what in ("tiny", "huge"):
            continue  # it has a data range
        kernels = torch.stack([kernel, kernel * 3 + kernel.std()])
        for weight in (None, torch.rand(5, 6, generator=torch.Generator().manual_seed(1))):
            # Of sizes whose squares float64 holds.
            plain = image / image.abs().max(), kernels / kernels.abs().max()
            plain = plain if what in ("tiny", "huge") else (image, kernels)
            exact = torch.stack([expected(name, plain[0], k, weight, 1) for k in plain[1]])
            for backend in BY[name]:
                given = {"weight": weight, "backend": backend}
                found = patchsim.similarity(image, kernels, name, **given).double()
                bound = patchsim.error_bound(image, kernels, name, **given)
                off = (found - exact).abs()
                assert off.max() <= 1e-6, (what, backend)
                assert ((off <= bound + 1e-9) & (bound <= 2)).all(), (what, backend)


def test_windows_that_rounding_makes_flat_have_a_bound_that_says_so():
    image = 1 + 1e-17 * torch.rand(1, 9, 9, dtype=torch.float64)
    image[:, 4:] += 1e-15 * torch.rand(1, 5, 9, dtype=torch.float64)
    kernel = torch.rand(1, 3, 3, dtype=torch.float64)
    exact = expected("zncc", image, kernel, None, 1)
    for backend in BY["zncc"]:
        found = patchsim.similarity(image, kernel, "zncc", backend=backend)
        bound = patchsim.error_bound(image, kernel, "zncc", backend)
        assert ((found - exact).abs() <= bound).all(), backend
        assert bound[:2].max() < 1e-3  # of equal pixels it is known


@each_statistic
def test_nan_spoils_only_its_windows(name):
    image = torch.rand(2, 12, 13)
    image[1, 4, 5] = torch.nan
    for backend in BY[name]:
        finite = patchsim.similarity(image, torch.rand(2, 3, 3), name, backend=backend).isfinite()
        assert not finite[2:5, 3:6].any(), backend
        assert finite.sum() == finite.numel() - 9, backend


@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistic_is_no_sum(name):
    image = torch.rand(1, 5, 5)
    with pytest.raises(ValueError, match='`reduction` must be "mean"'):
        patchsim.distance(image, image, name, reduction="sum")
    similar = patchsim.similarity(image, image, name)
    torch.testing.assert_close(patchsim.distance(image, image, name), 1 - similar)


def test_zncc_is_scikit_images_on_its_own_example():
    """The coins of match_template's documentation."""
    coins = data.coins()
    coin = coins[170:220, 75:130]
    peer = match_template(coins, coin)
    ours = patchsim.similarity(*(torch.from_numpy(x.copy())[None] for x in (coins, coin)), "zncc")
    assert np.abs(ours.numpy() - peer).max() <= 1e-5
    assert ours.max() == ours[170, 75] == 1


def _opencv(image, kernel, method, mask=None):
    cv2 = pytest.importorskip("cv2")
    scene, patch = (np.ascontiguousarray(x.permute(1, 2, 0).numpy()) for x in (image, kernel))
    if mask is not None:
        mask = np.repeat(mask.numpy()[..., None], patch.shape[2], 2).astype(np.float32)
        scene, patch = scene.astype(np.float32), patch.astype(np.float32)
    return torch.from_numpy(cv2.matchTemplate(scene, patch, getattr(cv2, method), mask=mask))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("name", "method"), [("zncc", "TM_CCOEFF_NORMED"), ("ncc", "TM_CCORR_NORMED")]
)
def test_opencv_agrees_on_a_photo(name, method, masked):
    """To 1e-4, but for what OpenCV's FFTs in float32 err by: it grows with the brightest window.

    Ours are exact. Where OpenCV divides 0 by 0 it gives infinities or NaN.
    """
    image = torch.from_numpy(data.astronaut()).permute(2, 0, 1)
    kernel = image[:, 90:130, 200:248].contiguous()
    mask = (torch.arange(40)[:, None] + torch.arange(48) > 30) / 1.0 if masked else None
    ours = patchsim.similarity(image, kernel, name, weight=mask)
    peer = _opencv(image, kernel, method, mask)
    mask = torch.ones(40, 48) if mask is None else mask
    brightest = _norms(image, mask, centred=False).max()
    norm = _norms(image, mask, centred=name == "zncc")
    tolerance = 1e-4 + 2.0**-20 * brightest / norm  # measured: up to 14·2⁻²⁴
    wrong = (ours - peer).abs() > tolerance
    assert not (wrong & peer.isfinite()).any()
    assert tolerance.median() < 2e-4


def _norms(image, mask, centred):
    """Return the norm of each window, or of its deviations from its mean colour."""
    if bool(mask.all()):  # in float64, as a variance is a difference
        size = tuple(mask.shape)
        mean, square = (
            torch.nn.functional.avg_pool2d(x, size, 1)
            for x in (image.double(), image.double() ** 2)
        )
        return (mask.numel() * (square - centred * mean**2).sum(0)).clamp(min=0).sqrt()
    ones, values = mask[None, None], image.float()[:, None]
    sums = torch.nn.functional.conv2d(values, ones)
    squares = torch.nn.functional.conv2d(values**2, ones) - centred * sums**2 / ones.sum()
    return squares.sum((0, 1)).clamp(min=0).sqrt()


def test_opencv_sums_masked_squares():
    image = torch.from_numpy(data.astronaut()).permute(2, 0, 1)[:, :200, :200]
    kernel = image[:, 90:110, 100:128].contiguous()
    mask = (torch.arange(20)[:, None] + torch.arange(28) > 15) / 1.0
    ours = patchsim.distance(image, kernel, "l2", weight=mask, reduction="sum")
    peer = _opencv(image, kernel, "TM_SQDIFF", mask)
    assert (ours - peer.double()).abs().max() <= 1e-5 * ours.max()


@each_statistic
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64], ids=str)
def test_statistics_are_kernels(name, dtype):
    """What isn't compiled is computed by torch, in a dozen passes: that would go unnoticed."""
    for bound in (False, True):
        assert scores.kernel(METRICS[name], dtype, torch.float32, bound=bound) is not None


def test_a_statistic_in_other_words_is_computed_by_torch():
    def similarity(m):
        return torch.tanh(m.pk / (1 + m.kk))

    statistic = patchsim.Statistic("squashed", METRICS["l2"], similarity)
    image = torch.rand(1, 5, 6)
    found = patchsim.similarity(image, image[:, :2, :3], statistic)
    products = patchsim.similarity(image, image[:, :2, :3], "ncc").isfinite()
    assert found.shape == products.shape
    kernel = image[:, :2, :3].double()
    exact = torch.tanh((kernel * kernel).sum() / (1 + (kernel * kernel).sum()))
    assert abs(float(found[0, 0]) - float(exact)) < 1e-6


@each_statistic
def test_any_memory_format_will_do(name):
    image, kernel = torch.rand(2, 3, 9, 8), torch.rand(4, 3, 3, 2)
    tensors = [t.contiguous(memory_format=torch.channels_last) for t in (image, kernel)]
    for backend in BY[name]:
        plain = patchsim.similarity(image, kernel, name, backend=backend)
        found = patchsim.similarity(*tensors, name, backend=backend)
        bound = patchsim.error_bound(image, kernel, name, backend)
        assert bool(((found - plain).abs() <= 2 * bound).all()), backend


@pytest.mark.parametrize("backend", ["unfold", "fft", "fused"])
def test_ssim_of_huge_values_is_that_of_small_ones(backend):
    """A ratio times a ratio isn't one of products, which overflow."""
    generator, scale = torch.Generator().manual_seed(5), 2.0**260
    image = torch.rand(1, 20, 20, dtype=torch.float64, generator=generator)
    kernel = image[:, 4:8, 6:12] + 0.1
    arguments = {"metric": "ssim", "backend": backend}
    small = patchsim.similarity(image, kernel, data_range=2.0**-15, **arguments)
    given = scale * image, scale * kernel
    large = patchsim.similarity(*given, data_range=scale * 2.0**-15, **arguments)
    assert (large - small).abs().max() < 1e-12


@pytest.mark.parametrize("backend", ["fft", "fused", "unfold"])
@pytest.mark.parametrize(("offset", "amplitude"), [(101325, 0.1), (101325, 1), (1000, 1e-3)])
def test_sums_of_templates_need_not_be_quite_0(backend, offset, amplitude):
    """Those that meet the image's mean: products are taken of pixels as they are."""
    generator = torch.Generator().manual_seed(22)
    values = offset + amplitude * torch.rand(1, 17, 31, dtype=torch.float64, generator=generator)
    image = values.float()
    noise = 0.3 * amplitude * torch.rand(1, 1, 9, dtype=torch.float64, generator=generator)
    kernel = (image[:, 3:4, 5:14].double() + noise).float()
    windows = image.double().unfold(2, 9, 1)[0]
    windows, taps = (v - v.mean(-1, keepdim=True) for v in (windows, kernel.double()[0, 0]))
    windows, taps = (v - v.mean(-1, keepdim=True) for v in (windows, taps))
    exact = (windows * taps).sum(-1) / (windows.square().sum(-1) * taps.square().sum()).sqrt()
    found = patchsim.similarity(image, kernel, "zncc", backend=backend).double()
    bound = patchsim.error_bound(image, kernel, "zncc", backend)
    assert ((found - exact).abs() <= bound + 1e-12).all()
    assert bound.max() < 1e-5


@pytest.mark.parametrize("size", [1.7e308, 5e307, 1e-318])
def test_means_neither_overflow_nor_underflow(size):
    generator = torch.Generator().manual_seed(0)
    image = size * torch.rand(1, 10, 10, dtype=torch.float64, generator=generator)
    kernel, back = image[:, 2:5, 3:6].clone(), 1e-300 if size > 1 else 1e300
    found = patchsim.similarity(image, kernel, "zncc")
    expected = patchsim.similarity(image * back, kernel * back, "zncc")
    assert (found - expected).abs().max() < 1e-14
