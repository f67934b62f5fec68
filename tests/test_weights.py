"""Weights: what has none doesn't count, whatever it holds."""

import pytest
import torch

import patchsim
from patchsim.metrics import METRICS


def _case(channels):
    generator = torch.Generator().manual_seed(7)
    image = torch.rand(channels, 12, 13, generator=generator)
    kernel = image[:, 4:8, 5:10].clone()
    weight = torch.ones(4, 5)
    weight[0, :3] = weight[2, 2] = weight[3, 4] = 0
    return image, kernel, weight


@pytest.mark.parametrize("metric", METRICS)
def test_nan_and_inf_without_weight_do_not_count(metric):
    image, kernel, weight = _case(3 if metric == "hsv" else 2)
    holed, filled = image.clone(), kernel.clone()
    places = [(0, 5, 6), (1, 6, 9), (1, 0, 0)]
    for place, value in zip(places, (torch.nan, torch.inf, -torch.inf), strict=True):
        holed[place] = value
    filled[:, weight == 0] = torch.nan
    holes = (~holed.isfinite()).any(0)[None, None].float()
    spoiled = torch.nn.functional.conv2d(holes, (weight > 0).float()[None, None])[0, 0] > 0
    assert 0 < spoiled.sum() < spoiled.numel() / 2
    for variant in patchsim.variants():
        if variant.metric != metric or variant.backend == "lowrank":  # its range is the image's
            continue
        plain = variant(image, kernel, weight=weight)
        for own in (kernel, filled):
            found = variant(holed, own, weight=weight)
            bound = patchsim.error_bound(image, kernel, metric, variant.backend, weight=weight)
            assert torch.equal(~found.isfinite(), spoiled), variant
            assert ((found - plain).abs() <= 2 * bound)[~spoiled].all(), variant
            at = patchsim.error_bound(holed, own, metric, variant.backend, weight=weight)
            assert torch.equal(~at.isfinite(), spoiled), variant


@pytest.mark.parametrize("metric", METRICS)
def test_a_match_under_holes_without_weight_is_found(metric):
    image, kernel, weight = _case(3 if metric == "hsv" else 2)
    image[0, 4, 6], kernel[:, 0, 0] = torch.nan, torch.inf
    [match] = patchsim.find(image, kernel, metric, weight=weight)
    assert (match.y, match.x, match.score) == (4, 5, 1)


@pytest.mark.parametrize("metric", METRICS)
def test_what_lies_under_a_mask_costs_no_precision(metric):
    image, kernel, weight = _case(3 if metric == "hsv" else 2)
    hiding = torch.where(weight > 0, kernel, 1e6)
    for variant in patchsim.variants():
        if variant.metric != metric or variant.backend == "lowrank":  # its range is the image's
            continue
        plain, found = (variant(image, own, weight=weight) for own in (kernel, hiding))
        bound = patchsim.error_bound(image, kernel, metric, variant.backend, weight=weight)
        assert ((found - plain).abs() <= 2 * bound).all(), variant
    [match] = patchsim.find(image, hiding, metric, weight=weight)
    assert (match.y, match.x, match.score) == (4, 5, 1)


@pytest.mark.parametrize("seed", range(5))
def test_bounds_know_that_what_is_prepared_is_centred_later(seed):
    """Of two black pixels nothing cancels but what they are centred by."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(3, 8, 9, dtype=torch.uint8)
    kernel = torch.randint(256, (9, 3, 7, 8), dtype=torch.uint8, generator=generator)
    kernel[..., 2:] = 0
    weight = torch.rand(7, 8, generator=generator) * (torch.arange(8) >= 2)
    for backend in ("conv2d", "fft"):
        arguments = {"weight": weight, "backend": backend, "reduction": "sum"}
        found = patchsim.distance(image, kernel, "hsv", **arguments)
        bound = patchsim.error_bound(image, kernel, "hsv", **arguments)
        assert (found <= bound).all()
