"""Templates scaled and turned."""

import pytest
import torch

import patchsim
from patchsim.search.bank import Entry, bank, scaled, turned


def picture(height, width, dtype=torch.float32):
    """A smooth picture without symmetry."""
    y, x = torch.arange(height)[:, None] / height, torch.arange(width) / width
    values = torch.stack([0.5 + 0.4 * torch.sin(5 * y + 2 * x * x), 0.9 * y * x + 0.05])
    return (values * 255).to(dtype) if dtype is torch.uint8 else values.to(dtype)


def test_all_scales_of_each_template_and_all_angles_of_each_scale():
    given = [Entry(picture(8, 6), None, n) for n in range(2)]
    found = bank(given, [1, 2], [0, 90])
    assert [(e.template, e.scale, e.angle) for e in found] == [
        (n, s, a) for n in range(2) for s in (1, 2) for a in (0, 90)
    ]
    assert [tuple(e.kernel.shape[1:]) for e in found[:4]] == [(8, 6), (6, 8), (16, 12), (12, 16)]


def test_nothing_to_do_changes_nothing():
    [entry] = bank([Entry(picture(8, 6), None)], None, None)
    assert torch.equal(entry.kernel, picture(8, 6))
    assert entry.weight is None


@pytest.mark.parametrize("quarters", range(-4, 5))
def test_quarter_turns_are_exact(quarters):
    weight = torch.rand(2, 8, 6)
    entry = turned(Entry(picture(8, 6, torch.uint8), weight), 90 * quarters)
    assert torch.equal(entry.kernel, picture(8, 6, torch.uint8).rot90(quarters, (1, 2)))
    assert torch.equal(entry.weight, weight.rot90(quarters, (1, 2)))


def test_turning_is_counter_clockwise():
    """As quarter turns are: half a degree before one, pixels have moved by a tenth at most."""
    kernel = picture(13, 13)
    near, exact = turned(Entry(kernel, None), 89.5), turned(Entry(kernel, None), 90)
    middle = near.kernel[:, 1:-1, 1:-1]  # the box has grown by the rim
    assert near.kernel.shape == (2, 14, 14)
    halfway = torch.nn.functional.avg_pool2d(exact.kernel[None], 2, 1)[0]  # (2, 12, 12)
    assert (middle - halfway).abs().max() < 0.05


@pytest.mark.parametrize("angle", [10, 45, -30, 200])
def test_a_turned_template_is_found_in_a_turned_picture(angle):
    """A point of the turned template is that of the template, turned back."""
    kernel = picture(21, 21)
    entry = turned(Entry(kernel, None), angle)
    back = turned(Entry(entry.kernel, entry.weight), -angle)
    centre, own = back.kernel, kernel
    if (back.kernel.shape[1] - 21) % 2:  # half a pixel apart
        own = torch.nn.functional.avg_pool2d(kernel[None], 2, 1)[0]
    side = own.shape[1] - 12
    first = (centre.shape[1] - side) // 2
    centre = centre[:, first : first + side, first : first + side]
    assert (centre - own[:, 6:-6, 6:-6]).abs().max() < 0.03
    assert entry.weight is not None
    assert set(entry.weight.unique().tolist()) == {0, 1}
    assert not entry.weight[:, 0, 0].any()
    # As many pixels count as the template has, but for its rim.
    assert 17**2 <= entry.weight[0].sum() <= 21**2


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.bool, torch.float16])
def test_dtypes_stay(dtype):
    kernel = (picture(9, 9) * 100 if dtype is torch.int16 else picture(9, 9)).to(dtype)
    assert all(e.kernel.dtype is dtype for e in bank([Entry(kernel, None)], [0.5, 2], [0, 20]))


def test_scaling_keeps_a_ramp():
    kernel = torch.arange(16.0).expand(1, 16, 16) / 16
    entry = scaled(Entry(kernel, None), 0.5)
    assert torch.allclose(entry.kernel[0, 3, 1:-1], torch.arange(1.0, 7) / 8 + 1 / 32, atol=1e-6)


@pytest.mark.parametrize(("scale", "angle"), [(1, 0), (1.5, 0), (0.75, 20), (1, -40)])
def test_the_right_scale_and_angle_are_found(scale, angle):
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 6, 6, generator=generator)
    kernel = torch.nn.functional.interpolate(coarse, size=(24, 24), mode="bicubic")[0].clamp(0, 1)
    [entry] = bank([Entry(kernel, None)], [scale], [angle])
    image = torch.full((3, 70, 80), 0.5)
    h, w = entry.kernel.shape[1:]
    weight = torch.ones_like(entry.kernel) if entry.weight is None else entry.weight
    part = image[:, 20 : 20 + h, 30 : 30 + w]
    part.copy_(torch.where(weight > 0, entry.kernel, part))
    [match] = patchsim.find(image, kernel, scales=[0.75, 1, 1.5], angles=[-40, 0, 20])
    assert (match.scale, match.angle, match.y, match.x) == (scale, angle, 20, 30)
    assert (match.score, match.height, match.width) == (1.0, h, w)


def test_a_template_too_small_to_turn():
    with pytest.raises(ValueError, match=r"turned by 45.0 degrees nothing is left of .* \(1, 1\)"):
        bank([Entry(torch.ones(1, 1, 1), None)], None, [45])
