"""fft: cross terms by real FFTs, the rest by box sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from patchsim import bounds, threads
from patchsim.backends.base import Backend, OfImage, Work
from patchsim.bounds import Flat
from patchsim.metrics.base import Metric, Scalar, Term
from patchsim.problem import Problem
from patchsim.sums import algebra, box, overlap_save
from patchsim.sums.box import Array, additions
from patchsim.sums.transform_errors import (
    OfImages,
    OfTemplates,
    correlation_error,
    norms,
    norms_of_images,
    norms_of_templates,
    strips,
)


def run(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Sum the metric's expansion: tile by tile on CPUs, else with one transform."""
    return bind(metric, problem, kernel, weight)(image)


def bind(metric: Metric, problem: Problem, kernel: Tensor, weight: Tensor | None) -> OfImage:
    """Prepare the spectra of templates, where there are tiles."""
    if overlap_save.can(metric, problem) and _rounds_well(metric, problem, kernel):
        return overlap_save.bind(metric, problem, kernel)

    def of_image(image: Tensor) -> Tensor:
        return algebra.window_sums(metric, problem, image, kernel, weight, correlate)

    return of_image


def _rounds_well(metric: Metric, problem: Problem, kernel: Tensor) -> bool:
    """Tell whether tiles' transforms of integers, in float64, err by less than one half."""
    if problem.value_range is None:
        return True
    if not _fits(metric, problem):
        return False
    if _rounds_any_well(metric, problem):
        return True
    points = math.prod(overlap_save.tile(problem))
    centred = kernel.numpy() - float(algebra.middle(problem, kernel, metric))
    return _error_of_terms(metric, problem, points, lambda g: norms(g(centred))) < 0.5


def _rounds_any_well(metric: Metric, problem: Problem) -> bool:
    """Tell whether they do, whatever the template."""
    points = math.prod(overlap_save.tile(problem))
    return _fits(metric, problem) and _error_of_any(metric, problem, points) < 0.5


@lru_cache(maxsize=512)
def _error_of_any(metric: Metric, problem: Problem, points: int) -> float:
    """Bound the error of integers' transforms, whatever the template."""
    taps = np.array([float(problem.taps)])

    def norms(g: Scalar) -> tuple[Array, Array]:
        peak = float(algebra.largest(g, problem, metric))
        return peak * np.sqrt(taps), peak * taps

    return _error_of_terms(metric, problem, points, norms)


def _error_of_terms(
    metric: Metric,
    problem: Problem,
    points: int,
    norms: Callable[[Scalar], tuple[Array, Array]],
) -> float:
    """Bound the error of integers' transforms; `norms` are those of g(template)."""
    return sum(
        abs(t.scale) * _error_of_tiles(t, metric, problem, points, norms(t.g))
        for t in metric.expansion
        if t.f is not None and t.g is not None
    )


def _error_of_tiles(
    term: Term, metric: Metric, problem: Problem, points: int, norms: tuple[Array, Array]
) -> float:
    """Bound the error of a term of integers; `norms` are those of its templates."""
    numbers = 2 * problem.channels * points  # two tiles make a signal
    largest = float(algebra.largest(term.f, problem, metric))
    images, kernels = (largest * numbers**0.5, largest * numbers), (*norms, norms[1])
    return float(correlation_error(points, problem.channels, torch.float64, images, kernels).max())


@lru_cache(maxsize=512)
def _fits(metric: Metric, problem: Problem) -> bool:
    """Tell whether float64 holds the sums of integers."""
    magnitudes = (
        abs(t.scale) * algebra.largest(t.f, problem, metric) * algebra.largest(t.g, problem, metric)
        for t in metric.expansion
    )
    return problem.taps * sum(magnitudes) <= 2**53


def correlate(
    problem: Problem, image: Tensor, kernel: Tensor, peaks: tuple[int, int] | None
) -> Tensor:
    """Cross-correlate; integers in float64, rounded to the integers that they must be."""
    if peaks is None:
        return _correlate(problem, image, kernel)
    return _exact(problem, image.double(), kernel.double())


def _correlate(problem: Problem, image: Tensor, kernel: Tensor) -> Tensor:
    """Multiply the spectra, summing channels before the one inverse transform per template."""
    (rows, cols), (dy, dx) = problem.extent, problem.dilation
    spread = kernel
    if (dy, dx) != (1, 1):
        spread = kernel.new_zeros((*kernel.shape[:2], rows, cols))
        spread[..., ::dy, ::dx] = kernel
    if overlap_save.plain(problem):
        return overlap_save.correlate(problem, image, spread)
    size = _transform_size(problem)
    image_spectrum = torch.fft.rfft2(image, s=size)  # (B, C, L, M)
    sums = []
    for template in spread:
        spectrum = (image_spectrum * torch.fft.rfft2(template, s=size).conj()).sum(1)
        sums.append(torch.fft.irfft2(spectrum, s=size))
    height, width = problem.image_size
    (sy, sx) = problem.stride
    # Where the window lies inside the image, circular and plain correlation are the same (Coq:
    # ``circular_is_plain``).
    return torch.stack(sums, 1)[..., : height - rows + 1 : sy, : width - cols + 1 : sx]


