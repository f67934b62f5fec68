"""Flat windows and repeating ones, against a loop."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchsim.sums.equal_pixels import flat_windows, repeating


@given(
    st.tuples(st.integers(1, 3), st.integers(1, 13), st.integers(1, 13)),
    st.tuples(st.integers(1, 13), st.integers(1, 13)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 4),
    st.sampled_from([0.02, 0.1, 0.5]),
    st.sampled_from([torch.uint8, torch.int16, torch.float32, torch.float64]),
    st.integers(0, 999),
)
def test_both_are_those_of_a_loop(shape, size, stride, back, share, dtype, seed):
    size = tuple(min(own, length) for own, length in zip(size, shape[1:], strict=True))
    image = np.random.default_rng(seed).random(shape) < share
    (height, width), (down, across) = size, stride
    rows, cols = (
        (length - own) // step + 1
        for length, own, step in zip(shape[1:], size, stride, strict=True)
    )

    def window(i, j):
        top, left = i * down, j * across
        return image[:, top : top + height, left : left + width]

    tensor = torch.from_numpy(image)[None].to(dtype)
    flat, repeats = flat_windows(tensor, size, stride), repeating(tensor, size, stride, back)
    assert flat.shape == repeats.shape == (rows, cols)
    for i, j in np.ndindex(rows, cols):
        own = window(i, j)
        assert flat[i, j] == (own == own[:, :1, :1]).all()
        assert repeats[i, j] == (j >= back and (own == window(i, j - back)).all())


def test_no_window_with_a_nan_is_flat():
    image = torch.full((1, 1, 5, 6), torch.nan)
    assert not flat_windows(image, (2, 3), (1, 1)).any()
