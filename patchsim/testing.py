"""Property tests for any backend: strategies, an exact oracle and the check against it.

The oracle is the original loop over patches in Python integers, of any size, so that its answer
has no rounding at all. It shares no code with the backends. Needs Hypothesis
(``pip install 'patchsim[test]'``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from patchsim.api import distance, error_bound, similarity
from patchsim.backends import Backend
from patchsim.metrics import Metric
from patchsim.problem import INTEGER_RANGES

Objects = np.ndarray[tuple[int, ...], np.dtype[np.object_]]
Contents = Literal["noise", "constant", "black", "one-hot", "copy"]


@dataclass(frozen=True)
class Case:
    """The arguments of one call; ``padding`` is an int or a pair."""

    image: Tensor
    kernel: Tensor
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    weight: Tensor | None = None
    data_range: float | None = None

    def arguments(self) -> dict[str, Any]:
        """Return the keywords of `similarity`, but for data_range."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "weight": self.weight,
        }


@dataclass(frozen=True)
class Expected:
    """The exact answer to a case.

    ``sums`` are Fractions; ``spoiled`` tells the windows that hold a NaN or inf that counts, whose
    sums are those of the other values; ``total`` is each template's weight. Shapes (B, N, Ho, Wo),
    (N,).
    """

    sums: Objects
    spoiled: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    total: list[Fraction]


def expect(case: Case, metric: Metric) -> Expected:
    """Compute the exact window sums of a case, one window at a time."""
    image, kernel = _batched(case.image), _batched(case.kernel)
    finite = image.isfinite()
    exponent = min(_least_exponent(image), _least_exponent(kernel))
    pixels = _integers(image, exponent)
    templates = _integers(kernel, exponent)
    weight = torch.ones(()) if case.weight is None else _per_template(case.weight, kernel)
    weight = weight.expand(kernel.shape)
    weight_exponent = _least_exponent(weight)
    weights = _integers(weight, weight_exponent)
    unit = Fraction(2) ** (exponent * metric.degree + weight_exponent)  # of the sums

    down, across = (_positions(case, axis) for axis in (0, 1))
    reach = int(down.max()) + 1, int(across.max()) + 1
    pixels = _padded(pixels, case.padding, reach)
    spoils = _padded(~finite.numpy(), case.padding, reach)
    shape = len(pixels), len(templates), len(down), len(across)
    sums, spoiled = np.empty(shape, dtype=object), np.zeros(shape, dtype=bool)
    for b, n, i, j in np.ndindex(shape):
        window = slice(None), down[i][:, None], across[j]
        difference = metric.pointwise(pixels[b][window], templates[n])
        sums[b, n, i, j] = unit * int((weights[n] * difference).sum()) / metric.unit
        spoiled[b, n, i, j] = (spoils[b][window] & (weights[n] != 0)).any()
    scale = Fraction(2) ** weight_exponent
    return Expected(sums, spoiled, [scale * int(own.sum()) for own in weights])


def _positions(case: Case, axis: int) -> np.ndarray[tuple[int, int], np.dtype[np.intp]]:
    """Return which rows (or columns) of the padded image each window holds, (Ho, h)."""
    size = case.image.shape[axis - 2] + 2 * case.padding[axis]
    taps, step, dilation = case.kernel.shape[axis - 2], case.stride[axis], case.dilation[axis]
    windows = int((size - dilation * (taps - 1) - 1) / step) + 1
    return step * np.arange(windows)[:, None] + dilation * np.arange(taps)


def _padded(values: Any, padding: tuple[int, int], reach: tuple[int, int]) -> Any:
    """Add zeros before, and after as far as the windows reach."""
    (height, width), (top, left) = values.shape[2:], padding
    size = max(top + height, reach[0]), max(left + width, reach[1])
    canvas = np.zeros((*values.shape[:2], *size), dtype=values.dtype)
    canvas[:, :, top : top + height, left : left + width] = values
    return canvas


