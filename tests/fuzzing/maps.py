"""Random maps: a call of each kind against the oracle, on one or two backends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import patchsim
from fuzzing import draws
from fuzzing.draws import Rng, chance, integer, one_of, pick
from fuzzing.oracle import (
    INTEGERS,
    PREPARED,
    STATISTICS,
    Answer,
    Array,
    Geometry,
    Question,
    answer,
    values_of,
    weights_of,
)
from patchsim.metrics import METRICS

#: Numbers that are compared in a map: mostly few, now and then many.
FEW, MANY = 30_000, 1_000_000
#: What a refusal may say.
REFUSALS = ("can't compute", "no backend can compute", "max_memory")


@dataclass
class Case:
    """Arguments of calls, and settings they are made under."""

    image: Tensor
    kernel: Tensor
    metric: str
    backends: list[str]
    arguments: dict[str, Any]
    data_range: float | None
    geometry: Geometry
    max_memory: int
    threads: int
    ordinary: bool
    outside: bool  # values or a data range that may be refused
    kinds: list[str]

    def __str__(self) -> str:
        tensors = [self.image, self.kernel, self.arguments["weight"]]
        texts = [
            "no weight" if t is None else f"{t.dtype} {tuple(t.shape)} strides {t.stride()}"
            for t in tensors
        ]
        places = {name: own for name, own in self.arguments.items() if name != "weight"}
        return (
            f"{self.metric} on {self.backends}, {self.kinds}: image {texts[0]}, kernel {texts[1]}, "
            f"weight {texts[2]}, {places}, data_range={self.data_range}, "
            f"max_memory={self.max_memory}, {self.threads} threads"
        )


class Violation(AssertionError):
    """What patchsim did and shouldn't."""


def require(holds: bool, message: str) -> None:
    if not holds:
        raise Violation(message)


def draw(rng: Rng) -> Case:
    """Draw a problem."""
    metric = one_of(rng, sorted(METRICS))
    dtype = pick(rng, draws.DTYPES)
    geometry, image_size, padding = _geometry(rng)
    leading, channels, templates = _numbers(rng, geometry, image_size, metric)
    shape = channels, *geometry.size
    values = draws.Values(rng, dtype, metric)
    image, kernels = draws.image_and_kernels(
        rng,
        values,
        (*leading, channels, *image_size),
        [shape] * max(1, templates),
        geometry.dilation,
    )
    kernel = torch.stack(kernels) if templates else kernels[0]
    image, kernel = _spoiled(rng, image, kernel, dtype)
    weight = _weight(rng, kernel, metric)
    image, kernel = (draws.laid_out(rng, tensor) for tensor in (image, kernel))
    if dtype.is_floating_point and chance(rng, 0.05):
        image = image.detach().requires_grad_()
    arguments = {"stride": geometry.stride, "padding": padding, "dilation": geometry.dilation}
    if geometry.stride[0] == geometry.stride[1]:
        arguments["stride"] = geometry.stride[0]
    kinds = ["similarity", "mean"] + ["sum"] * (metric not in STATISTICS)
    data_range = _data_range(rng, dtype, metric, values)
    return Case(
        image=image,
        kernel=kernel,
        metric=metric,
        backends=_backends(rng, metric),
        arguments={**arguments, "weight": weight},
        data_range=data_range,
        geometry=geometry,
        max_memory=int(2 ** rng.uniform(14.3, 28)) if chance(rng, 0.4) else 2**28,
        threads=pick(rng, {1: 8, 2: 1, 3: 1}),
        ordinary=values.ordinary,
        outside=values.outside(kernel) or (data_range or 1) < 1e-6,
        kinds=[str(kind) for kind in rng.permutation(kinds)[: integer(rng, 1, 2)]],
    )


def _backends(rng: Rng, metric: str) -> list[str]:
    able = [v.backend for v in _variants() if v.metric == metric]
    first = one_of(rng, able)
    return [first] if chance(rng, 0.3) else [first, one_of(rng, ["auto", "auto", *able])]


def _variants() -> tuple[Any, ...]:
    if not _KNOWN_VARIANTS:
        _KNOWN_VARIANTS.extend(patchsim.variants())
    return tuple(_KNOWN_VARIANTS)


_KNOWN_VARIANTS: list[Any] = []


