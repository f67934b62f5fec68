"""Box sums against the sum of each window."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from patchsim.bounds import finite
from patchsim.problem import Problem
from patchsim.sums.box import box_sum

small = st.integers(1, 9)
steps = st.tuples(st.integers(1, 3), st.integers(1, 3))


dtypes = st.sampled_from([torch.int64, torch.float32, torch.float64])


@given(st.tuples(small, small), st.tuples(small, small), steps, steps | st.just((1, 1)), dtypes)
def test_box_sum(kernel, map_size, stride, dilation, dtype):
    problem = Problem(
        batch=2,
        channels=3,
        image_size=tuple(
            (m - 1) * s + d * (k - 1) + 1
            for m, s, d, k in zip(map_size, stride, dilation, kernel, strict=True)
        ),
        templates=1,
        kernel_size=kernel,
        stride=stride,
        dilation=dilation,
    )
    values = torch.randint(-99, 99, (2, 3, *problem.image_size))
    rows, cols = problem.extent
    windows = values.unfold(2, rows, stride[0]).unfold(3, cols, stride[1])
    expected = windows[..., :: dilation[0], :: dilation[1]].sum((1, 4, 5))[:, None]
    assert torch.equal(box_sum(values.to(dtype), problem).long(), expected)


def test_large_images_lose_no_precision():
    """An integral image in float32 is off by hundreds here: its last entry is near 2³³."""
    planes = torch.full((1, 1, 3000, 3000), 1000.0)
    planes[..., -1, -1] = 1
    problem = Problem(1, 1, (3000, 3000), 1, (4, 4))
    sums = box_sum(planes, problem)
    assert sums[0, 0, -1, -1] == 15_001
    assert sums[0, 0, 0, 0] == 16_000


def test_bytes_of_sums_in_double_precision():
    values = torch.full((1, 1, 70, 70), 2.0**24 - 1)
    problem = Problem(1, 1, (70, 70), 1, (64, 64))
    assert (box_sum(values, problem, torch.float64) == 64 * 64 * (2**24 - 1)).all()


def test_nan_and_inf_stay_in_the_windows_that_hold_them():
    values = torch.ones(1, 1, 40, 40)
    values[..., 20, 10], values[..., 5, 30] = torch.nan, torch.inf
    sums = box_sum(values, Problem(1, 1, (40, 40), 1, (4, 6)))[0, 0]
    spoiled = ~sums.isfinite()
    assert spoiled[17:21, 5:11].all()
    assert spoiled[2:6, 25:31].all()
    assert spoiled.sum() == 2 * 4 * 6


@given(st.integers(0, 999), st.booleans(), st.sampled_from([torch.nan, torch.inf, -torch.inf, 7]))
def test_spoiled_images_are_told_from_finite_ones(seed, single, value):
    generator = torch.Generator().manual_seed(seed)
    image = torch.full((2, 3, 9, 11), 1e30, dtype=torch.float32 if single else torch.float64)
    place = [int(torch.randint(0, n, (), generator=generator)) for n in image.shape]
    image[tuple(place)] = value
    views = image, image.permute(0, 1, 3, 2), image[:, 1:, 2:7, 3:9], image.permute(0, 2, 3, 1)
    for view in views:
        assert finite(view) == bool(view.isfinite().all())
