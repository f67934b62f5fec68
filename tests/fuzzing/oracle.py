"""The right answers, by NumPy over every window. It shares no code with patchsim.

Sums of integers are exact, in int64 or Python's integers. Floats of up to 32 bits are computed with
in float64, float64 and integers under real weights in extended precision, so that what rounding
adds here (`Answer.slack`) is far below the bounds that are checked.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, np.dtype[Any]]

INTEGERS = (torch.bool, torch.uint8, torch.int16)
#: Similarities of their own; the others are means of distances.
STATISTICS = ("ncc", "zncc", "ssim", "intersection")
#: Metrics of pixels that are prepared first, by how many values each becomes.
PREPARED = {"hue": 2, "hue_l1": 1, "hsv": 1}
DEGREES = {"l1": 1, "l2": 2, "rmse": 2, "l4": 4}
#: Numbers in a window's rows that are compared at a time.
TOGETHER = 2**19


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Steps between windows and between pixels of a window, and zeros at the top and the left."""

    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, bottom, left, right

    @property
    def extent(self) -> tuple[int, int]:
        rows, cols = (d * (k - 1) + 1 for k, d in zip(self.size, self.dilation, strict=True))
        return rows, cols

    def windows(self, image_size: tuple[int, ...]) -> tuple[int, int]:
        """Return how many windows there are, less than 1 where none fits."""
        (top, bottom, left, right), (height, width) = self.pads, image_size
        padded = height + top + bottom, width + left + right
        each = zip(padded, self.extent, self.stride, strict=True)
        rows, cols = (int((size - extent) / step) + 1 for size, extent, step in each)
        return rows, cols

    def view(self, values: Array) -> Array:
        """Lay out all windows of (B, C, H, W): (B, C, Ho, Wo, h, w)."""
        (rows, cols), (top, _, left, _) = self.windows(values.shape[2:]), self.pads
        height, width = (
            (count - 1) * step + extent
            for count, step, extent in zip((rows, cols), self.stride, self.extent, strict=True)
        )
        canvas = np.zeros((*values.shape[:2], height, width), dtype=values.dtype)
        inside = values[:, :, : max(0, height - top), : max(0, width - left)]
        canvas[:, :, top : top + inside.shape[2], left : left + inside.shape[3]] = inside
        every = np.lib.stride_tricks.sliding_window_view(canvas, self.extent, axis=(2, 3))
        (down, across), (dy, dx) = self.stride, self.dilation
        return every[:, :, ::down, ::across, ::dy, ::dx]


@dataclasses.dataclass(frozen=True)
class Answer:
    """Exact answers for all windows, (B, N, Ho, Wo).

    Attributes
    ----------
    sums : array
        Window sums; of a statistic its scores.
    mean : array
        Mean distances before a root or the like; of a statistic 1 − score.
    similarity : array
    slack : array
        How far rounding can have moved sums and means, as a share of them; of a statistic how far
        it can have moved scores.
    spoiled : array of bool
        Which windows hold a NaN or inf that counts.
    total : array (N,)
        What a template's pixels count together.
    """

    sums: Array
    mean: Array
    similarity: Array
    slack: Array
    spoiled: Array
    total: Array


@dataclasses.dataclass(frozen=True)
class Question:
    """Values as arrays: image (B, C, H, W), kernel and weight (N, C, h, w), weight may be None."""

    image: Array
    kernel: Array
    weight: Array | None
    metric: str
    geometry: Geometry
    span: float
    integer: bool

    @property
    def exact(self) -> bool:
        """Whether sums are integers."""
        masked = self.weight is None or bool(((self.weight == 0) | (self.weight == 1)).all())
        return self.integer and masked and self.metric not in PREPARED

    @property
    def unit(self) -> float:
        """The unit roundoff of the numbers computed with."""
        return float(np.finfo(self.image.dtype).eps) / 2 if self.image.dtype.kind == "f" else 0.0


def values_of(tensor: torch.Tensor) -> Array:
    """Return a tensor's values, in a type in which little is lost."""
    tensor = tensor.detach().resolve_neg()
    if tensor.dtype in INTEGERS:
        return tensor.to(torch.int64).numpy()
    values = tensor.to(torch.float64).numpy()
    return values.astype(np.longdouble) if tensor.dtype is torch.float64 else values


def weights_of(weight: torch.Tensor, shape: tuple[int, ...]) -> Array:
    """Expand a weight to (N, C, h, w)."""
    values = weight.detach().to(torch.float64).resolve_neg().numpy()
    per_template = values.ndim == 3 and len(values) == shape[0] and len(values) not in (1, shape[1])
    return np.broadcast_to(values[:, None] if per_template else values, shape)


