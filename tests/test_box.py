"""Box sums against the sum of each window."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from patchsim.box import box_sum
from patchsim.problem import Problem

small = st.integers(1, 9)
steps = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(st.tuples(small, small), st.tuples(small, small), steps, steps)
def test_box_sum(kernel, map_size, stride, dilation):
    problem = Problem(
        batch=2,
        channels=1,
        image_size=tuple(
            (m - 1) * s + d * (k - 1) + 1
            for m, s, d, k in zip(map_size, stride, dilation, kernel, strict=True)
        ),
        templates=1,
        kernel_size=kernel,
        stride=stride,
        dilation=dilation,
    )
    planes = torch.randint(-99, 99, (2, 1, *problem.image_size))
    rows, cols = problem.extent
    windows = planes.unfold(2, rows, stride[0]).unfold(3, cols, stride[1])
    expected = windows[..., :: dilation[0], :: dilation[1]].sum((-2, -1))
    assert torch.equal(box_sum(planes, problem), expected)


def test_large_images_lose_no_precision():
    """An integral image in float32 is off by hundreds here: its last entry is near 2³³."""
    planes = torch.full((1, 1, 3000, 3000), 1000.0)
    planes[..., -1, -1] = 1
    problem = Problem(1, 1, (3000, 3000), 1, (4, 4))
    sums = box_sum(planes, problem)
    assert sums[0, 0, -1, -1] == 15_001
    assert sums[0, 0, 0, 0] == 16_000
