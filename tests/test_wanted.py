"""What a search is asked for: matches of each template, where to look, and ranges of poses."""

import math

import numpy as np
import pytest
import torch

import patchsim
from patchsim.search.bank import Entry, Poses, scaled, turned
from patchsim.search.matches import Match


def scene(dtype=torch.float32):
    generator = torch.Generator().manual_seed(2)
    image = (255 * torch.rand(3, 60, 80, generator=generator)).to(dtype)
    return image, [image[:, 5:14, 7:19].clone(), image[:, 30:38, 50:57].clone()]


@pytest.mark.parametrize("metric", ["l1", "zncc"])
def test_matches_of_each_template_are_those_of_its_own_search(metric):
    image, kernels = scene()
    found = patchsim.find(image, kernels, metric, k_each=3)
    assert len(found) == 6
    for n, kernel in enumerate(kernels):
        alone = patchsim.find(image, kernel, metric, k=3)
        own = [m for m in found if m.template == n]
        assert [(m.score, m.y, m.x) for m in own] == [(m.score, m.y, m.x) for m in alone]
    assert [m.score for m in found] == sorted((m.score for m in found), reverse=True)


@pytest.mark.parametrize("metric", ["l1", "l2", "zncc", "hamming"])
@pytest.mark.parametrize(
    "region", [(4, 2, 30, 20), (40, 25, 40, 35), (0, 0, 80, 60), (50, 30, 7, 8)]
)
def test_a_region_is_searched_alone(metric, region):
    image, kernels = scene(torch.uint8)
    x, y, width, height = region
    found = patchsim.find(image, kernels[1], metric, k=4, region=region)
    inside = patchsim.find(image[:, y : y + height, x : x + width], kernels[1], metric, k=4)
    assert [(m.score, m.y - y, m.x - x) for m in found] == [(m.score, m.y, m.x) for m in inside]
    for match in found:
        x1, y1, x2, y2 = match.box
        assert x <= x1 < x2 <= x + width
        assert y <= y1 < y2 <= y + height
    matcher = patchsim.Matcher(kernels[1], metric)
    assert list(matcher.find(image, k=4, region=np.array(region))) == list(found)


def test_each_template_may_have_a_region():
    image, kernels = scene()
    regions = [(0, 0, 40, 30), (45, 25, 30, 30)]
    found = patchsim.find(image, kernels, k_each=1, region=regions)
    assert [(m.template, m.x, m.y, m.score) for m in found] == [(0, 7, 5, 1), (1, 50, 30, 1)]


def test_a_template_that_no_region_holds_is_left_out():
    image, kernels = scene()
    found = patchsim.find(image, kernels, k_each=1, region=(48, 28, 10, 11))
    assert [(m.template, m.x, m.y) for m in found] == [(1, 50, 30)]
    assert [own.template for own in found.skipped] == [0]


@pytest.mark.parametrize("size", [(9, 12), (40, 31)])
def test_corners_move_by_no_more_than_a_step(size):
    entry = Entry(torch.rand(1, *size), None)
    scales, angles = Poses(scale_range=(0.8, 1.3), angle_range=(-40, 70)).of(entry)
    assert (scales[0], angles[0]) == (0.8, -40)
    assert scales[-1] == pytest.approx(1.3)
    assert angles[-1] == pytest.approx(70)
    reach = math.hypot(*size) / 2
    assert max(np.diff(scales)) * reach <= 2 + 1e-9
    assert np.radians(np.diff(angles)).max() * reach * 1.3 <= 2 + 1e-9
    _, angles = Poses(angle_range=(0, 360)).of(entry)
    assert angles[0] == 0
    assert angles[-1] + angles[1] == pytest.approx(360)


def test_a_turned_template_is_found_within_a_range():
    image, _ = scene()
    smooth = torch.nn.functional.avg_pool2d(image[None], 7, 1, 3)[0]
    kernel = smooth[:, 20:41, 30:51].clone()
    pose = turned(scaled(Entry(kernel, None), 1.2), 33)
    found = patchsim.find(
        smooth, pose.kernel, "zncc", weight=pose.weight, angle_range=(-45, 0), scale_range=(0.7, 1)
    )
    [match] = found
    assert abs(match.angle + 33) < 6
    assert abs(match.scale * 1.2 - 1) < 0.1
    x, y = match.centre
    assert math.hypot(x - 40.5, y - 30.5) < 1.5


@pytest.mark.parametrize("angle", [0, 30, 90, 135, 270])
def test_corners_are_the_templates(angle):
    """A bright pixel in the template's top left corner is where the first corner is."""
    kernel = torch.zeros(1, 21, 31)
    kernel[:, :3, :3] = 1
    made = turned(Entry(kernel, None), angle)
    height, width = made.kernel.shape[1:]
    match = Match(1.0, 5, 8, height, width, angle=angle, upright=(21, 31))
    weight = made.kernel[0] * (1 if made.weight is None else made.weight[0])
    rows, cols = torch.meshgrid(*map(torch.arange, (height, width)), indexing="ij")
    at = [float(((own + 0.5) * weight).sum() / weight.sum()) for own in (cols, rows)]
    x, y = match.corners[0]
    assert math.hypot(x - 8 - at[0], y - 5 - at[1]) < 3
    x1, y1, x2, y2 = match.box
    for x, y in match.corners:
        assert x1 - 1e-6 <= x <= x2 + 1e-6
        assert y1 - 1e-6 <= y <= y2 + 1e-6
    assert match.centre == ((x1 + x2) / 2, (y1 + y2) / 2)


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (ValueError, "not both", {"k": 2, "k_each": 3}),
        (ValueError, "`k_each` must be at least 1", {"k_each": 0}),
        (TypeError, "`k_each` takes a whole number", {"k_each": 1.5}),
        (TypeError, "`region` takes four whole numbers", {"region": (1, 2, 3)}),
        (TypeError, "`region` takes four whole numbers", {"region": (1.5, 2, 3, 4)}),
        (TypeError, "`region` takes four whole numbers", {"region": 3}),
        (ValueError, "isn't empty", {"region": (0, 0, 0, 9)}),
        (ValueError, "reaches beyond the image", {"region": (70, 0, 11, 9)}),
        (ValueError, "needs `k_each`", {"region": [(0, 0, 9, 9), (1, 1, 9, 9)]}),
        (ValueError, "3 regions for 2", {"region": [(0, 0, 30, 30)] * 3, "k_each": 1}),
        (ValueError, "give `angles` or `angle_range`", {"angles": [0], "angle_range": (0, 9)}),
        (ValueError, "`scale_range` takes the least and", {"scale_range": (2, 1)}),
        (ValueError, "`scale_range` must be positive", {"scale_range": (0, 1)}),
        (ValueError, "at most 360 degrees", {"angle_range": (0, 400)}),
        (TypeError, "`angle_range` takes", {"angle_range": 30}),
        (ValueError, "no window fits", {"region": (0, 0, 3, 3)}),
    ],
)
def test_what_is_wrong_is_said(error, message, options):
    image, kernels = scene()
    with pytest.raises(error, match=message):
        patchsim.find(image, kernels, **options)
