"""Every metric × dtype × weights × backend × function: right, or refused in words.

The oracle is one loop over windows in float64. Half of a pair of values never rounds: images hold
multiples of 1/64, which every dtype of floats has.
"""

import itertools
import re
import zlib

import numpy as np
import pytest
import torch

import patchsim
from patchsim.backends import BACKENDS
from patchsim.metrics import METRICS

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
DTYPES = [*FLOATS, torch.uint8, torch.int16, torch.bool]
WEIGHTS = {
    "none": None,
    "mask": torch.tensor([[1, 0], [1, 1], [0, 1]]),
    "real": torch.tensor([[0.5, 2.0], [0, 1.5], [3, 0.25]]),
}
SPANS = {torch.uint8: 255, torch.int16: 1000}
#: Metrics that are sums over a window, of the values themselves.
SUMMED = {"l1": 1, "l2": 2, "rmse": 2, "l4": 4, "hamming": 0}


def distance(metric, p, k, w, span):
    """The distance of one window: (C, h, w) each, in float64."""
    whole = w.sum()
    if metric in SUMMED:
        mean = total(metric, p, k, w) / whole / span ** SUMMED[metric]
        return np.sqrt(mean) if metric == "rmse" else mean
    if metric == "hue":
        return (w * (1 - np.cos(2 * np.pi * (p - k) / span))).sum() / whole
    if metric == "hue_l1":
        apart = abs(p / span % 1 - k / span % 1)
        return (w * 2 * np.minimum(apart, 1 - apart)).sum() / whole
    if metric == "hsv":
        apart = abs(cone(p / span) - cone(k / span))
        return (w[0] * (apart**2).sum(0)).sum() / w[0].sum() / 4
    return 1 - score(metric, p, k, w, span)


def total(metric, p, k, w):
    if metric == "hamming":
        return (w * (p != k)).sum()
    return (w * abs(p - k) ** SUMMED[metric]).sum()


def cone(colour):
    hue, saturation, value = colour
    return np.array([saturation * value * np.exp(2j * np.pi * hue), value])


def score(metric, p, k, w, span):
    if metric == "intersection":
        return quotient((w * np.minimum(p, k)).sum(), (w * k).sum())
    if metric == "ssim":
        a, b = (w * p).sum() / w.sum(), (w * k).sum() / w.sum()
        variances = (w * (p - a) ** 2).sum() / w.sum() + (w * (k - b) ** 2).sum() / w.sum()
        covariance = (w * (p - a) * (k - b)).sum() / w.sum()
        c, d = (0.01 * span) ** 2, (0.03 * span) ** 2
        return (2 * a * b + c) / (a * a + b * b + c) * (2 * covariance + d) / (variances + d)
    if metric == "zncc":
        own = w.sum((1, 2), keepdims=True)
        p = p - (w * p).sum((1, 2), keepdims=True) / own
        k = k - (w * k).sum((1, 2), keepdims=True) / own
    return quotient((w * p * k).sum(), np.sqrt((w * p * p).sum() * (w * k * k).sum()))


def quotient(x, y):
    return x / y if y > 1e-9 else 0.0


def over_windows(measure, metric, image, kernel, w, *more):
    _, h, width = kernel.shape
    rows, cols = image.shape[1] - h + 1, image.shape[2] - width + 1
    weights = np.broadcast_to(
        np.ones((h, width)) if w is None else w.double().numpy(), kernel.shape
    )
    return np.array(
        [
            [
                measure(metric, image[:, y : y + h, x : x + width], kernel, weights, *more)
                for x in range(cols)
            ]
            for y in range(rows)
        ]
    )


def tensors(metric, dtype):
    """An image (3, 9, 8) and a template (3, 3, 2), which isn't a part of it."""
    random = np.random.default_rng(zlib.crc32(f"{metric} {dtype}".encode()))
    top = 1 if dtype is torch.bool else SPANS.get(dtype, 64)
    labels = metric == "hamming" and dtype in FLOATS
    scale = 64 if dtype in FLOATS and not labels else 1
    return [
        torch.from_numpy(random.integers(0, 4 if labels else top + 1, size) / scale).to(dtype)
        for size in ((3, 9, 8), (3, 3, 2))
    ]


