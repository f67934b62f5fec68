"""Where is it? The best matches of templates, without those that overlap a better one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from patchsim.ambient import independent, plain, refuse_transforms
from patchsim.backends import Backend
from patchsim.call import Call, read
from patchsim.metrics import AnyMetric
from patchsim.problem import IntOrPair, problem_of
from patchsim.search.bank import Entry, bank
from patchsim.search.matches import Match, Matches
from patchsim.search.subpixel import refine
from patchsim.search.survey import Survey
from patchsim.weights import read_weight


@independent
def find(
    image: Tensor,
    kernel: Tensor | Sequence[Tensor],
    metric: str | AnyMetric = "l1",
    *,
    k: int | None = 1,
    threshold: float | None = None,
    max_overlap: float = 0.3,
    stride: IntOrPair = 1,
    weight: Tensor | Sequence[Tensor | None] | None = None,
    data_range: float | None = None,
    subpixel: bool = False,
    scales: Sequence[float] | None = None,
    angles: Sequence[float] | None = None,
    backend: str | Backend = "auto",
) -> Matches:
    """Find where templates are, best match first.

    Parameters
    ----------
    image : Tensor, shape (C, H, W) or (B, C, H, W)
        Each image of a batch is searched by itself.
    kernel : Tensor, shape (C, h, w) or (N, C, h, w), or a sequence of tensors (C, h, w)
        One template or several, whose sizes may differ.
    k : int, optional
        How many matches at most in an image, of all templates together; None for all that reach the
        threshold.
    threshold : float, optional
        Least similarity of a match.
    max_overlap : float
        Greedy non-maximum suppression: a window whose intersection over union with a better
        match exceeds this (0 to 1) is no match, whatever their templates.
    weight : Tensor, or a sequence of tensors and None, optional
        As in `similarity`; of a sequence of templates one for each.
    subpixel : bool
        Whether places are refined to fractions of a pixel, by parabolas through the scores of
        neighbouring windows. Of smooth images, accurate to about 0.1 pixels under l2 and zncc.
    scales, angles : sequence of float, optional
        Look for every template in these sizes and turned by these angles, in degrees
        counter-clockwise. Corners that a turned template leaves free don't count.
    metric, stride, data_range, backend
        As in `similarity`.

    Returns
    -------
    Matches
        Ordered by image, then distance; equally near ones by row, column and template (and by
        scale and angle, as given). Distances are summed directly, in float64 or exactly: a copy
        scores 1 on every backend. Windows with NaN or inf never match.

    Raises
    ------
    ValueError, TypeError
        As `similarity`, and for `k` below 1, `max_overlap` outside 0 to 1, scales that aren't
        positive, or as many weights as there aren't templates.

    Notes
    -----
    The result is that of measuring every window, sorting and suppressing. For l1, l2, rmse and zncc
    without weights most windows are left out by lower bounds from sums of blocks (see
    `patchsim.search.pruning` and `patchsim.search.correlated_blocks`) or, of colour images of
    floats, of channels (`patchsim.search.channel_sums`), wherever that is likely to be faster than
    their map. Otherwise time is that of the map, or of another in float64 where errors of float32
    leave too many windows of ncc, zncc, ssim or intersection. Memory is a map or two a template.

    Examples
    --------
    >>> image = torch.zeros(1, 6, 6, dtype=torch.uint8)
    >>> image[0, 2, 3] = 200
    >>> print(find(image, image[:, 1:4, 2:5]))
     score x y width height
    1.0000 2 1     3      3
    """
    if k is not None and k < 1:
        raise ValueError(f"`k` must be at least 1, got {k}")
    if not 0 <= max_overlap <= 1:
        raise ValueError(f"`max_overlap` must be between 0 and 1, got {max_overlap}")
    given = [kernel] if isinstance(kernel, Tensor) and kernel.dim() == 3 else list(kernel)
    if not given:
        raise ValueError("there is no template: `kernel` is empty")
    refuse_transforms("find")
    image, given = plain("image", image), [plain("kernel", own) for own in given]
    for own in given:
        problem_of(image, own, stride)
    image = image.detach()
    entries = bank(_entries(kernel, given, weight), scales, angles)
    least = -math.inf if threshold is None else threshold
    matches = []
    for batch, own in enumerate(image if image.dim() == 4 else [image]):
        survey = Survey(_calls(own, entries, metric, stride, data_range, backend), k)
        most = survey.directs[0].furthest(least)
        for found in survey.matches(most, max_overlap):
            entry, direct = entries[found.template], survey.directs[found.template]
            score = direct.score(found.distance)
            if score < least:
                continue
            y, x = found.row * direct.stride[0], found.col * direct.stride[1]
            height, width = direct.size
            match = Match(
                score, y, x, height, width, entry.template, entry.scale, entry.angle, batch
            )
            matches.append(refine(match, direct) if subpixel else match)
    return Matches(matches)


def _entries(
    kernel: Tensor | Sequence[Tensor],
    given: Sequence[Tensor],
    weight: Tensor | Sequence[Tensor | None] | None,
) -> list[Entry]:
    """List the templates with their weights, (C, h, w) each or None."""
    weights: Sequence[Tensor | None] = [None] * len(given)
    if isinstance(weight, Tensor) and isinstance(kernel, Tensor):
        weights = list(read_weight(weight, kernel if kernel.dim() == 4 else kernel[None])[0])
    elif isinstance(weight, Tensor):
        raise TypeError("`weight` must be a sequence, one for each template, as `kernel` is")
    elif weight is not None:
        if len(weight) != len(given):
            raise ValueError(f"`weight` has {len(weight)} entries for {len(given)} templates")
        weights = [
            None if w is None else read_weight(w, own[None])[0][0]
            for own, w in zip(given, weight, strict=True)
        ]
    return [
        Entry(own.detach(), w, n) for n, (own, w) in enumerate(zip(given, weights, strict=True))
    ]


def _calls(
    image: Tensor,
    entries: Sequence[Entry],
    metric: str | AnyMetric,
    stride: IntOrPair,
    data_range: float | None,
    backend: str | Backend,
) -> list[tuple[Call, list[int]]]:
    """Make one call of all templates of a size, and tell which they are."""
    groups: dict[tuple[torch.Size, bool], list[int]] = {}
    for n, entry in enumerate(entries):
        groups.setdefault((entry.kernel.shape, entry.weight is None), []).append(n)
    # Bounds from maps in half precision would leave many windows.
    dtype = image.dtype
    if dtype in (torch.float16, torch.bfloat16):
        dtype = torch.float32
    calls = []
    for members in groups.values():
        kernels = torch.stack([entries[n].kernel for n in members]).to(dtype)
        weights = [w for n in members if (w := entries[n].weight) is not None]
        weight = torch.stack(weights) if weights else None
        geometry = stride, 0, 1
        call = read(image[None].to(dtype), kernels, metric, geometry, weight, data_range, backend)
        calls.append((call.ready(), members))
    return calls