def _batched(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor if tensor.dim() == 4 else tensor[None]


def _per_template(weight: Tensor, kernel: Tensor) -> Tensor:
    """Insert the channel axis of weights (N, h, w)."""
    templates, channels = kernel.shape[:2]
    per_template = weight.dim() == 3 and len(weight) == templates and len(weight) != channels
    return weight[:, None] if per_template and templates > 1 else weight


def _least_exponent(tensor: Tensor) -> int:
    """Return an e such that every finite value is an integer times 2ᵉ."""
    if tensor.dtype in INTEGER_RANGES:
        return 0
    values = tensor.double().numpy()
    values = values[np.isfinite(values) & (values != 0)]
    return int(np.frexp(values)[1].min()) - 53 if values.size else 0


def _integers(tensor: Tensor, exponent: int) -> Objects:
    """Return values / 2ᵉ as Python integers; 0 for NaN and inf."""
    if tensor.dtype in INTEGER_RANGES:
        return tensor.numpy().astype(np.int64).astype(object)
    values = tensor.double().numpy()
    mantissas, exponents = np.frexp(np.where(np.isfinite(values), values, 0))
    integers = (mantissas * 2.0**53).astype(np.int64).astype(object)
    shifts = np.maximum(exponents.astype(np.int64) - 53 - exponent, 0).astype(object)
    return np.asarray(integers * 2**shifts, dtype=object)


def check(case: Case, expected: Expected, metric: Metric, backend: Backend) -> None:
    """Assert that a backend answers a case as the oracle does.

    Integer sums must be equal, float sums and similarities within `error_bound`; only spoiled
    windows may be spoiled, and no distance may be negative.
    """
    before = case.image.detach().clone(), case.kernel.detach().clone()
    sums = _call(distance, case, metric, backend, reduction="sum")
    bound = _call(error_bound, case, metric, backend, reduction="sum")
    shape = (*case.image.shape[:-3], *case.kernel.shape[:-3], *expected.sums.shape[2:])
    assert sums.shape == bound.shape == shape, f"shape {tuple(sums.shape)}, expected {shape}"
    if case.image.dtype in INTEGER_RANGES and (case.weight is None or _is_mask(case.weight)):
        assert sums.dtype is torch.int64
        assert bool((bound == 0).all())
    _assert_near(sums, expected.sums, bound, 0.0, expected.spoiled, f"sum by {backend.name}")
    assert not bool((sums < 0).any()), f"negative distance by {backend.name}"

    scale = Fraction(_range(case)) ** metric.degree
    total = np.array(expected.total, dtype=object)[:, None, None]
    means = np.vectorize(_float, otypes=[float])(expected.sums / (total * scale))
    # Converting the mean, `finish` and 1 − d each err by at most half a unit in the last place.
    exact = 1 - metric.finish(torch.from_numpy(means)).numpy()
    slack = 2.0**-51 * (1 + np.abs(exact)) + float(metric.modulus(torch.tensor(2.0**-1022)))
    scores = _call(similarity, case, metric, backend, data_range=case.data_range)
    bound = _call(error_bound, case, metric, backend, data_range=case.data_range)
    floating = case.image.dtype.is_floating_point
    assert scores.dtype is (case.image.dtype if floating else torch.float32)
    _assert_near(scores, exact, bound, slack, expected.spoiled, f"similarity by {backend.name}")
    assert not bool((scores > 1).any()), f"similarity above 1 by {backend.name}"
    for now, then in zip((case.image, case.kernel), before, strict=True):
        assert torch.equal(now.nan_to_num(7), then.nan_to_num(7)), f"{backend.name} wrote to input"


def _call(
    function: Callable[..., Tensor], case: Case, metric: Metric, backend: Backend, **more: Any
) -> Tensor:
    arguments = {**case.arguments(), **more}
    return function(case.image, case.kernel, metric, backend=backend, **arguments).detach()


def _range(case: Case) -> float:
    if case.data_range is not None:
        return case.data_range
    return 255.0 if case.image.dtype is torch.uint8 else 1.0


def _is_mask(weight: Tensor) -> bool:
    return bool(((weight == 0) | (weight == 1)).all())


def _float(number: Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _assert_near(
    computed: Tensor,
    exact: Any,
    bound: Tensor,
    slack: Any,
    spoiled: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    what: str,
) -> None:
    """Assert |computed − exact| ≤ bound + slack, without rounding, and spoiled ≡ not finite."""
    shape = spoiled.shape
    found = (
        computed.reshape(shape)
        .to(torch.float64 if computed.is_floating_point() else computed.dtype)
        .numpy()
    )
    bounds = np.broadcast_to(bound.reshape(shape).numpy() + slack, shape)
    for index in np.ndindex(shape):
        value, limit = found[index], float(bounds[index])
        place = f"{what} at {index}: {value}, exact {_float(exact[index])}, bound {limit}"
        if spoiled[index]:
            assert not math.isfinite(value), f"{place}; should be spoiled"
        elif limit != math.inf:
            assert math.isfinite(value), place
            assert abs(Fraction(value.item()) - Fraction(exact[index])) <= Fraction(limit), place


def _bits(dtype: torch.dtype) -> int:
    return 1 - round(math.log2(torch.finfo(dtype).eps))


@st.composite
def cases(draw: st.DrawFn, dtype: torch.dtype, *, finite: bool = True) -> Case:
    """Draw a case of one dtype, with NaN and inf in the image unless `finite`."""
    small = st.integers(1, 3)
    stride = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)) | st.integers(1, 4).map(_twice))
    kernel_size = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    padding = draw(st.just((0, 0)) | st.tuples(*2 * [st.integers(0, 3)]))
    dilation = draw(st.just((1, 1)) | st.tuples(small, small))
    image_size = tuple(
        draw(st.integers(max(1, d * (k - 1) + 2 - s - 2 * p), d * (k - 1) + 8))
        for k, s, p, d in zip(kernel_size, stride, padding, dilation, strict=True)
    )
    channels = draw(st.integers(1, 5))
    leading = draw(st.just(()) | small.map(lambda b: (b,)))
    templates = draw(st.just(()) | small.map(lambda n: (n,)))
    image_shape = (*leading, channels, *image_size)
    kernel_shape = (*templates, channels, *kernel_size)
    elements = _elements(draw, dtype)
    image = _fill(draw, image_shape, draw(st.sampled_from(["noise", "constant"])), elements)
    what = draw(st.sampled_from(["noise", "constant", "black", "one-hot", "copy"]))
    if what == "copy" and all(k <= s for k, s in zip(kernel_size, image_size, strict=True)):
        y, x = (draw(st.integers(0, s - k)) for k, s in zip(kernel_size, image_size, strict=True))
        corner = image.reshape(-1, *image_shape[-3:])[
            0, :, y : y + kernel_size[0], x : x + kernel_size[1]
        ]
        kernel = np.broadcast_to(corner, kernel_shape)
    else:
        kernel = _fill(draw, kernel_shape, what, elements)
    tensors = _tensors(draw, dtype, image, kernel)
    scene, template = draw(_layout(tensors[0])), draw(_layout(tensors[1]))
    if not finite:
        scene = _spoil(draw, scene)
    return Case(
        image=scene,
        kernel=template,
        stride=stride,
        padding=padding,
        dilation=dilation,
        weight=_weight(draw, kernel_shape),
        data_range=draw(st.sampled_from([1.0, 3.0, 4095.0])) if dtype is torch.int16 else None,
    )


