"""hue, hue_l1 and hsv: metrics of what an image is turned into, pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from depth import deep_unless
from hypothesis import given
from hypothesis import strategies as st
from skimage import color, data

import patchsim
from patchsim.metrics import METRICS, Metric

PREPARED = [n for n, m in METRICS.items() if isinstance(m, Metric) and m.prepare is not None]


def defined(name, p, k):
    """Distances of values in units of the data range, averaged over (C, h, w); in float64."""
    if name == "hue":
        return (1 - np.cos(2 * np.pi * (p - k))).mean()
    if name == "hue_l1":
        turn = np.abs(p - k) % 1
        return 2 * np.minimum(turn, 1 - turn).mean()
    cones = [
        np.stack([s * v * np.cos(2 * np.pi * h), s * v * np.sin(2 * np.pi * h), v])
        for h, s, v in (p, k)
    ]
    return ((cones[0] - cones[1]) ** 2).sum(0).mean() / 4


def expected(name, image, kernel, data_range, padding):
    p, k = (x.double().numpy() / data_range for x in (image, kernel))
    p = np.pad(p, ((0, 0), *2 * [(padding, padding)]))
    h, w = k.shape[1:]
    rows, cols = p.shape[1] - h + 1, p.shape[2] - w + 1
    return torch.tensor(
        [[defined(name, p[:, y : y + h, x : x + w], k) for x in range(cols)] for y in range(rows)]
    )


@pytest.mark.parametrize("name", PREPARED)
@pytest.mark.parametrize(
    "dtype",
    deep_unless(lambda d: d is torch.float32, [torch.uint8, torch.float32, torch.float64]),
    ids=str,
)
@given(seed=st.integers(0, 2**31), padding=st.integers(0, 1), weighted=st.booleans())
def test_distances_agree_with_their_definitions(name, dtype, seed, padding, weighted):
    generator = torch.Generator().manual_seed(seed)
    image, kernel = (
        torch.randint(0, 256, (3, *size), generator=generator).to(dtype)
        for size in ((6, 7), (3, 2))
    )
    weight = torch.ones(3, 2) if weighted else None
    exact = expected(name, image, kernel, 255, padding)
    for backend in (v.backend for v in patchsim.variants() if v.metric == name):
        arguments = {"padding": padding, "weight": weight, "data_range": 255}
        found = patchsim.distance(image, kernel, name, backend=backend, **arguments)
        bound = patchsim.error_bound(image, kernel, name, backend, **arguments)
        assert found.dtype is (torch.float32 if dtype is torch.uint8 else dtype)
        assert bool(((found.double() - exact).abs() <= bound + 1e-12).all()), backend


@pytest.mark.parametrize("name", ["hue", "hue_l1"])
def test_hues_go_round(name):
    hue = torch.rand(1, 9, 9, dtype=torch.float64)
    kernel = hue[:, 2:5, 3:6]
    same = patchsim.distance(hue, kernel, name)
    for turned in ((hue + 1, kernel), (hue, kernel - 1), (hue + 0.3, kernel + 0.3)):
        torch.testing.assert_close(patchsim.distance(*turned, name), same, atol=1e-12, rtol=0)
    assert same[2, 3] == pytest.approx(0, abs=1e-12)
    opposite = patchsim.distance(hue, kernel + 0.5, name)[2, 3]
    assert opposite == pytest.approx(2 if name == "hue" else 1)


def test_opencvs_hues_have_180_steps():
    image = torch.tensor([[[0, 45, 90, 135, 179]]], dtype=torch.uint8)
    found = patchsim.similarity(image, image[:, :, :1], "hue", data_range=180)
    assert found[0].tolist() == pytest.approx([1, 0, -1, 0, math.cos(math.pi / 90)], abs=1e-6)


def test_black_is_black_whatever_its_hue():
    """A photo's dark pixels have arbitrary hues, which hue compares and hsv doesn't."""
    photo = data.astronaut()[:100, 150:250] / 255
    photo[20:40, 30:50] = 0
    image = torch.from_numpy(color.rgb2hsv(photo)).permute(2, 0, 1).float()
    black = torch.zeros(3, 8, 8)
    black[0], black[1] = 0.6, 1.0  # black, at another hue and saturation
    scores = patchsim.similarity(image, black, "hsv")
    assert (scores[20:33, 30:43] == 1).all()
    assert patchsim.similarity(image[:1], black[:1], "hue")[20:33, 30:43].max() < 0


def test_hsv_wants_three_channels():
    with pytest.raises(ValueError, match="hsv compares images of 3 channels"):
        patchsim.similarity(torch.rand(1, 5, 5), torch.rand(1, 2, 2), "hsv")
