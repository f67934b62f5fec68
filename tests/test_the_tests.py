"""The suite can fail: each wrong variant planted here is caught by it."""

import dataclasses

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from patchsim import reference
from patchsim.backends import BACKENDS
from patchsim.backends.conv2d import correlate
from patchsim.backends.fft import _correlate
from patchsim.metrics import METRICS, Expansion
from patchsim.sums import algebra
from patchsim.testing import cases, check, expect

l2 = METRICS["l2"]


right = BACKENDS["loop"].run


def stride_off_by_one(metric, problem, image, kernel, weight):
    dense = dataclasses.replace(problem, stride=(1, 1))
    sums = right(metric, dense, image, kernel, weight)
    (rows, cols), (sy, sx) = problem.map_size, problem.stride
    down, across = torch.arange(rows) * max(1, sy - 1), torch.arange(cols) * max(1, sx - 1)
    return sums[:, :, down][..., across]


def one_pixel_late(metric, problem, image, kernel, weight):
    return right(metric, problem, image.roll(-1, 3), kernel, weight)


def swapped_axes(metric, problem, image, kernel, weight):
    return right(metric, problem, image, kernel.mT.reshape(kernel.shape), weight)


def swapped_stride(metric, problem, image, kernel, weight):
    dense = dataclasses.replace(problem, stride=(1, 1))
    sums = right(metric, dense, image, kernel, weight)
    (rows, cols), (sy, sx) = problem.map_size, problem.stride
    down = (torch.arange(rows) * sx).clamp(max=sums.shape[2] - 1)
    return sums[:, :, down][..., (torch.arange(cols) * sy).clamp(max=sums.shape[3] - 1)]


def missing_box_sum(metric, problem, image, kernel, weight):
    headless = dataclasses.replace(metric, expansion=Expansion(metric.expansion.terms[1:]))
    return algebra.window_sums(headless, problem, image, kernel, weight, correlate)


def wrapping_bytes(metric, problem, image, kernel, weight):
    return reference.window_sums(
        image, kernel, metric.pointwise, problem.stride, dilation=problem.dilation, weight=weight
    )


def no_weight(metric, problem, image, kernel, weight):
    return right(metric, problem, image, kernel, None)


def no_dilation(metric, problem, image, kernel, weight):
    rows, cols = problem.map_size
    undilated = dataclasses.replace(problem, dilation=(1, 1))
    return right(metric, undilated, image, kernel, weight)[..., :rows, :cols]


def first_template_only(metric, problem, image, kernel, weight):
    return right(metric, problem, image, kernel[:1].expand(kernel.shape), weight)


def smeared_nan(metric, problem, image, kernel, weight):
    p, k = image, kernel if weight is None else kernel * weight
    ones = torch.ones_like(kernel) if weight is None else weight
    box, cross = (_correlate(problem, *pair) for pair in ((p * p, ones), (p, k)))
    return box - 2 * cross + (k * kernel).sum((1, 2, 3))[:, None, None]


def half_precision(metric, problem, image, kernel, weight):
    return right(metric, problem, image.half().float(), kernel.half().float(), weight)


def negative(metric, problem, image, kernel, weight):
    return right(metric, problem, image, kernel, weight) - 1


@pytest.mark.parametrize(
    ("wrong", "dtype", "finite"),
    [
        (stride_off_by_one, torch.uint8, True),
        (stride_off_by_one, torch.float32, True),
        (one_pixel_late, torch.int16, True),
        (swapped_axes, torch.uint8, True),
        (swapped_axes, torch.float64, True),
        (swapped_stride, torch.bool, True),
        (missing_box_sum, torch.uint8, True),
        (missing_box_sum, torch.float32, True),
        (wrapping_bytes, torch.uint8, True),
        (no_weight, torch.float32, True),
        (no_dilation, torch.float32, True),
        (first_template_only, torch.float16, True),
        (smeared_nan, torch.float32, False),
        (half_precision, torch.float32, True),
        (negative, torch.uint8, True),
    ],
)
def test_the_suite_catches(wrong, dtype, finite):
    backend = dataclasses.replace(BACKENDS["loop"], name=wrong.__name__, run=wrong)

    @settings(phases=[Phase.generate], max_examples=300, database=None, derandomize=True)
    @given(cases(dtype, finite=finite))
    def suite(case):
        check(case, expect(case, l2), l2, backend)

    with pytest.raises(AssertionError, match=wrong.__name__):
        suite()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@given(data=st.data())
def test_the_suite_passes_what_the_wrong_ones_are_made_of(dtype, data):
    backend = dataclasses.replace(BACKENDS["loop"], name="right", run=right)
    case = data.draw(cases(dtype))
    check(case, expect(case, l2), l2, backend)