def _geometry(rng: Rng) -> tuple[Geometry, tuple[int, int], Any]:
    """Draw where windows lie: also the image's size, and the padding to ask for."""
    kind = pick(rng, {"small": 70, "square": 6, "thin": 8, "wide": 5, "middle": 10, "none": 1})
    size = _size(rng, kind)
    stride = dilation = (1, 1)
    if chance(rng, 0.4):
        stride = one_of(rng, [(integer(rng, 1, 9),) * 2, tuple(rng.integers(1, 10, 2).tolist())])
    if chance(rng, 0.2):
        dilation = tuple(rng.integers(1, 4, 2).tolist())
    pads, padding = (0, 0, 0, 0), 0
    form = pick(rng, {"none": 65, "valid": 3, "int": 10, "pair": 14, "same": 8})
    if form == "valid":
        padding = "valid"
    elif form == "same":
        stride, padding = (1, 1), "same"
        y, x = (d * (k - 1) for d, k in zip(dilation, size, strict=True))
        pads = y // 2, y - y // 2, x // 2, x - x // 2
    elif form != "none":
        y, x = rng.integers(0, 5, 2).tolist()
        y, padding = (x, x) if form == "int" else (y, (y, x))
        pads = y, y, x, x
    geometry = Geometry(size, stride, dilation, pads)
    more = {"square": (0, 0), "thin": (0, 6), "wide": (0, 3), "middle": (0, 30), "none": (-9, 3)}
    low, high = more.get(kind, (0, 10))
    image = []
    for axis in (0, 1):
        room, step = sum(pads[2 * axis : 2 * axis + 2]), stride[axis]
        over = 1 - step if chance(rng, 0.12) and kind != "square" else low
        image.append(max(1, geometry.extent[axis] + integer(rng, min(over, high), high) - room))
    if kind == "wide":
        image[1] = max(image[1], integer(rng, 200, 2000))
    if kind == "square" and chance(rng, 0.5):
        return Geometry(size), size, 0
    return geometry, (image[0], image[1]), padding


def _size(rng: Rng, kind: str) -> tuple[int, int]:
    if kind == "thin":
        size = [1, integer(rng, 1, 60)]
        return tuple(size if chance(rng, 0.5) else size[::-1])  # type: ignore[return-value]
    if kind == "wide":
        return integer(rng, 1, 3), integer(rng, 1, 70)
    if kind == "middle":
        return integer(rng, 5, 20), integer(rng, 5, 20)
    return integer(rng, 1, 6), integer(rng, 1, 8)


def _numbers(
    rng: Rng, geometry: Geometry, image_size: tuple[int, int], metric: str
) -> tuple[tuple[int, ...], int, int]:
    """Draw the batch, channels, and templates (0 for one without that axis): as few as needed."""
    leading = () if chance(rng, 0.5) else (pick(rng, {0: 1, 1: 8, 2: 4, 3: 3}),)
    templates = 0 if chance(rng, 0.4) else pick(rng, {1: 4, 2: 3, 3: 2, integer(rng, 4, 9): 3})
    channels = 3 if metric == "hsv" else pick(rng, {1: 4, 3: 4, integer(rng, 1, 5): 3})
    windows = math.prod(max(1, n) for n in geometry.windows(image_size))
    most = (MANY if chance(rng, 0.01) else FEW) / (windows * math.prod(geometry.size))
    while math.prod([max(1, n) for n in (*leading, templates, channels)]) > most:
        if templates > 1:
            templates = (templates + 1) // 2 if templates > 2 else 1
        elif leading and leading[0] > 1:
            leading = (1,)
        elif channels > 1 and metric != "hsv":
            channels = 1
        else:
            break
    return leading, channels, templates


