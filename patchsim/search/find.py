"""Where is it? The best matches of templates, without those that overlap a better one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from numbers import Integral, Real

import numpy as np
import torch
from torch import Tensor

from patchsim import options
from patchsim.ambient import independent, plain, refuse_transforms
from patchsim.arguments import read
from patchsim.backends import Backend
from patchsim.bounds import finite_range
from patchsim.call import Call
from patchsim.metrics import METRICS, AnyMetric, Metric, Statistic
from patchsim.problem import INTEGER_RANGES, IntOrPair, Pair, as_pair, check_pair
from patchsim.search.bank import Entry, bank
from patchsim.search.best_first import Found
from patchsim.search.direct import Direct
from patchsim.search.matches import Match, Matches, Skipped
from patchsim.search.parts import CANDIDATE, Part, Search, held
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
        counter-clockwise. Corners that a turned template leaves free don't count, nor does the
        colour of pixels whose weight is 0. What is larger than the image then, or leaves no pixel,
        is left out, and listed in the result's `skipped`. No match reaches beyond the image: a
        template that overhangs it by less than a stride doesn't fit.
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
        As `similarity`, and for `k` below 1, `max_overlap` outside 0 to 1, no scales or angles,
        scales that aren't positive, as many weights as there aren't templates, or if no template
        fits the image in any scale and angle: it names the smallest sizes.

    Notes
    -----
    The result is that of measuring every window, sorting and suppressing. For l1, l2, rmse and zncc
    without weights most windows are left out by lower bounds from sums of blocks (see
    `patchsim.search.pruning` and `patchsim.search.correlated_blocks`) or, of colour images of
    floats, of channels (`patchsim.search.channel_sums`), wherever that is likely to be faster than
    their map. Otherwise time is that of the map, or of another in float64 where errors of float32
    leave too many windows of ncc, zncc, ssim or intersection. Memory is a map or two a template, as
    long as that is within `patchsim.options.max_memory`: beyond, parts are searched one by one.

    Examples
    --------
    >>> image = torch.zeros(1, 6, 6, dtype=torch.uint8)
    >>> image[0, 2, 3] = 200
    >>> print(find(image, image[:, 1:4, 2:5]))
     score x y width height
    1.0000 2 1     3      3
    """
    k = None if k is None else _count(k)
    least = -math.inf if threshold is None else _number("threshold", threshold)
    if not 0 <= (most_overlap := _number("max_overlap", max_overlap)) <= 1:
        raise ValueError(f"`max_overlap` must be between 0 and 1, got {max_overlap}")
    if not isinstance(subpixel, bool | np.bool_):
        raise TypeError(f"`subpixel` must be True or False, got {subpixel!r}")
    given = _templates(kernel)
    if not given:
        raise ValueError("there is no template: `kernel` is empty")
    refuse_transforms("find")
    image, given = plain("image", image), [plain("kernel", own) for own in given]
    for own in given:
        check_pair(image, own)
    image = image.detach()
    height, width = image.shape[-2:]
    entries, skipped = bank(
        _entries(kernel, given, weight),
        _numbers("scales", scales, 1.0),
        _numbers("angles", angles, 0.0),
        (height, width),
    )
    if not entries:
        raise ValueError(_why_none_fits(skipped))
    # No stride beyond the image leaves another window than the first.
    down, across = as_pair("stride", stride, 1)
    stride = min(down, height), min(across, width)
    matches = []
    for batch, own in enumerate(image if image.dim() == 4 else [image]):
        searched = _Image(own, entries, metric, stride, data_range, backend)
        for found in searched.matches(k, least, most_overlap):
            direct, top = searched.direct(found)
            score = float(direct.score(found.distance))
            if score < least:
                continue
            match = _match(score, found, entries[found.template], stride, batch)
            matches.append(refine(match, direct, top) if subpixel else match)
    return Matches(matches, skipped)


def _match(score: float, found: Found, entry: Entry, stride: Pair, batch: int) -> Match:
    y, x = int(found.row) * stride[0], int(found.col) * stride[1]
    height, width = entry.kernel.shape[1:]
    return Match(score, y, x, height, width, entry.template, entry.scale, entry.angle, batch)


def _count(k: object) -> int:
    """Read how many matches are wanted."""
    if isinstance(k, bool | np.bool_) or not isinstance(k, Integral):
        raise TypeError(f"`k` takes a whole number, or None for all matches; got {k!r}")
    if k < 1:
        raise ValueError(f"`k` must be at least 1, got {k}")
    return int(k)


