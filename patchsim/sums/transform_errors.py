"""How far correlations by FFTs can be off: norms of images and templates, and what follows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from patchsim import bounds, options
from patchsim.sums.box import Array

#: Numbers of an image, and bytes of spectra, that are looked at together.
STRIP, SPECTRA = 2**19, 2**23

OfImages = tuple[float, float]
OfTemplates = tuple[Array, Array, Array]


def strips(image: Tensor) -> Iterator[Tensor]:
    """Cut an image (B, C, H, W) into some rows at a time."""
    batch, channels, height, width = image.shape
    step = max(1, STRIP // (batch * channels * width))
    yield from (image[:, :, top : top + step] for top in range(0, height, step))


def norms_of_images(parts: Iterable[Tensor]) -> OfImages:
    """Bound the norms of two tiles, given strips of the images that they are of.

    Two tiles, perhaps of two images, are transformed as one signal.
    """
    return largest_norms(sum(map(squares_and_sums, parts), start=np.zeros((2, 1))))


def squares_and_sums(part: Tensor) -> Array:
    """Sum squares and magnitudes of each image of a batch: (2, B)."""
    values = part.detach().double()
    both = values.square().sum((1, 2, 3)), values.abs().sum((1, 2, 3))
    return torch.stack(both).cpu().numpy()


def largest_norms(sums: Array) -> OfImages:
    """Turn sums over images into norms of two of them."""
    squares, magnitudes = 2 * sums.max(1)
    return float(squares) ** 0.5, float(magnitudes)


def norms_of_templates(kernel: Tensor, *, sharp: bool = True) -> OfTemplates:
    """Bound the norms of templates (N, C, h, w). It takes longer if `sharp`."""
    factors = kernel.detach().double().cpu().numpy()
    norm, total = norms(factors)
    return norm, total, gain(factors) if sharp else total


def norms(factors: Array) -> tuple[Array, Array]:
    """Return the 2-norms and the 1-norms of (N, C, h, w)."""
    return np.sqrt((factors * factors).sum((1, 2, 3))), abs(factors).sum((1, 2, 3))


def gain(factors: Array) -> Array:
    """Bound by what factor correlations with templates (N, C, h, w) lengthen images, (N,).

    That is the peak of √Σ|K|² over all frequencies, K being the spectra of a template's channels.
    It is sampled four times finer than the taps. As Σ|K|² is a trigonometric polynomial of a degree
    less than the taps, it is nowhere larger than √2 times its largest sample, on each axis (Ehlich
    and Zeller, Schwankung von Polynomen zwischen Gitterpunkten, 1964).
    """
    peaks, total = np.zeros(len(factors)), abs(factors).sum((1, 2, 3))
    for n, template in enumerate(factors):
        if _BYTES_OF_GAIN * template[0].size > options.max_memory // 2:
            return np.asarray(total)
        peaks[n] = _peak(template)
    found: Array = np.minimum((1 + 2.0**-20) * np.sqrt(2 * peaks), total)
    return found


#: Bytes of the spectra of a channel, and of what is made of them, for each of its taps.
_BYTES_OF_GAIN = 400


def _peak(template: Array) -> float:
    """Return the largest sample of Σ|K|² of a template (C, h, w), some channels at a time."""
    together = max(1, SPECTRA // (_BYTES_OF_GAIN * template[0].size))
    size, squares = [4 * length for length in template.shape[1:]], np.zeros(())
    for first in range(0, len(template), together):
        spectra = np.fft.rfft2(template[first : first + together], s=size)
        squares = squares + (spectra.real**2 + spectra.imag**2).sum(0)
    return float(squares.max())


def correlation_error(
    points: int,
    channels: int,
    dtype: torch.dtype,
    images: tuple[float, float],
    kernels: tuple[Array, Array, Array],
) -> Array:
    """Bound the error of a correlation by FFTs of so many points, (N,) in float64.

    images bound ‖p‖₂ and ‖p‖₁; kernels, (N,) each, ‖k‖₂, ‖k‖₁ and ‖p⋆k‖₂/‖p‖₂, which is at most
    ‖k‖₁ and at least ‖k‖₂. A transform of L points, each stage of which is a small DFT, errs by at
    most ε·‖x‖₂ with ε = 9·u·log₂ L (Higham, Accuracy and Stability of Numerical Algorithms, 2nd
    ed., theorem 24.2, whose constant for radix 2 is below 7 and grows less than the logarithm for
    radix 3, 4, 5 and 8). The forward transforms then contribute 2ε‖p‖₂‖k‖₂ by
    Cauchy-Schwarz, the products and the sum over C channels (C + 3)u‖p‖₂‖k‖₂, and the inverse
    transform, which acts on a signal of norm ‖p⋆k‖₂, another ε‖p⋆k‖₂. The factor 1.01 + ε√L covers
    terms of second order, as the inverse transform also acts on the spectra's errors (Coq:
    ``correlation_bound``, ``products_kappa``).
    """
    (image_norm, image_sum), (kernel_norm, kernel_sum, gain) = images, kernels
    info = torch.finfo(dtype)
    unit = info.eps / 2
    epsilon = 9 * unit * math.log2(max(2, points))
    error = (
        (1.01 + epsilon * math.sqrt(points))
        * image_norm
        * ((2 * epsilon + (channels + 3) * unit) * kernel_norm + epsilon * gain)
    )
    # Each of at most 10·L operations behind a number may underflow, by at most the least normal.
    error = error + 10 * points * info.tiny * (image_sum + kernel_sum + 2)
    # Spectra are at most ‖p‖₁ and ‖k‖₁, other intermediates L·‖p‖₂‖k‖₂ (twice that within a
    # complex product).
    largest = points * image_norm * kernel_norm
    safe = 2 * np.maximum(largest, np.maximum(image_sum, kernel_sum)) < info.max
    return bounds.where(safe, error)