def _spoiled(rng: Rng, image: Tensor, kernel: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    if dtype.is_floating_point:
        if image.numel() and chance(rng, 0.12):
            image = draws.spoil(rng, image)
        if chance(rng, 0.03):
            kernel = draws.spoil(rng, kernel)
    return image, kernel


def _weight(rng: Rng, kernel: Tensor, metric: str) -> Tensor | None:
    if not chance(rng, 0.35):
        return None
    shape = tuple(kernel.shape)
    shapes = [shape[-2:]]
    if metric != "hsv":  # whose channels don't count by themselves
        shapes += [shape[-3:], shape]
    weight = draws.weights(rng, shapes, chance(rng, 0.5))
    laid_out = draws.laid_out(rng, weight)
    some = laid_out.double().expand(kernel.shape).flatten(-3).amax(-1) > 0
    return laid_out if bool(some.all()) else weight


def _data_range(rng: Rng, dtype: torch.dtype, metric: str, values: draws.Values) -> float | None:
    if metric in ("hue", "hue_l1", "hsv"):
        if dtype in INTEGERS:
            top = max(1.0, float(values.high))
            return top if dtype is torch.int16 or chance(rng, 0.3) else None
        return None
    if dtype is not torch.int16 and chance(rng, 0.6):
        return None
    if chance(rng, 0.05):
        return float(one_of(rng, [1e-30, 1e-160, 1e-310]))
    return one_of(rng, [1, 1.0, 3.0, 255.0, 4095, 0.3, 1e-3])


def check(case: Case) -> tuple[int, int]:
    """Compare with the oracle; return how many maps were computed, and refused."""
    patchsim.options.max_memory = case.max_memory
    torch.set_num_threads(case.threads)
    geometry = case.geometry
    if min(geometry.windows(tuple(case.image.shape[-2:]))) < 1:
        return _check_refused(case)
    question = _question(case)
    expected = answer(question)
    before = _copies(case)
    computed, refused = 0, 0
    bits: dict[str, Tensor] = {}
    for backend in case.backends:
        for kind in case.kinds:
            if _check_map(case, kind, backend, question, expected, bits):
                computed += 1
            else:
                refused += 1
    for now, then in zip(_copies(case), before, strict=True):
        require(bool(torch.equal(now, then)), "inputs were changed")
    return computed, refused


def _copies(case: Case) -> list[Tensor]:
    given = [case.image, case.kernel, case.arguments["weight"]]
    return [t.detach().clone().nan_to_num(7) for t in given if t is not None]


def _check_refused(case: Case) -> tuple[int, int]:
    try:
        compute(case, "similarity", case.backends[0])
    except ValueError as error:
        said = str(error)
        # Values may be refused before places are looked at.
        require(case.outside or "no window fits" in said, f"no window fits, and it says {said}")
        return 0, 1
    raise Violation("no window fits, and it isn't refused")


def _question(case: Case) -> Question:
    image, kernel = (values_of(t) for t in (case.image, case.kernel))
    image = image if image.ndim == 4 else image[None]
    kernel = kernel if kernel.ndim == 4 else kernel[None]
    weight, dtype = case.arguments["weight"], case.image.dtype
    span = case.data_range
    if span is None:
        span = 255.0 if dtype is torch.uint8 else 1.0
    return Question(
        image=image,
        kernel=kernel,
        weight=None if weight is None else weights_of(weight, kernel.shape),
        metric=case.metric,
        geometry=case.geometry,
        span=float(span),
        integer=dtype in INTEGERS,
    )


def compute(case: Case, kind: str, backend: str) -> Tensor:
    """Compute one map by patchsim."""
    arguments = {**case.arguments, "data_range": case.data_range, "backend": backend}
    if kind == "similarity":
        return patchsim.similarity(case.image, case.kernel, case.metric, **arguments)
    return patchsim.distance(case.image, case.kernel, case.metric, reduction=kind, **arguments)


def bounded(case: Case, kind: str, backend: str) -> Tensor:
    """Bound that map's errors by patchsim."""
    arguments = {**case.arguments, "data_range": case.data_range}
    reduction = "sum" if kind == "sum" else "mean"
    return patchsim.error_bound(
        case.image, case.kernel, case.metric, backend, reduction=reduction, **arguments
    )


def _check_map(
    case: Case,
    kind: str,
    backend: str,
    question: Question,
    expected: Answer,
    bits: dict[str, Tensor],
) -> bool:
    try:
        found = compute(case, kind, backend).detach()
        bound = bounded(case, kind, backend)
    except (ValueError, TypeError) as error:
        if case.outside or any(said in str(error) for said in REFUSALS):
            return False
        raise
    what = f"{kind} by {backend}"
    shape = (
        *case.image.shape[:-3],
        *case.kernel.shape[:-3],
        *case.geometry.windows(tuple(case.image.shape[-2:])),
    )
    require(tuple(found.shape) == shape, f"{what}: shape {tuple(found.shape)}, not {shape}")
    require(tuple(bound.shape) == shape, f"{what}: bound of {tuple(bound.shape)}, not {shape}")
    require(bound.dtype is torch.float64, f"{what}: bound is {bound.dtype}")
    wanted = _dtype(case, kind, question)
    require(found.dtype is wanted, f"{what}: {found.dtype}, not {wanted}")
    _check_values(case, kind, what, found, bound, question, expected)
    if question.exact and backend != "lowrank":
        first = bits.setdefault(kind, found)
        same = torch.equal(first, found)
        require(same, f"{what}: not the same bits as by {case.backends[0]}")
    return True


def _dtype(case: Case, kind: str, question: Question) -> torch.dtype:
    own = case.image.dtype
    if kind != "sum":
        return own if own.is_floating_point else torch.float32
    if own.is_floating_point:
        # Half types are prepared in float32.
        return torch.promote_types(own, torch.float32) if case.metric in PREPARED else own
    return torch.int64 if question.exact else torch.float64


@np.errstate(all="ignore")
def _check_values(
    case: Case,
    kind: str,
    what: str,
    found: Tensor,
    bound: Tensor,
    question: Question,
    expected: Answer,
) -> None:
    statistic = case.metric in STATISTICS
    shape = expected.spoiled.shape
    numbers, limits = found.reshape(shape), bound.reshape(shape).double().numpy()
    spoiled = expected.spoiled
    if question.exact and kind == "sum":
        wrong = numbers.numpy().astype(object) != expected.sums
        _none(wrong, what, "sum of integers", numbers, expected.sums, limits)
        require(bool((limits == 0).all()), f"{what}: bound of exact sums isn't 0")
        return
    computed = numbers.to(torch.float64).numpy()
    exact, slack = _exact(case.metric, kind, question, expected)
    finite = np.isfinite(limits)
    if not question.integer:
        _none(spoiled & np.isfinite(computed), what, "NaN or inf is lost", numbers, exact, limits)
        _none(spoiled & finite, what, "bound of a spoiled window", numbers, exact, limits)
    lost = ~spoiled & finite & ~np.isfinite(computed)
    _none(lost, what, "not finite under a finite bound", numbers, exact, limits)
    sound = ~spoiled & finite
    off = abs(computed.astype(np.longdouble) - exact)
    _none(sound & ~(off <= limits + slack), what, "beyond the bound", numbers, exact, limits)
    if kind == "similarity":
        _none(sound & (computed > 1), what, "similarity above 1", numbers, exact, limits)
    else:
        _none(~spoiled & (computed < 0), what, "negative distance", numbers, exact, limits)
    _check_bounds(case, what, question, (numbers, exact, limits, off), spoiled)
    if question.exact and not statistic and case.metric != "rmse":
        near = 2.0**-24 * abs(exact) + 2.0**-50 * (1 + abs(exact)) + 2.0**-149
        _none(finite & (off > near), what, "more than one rounding off", numbers, exact, limits)


def _check_bounds(
    case: Case,
    what: str,
    question: Question,
    values: tuple[Any, Array, Array, Array],
    spoiled: Array,
) -> None:
    """Assert that bounds say something: of scores, and of ordinary values."""
    numbers, exact, limits, off = values
    sound = ~spoiled & np.isfinite(limits)
    if case.metric in ("ncc", "zncc", "ssim"):
        far = sound & _contrasting(case, question) & (off > 1e-4)
        _none(far, what, "far off in float32", numbers, exact, limits)
        _none(sound & (limits > 2), what, "bound of a score above 2", numbers, exact, limits)
    narrow = case.image.dtype in (torch.float16, torch.bfloat16)
    if case.ordinary and not narrow and case.data_range in (None, 1, 3.0, 255.0, 4095):
        lost = ~np.isfinite(limits) & ~spoiled
        _none(lost, what, "no bound for ordinary values", numbers, exact, limits)


def _contrasting(case: Case, question: Question) -> Array | bool:
    """Tell which windows of float32 differ enough to be told from others, as by OpenCV.

    The image's contrast is no less than 1 / 2500 of its values, a window's and the template's no
    less than a twentieth of the image's.
    """
    plain = question.weight is None and not any(case.geometry.pads)
    whole = min(case.geometry.windows(tuple(case.image.shape[-2:]))) > 0 and plain
    if case.image.dtype is not torch.float32 or not whole or not case.ordinary:
        return False
    image, kernel = (np.where(np.isfinite(v), v, 0) for v in (question.image, question.kernel))
    deviation = image.std((1, 2, 3), keepdims=True)
    enough = deviation >= abs(image).max((1, 2, 3), keepdims=True) / 2500
    windows = case.geometry.view(image).std((1, 4, 5))[:, None]
    templates = kernel.std((1, 2, 3))[:, None, None]
    near: Array = (windows >= deviation / 20) & (templates >= deviation / 20) & enough
    return near


def _exact(
    metric: str, kind: str, question: Question, expected: Answer
) -> tuple[Array, Array | float]:
    """Return the exact map, and how far rounding of the oracle can have moved it."""
    unit = 2.0**-64 if expected.mean.dtype == np.longdouble else 2.0**-53
    if metric in STATISTICS:
        exact = expected.similarity if kind == "similarity" else expected.mean
        return exact.astype(np.longdouble), expected.slack + 4 * unit * (1 + abs(exact))
    if kind == "sum":
        halves = expected.sums.astype(np.longdouble)
        return halves, expected.slack * abs(halves) + 2.0**-1070
    exact = 1 - expected.similarity if kind == "mean" else expected.similarity
    share = expected.slack + 16 * unit
    from_mean = share * (1 - expected.similarity)
    return exact.astype(np.longdouble), from_mean + 4 * unit * (1 + abs(exact)) + 2.0**-1070


def _none(wrong: Array, what: str, how: str, numbers: Any, exact: Array, limits: Array) -> None:
    """Assert that nothing is wrong anywhere, else say where."""
    if not wrong.any():
        return
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    raise Violation(
        f"{what}: {how}: {numbers[index].item()!r} at {index}, exact {float(exact[index])!r}, "
        f"bound {limits[index]!r} ({int(wrong.sum())} of {wrong.size} windows)"
    )