def _exact(problem: Problem, image: Tensor, kernel: Tensor) -> Tensor:
    """Correlate integers: rounding is exact where the error is below one half.

    Where the bound on the error is not, the operand with the larger values is split into
    high·2ᵇ + low, which halves its digits (Coq: ``nearest_integer_exact``, ``split_image``,
    ``split_template``).
    """
    if _error_of_integers(problem, image, kernel) < 0.5:
        return _correlate(problem, image, kernel).round().to(torch.int64)
    tops = [float(operand.abs().max()) for operand in (image, kernel)]
    if max(tops) <= 1:
        raise ValueError(
            f"fft can't be exact for an image of {problem.image_size} and a template of "
            f"{problem.kernel_size} pixels; use another backend"
        )
    base = 2.0 ** math.ceil(math.log2(max(tops) + 1) / 2)
    if tops[0] >= tops[1]:
        high = (image / base).round()
        upper = _exact(problem, high, kernel)
        lower = _exact(problem, image - base * high, kernel)
    else:
        high = (kernel / base).round()
        upper = _exact(problem, image, high)
        lower = _exact(problem, image, kernel - base * high)
    return int(base) * upper + lower


def _transform_size(problem: Problem) -> tuple[int, int]:
    return _fast_length(problem.image_size[0]), _fast_length(problem.image_size[1])


