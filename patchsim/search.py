"""Where is it? The best matches of a template, without those that overlap a better one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from patchsim.api import similarity
from patchsim.backends import Backend
from patchsim.metrics import AnyMetric
from patchsim.problem import IntOrPair, as_pair


@dataclass(frozen=True)
class Match:
    """A window that resembles a template.

    Attributes
    ----------
    score : float
        Its similarity, 1 for a perfect match.
    x, y : int
        Its left column and top row in the image, in pixels.
    width, height : int
        Its size in pixels.
    """

    score: float
    x: int
    y: int
    width: int
    height: int


def find(
    image: Tensor,
    kernel: Tensor,
    metric: str | AnyMetric = "l1",
    *,
    k: int | None = 1,
    threshold: float | None = None,
    max_overlap: float = 0.3,
    stride: IntOrPair = 1,
    weight: Tensor | None = None,
    data_range: float | None = None,
    backend: str | Backend = "auto",
) -> list[Match]:
    """Find where a template is, best match first.

    Parameters
    ----------
    image : Tensor, shape (C, H, W)
    kernel : Tensor, shape (C, h, w)
    k : int, optional
        How many matches at most; None for all that reach the threshold.
    threshold : float, optional
        Least similarity of a match.
    max_overlap : float
        Greedy non-maximum suppression: a window whose intersection over union with a better
        match exceeds this (0 to 1) is no match.
    metric, stride, weight, data_range, backend
        As in `similarity`.

    Returns
    -------
    list of Match
        Ordered by score; equal scores by row, then column. NaN never matches.

    Raises
    ------
    ValueError, TypeError
        As `similarity`, and for batches, `k` below 1 or `max_overlap` outside 0 to 1.

    Notes
    -----
    Time is that of the similarity map and O(Ho·Wo) for each match.

    Examples
    --------
    >>> image = torch.zeros(1, 6, 6, dtype=torch.uint8)
    >>> image[0, 2, 3] = 200
    >>> find(image, image[:, 1:4, 2:5])
    [Match(score=1.0, x=2, y=1, width=3, height=3)]
    """
    if image.dim() != 3 or kernel.dim() != 3:
        raise ValueError(
            "find takes one image (C, H, W) and one template (C, h, w), got shapes "
            f"{tuple(image.shape)} and {tuple(kernel.shape)}"
        )
    scores = similarity(
        image,
        kernel,
        metric,
        stride=stride,
        weight=weight,
        data_range=data_range,
        backend=backend,
    )
    size = kernel.shape[1], kernel.shape[2]
    return peaks(scores, size, stride, k=k, threshold=threshold, max_overlap=max_overlap)


def peaks(
    scores: Tensor,
    size: tuple[int, int],
    stride: IntOrPair = 1,
    *,
    k: int | None = 1,
    threshold: float | None = None,
    max_overlap: float = 0.3,
) -> list[Match]:
    """Pick matches from a similarity map, (Ho, Wo), of windows of `size` (height, width).

    The other parameters are those of `find`.
    """
    if k is not None and k < 1:
        raise ValueError(f"`k` must be at least 1, got {k}")
    if not 0 <= max_overlap <= 1:
        raise ValueError(f"`max_overlap` must be between 0 and 1, got {max_overlap}")
    sy, sx = as_pair("stride", stride, 1)
    overlapping = _overlapping(size, (sy, sx), max_overlap)
    reach = overlapping.shape[0] // 2, overlapping.shape[1] // 2
    lowest = -torch.inf if threshold is None else threshold
    left = scores.detach().double().nan_to_num(-torch.inf, torch.inf, -torch.inf)
    matches: list[Match] = []
    while k is None or len(matches) < k:
        row, col = divmod(int(left.argmax()), left.shape[1])
        score = float(left[row, col])
        if score == -torch.inf or score < lowest:
            break
        matches.append(Match(score, col * sx, row * sy, size[1], size[0]))
        top, before = max(0, row - reach[0]), max(0, col - reach[1])
        around = left[top : row + reach[0] + 1, before : col + reach[1] + 1]
        first = top - (row - reach[0]), before - (col - reach[1])
        around.masked_fill_(
            overlapping[
                first[0] : first[0] + around.shape[0], first[1] : first[1] + around.shape[1]
            ].to(left.device),
            -torch.inf,
        )
    return matches


def _overlapping(size: tuple[int, int], stride: tuple[int, int], max_overlap: float) -> Tensor:
    """Tell which offsets between two windows make them overlap too much; offset 0 is central."""
    sides = []
    for length, step in zip(size, stride, strict=True):
        reach = (length - 1) // step
        offsets = torch.arange(-reach, reach + 1, dtype=torch.float64) * step
        sides.append(length - offsets.abs())
    intersection = sides[0][:, None] * sides[1]
    overlapping = intersection / (2 * size[0] * size[1] - intersection) > max_overlap
    overlapping[overlapping.shape[0] // 2, overlapping.shape[1] // 2] = True
    return overlapping
