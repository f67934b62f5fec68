"""Templates scaled and turned."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import patchsim
from patchsim.search.bank import Entry, Poses, scaled, turned
from patchsim.search.bank import bank as bank_of


def bank(entries, scales, angles, size):
    return bank_of(entries, Poses(tuple(scales), tuple(angles)), size)


def picture(height, width, dtype=torch.float32):
    """A smooth picture without symmetry."""
    y, x = torch.arange(height)[:, None] / height, torch.arange(width) / width
    values = torch.stack([0.5 + 0.4 * torch.sin(5 * y + 2 * x * x), 0.9 * y * x + 0.05])
    return (values * 255).to(dtype) if dtype is torch.uint8 else values.to(dtype)


def test_all_scales_of_each_template_and_all_angles_of_each_scale():
    templates = [Entry(picture(8, 6), None, n) for n in range(2)]
    found, skipped = bank(templates, [1, 2], [0, 90], (16, 16))
    assert not skipped
    assert [(e.template, e.scale, e.angle) for e in found] == [
        (n, s, a) for n in range(2) for s in (1, 2) for a in (0, 90)
    ]
    assert [tuple(e.kernel.shape[1:]) for e in found[:4]] == [(8, 6), (6, 8), (16, 12), (12, 16)]


def test_nothing_to_do_changes_nothing():
    [entry], _ = bank([Entry(picture(8, 6), None)], [1], [0], (8, 6))
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
    entries, _ = bank([Entry(kernel, torch.ones(kernel.shape))], [0.5, 2], [0, 20], (99, 99))
    assert [e.kernel.dtype for e in entries] == 4 * [dtype]


def test_scaling_keeps_a_ramp():
    kernel = torch.arange(16.0).expand(1, 16, 16) / 16
    entry = scaled(Entry(kernel, None), 0.5)
    assert torch.allclose(entry.kernel[0, 3, 1:-1], torch.arange(1.0, 7) / 8 + 1 / 32, atol=1e-6)


@pytest.mark.parametrize(("scale", "angle"), [(1, 0), (1.5, 0), (0.75, 20), (1, -40)])
def test_the_right_scale_and_angle_are_found(scale, angle):
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 6, 6, generator=generator)
    kernel = torch.nn.functional.interpolate(coarse, size=(24, 24), mode="bicubic")[0].clamp(0, 1)
    [entry], _ = bank([Entry(kernel, None)], [scale], [angle], (70, 80))
    image = torch.full((3, 70, 80), 0.5)
    h, w = entry.kernel.shape[1:]
    weight = torch.ones_like(entry.kernel) if entry.weight is None else entry.weight
    part = image[:, 20 : 20 + h, 30 : 30 + w]
    part.copy_(torch.where(weight > 0, entry.kernel, part))
    [match] = patchsim.find(image, kernel, scales=[0.75, 1, 1.5], angles=[-40, 0, 20])
    assert (match.scale, match.angle, match.y, match.x) == (scale, angle, 20, 30)
    assert (match.score, match.height, match.width) == (1.0, h, w)


def test_what_does_not_fit_is_left_out():
    templates = [Entry(picture(20, 10), None, 5), Entry(torch.ones(2, 1, 1), None, 6)]
    entries, skipped = bank(templates, [0.04, 1, 1.5, 1e6, 1e308], [0, 45, 90], (24, 24))
    kept = {(e.template, e.scale, e.angle): tuple(e.kernel.shape[1:]) for e in entries}
    assert kept == {
        **{(5, 1, 0): (20, 10), (5, 1, 45): (22, 22), (5, 1, 90): (10, 20)},
        **{(6, 1, 0): (1, 1), (6, 1, 90): (1, 1)},
        **{(6, 1.5, 0): (2, 2), (6, 1.5, 45): (3, 3), (6, 1.5, 90): (2, 2)},
    }
    why = {(own.template, own.scale, own.angle): (own.size, own.reason) for own in skipped}
    assert len(why) == 2 * 5 * 3 - len(kept)
    beyond = "no window fits: the template covers 30x15 pixels and the image has 24x24"
    nothing = "scale 0.04 leaves nothing of a template of (20, 10) pixels"
    rim = "scaled by 1 and turned by 45 degrees nothing is left of a template of (1, 1) pixels"
    assert why[5, 1.5, 0] == ((30, 15), beyond)
    assert why[5, 0.04, 0] == ((1, 0), nothing)
    assert why[6, 1, 45] == ((2, 2), rim)
    assert why[5, 1e6, 90][0] == (10**7, 2 * 10**7)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32, torch.float64])
@settings(max_examples=25)
@given(seed=st.integers(0, 999), scale=st.floats(0.4, 2.5), angle=st.floats(-180, 180))
def test_hidden_colours_do_not_count(dtype, seed, scale, angle):
    """Nor NaN: the bank is the same to the last bit, whatever lies under a weight of 0."""
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randint(0, 256, (2, 9, 11), generator=generator).to(dtype)
    weight = torch.randint(0, 3, (1, 9, 11), generator=generator) / 2
    weight[:, 3:6, 3:6] = 1
    other = torch.randint(0, 256, kernel.shape, generator=generator).to(dtype)
    if dtype.is_floating_point:
        other[:, ::2] = torch.tensor([torch.nan, torch.inf, -torch.inf])[seed % 3]
    hidden = torch.where(weight > 0, kernel, other)
    banks = [
        bank([Entry(own, weight.expand_as(own))], [1, scale], [0, angle, 90], (60, 60))[0]
        for own in (kernel, hidden)
    ]
    for one, two in zip(*banks, strict=True):
        assert torch.equal(one.kernel, two.kernel)
        assert torch.equal(one.weight, two.weight)
        assert one.kernel.isfinite().all()


def test_a_colour_beside_a_transparent_pixel_stays():
    """Interpolated by its weight it is no mixture, scaled up, down or turned."""
    kernel, weight = torch.full((1, 12, 12), 200, dtype=torch.uint8), torch.ones(1, 12, 12)
    kernel[:, :, :5], weight[:, :, :5] = 0, 0
    entries, _ = bank([Entry(kernel, weight)], [0.5, 1, 1.7], [0, 30], (99, 99))
    for entry in entries:
        assert set(entry.kernel[entry.weight > 0].tolist()) == {200}