def _twice(number: int) -> tuple[int, int]:
    return number, number


def _elements(draw: st.DrawFn, dtype: torch.dtype) -> st.SearchStrategy[int]:
    if dtype in INTEGER_RANGES:
        low, high = INTEGER_RANGES[dtype]
        return st.sampled_from([low, high]) if draw(st.booleans()) else st.integers(low, high)
    top = 2 ** draw(st.sampled_from([2, _bits(dtype)]))
    return st.integers(-top, top)


def _fill(
    draw: st.DrawFn, shape: tuple[int, ...], what: str, elements: st.SearchStrategy[int]
) -> np.ndarray[Any, np.dtype[np.int64]]:
    if what == "noise":
        return draw(hnp.arrays(np.int64, shape, elements=elements))
    values = np.zeros(shape, dtype=np.int64)
    if what == "constant":
        values += draw(elements)
    elif what == "one-hot":
        values.flat[draw(st.integers(0, values.size - 1))] = draw(elements)
    return values


def _tensors(draw: st.DrawFn, dtype: torch.dtype, *arrays: Any) -> list[Tensor]:
    """Turn integers into values: for floats by powers of two, ordinary, huge or tiny."""
    if dtype in INTEGER_RANGES:
        return [torch.from_numpy(array.copy()).to(dtype) for array in arrays]
    bits, info = _bits(dtype), torch.finfo(dtype)
    ordinary = st.integers(-bits - 4, 0)
    highest = math.frexp(info.max)[1] - bits - 1
    tiny = st.just(math.frexp(info.tiny)[1] - 1)
    exponent = draw(ordinary | ordinary | st.integers(0, min(8, highest)) | st.just(highest) | tiny)
    return [torch.from_numpy(array * 2.0**exponent).to(dtype) for array in arrays]


@st.composite
def _layout(draw: st.DrawFn, tensor: Tensor) -> Tensor:
    """Lay the same values out in another way, or ask for a gradient."""
    how = draw(st.sampled_from(["contiguous", "channels last", "transposed", "sparse", "grad"]))
    if how == "channels last" and tensor.dim() == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    if how == "transposed":
        return tensor.mT.contiguous().mT
    if how == "sparse":
        return tensor.repeat_interleave(2, -1)[..., ::2]
    if how == "grad" and tensor.is_floating_point():
        return tensor.clone().requires_grad_()
    if bool((tensor == tensor.flatten()[0]).all()):
        return tensor.flatten()[0].expand(tensor.shape)
    return tensor


def _spoil(draw: st.DrawFn, image: Tensor) -> Tensor:
    image = image.detach().clone(memory_format=torch.contiguous_format)
    for _ in range(draw(st.integers(1, 3))):
        position = draw(st.integers(0, image.numel() - 1))
        image.view(-1)[position] = draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    return image


def _weight(draw: st.DrawFn, kernel_shape: tuple[int, ...]) -> Tensor | None:
    """Draw no weight, a mask or integer or fractional weights, of any of the shapes allowed."""
    kind = draw(st.sampled_from(["none", "none", "mask", "real"]))
    if kind == "none":
        return None
    shape = draw(st.sampled_from([kernel_shape[-2:], kernel_shape[-3:], kernel_shape]))
    values = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 1 if kind == "mask" else 9)))
    values[..., 0, 0] = 1
    return torch.from_numpy(values / 1.0 if kind == "mask" else values / 7.0)
