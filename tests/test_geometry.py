"""Shapes follow conv2d, and the original loop where conv2d has no answer."""

import pytest
import torch
from depth import deep_unless, usual
from hypothesis import given
from hypothesis import strategies as st

import patchsim
from patchsim.problem import Problem, problem_of

pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # from torch, for even kernels
@given(pairs, pairs, st.tuples(*2 * [st.integers(0, 3)]) | st.just("same"), st.data())
def test_map_sizes_are_those_of_conv2d(kernel, dilation, padding, data):
    stride = (1, 1) if padding == "same" else data.draw(pairs)
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = [data.draw(st.integers(e, e + 9)) for e in extent]
    image, template = torch.ones(1, 1, *size), torch.ones(1, 1, *kernel)
    problem = problem_of(image, template, stride, padding, dilation)
    convolved = torch.nn.functional.conv2d(image, template, None, stride, padding, dilation)
    assert problem.map_size == convolved.shape[2:]
    assert problem.overhang == (0, 0)


@given(pairs, st.tuples(*2 * [st.integers(1, 9)]), pairs)
def test_the_original_size_rule(kernel, size, stride):
    expected = tuple(
        int((length - k) / s) + 1 for length, k, s in zip(size, kernel, stride, strict=True)
    )
    image, template = torch.ones(1, *size), torch.ones(1, *kernel)
    if min(expected) < 1:
        with pytest.raises(ValueError, match="no window fits"):
            problem_of(image, template, stride)
    else:
        problem = problem_of(image, template, stride)
        assert problem.map_size == expected
        for axis in (0, 1):
            assert problem.overhang[axis] == max(0, kernel[axis] - size[axis]) < stride[axis]


def test_an_overhanging_window_is_completed_with_zeros():
    image, kernel = torch.full((1, 2, 2), 0.5), torch.ones(1, 4, 4)
    scores = patchsim.similarity(image, kernel, stride=3)
    assert scores.tolist() == [[1 - (4 * 0.5 + 12) / 16]]


@pytest.mark.parametrize("variant", deep_unless(usual, patchsim.variants()), ids=str)
@pytest.mark.parametrize(
    ("image", "kernel", "expected"),
    [
        ((3, 9, 8), (3, 4, 3), (6, 6)),
        ((2, 3, 9, 8), (3, 4, 3), (2, 6, 6)),
        ((3, 9, 8), (5, 3, 4, 3), (5, 6, 6)),
        ((1, 3, 9, 8), (1, 3, 4, 3), (1, 1, 6, 6)),
    ],
)
def test_batch_and_template_axes(variant, image, kernel, expected):
    assert variant(torch.rand(image), torch.rand(kernel)).shape == expected


def test_same_padding_puts_the_odd_row_last():
    image = torch.zeros(1, 3, 3)
    image[0, 0, 0] = 1
    scores = patchsim.distance(image, torch.zeros(1, 2, 2), padding="same", reduction="sum")
    assert scores.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_a_problem_validates_itself():
    with pytest.raises(ValueError, match="no window fits"):
        Problem(1, 1, (3, 3), 1, (4, 4))


def test_lists_and_numpy_integers_are_pairs_too():
    image, kernel = torch.rand(1, 9, 9), torch.rand(1, 2, 2)
    expected = patchsim.similarity(image, kernel, stride=(2, 3))
    assert torch.equal(patchsim.similarity(image, kernel, stride=[2, 3]), expected)


@pytest.mark.parametrize(
    ("shape", "same_as"),
    [((4, 5), (1, 1, 4, 5)), ((3, 4, 5), (1, 3, 4, 5)), ((2, 4, 5), (2, 1, 4, 5))],
)
def test_weight_shapes(shape, same_as):
    image, kernel = torch.rand(3, 9, 9), torch.rand(2, 3, 4, 5)
    weight = torch.rand(shape)
    expected = patchsim.similarity(image, kernel, weight=weight.reshape(same_as).expand(2, 3, 4, 5))
    assert torch.equal(patchsim.similarity(image, kernel, weight=weight), expected)
