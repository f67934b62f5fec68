"""Random searches: every window of every template measured by the oracle, sorted and suppressed."""

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
from fuzzing.maps import REFUSALS, Violation, require
from fuzzing.oracle import (
    INTEGERS,
    PREPARED,
    STATISTICS,
    Answer,
    Array,
    Geometry,
    Question,
    answer,
    finish,
    values_of,
    weights_of,
)
from patchsim.metrics import METRICS

#: Numbers that are compared in a search: mostly few, now and then many.
FEW, MANY = 300_000, 4_000_000
UNIT = 2.0**-53


@dataclass
class Case:
    """Arguments of one search, and settings it is made under."""

    image: Tensor
    kernels: list[Tensor]
    weights: list[Tensor | None]
    metric: str
    stacked: bool
    stride: tuple[int, int]
    arguments: dict[str, Any]
    max_memory: int
    threads: int
    outside: bool  # values that may be refused

    def __str__(self) -> str:
        kernels = [tuple(k.shape) for k in self.kernels]
        weights = [w if w is None else (w.dtype, tuple(w.shape)) for w in self.weights]
        return (
            f"find {self.metric}: image {self.image.dtype} {tuple(self.image.shape)} strides "
            f"{self.image.stride()}, kernels {kernels}, weights {weights}, stride {self.stride}, "
            f"{self.arguments}, max_memory={self.max_memory}, {self.threads} threads"
        )


@dataclass(frozen=True)
class Windows:
    """All windows of an image that can match: arrays of one length, in order of place.

    ``least`` and ``most`` bound what patchsim may find to be their similarity.
    """

    distance: Array
    least: Array
    most: Array
    y: Array
    x: Array
    height: Array
    width: Array
    template: Array

    def overlaps(self, one: int) -> Array:
        """Return the intersection over union with one of them."""
        own = self.y[one], self.x[one], self.height[one], self.width[one]
        down = np.minimum(own[0] + own[2], self.y + self.height) - np.maximum(own[0], self.y)
        across = np.minimum(own[1] + own[3], self.x + self.width) - np.maximum(own[1], self.x)
        both = np.maximum(down, 0) * np.maximum(across, 0)
        overlaps: Array = both / (own[2] * own[3] + self.height * self.width - both)
        return overlaps


def draw(rng: Rng) -> Case:
    """Draw a search."""
    metric = one_of(rng, [*sorted(METRICS), "l1", "l2", "zncc"])
    dtype = pick(rng, draws.DTYPES)
    channels = 3 if metric == "hsv" else pick(rng, {1: 5, 3: 3, integer(rng, 1, 5): 2})
    kind = pick(rng, {"small": 70, "middle": 22, "large": 4, "thin": 4})
    image_size, sizes = _sizes(rng, kind)
    stride = (1, 1) if chance(rng, 0.7) else (integer(rng, 1, 5), integer(rng, 1, 5))
    many = kind == "large" and dtype is not torch.float64  # extended precision takes long
    sizes = _affordable(sizes, image_size, stride, channels, MANY if many else FEW)
    leading = () if chance(rng, 0.8) or kind == "large" else (integer(rng, 0, 3),)
    values = draws.Values(rng, dtype, metric)
    shapes = [(channels, *size) for size in sizes]
    image, kernels = draws.image_and_kernels(rng, values, (*leading, channels, *image_size), shapes)
    if dtype.is_floating_point and image.numel() and chance(rng, 0.06):
        image = draws.spoil(rng, image)
    weights = [_weight(rng, k, metric) for k in kernels]
    stacked = len(set(sizes)) == 1 and chance(rng, 0.6)
    if stacked:  # all weighted, or none
        weights = [weights[0]] * len(kernels)
    data_range = values.high if metric == "hsv" and dtype in INTEGERS else None
    if dtype is torch.int16 or (metric not in PREPARED and chance(rng, 0.2)):
        data_range = data_range or one_of(rng, [1, 4.0, 255, 32767.0])
    case = Case(
        image=draws.laid_out(rng, image),
        kernels=[draws.laid_out(rng, k) for k in kernels],
        weights=weights,
        metric=metric,
        stacked=stacked,
        stride=stride,
        arguments={
            "k": None if kind == "small" and chance(rng, 0.3) else integer(rng, 1, 12),
            "max_overlap": one_of(rng, [0, 0.25, 0.3, 0.3, 0.3, 1 / 3, 0.5, 1]),
            "data_range": None if data_range is None else float(max(data_range, 1)),
        },
        max_memory=int(2 ** rng.uniform(18, 28)) if chance(rng, 0.2) else 2**28,
        threads=pick(rng, {1: 8, 2: 1, 3: 1}),
        outside=any(values.outside(k) for k in kernels),
    )
    case.arguments["threshold"] = _threshold(rng, case, kind == "small")
    return case