@np.errstate(all="ignore")
def answer(question: Question) -> Answer:
    """Compute the exact answer."""
    question, spoils = _ready(question)
    per_template = [_of_template(question, spoils, n) for n in range(len(question.kernel))]
    values, slack, spoiled = (np.stack(each, 1) for each in zip(*per_template, strict=True))
    total = _totals(question)
    if question.metric in STATISTICS:
        return Answer(values, 1 - values, values, slack, spoiled, total)
    real = values.astype(np.longdouble) if values.dtype.kind in "iO" else values
    span = np.asarray(question.span, real.dtype) ** DEGREES.get(question.metric, 0)
    each = PREPARED.get(question.metric, 1) * total.astype(real.dtype)[:, None, None]
    mean = real / each / span
    return Answer(values, mean, 1 - finish(question.metric, mean), slack, spoiled, total)


def finish(metric: str, mean: Array) -> Array:
    """Return the distance of a mean."""
    if metric == "rmse":
        return np.sqrt(mean)
    # Three numbers a pixel, which differ by at most 4 in all.
    return mean * 3 / 4 if metric == "hsv" else mean


def _totals(question: Question) -> Array:
    if question.weight is None:
        return np.full(len(question.kernel), math.prod(question.kernel.shape[1:]))
    return question.weight.sum((1, 2, 3), dtype=np.longdouble)


def _ready(question: Question) -> tuple[Question, list[Array]]:
    """Replace what isn't finite by 0, and tell where it was, in image and kernel."""
    spoils = [np.zeros(values.shape, bool) for values in (question.image, question.kernel)]
    pair = [question.image, question.kernel]
    if pair[0].dtype.kind == "f":
        spoils = [~np.isfinite(values) for values in pair]
        pair = [np.where(s, 0, values) for s, values in zip(spoils, pair, strict=True)]
    elif not question.exact:
        pair = [values.astype(np.longdouble) for values in pair]
    elif question.metric == "l4" and max(int(abs(v).max(initial=0)) for v in pair) > 255:
        pair = [values.astype(object) for values in pair]
    if question.metric in PREPARED:
        pair = [_prepared(question, values) for values in pair]
    image, kernel = pair
    weight = question.weight
    if weight is not None:
        kind = np.dtype(np.int64) if question.exact else image.dtype
        weight = weight.astype(kind if kind.kind != "O" else np.int64)
    return dataclasses.replace(question, image=image, kernel=kernel, weight=weight), spoils


def _prepared(question: Question, values: Array) -> Array:
    """Turn hues into turns, and (h, s, v) into points of the cone."""
    span = values.dtype.type(question.span)
    if question.metric != "hsv":
        turns = np.fmod(values, span) / span
        return np.where(turns < 0, turns + 1, turns)
    hue, saturation, value = np.moveaxis(values, 1, 0)
    angle = 2 * _pi(values.dtype) * (np.fmod(hue, span) / span)
    chroma = (saturation / span) * (value / span)
    return np.stack([chroma * np.cos(angle), chroma * np.sin(angle), value / span], 1)


def _pi(dtype: np.dtype[Any]) -> Any:
    return 4 * np.arctan(dtype.type(1))