@lru_cache(maxsize=1024)
def _fast_length(length: int) -> int:
    """Find the least number of at least `length` whose prime factors are 2, 3 and 5."""
    odd = (3**i * 5**j for i, j in product(range(21), range(14)))
    return int(min(m << max(0, (-(-length // m) - 1).bit_length()) for m in odd))


def error(
    metric: Metric,
    problem: Problem,
    image: Tensor,
    kernel: Tensor,
    weight: Tensor | None,
) -> Tensor:
    """Bound the sums' error but for that of the transforms: see `alike`."""
    roundings = _roundings(metric, problem, _tiled(metric, problem, weight is None))
    return bounds.rounded(roundings, metric, problem, image, kernel, weight)


@bounds.overflowing
def alike(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Bound what the transforms err: (1, N, 1, 1)."""
    centre = algebra.middle(problem, kernel, metric)

    def centred(values: Tensor) -> Tensor:
        return (values.detach().to(problem.value_dtype) - centre).nan_to_num(0, 0, 0)

    taps, total = centred(kernel), np.zeros(len(kernel))
    for term in _transformed(metric, weight is None):
        f, g = term.f, term.g
        assert f is not None
        images = norms_of_images(f(centred(strip)) for strip in strips(image))
        factors = torch.ones_like(taps) if g is None else g(taps)
        factors = factors if weight is None else factors * weight
        total += term.scale * transforms_error(problem, images, norms_of_templates(factors))
    return torch.from_numpy(total).to(kernel.device)[None, :, None, None]


def flat(window: Flat, parts: tuple[Problem, ...]) -> Array:
    """Bound the same for windows of one colour, in images that are made of them."""
    metric, problem = window.metric, window.problem
    plain = window.weight is None
    tiled = _tiled(metric, problem, plain)
    pixels = max(_pixels(part, tiled) for part in parts)
    pixels = max(pixels, math.prod(problem.image_size))
    points = max(map(_points, parts))
    error = window.rounded(_roundings(metric, problem, tiled))
    for term in _transformed(metric, plain):
        assert term.f is not None
        values = term.f(window.pixels)
        factors = np.ones_like(window.kernel) if term.g is None else term.g(window.kernel)
        factors = factors if window.weight is None else window.weight * factors
        energies = pixels * float((values * values).sum())
        images = (2 * energies) ** 0.5, 2 * pixels * float(abs(values).sum())
        kernels = norms(factors)
        error += term.scale * correlation_error(
            points, problem.channels, problem.value_dtype, images, (*kernels, kernels[1])
        )
    return error


@lru_cache(maxsize=256)
def _transformed(metric: Metric, plain: bool) -> tuple[Term, ...]:
    """List the terms that take transforms, with the magnitudes of their scales."""
    return tuple(
        Term(abs(t.scale), t.f, t.g)
        for t in metric.expansion
        if t.f is not None and not (t.g is None and plain)
    )


def _tiled(metric: Metric, problem: Problem, plain: bool) -> bool:
    """Tell whether `overlap_save.window_sums` computes this, if there is no weight."""
    return plain and overlap_save.can(metric, problem)


def _roundings(metric: Metric, problem: Problem, tiled: bool) -> int:
    """Count the roundings of all but the transforms: of centring and of the other sums."""
    own = additions(problem)
    return bounds.expanded_roundings(metric, own if tiled else max(own, problem.taps))


def _pixels(problem: Problem, tiled: bool) -> int:
    """Return how many pixels of a channel are transformed at a time, at most."""
    whole = math.prod(problem.image_size)
    return min(whole, math.prod(overlap_save.tile(problem))) if tiled else whole


def _points(problem: Problem) -> int:
    """Return how many points transforms have at most."""
    return max(math.prod(_transform_size(problem)), math.prod(overlap_save.tile(problem)))


@bounds.overflowing
def _error_of_integers(problem: Problem, image: Tensor, kernel: Tensor) -> float:
    """Bound the error of a correlation of whole images of integers."""
    kernels = norms_of_templates(kernel, sharp=False)
    return float(transforms_error(problem, norms_of_images(strips(image)), kernels).max())


#: ‖p‖₂ and ‖p‖₁ of images, or bounds on them; ‖k‖₂, ‖k‖₁ and ‖p⋆k‖₂/‖p‖₂ of templates, (N,) each.
def transforms_error(problem: Problem, images: OfImages, kernels: OfTemplates) -> Array:
    """Bound the error of a correlation of whole images, which is more than that of tiles: (N,)."""
    dtype = torch.float64 if problem.value_range is not None else problem.value_dtype
    return correlation_error(_points(problem), problem.channels, dtype, images, kernels)


def work(problem: Problem, metric: Metric) -> Work:
    """Count what tiles take, or 5·L·log₂ L operations a complex transform of whole images.

    Half of that for a real one, and the products.
    """
    rows, cols = problem.map_size
    windows = problem.batch * problem.templates * rows * cols
    crosses, exact = metric.expansion.crosses, problem.value_range is not None
    itemsize = overlap_save.itemsize(problem)
    steps = 100 + 4 * problem.templates
    pixels = problem.batch * problem.channels * math.prod(problem.image_size)
    if overlap_save.can(metric, problem):
        # Beside the tiles: dividing a window's sums, and a pixel's part in sums over boxes.
        per_window, per_pixel = (50, 30) if itemsize == 4 else (70, 20)
        operations = crosses * math.ceil(overlap_save.effort(problem))
        operations += per_window * windows + per_pixel * pixels
        memory = 2 * windows + problem.batch * rows * cols + pixels * (not exact)
        memory = itemsize * (memory + overlap_save.memory(problem, crosses)) + box.memory(problem)
        if exact and not _rounds_any_well(metric, problem):
            memory = max(memory, _memory_by_terms(problem))
        return Work(operations, memory, steps)
    points = math.prod(_transform_size(problem))
    spectra = problem.channels * problem.templates
    transforms = problem.batch * (crosses * problem.channels + problem.templates)
    transforms += 2 * crosses * spectra  # of templates both halves of the spectrum are computed
    transform = 5 * math.ceil(math.log2(points + 1)) // 2
    operations = points * (transforms * transform + 12 * crosses * problem.batch * spectra)
    planes = problem.batch * problem.channels * points
    saved = 2 * problem.grad * problem.templates
    memory = itemsize * ((8 + saved) * planes + 2 * problem.channels * points + 5 * windows)
    if overlap_save.plain(problem):
        memory = _memory_by_terms(problem)
    return Work(operations + 20 * windows, memory, steps)


def _engine(problem: Problem, metric: Metric) -> str:
    """Name the way: tiles that each hold all terms, tiles of one term, or whole images by torch."""
    if overlap_save.can(metric, problem):
        return "tiles"
    return "tiles by terms" if overlap_save.plain(problem) else "whole images"


def _memory_by_terms(problem: Problem) -> int:
    """Estimate the bytes of terms one by one, each by tiles; those of integers may be split."""
    exact, itemsize = problem.value_range is not None, overlap_save.itemsize(problem)
    pixels = problem.batch * problem.channels * math.prod(problem.image_size)
    windows = problem.batch * problem.templates * math.prod(problem.map_size)
    memory = (12 if exact else 6) * pixels + (10 if exact else 5) * windows
    memory += 4 * pixels // problem.channels
    return itemsize * (memory + overlap_save.memory(problem, 1))


#: Effort (see `overlap_save`), and sums of all templates, beyond which it pays to hand a band to
#: another thread, beside the work that threads share in each.
_WORTH_SHARING, _WHOLE = 22_000_000, 2**18


def _windows(problem: Problem, metric: Metric) -> int:
    """A band for each thread, of so few windows that their sums lie in the cache when divided.

    However large the template: neighbouring bands share rows, but their transforms get smaller.
    """
    rows, cols = problem.map_size
    whole = problem.batch * rows * cols
    if problem.templates * whole <= _WHOLE:
        return whole
    if overlap_save.can(metric, problem) and overlap_save.effort(problem) < _WORTH_SHARING:
        return whole
    share = -(-problem.batch * rows // threads.count_threads()) * cols
    return min(2**22 // problem.templates, share)


FFT = Backend(
    name="fft",
    run=run,
    error=error,
    refuse=algebra.refuse,
    work=work,
    memory="spectra of a tile",
    rates={
        "float32": (1100, 0.02),
        "float64": (1000, 0.037),
        "uint8": (1000, 0.026),
        "int16": (1000, 0.026),
    },
    windows=_windows,
    bind=bind,
    parallel=True,
    flat=flat,
    alike=alike,
    engine=_engine,
    mixed=overlap_save.can,
)