class Cell:
    """One combination, all of whose functions are compared with the oracle."""

    def __init__(self, metric, dtype, weighting, backend):
        self.name = f"{metric} of {dtype} by {backend}, weights: {weighting}"
        self.metric, self.dtype, self.backend = metric, dtype, backend
        self.image, self.kernel = tensors(metric, dtype)
        self.weight, self.span = WEIGHTS[weighting], SPANS.get(dtype, 1)
        self.whole = weighting != "real" and dtype not in FLOATS
        self.options = {"weight": self.weight, "backend": backend}
        if dtype is torch.int16:
            self.options["data_range"] = self.span
        values = self.image.double().numpy(), self.kernel.double().numpy(), self.weight
        self.distances = over_windows(distance, metric, *values, self.span)
        self.values = values

    def attempt(self, function, *tensors, **options):
        """Call a function; None if it refuses in words."""
        try:
            return function(*tensors, self.metric, **self.options, **options)
        except (TypeError, ValueError) as error:
            reason = str(error)
        assert re.search("can't compute|no backend can|is no sum", reason), (self.name, reason)
        return None

    def check(self):
        """Tell whether it was computed, as it must be if it wasn't refused."""
        bound = self.attempt(patchsim.error_bound, self.image, self.kernel)
        similarity = self.attempt(patchsim.similarity, self.image, self.kernel)
        if similarity is None:
            assert bound is None, self.name
            assert self.attempt(patchsim.distance, self.image, self.kernel) is None, self.name
            assert self.attempt(patchsim.find, self.image, self.kernel) is None, self.name
            return False
        apart = self.attempt(patchsim.distance, self.image, self.kernel)
        assert similarity.dtype is (self.dtype if self.dtype in FLOATS else torch.float32)
        self.near(similarity, 1 - self.distances, bound)
        self.near(apart, self.distances, bound)
        self.check_sums()
        self.check_search()
        if self.dtype in FLOATS:
            self.check_gradient()
        return True

    def near(self, found, exact, bound):
        error = abs(found.double().numpy() - exact)
        assert (error <= bound.numpy() + 1e-12 * (1 + abs(exact))).all(), (self.name, error.max())
        # Bounds are loose; what is computed isn't, where nothing but rounding is off.
        half = 8 * torch.finfo(self.dtype).eps if self.dtype in FLOATS else 0
        usual = np.inf if self.backend == "lowrank" else max(1e-4, half)
        assert (error <= usual * (1 + abs(exact))).all(), (self.name, error.max())

    def check_sums(self):
        sums = self.attempt(patchsim.distance, self.image, self.kernel, reduction="sum")
        if self.metric not in SUMMED:
            assert sums is None or bool(sums.isfinite().all()), self.name
            return
        exact = over_windows(total, self.metric, *self.values)
        bound = self.attempt(patchsim.error_bound, self.image, self.kernel, reduction="sum")
        assert (sums.dtype is torch.int64) == self.whole, self.name
        self.near(sums, exact, bound)

    def check_search(self):
        match = self.attempt(patchsim.find, self.image, self.kernel)[0]
        here = self.distances[match.y, match.x]
        assert here <= self.distances.min() + 1e-6, self.name
        assert abs(match.score - (1 - here)) <= 1e-6, self.name

    def check_gradient(self):
        """Along one direction, by a difference of the oracle's scores."""
        leaves = [t.clone().requires_grad_() for t in (self.image, self.kernel)]
        similarity = self.attempt(patchsim.similarity, *leaves)
        if similarity is None:
            assert not BACKENDS[self.backend].differentiable, self.name
            return
        similarity.sum().backward()
        slopes = [leaf.grad.double().numpy() for leaf in leaves]
        assert all(np.isfinite(slope).all() for slope in slopes), self.name
        if self.metric == "hamming":  # it jumps
            return
        random = np.random.default_rng(0)
        ways = [random.choice([-1.0, 1.0], slope.shape) for slope in slopes]
        scores = []
        for step in (2.0**-20, -(2.0**-20)):
            moved = [v + step * way for v, way in zip(self.values, ways, strict=False)]
            apart = over_windows(distance, self.metric, *moved, self.weight, self.span)
            scores.append(-apart.sum())
        expected = (scores[0] - scores[1]) / 2.0**-19
        found = sum((slope * way).sum() for slope, way in zip(slopes, ways, strict=True))
        size = sum(abs(slope).sum() for slope in slopes)
        tolerance = 8 * torch.finfo(self.dtype).eps * size + 1e-4 * (1 + size)
        assert abs(found - expected) <= tolerance, (self.name, found, expected, size)


def cells(metric):
    """All pairs of metric, dtype, weights and backend, and every dtype as it is by default."""
    m = list(METRICS).index(metric)
    names, weightings = list(BACKENDS), list(WEIGHTS)
    for b, backend in enumerate(names):
        yield DTYPES[(m + b) % len(DTYPES)], weightings[(m + 2 * b) % 3], backend
    for d, dtype in enumerate(DTYPES):
        yield dtype, weightings[(m + d) % 3], "auto"


QUICK = ("l1", "l2", "zncc")


@pytest.mark.parametrize(
    "metric", [pytest.param(m, marks=[pytest.mark.deep] * (m not in QUICK)) for m in METRICS]
)
def test_pairs_of_metric_dtype_weight_and_backend(metric):
    computed = [Cell(metric, *cell).check() for cell in cells(metric)]
    by_default = zip(DTYPES, computed[-len(DTYPES) :], strict=True)
    # Fourth powers of int16 exceed 64 bits.
    assert all(done or (metric, dtype) == ("l4", torch.int16) for dtype, done in by_default)


@pytest.mark.deep
@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_dtype_weight_and_backend(metric):
    for dtype, weighting, backend in itertools.product(DTYPES, WEIGHTS, BACKENDS):
        Cell(metric, dtype, weighting, backend).check()