def _of_template(question: Question, spoils: list[Array], n: int) -> tuple[Array, ...]:
    """Return values, slack and what is spoiled, (B, Ho, Wo) each, some rows at a time."""
    geometry = question.geometry
    windows, spoiled = geometry.view(question.image), geometry.view(spoils[0])
    kernel = question.kernel[n][:, None, None]
    weight = None if question.weight is None else question.weight[n][:, None, None]
    counts = np.ones((), bool) if weight is None else weight > 0
    lost = bool((spoils[1][n][:, None, None] & counts).any())
    step = max(1, TOGETHER // max(1, windows[:, :, :1].size))
    rows = []
    for first in range(0, windows.shape[2], step):
        here = slice(first, first + step)
        own = windows[:, :, here]
        if question.metric in STATISTICS:
            found, slack = _SCORES[question.metric](own, kernel, weight, question)
        else:
            found, slack = _sums(own, kernel, weight, question)
        bad = (spoiled[:, :, here] & counts).any((1, 4, 5)) | lost
        rows.append((found, np.broadcast_to(slack, found.shape), bad))
    return tuple(np.concatenate(each, 1) for each in zip(*rows, strict=True))


def _sum(values: Array) -> Array:
    """Sum over a window, (B, C, Ho, Wo, h, w) -> (B, Ho, Wo)."""
    return values.sum((1, 4, 5))


def _sums(p: Array, k: Array, weight: Array | None, question: Question) -> tuple[Array, Any]:
    distances = _DISTANCES[question.metric](p, k)
    if weight is not None:
        distances = distances * weight
    # A number passes the sum and at most a dozen operations; prepared ones err absolutely.
    taps = k.size
    sums = _sum(distances)
    unit = 0.0 if question.exact else float(np.finfo(sums.dtype).eps) / 2
    slack = np.full(sums.shape, (taps + 24) * unit)
    if question.metric in PREPARED:
        heaviest = taps if weight is None else weight.sum()
        scale = 1 + max(float(abs(values).max(initial=0)) for values in (p, k)) ** 2
        slack = slack + np.where(sums > 0, 64 * unit * scale * float(heaviest) / sums, 0)
    return sums, slack.astype(float)


def _differ(p: Array, k: Array) -> Array:
    return (p != k).astype(p.dtype if p.dtype.kind == "f" else np.int64)


def _fourth(p: Array, k: Array) -> Array:
    squares = (p - k) * (p - k)
    return squares * squares


def _round(p: Array, k: Array) -> Array:
    """Return the squared distance on the unit circle, without cancellation."""
    sine = np.sin(_pi(p.dtype) * (p - k))
    return 4 * sine * sine


_DISTANCES = {
    "l1": lambda p, k: abs(p - k),
    "l2": lambda p, k: (p - k) * (p - k),
    "rmse": lambda p, k: (p - k) * (p - k),
    "l4": _fourth,
    "hamming": _differ,
    "hue": _round,
    "hue_l1": lambda p, k: 1 - abs(2 * abs(p - k) - 1),
    "hsv": lambda p, k: (p - k) * (p - k),
}


def _reals(p: Array, k: Array, weight: Array | None) -> tuple[Array, Array, Array, float]:
    """Return floats of all, and the rounding of a sum over a window."""
    kind = p.dtype if p.dtype.kind == "f" else np.dtype(np.longdouble)
    weights = np.ones_like(k, dtype=kind) if weight is None else weight.astype(kind)
    return p.astype(kind), k.astype(kind), weights, (k.size + 16) * float(np.finfo(kind).eps) / 2


def _quotient(numerator: Array, denominator: Array) -> Array:
    """Divide, 0 where the divisor is 0."""
    safe = np.where(denominator > 0, denominator, 1)
    return np.where(denominator > 0, numerator / safe, 0)


def _ncc(p: Array, k: Array, weight: Array | None, question: Question) -> tuple[Array, Any]:
    p, k, w, rounding = _reals(p, k, weight)
    norm = np.sqrt(_sum(w * p * p)) * np.sqrt(_sum((w * k * k)[None]))
    return _quotient(_sum(w * p * k), norm), 4 * rounding


def _centred(values: Array, weights: Array, axes: tuple[int, ...]) -> Array:
    """Subtract the weighted mean, twice: the second time what rounding left of it."""
    total = weights.sum(axes, keepdims=True)
    for _ in range(2):
        mean = _quotient((weights * values).sum(axes, keepdims=True), total)
        values = np.where(weights > 0, values - mean, 0)
    return values


def _flat(values: Array, weights: Array) -> Array:
    """Tell where each channel has one value only, (B, Ho, Wo)."""
    most = np.where(weights > 0, values, -np.inf).max((4, 5))
    least = np.where(weights > 0, values, np.inf).min((4, 5))
    return (most <= least).all(1)


def _zncc(p: Array, k: Array, weight: Array | None, question: Question) -> tuple[Array, Any]:
    p, k, w, rounding = _reals(p, k, weight)
    own, template = (_centred(values, w[None], (4, 5)) for values in (p, k[None]))
    norm = np.sqrt(_sum(w * own * own)) * np.sqrt(_sum(w * template * template))
    flat = _flat(p, w[None]) | _flat(k[None], w[None])
    scores = np.where(flat, 0, _quotient(_sum(w * own * template), norm))
    return scores, 8 * rounding


def _ssim(p: Array, k: Array, weight: Array | None, question: Question) -> tuple[Array, Any]:
    p, k, w, rounding = _reals(p, k, weight)
    total, every = w.sum(), (1, 4, 5)
    means = [_sum(w * values) / total for values in (p, k[None])]
    own, template = (_centred(values, w[None], every) for values in (p, k[None]))
    span = p.dtype.type(question.span)
    c1, c2 = (span / 100) ** 2, (3 * span / 100) ** 2
    energy = _sum(w * own * own) / total + _sum(w * template * template) / total
    covariance = _sum(w * own * template) / total
    divisor = means[0] ** 2 + means[1] ** 2 + c1
    luminance = (2 * means[0] * means[1] + c1) / divisor
    scores = luminance * (2 * covariance + c2) / (energy + c2)
    size = _sum(w * abs(p)) / total + _sum(w * abs(k[None])) / total
    return scores, 8 * rounding * (2 + size / np.sqrt(divisor)).astype(float)


def _intersection(
    p: Array, k: Array, weight: Array | None, question: Question
) -> tuple[Array, Any]:
    p, k, w, rounding = _reals(p, k, weight)
    least = np.minimum(p, k)
    whole = _sum((w * k)[None])
    scores = _quotient(_sum(w * least), whole)
    return scores, 2 * rounding * (1 + abs(scores)).astype(float)


_SCORES = {"ncc": _ncc, "zncc": _zncc, "ssim": _ssim, "intersection": _intersection}
