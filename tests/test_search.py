"""Matches against a plain greedy non-maximum suppression."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import patchsim
from patchsim.search import peaks


def overlap(one, other):
    height = max(0, min(one.y, other.y) + one.height - max(one.y, other.y))
    width = max(0, min(one.x, other.x) + one.width - max(one.x, other.x))
    return height * width / (2 * one.height * one.width - height * width)


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=6, max_size=6), min_size=1, max_size=7),
    st.tuples(*2 * [st.integers(1, 6)]),
    st.tuples(*2 * [st.integers(1, 3)]),
    st.none() | st.integers(1, 6),
    st.none() | st.integers(0, 5),
    st.sampled_from([0, 0.25, 0.3, 1 / 3, 0.5, 1]),
)
def test_peaks(scores, size, stride, k, threshold, max_overlap):
    scores = torch.tensor(scores, dtype=torch.float32)
    found = peaks(scores, size, stride, k=k, threshold=threshold, max_overlap=max_overlap)
    candidates = [
        patchsim.Match(scores[i, j].item(), j * stride[1], i * stride[0], size[1], size[0])
        for i in range(scores.shape[0])
        for j in range(scores.shape[1])
        if threshold is None or scores[i, j] >= threshold
    ]
    kept = []
    for match in sorted(candidates, key=lambda m: (-m.score, m.y, m.x)):
        if all(overlap(match, better) <= max_overlap for better in kept):
            kept.append(match)
    assert found == kept[:k]


def test_nan_never_matches():
    scores = torch.tensor([[torch.nan, 0.5], [torch.nan, torch.nan]])
    assert [m.score for m in peaks(scores, (1, 1), k=None)] == [0.5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "`k` must be at least 1, got 0"),
        ({"max_overlap": 1.5}, "`max_overlap` must be between 0 and 1, got 1.5"),
        ({"image": torch.ones(1, 1, 9, 9)}, r"one image \(C, H, W\) .* got shapes \(1, 1, 9, 9\)"),
    ],
)
def test_errors(arguments, message):
    image, kernel = torch.ones(1, 9, 9), torch.ones(1, 3, 3)
    with pytest.raises(ValueError, match=message):
        patchsim.find(**{"image": image, "kernel": kernel, **arguments})