def _number(name: str, value: object) -> float:
    """Read a number."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"`{name}` takes a number, got {value!r}")
    if math.isnan(value):
        raise ValueError(f"`{name}` takes a number, got nan")
    return float(value)


def _numbers(name: str, values: Iterable[float] | None, default: float) -> list[float]:
    """Read scales or angles."""
    if values is None:
        return [default]
    numbers = values.tolist() if isinstance(values, np.ndarray | Tensor) else values
    if isinstance(numbers, str) or not isinstance(numbers, Iterable):
        raise TypeError(f"`{name}` takes a sequence of numbers, such as [0.5, 1], got {values!r}")
    numbers = list(numbers)
    if not numbers:
        raise ValueError(f"`{name}` is empty: leave it out, or give one number at least")
    return [_number(name, number) for number in numbers]


def _templates(kernel: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """List the templates, of which tensors are checked no further."""
    if isinstance(kernel, Tensor):
        return list(kernel) if kernel.dim() == 4 else [kernel]
    if not isinstance(kernel, Sequence) or isinstance(kernel, str):
        raise TypeError(
            f"`kernel` must be a torch.Tensor, or a sequence of them; got {type(kernel).__module__}"
            f".{type(kernel).__qualname__}; torch.as_tensor converts arrays"
        )
    for own in kernel:
        if isinstance(own, Tensor) and own.dim() != 3:
            raise ValueError(
                f"each template of a sequence must have shape (C, h, w), got {tuple(own.shape)}"
            )
    return list(kernel)


def _why_none_fits(skipped: Sequence[Skipped]) -> str:
    """Say why, of the smallest templates."""
    smallest = sorted(skipped, key=lambda own: math.prod(own.size))
    reasons = list(dict.fromkeys(own.reason for own in smallest))
    more = f"; and {len(reasons) - 3} sizes more" if len(reasons) > 3 else ""
    return "; ".join(reasons[:3]) + more


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


class _Image:
    """One image (C, H, W) to be searched for templates."""

    def __init__(
        self,
        image: Tensor,
        entries: Sequence[Entry],
        metric: str | AnyMetric,
        stride: Pair,
        data_range: float | None,
        backend: str | Backend,
    ) -> None:
        self.image, self.entries, self.stride = image, entries, stride
        self.unit, self.memory = 1.0, options.max_memory
        own = METRICS.get(metric) if isinstance(metric, str) else metric
        if image.dtype not in INTEGER_RANGES and _scalable(own):
            freely = isinstance(own, Statistic) and own.scalable  # whatever the data range is
            most = 120  # which float32 holds
            if image.dtype is torch.float64:
                most = 1000 if freely else 200
            self.unit = _unit([entry.kernel for entry in entries], most)
            if self.unit != 1 and not freely:
                data_range = self.unit * (1.0 if data_range is None else data_range)
        self.metric, self.more = metric, (data_range, backend)
        self.directs: list[Direct] = []
        groups: dict[tuple[torch.Size, bool], list[int]] = {}
        for n, entry in enumerate(entries):
            groups.setdefault((entry.kernel.shape, entry.weight is None), []).append(n)
        self.groups = list(groups.values())

    def matches(self, k: int | None, least: float, max_overlap: float) -> list[Found]:
        """Find k matches, or all, of at least that similarity: at once, or else in parts."""
        memory, shares = self.memory, [self._whole(members) for members in self.groups]
        holding = sum(held(part.problem, part.metric) for part in shares)
        if 4 * holding <= 3 * memory:
            left = max(memory // 4, memory - holding)
            calls = [(replace(self._call(own), memory=left).ready(), own) for own in self.groups]
            survey = Survey(calls, k)
            self.directs = survey.directs
            most, room = survey.directs[0].furthest(least), left // CANDIDATE
            found = survey.matches(most, max_overlap, room)
            if found is not None:
                return found
            del calls, survey
            self.directs = []
        most = Direct(self._call([0], 0, 1).ready(), 0).furthest(least)
        sizes = np.array([entry.kernel.shape[1:] for entry in self.entries])
        arguments = sizes, self.stride, k, most, max_overlap, memory
        return Search(self._call, shares, *arguments).matches()

    def direct(self, found: Found) -> tuple[Direct, int]:
        """Return what measures windows around a match, and from which row of pixels on."""
        if self.directs:
            return self.directs[found.template], 0
        first = max(0, found.row - 1)
        call = self._call([found.template], first, found.row + 2).ready()
        return Direct(call, 0), first * self.stride[0]

    def _whole(self, members: list[int]) -> Part:
        """Describe all windows of templates of a size."""
        entry = self.entries[members[0]]
        weight = None if entry.weight is None else entry.weight[None]
        geometry = self.stride, 0, 1
        tensors = self.image[None], entry.kernel[None]
        call = read(*tensors, self.metric, geometry, weight, *self.more, bounds_only=True)
        problem = replace(call.problem, templates=len(members))
        return Part(tuple(members), 0, problem.map_size[0], problem, call.metric)

    def _call(self, members: Sequence[int], first: int = 0, last: int | None = None) -> Call:
        """Make a call of templates of a size, in rows of their map from first to last."""
        kernels = torch.stack([self.entries[n].kernel for n in members])
        weights = [w for n in members if (w := self.entries[n].weight) is not None]
        image, weight = self.image, torch.stack(weights) if weights else None
        if last is not None:
            down = self.stride[0]
            image = image[:, first * down : (last - 1) * down + kernels.shape[2]]
        # Bounds from maps in half precision would leave many windows.
        if image.dtype in (torch.float16, torch.bfloat16):
            image, kernels = image.float(), kernels.float()
        if self.unit != 1:
            image, kernels = image * self.unit, kernels * self.unit
        tensors, geometry = (image[None], kernels), (self.stride, 0, 1)
        return read(*tensors, self.metric, geometry, weight, *self.more, bounds_only=True)


def _scalable(metric: object) -> bool:
    """Tell whether a search stays the same when image, templates and data range are multiplied."""
    if isinstance(metric, Statistic):
        return True
    return isinstance(metric, Metric) and metric.prepare is None and metric.degree > 0


def _unit(kernels: Sequence[Tensor], most: int) -> float:
    """Return a power of 2 that makes templates about 1 if squares of their sums may underflow."""
    peak = max(max(map(abs, finite_range(kernel))) for kernel in kernels)
    exponent = math.frexp(peak)[1]
    return 1.0 if abs(exponent) < 30 else 2.0 ** -max(-most, min(exponent, most))