def _sizes(rng: Rng, kind: str) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """Draw the image's size and the templates'."""
    count = pick(rng, {1: 6, 2: 3, 3: 2, 4: 1})
    if kind == "thin":
        long = integer(rng, 20, 2000)
        sizes = [(1, integer(rng, 1, min(60, long))) for _ in range(count)]
        return (1, long), sizes
    low, high, largest = {"small": (5, 36, 9), "middle": (24, 110, 20), "large": (120, 300, 40)}[
        kind
    ]
    image = integer(rng, low, high), integer(rng, low, high)
    sides = [
        (integer(rng, 1, min(largest, image[0])), integer(rng, 1, min(largest, image[1])))
        for _ in range(count)
    ]
    if chance(rng, 0.3):
        sides = [sides[0]] * count
    if chance(rng, 0.03):
        sides[0] = image
    return image, sides


def _affordable(
    sizes: list[tuple[int, int]],
    image: tuple[int, int],
    stride: tuple[int, int],
    channels: int,
    most: int,
) -> list[tuple[int, int]]:
    """Leave templates out that would take too many operations, but for the first."""
    kept, spent = [], 0.0
    for size in sizes:
        windows = math.prod((i - k) // s + 1 for i, k, s in zip(image, size, stride, strict=True))
        spent += windows * math.prod(size) * channels
        if not kept or spent <= most:
            kept.append(size)
    return kept


def _weight(rng: Rng, kernel: Tensor, metric: str) -> Tensor | None:
    if not chance(rng, 0.2):
        return None
    shape = tuple(kernel.shape)
    shapes = [shape[-2:]] if metric == "hsv" else [shape[-2:], shape]
    return draws.weights(rng, shapes, chance(rng, 0.5))


def _threshold(rng: Rng, case: Case, small: bool) -> float | None:
    """Draw a least similarity: none, a plain number, or that of one of the windows."""
    kind = pick(rng, {"none": 5, "plain": 3, "window": 2})
    if kind == "plain":
        return one_of(rng, [0.0, 0.5, 0.9, 1.0, -1.0, 2, -50])
    batch = case.image if case.image.dim() == 4 else case.image[None]
    if kind == "none" or not len(batch) or not small:
        return None
    [windows], _ = _windows(case, batch[:1])
    if not len(windows.y):
        return None
    score = _score(case.metric, windows.distance[integer(rng, 0, len(windows.y) - 1)])
    return float(score) if math.isfinite(score) else None


def check(case: Case) -> tuple[int, int]:
    """Compare with brute force; return how many searches ran, and were refused."""
    patchsim.options.max_memory = case.max_memory
    torch.set_num_threads(case.threads)
    before = [t.clone().nan_to_num(7) for t in (case.image, *case.kernels)]
    try:
        found = compute(case)
    except (ValueError, TypeError) as error:
        if case.outside or any(said in str(error) for said in REFUSALS):
            return 0, 1
        raise
    batch = case.image if case.image.dim() == 4 else case.image[None]
    every, exact = _windows(case, batch)
    for b, windows in enumerate(every):
        own = [m for m in found if m.batch == b]
        if exact:
            _check_exact(case, own, windows)
        else:
            _check_greedy(case, own, windows)
    _check_matches(case, found, batch)
    for now, then in zip((case.image, *case.kernels), before, strict=True):
        require(torch.equal(now.nan_to_num(7), then), "inputs were changed")
    return 1, 0


def compute(case: Case) -> Any:
    """Search by patchsim."""
    kernel: Any = torch.stack(case.kernels) if case.stacked else case.kernels
    weight: Any = None
    if any(w is not None for w in case.weights):
        weight = case.weights[0] if case.stacked else case.weights
    return patchsim.find(
        case.image, kernel, case.metric, stride=case.stride, weight=weight, **case.arguments
    )


@np.errstate(all="ignore")
def _windows(case: Case, batch: Tensor) -> tuple[list[Windows], bool]:
    """Measure all windows, and tell whether that is exactly what patchsim computes."""
    parts: list[list[list[Array]]] = [[] for _ in batch]
    exact = True
    for n, kernel in enumerate(case.kernels):
        question = _question(case, batch, n)
        found = answer(question)
        exact = exact and _is_exact(question, batch.dtype, found)
        distance, least, most = _interval(question, found, batch.dtype)
        for b, spoiled in enumerate(found.spoiled[:, 0]):
            rows, cols = np.nonzero(~spoiled)
            size = [np.full(len(rows), side) for side in kernel.shape[1:]]
            own = [values[b, 0][rows, cols] for values in (distance, least, most)]
            places = [rows * case.stride[0], cols * case.stride[1]]
            parts[b].append([*own, *places, *size, np.full(len(rows), n)])
    return [
        Windows(*(np.concatenate(each) for each in zip(*part, strict=True))) for part in parts
    ], exact


def _question(case: Case, batch: Tensor, n: int) -> Question:
    weight, kernel = case.weights[n], values_of(case.kernels[n])[None]
    span = case.arguments["data_range"]
    if span is None:
        span = 255.0 if batch.dtype is torch.uint8 else 1.0
    return Question(
        image=values_of(batch),
        kernel=kernel,
        weight=None if weight is None else weights_of(weight, kernel.shape),
        metric=case.metric,
        geometry=Geometry(tuple(kernel.shape[2:]), case.stride),
        span=span,
        integer=batch.dtype in INTEGERS,
    )


def _is_exact(question: Question, dtype: torch.dtype, found: Answer) -> bool:
    """Tell whether float64 holds all sums: of integers, and of labels."""
    if question.metric in STATISTICS or not question.exact:
        return False
    largest = max((int(abs(s)) for s in found.sums.flat), default=0)
    return largest < 2**53


def _interval(question: Question, found: Answer, dtype: torch.dtype) -> tuple[Array, Array, Array]:
    """Return distances as patchsim defines them, and bounds on the similarities it may find."""
    metric = question.metric
    if metric in STATISTICS:
        error = np.asarray(_ERRORS[metric](question), float) + found.slack + 16 * UNIT
        score = found.similarity.astype(float)
        # Where extended precision overflows, nothing is known.
        least, most = (
            np.where(np.isnan(v), w, v) for v, w in ((score - error, -9), (score + error, 9))
        )
        if metric in ("ncc", "zncc"):
            least, most = np.maximum(least, -1), np.minimum(most, 1)
        return 1 - score, least, most
    taps = question.kernel[0].size
    if question.exact:
        total = float(found.total[0])
        unit = total * float(question.span) ** _degree(metric) * (2 if metric == "hamming" else 1)
        distance = (2 if metric == "hamming" else 1) * found.sums.astype(float) / unit
    else:
        distance = found.mean.astype(float)
    error = (2 * taps + 40) * UNIT * distance + 2.0**-1000
    if metric in PREPARED:
        # Pixels are prepared in their own precision, that of their turns.
        rounding = 2.0**-24 if dtype not in (torch.float64, *INTEGERS) else UNIT
        if question.integer:
            rounding *= 1 + float(abs(question.image).max(initial=0)) / question.span
        error = error + 64 * rounding * (1 + distance)
    near = _finished(metric, np.maximum(distance - error, 0))
    far = _finished(metric, distance + error)
    return distance, 1 - far - 4 * UNIT * (1 + far), 1 - near + 4 * UNIT * (1 + near)


def _degree(metric: str) -> int:
    return {"l1": 1, "l2": 2, "rmse": 2, "l4": 4}.get(metric, 0)


def _finished(metric: str, distance: Array) -> Array:
    values: Array = finish(metric, distance)
    return values


def _score(metric: str, distance: float) -> float:
    return 1 - distance if metric in STATISTICS else 1 - float(finish(metric, np.float64(distance)))


def _moments(question: Question) -> tuple[Array, ...]:
    """Return windows, template, weights, and Σw·p² and Σw·k² around what is subtracted, in float64.

    Of floats it is each channel's mean for zncc, nothing else is centred.
    """
    p = question.geometry.view(
        np.nan_to_num(question.image.astype(float), nan=0, posinf=0, neginf=0)
    )
    k = np.nan_to_num(question.kernel.astype(float), nan=0, posinf=0, neginf=0)[:, :, None, None]
    w = (
        np.ones_like(k)
        if question.weight is None
        else question.weight.astype(float)[:, :, None, None]
    )
    if question.metric == "zncc" and not question.integer:
        middle = k.mean((4, 5), keepdims=True)
        p, k = p - middle, k - middle
    return p, k, w, (w * p * p).sum((1, 4, 5)), (w * k * k).sum((1, 4, 5))


def _rounding(question: Question) -> float:
    return (question.kernel[0].size + 16) * UNIT


def _error_of_zncc(question: Question) -> Array:
    """Bound a quotient of a covariance and variances, of which each errs by 3γ·(Σp² + Σk²)."""
    p, k, w, pp, kk = _moments(question)
    total = np.maximum(w.sum((4, 5), keepdims=True), 2.0**-1000)
    own = p - (w * p).sum((4, 5), keepdims=True) / total
    template = k - (w * k).sum((4, 5), keepdims=True) / total
    variances = (w * own * own).sum((1, 4, 5)), (w * template * template).sum((1, 4, 5))
    error = 3 * _rounding(question) * (pp + kk)
    each = 2 * error * (1 / variances[0] + 1 / variances[1])
    flat = [(values == values[..., :1, :1]).all((1, 4, 5)) for values in (p, k)]
    # Flat windows are told from others; but masked pixels may differ.
    known = (flat[0] | flat[1]) if question.weight is None else np.zeros_like(flat[0] | flat[1])
    bounded: Array = np.where(known, 0, np.minimum(np.nan_to_num(each, nan=2, posinf=2), 2))
    return bounded[:, None] if bounded.ndim == 3 else bounded


def _error_of_ncc(question: Question) -> Array:
    *_, pp, kk = _moments(question)
    error = 4 * _rounding(question) * (pp + kk) / np.sqrt(pp * kk)
    bounded: Array = np.minimum(np.where(pp * kk > 0, error, 0), 2)
    return bounded[:, None]


def _error_of_ssim(question: Question) -> Array:
    _, _, w, pp, kk = _moments(question)
    least = (question.span / 100) ** 2
    energy = (pp + kk) / np.broadcast_to(
        w, (1, *question.kernel.shape[1:2], 1, 1, *w.shape[4:])
    ).sum()
    bounded: Array = np.minimum(16 * _rounding(question) * (energy / least + 1), 2)
    return bounded[:, None]


def _error_of_intersection(question: Question) -> Array:
    p, k, w, *_ = _moments(question)
    size = (w * abs(p)).sum((1, 4, 5)) + (w * abs(k)).sum((1, 4, 5))
    whole = (w * k).sum((1, 4, 5))
    error = 4 * _rounding(question) * size / whole
    error = np.where(whole > 0, error, 0)
    return error[:, None]


_ERRORS = {
    "zncc": _error_of_zncc,
    "ncc": _error_of_ncc,
    "ssim": _error_of_ssim,
    "intersection": _error_of_intersection,
}


def _check_exact(case: Case, found: list[Any], windows: Windows) -> None:
    """Assert that matches are those of sorting by distance, row, column and template."""
    order = np.lexsort((windows.template, windows.x, windows.y, windows.distance))
    alive = np.ones(len(order), bool)
    least, k = case.arguments["threshold"], case.arguments["k"]
    expected = []
    for one in order:
        if len(expected) == k:
            break
        score = _score(case.metric, float(windows.distance[one]))
        if alive[one] and (least is None or score >= least):
            expected.append(
                (score, *(int(v[one]) for v in (windows.y, windows.x, windows.template)))
            )
            alive &= windows.overlaps(int(one)) <= case.arguments["max_overlap"]
    got = [(m.score, m.y, m.x, m.template) for m in found]
    places = [own[1:] for own in got], [own[1:] for own in expected]
    require(places[0] == places[1], f"matches {got[:6]}…, brute force {expected[:6]}…")
    for own, other in zip(got, expected, strict=True):
        near = abs(own[0] - other[0]) <= 4 * UNIT * (1 + abs(other[0]))
        require(near, f"score of a match {own}, brute force {other}")


def _check_greedy(case: Case, found: list[Any], windows: Windows) -> None:
    """Assert that each match is as good as any window that those before it leave."""
    index = {
        key: i
        for i, key in enumerate(
            zip(*(v.tolist() for v in (windows.template, windows.y, windows.x)), strict=True)
        )
    }
    alive, least = np.ones(len(windows.y), bool), case.arguments["threshold"]
    for m in found:
        one = index.get((m.template, m.y, m.x))
        if one is None:
            raise Violation(f"{m} is no window that can match")
        low, high = windows.least[one], windows.most[one]
        if not alive[one]:
            raise Violation(f"{m} overlaps a better match, or is found twice")
        if not low <= m.score <= high:
            raise Violation(f"{m} scores {low} to {high}")
        if least is not None and m.score < least:
            raise Violation(f"{m} is below the threshold")
        missed = alive & (windows.least > m.score)
        if missed.any():
            raise Violation(f"{m} before {_place(windows, missed)}")
        alive &= windows.overlaps(one) <= case.arguments["max_overlap"]
        alive[one] = False
    if case.arguments["k"] is None or len(found) < case.arguments["k"]:
        # Where squares overflow nothing is known, and nothing need be found.
        alive &= windows.most - windows.least < 2
        missed = alive & (windows.least > (-math.inf if least is None else least))
        require(not missed.any(), f"only {len(found)} matches, left out {_place(windows, missed)}")


def _place(windows: Windows, which: Array) -> str:
    if not which.any():
        return "nothing"
    one = int(np.flatnonzero(which)[0])
    return (
        f"template {windows.template[one]} at y={windows.y[one]}, x={windows.x[one]}, which scores "
        f"{windows.least[one]!r} to {windows.most[one]!r}"
    )


def _check_matches(case: Case, found: Any, batch: Tensor) -> None:
    """Assert that boxes lie in the image, and that order and numbers are those documented."""
    k = case.arguments["k"]
    for b in range(len(batch)):
        own = [m for m in found if m.batch == b]
        require(k is None or len(own) <= k, f"{len(own)} matches for k={k}")
        scores = [m.score for m in own]
        require(scores == sorted(scores, reverse=True), f"scores aren't in order: {scores[:9]}")
    require([m.batch for m in found] == sorted(m.batch for m in found), "images aren't in order")
    for m in found:
        height, width = case.kernels[m.template].shape[1:]
        require((m.height, m.width) == (height, width), f"{m} has another size")
        inside = 0 <= m.y <= batch.shape[2] - height and 0 <= m.x <= batch.shape[3] - width
        require(inside, f"{m} reaches beyond the image")
        require(math.isfinite(m.score), f"{m} has no score")
        if case.metric != "intersection":
            require(m.score <= 1, f"{m} scores above 1")
