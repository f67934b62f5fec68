"""Sums of integers by the processor's instructions for several bytes at a time."""

import math

import pytest
import torch
from depth import deep_unless
from hypothesis import given
from hypothesis import strategies as st

import patchsim
from patchsim.kernels.instructions import DOT, MIN, MPSAD, PSAD, instruction
from patchsim.metrics import METRICS
from patchsim.problem import INTEGER_RANGES, as_pair, problem_of
from patchsim.sums import integers
from patchsim.sums.quads import FURTHEST

INSTRUCTIONS = [*MPSAD, *PSAD, *DOT, *MIN]


def exact(metric, image, kernel, stride=(1, 1)):
    """Sum by definition, in int64."""
    p, k = image.long(), kernel.long()
    p = p.unfold(2, k.shape[2], stride[0]).unfold(3, k.shape[3], stride[1])
    d = p[:, None] - k[:, :, None, None]
    return (d.abs() if metric == "l1" else d**2).sum((2, 5, 6))


def computed(which, image, kernel, problem, monkeypatch):
    """Sum by one instruction, whichever this processor would choose."""
    if instruction((which,)) is None:
        pytest.skip(f"this processor has no {which.feature}")
    monkeypatch.setattr(integers, "instruction", lambda choice: which)
    monkeypatch.setattr(integers, "_WORTH_PHASES", 0 if which in MPSAD else math.inf)
    if which in MIN:
        return integers.minima(kernel, problem, image)
    if which in DOT:
        return integers.expansion(METRICS["l2"], kernel, problem, image)
    return integers.sad(kernel, problem, image)


@pytest.mark.parametrize(
    "which", deep_unless(INSTRUCTIONS[::2].__contains__, INSTRUCTIONS), ids=lambda i: i.name
)
@given(data=st.data())
def test_sums_are_exact(which, data):
    draw = data.draw
    h, w, channels = draw(st.integers(1, 9)), draw(st.integers(4, 21)), draw(st.integers(1, 3))
    across = {**dict.fromkeys(MPSAD, (1, FURTHEST)), **dict.fromkeys(PSAD, (2, 18))}
    across = across.get(which, (1, 9))
    stride = draw(st.tuples(st.integers(1, 4), st.integers(*across)))
    rows, cols = h - 1 + draw(st.integers(1, 12)), w - 1 + draw(st.integers(1, 70))
    batch, templates = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    low, top = INTEGER_RANGES[which.dtype]
    high = draw(st.sampled_from([top - low + 1, 2]))  # all values, or the extremes
    image, kernel = (
        (torch.randint(0, high, shape, generator=generator) * ((top - low) // (high - 1)) + low)
        for shape in ((batch, channels, rows, cols), (templates, channels, h, w))
    )
    image, kernel = image.to(which.dtype), kernel.to(which.dtype)
    problem = problem_of(image, kernel, stride)
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = computed(which, image, kernel, problem, monkeypatch)
    metric = "l2" if which in DOT else "l1"
    assert torch.equal(found.long(), exact(metric, image, kernel, stride))


@pytest.mark.parametrize("which", INSTRUCTIONS, ids=lambda i: i.name)
def test_sums_of_the_largest_values_do_not_overflow(which, monkeypatch):
    """More taps than 16 bits can sum, all at the extremes, and rows longer than a chunk."""
    low, high = INTEGER_RANGES[which.dtype]
    image = torch.full((1, 2, 70, 2200), high, dtype=which.dtype)
    kernel = torch.full((1, 2, 65, 68), low, dtype=which.dtype)
    most = (high - low) ** (2 if which in DOT else 1)
    stride = (1, 2 if which in PSAD else 1)
    for p, k in ((image, kernel), (low + high - image, low + high - kernel)):  # and swapped
        found = computed(which, p, k, problem_of(p, k, stride), monkeypatch)
        assert torch.equal(found, torch.full_like(found, most * kernel.numel()))


def test_the_largest_template_of_minima():
    """All int16 at the least value: one row more, and the sums might leave int32."""
    kernel = torch.full((1, 1, 256, 253), -(2**15), dtype=torch.int16)
    image = torch.full((1, 1, 258, 255), -(2**15), dtype=torch.int16)
    problem = problem_of(image, kernel)
    taller = torch.full((1, 1, 257, 253), -(2**15), dtype=torch.int16)
    assert not integers.can("min", problem_of(image, taller))
    if not integers.can("min", problem):
        pytest.skip("this processor has no such instruction")
    assert torch.equal(integers.minima(kernel, problem, image), torch.zeros(1, 1, 3, 3).double())


@pytest.mark.parametrize("layout", ["H W C", "every other row", "padded rows"])
def test_any_memory_layout(layout):
    image = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
    kernel = image[:, :, 5:12, 7:20].contiguous()
    expected = exact("l1", image, kernel)
    if layout == "H W C":
        image = image.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    elif layout == "every other row":
        image = image.repeat_interleave(2, 2)[:, :, ::2]
    else:
        image = torch.nn.functional.pad(image, (0, 5))[..., :50]
    problem = problem_of(image, kernel)
    if not integers.can("sad", problem):
        pytest.skip("this processor has no such instruction")
    assert torch.equal(integers.sad(kernel, problem, image).long(), expected)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"dilation": (1, 2)}, "columns left out"),
        ({"dilation": (2, 1)}, "rows left out"),
        ({"weighting": "mask"}, "taps left out"),
    ],
)
def test_what_the_instructions_cannot_do(change, why):
    image = torch.zeros(1, 1, 30, 30, dtype=torch.uint8)
    geometry = {"stride": 1, "dilation": 1, "weighting": "none", **change}
    problem = problem_of(image, image[..., :8, :8], **geometry)
    assert not integers.can("sad", problem), why
    assert not integers.can("dot", problem), why


def test_few_columns_are_not_worth_it():
    image = torch.zeros(1, 1, 30, 30, dtype=torch.uint8)
    narrow, wide = (problem_of(image, image[..., :width]) for width in (3, 4))
    assert not integers.can("sad", narrow)
    assert integers.can("sad", wide) == (instruction(MPSAD) is not None)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16])
@pytest.mark.parametrize("metric", ["l1", "l2"])
@pytest.mark.parametrize("stride", [1, 2, (3, 1), (1, 3)])
@pytest.mark.parametrize("size", [(20, 21), (60, 70)])
def test_fused_takes_instructions_for_large_problems(dtype, metric, stride, size):
    low, high = INTEGER_RANGES[dtype]
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(low, high + 1, (3, 140, 190), generator=generator).to(dtype)
    kernel = image[:, 20 : 20 + size[0], 30 : 30 + size[1]].contiguous()
    found = patchsim.distance(
        image, kernel, metric, stride=stride, backend="fused", reduction="sum"
    )
    assert torch.equal(
        found, exact(metric, image[None], kernel[None], as_pair("", stride, 1))[0, 0]
    )
