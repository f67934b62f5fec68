"""Where is it? The best matches of templates, without those that overlap a better one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchsim import options, threads
from patchsim.ambient import plain
from patchsim.arguments import read, read_metric, refuse_negative
from patchsim.backends import Backend
from patchsim.bounds import finite_range
from patchsim.call import Call
from patchsim.metrics import AnyMetric, Statistic
from patchsim.problem import INTEGER_RANGES, IntOrPair, Pair, as_pair, check_pair, check_tensor
from patchsim.search.bank import Entry, Poses, bank
from patchsim.search.best_first import Found
from patchsim.search.direct import Direct
from patchsim.search.matches import Match, Matches, Skipped
from patchsim.search.parts import CANDIDATE, Part, Search, held
from patchsim.search.subpixel import refine
from patchsim.search.survey import Survey
from patchsim.search.wanted import Wanted
from patchsim.weights import read_weight

#: Kinds of images for which poses and what is made of them are kept.
KINDS = 8


class Searcher:
    """Templates in all their poses, to be found in images.

    Parameters
    ----------
    kernel, metric, stride, weight, data_range, backend
        As in `patchsim.find`.
    poses : Poses
        The sizes and angles that it asks for.
    """

    def __init__(
        self,
        kernel: Tensor | Sequence[Tensor],
        metric: str | AnyMetric,
        *,
        stride: IntOrPair,
        weight: Tensor | Sequence[Tensor | None] | None,
        data_range: float | None,
        poses: Poses,
        backend: str | Backend,
    ) -> None:
        self._given = [plain("kernel", own) for own in _templates(kernel)]
        if not self._given:
            raise ValueError("there is no template: `kernel` is empty")
        for own in self._given:
            check_tensor("kernel", own)
        self._entries = _entries(kernel, self._given, weight)
        self._poses = poses
        self._stride, self._more = as_pair("stride", stride, 1), (data_range, backend)
        self._metric = read_metric(metric)
        self._banks: dict[Any, tuple[_Kind | None, list[Skipped]]] = {}

    def matches(self, image: Tensor, wanted: Wanted) -> Matches:
        """Find the matches of every image of a batch."""
        for own in self._given:
            check_pair(image, own)
        image, count = image.detach(), len(self._entries)
        if not wanted.each:
            [(x, y, inside)] = wanted.insides(image, 1)
            return _moved(self._matches(inside, wanted, None), x, y)
        found: list[Match] = []
        skipped: list[Skipped] = []
        for only, (x, y, inside) in enumerate(wanted.insides(image, count)):
            own = _moved(self._matches(inside, wanted, only), x, y)
            found += own
            skipped += own.skipped
        # As a single search would order them.
        found.sort(key=lambda match: (match.batch, -match.score, match.y, match.x, match.template))
        return Matches(found, skipped)

    def _matches(self, image: Tensor, wanted: Wanted, only: int | None) -> Matches:
        """Find those of all templates, or of only one."""
        bank, skipped = self._bank(image, only)
        if bank is None:
            if only is None or len(self._entries) == 1:
                raise ValueError(_why_none_fits(skipped))
            return Matches((), skipped)
        matches = []
        for batch, own in enumerate(image if image.dim() == 4 else [image]):
            refuse_negative(self._metric, "image", own)
            searched = _Image(bank, own)
            for found in searched.matches(wanted.k, wanted.least, wanted.max_overlap):
                direct, top = searched.direct(found)
                score = float(direct.score(found.distance))
                if score < wanted.least:
                    continue
                match = _match(score, found, bank, batch)
                matches.append(refine(match, direct, top) if wanted.subpixel else match)
        return Matches(matches, skipped)

    def _bank(self, image: Tensor, only: int | None) -> tuple[_Kind | None, list[Skipped]]:
        """Make what images like this one need, once for a few kinds of image.

        That are the poses of all templates, or of only one, that fit, and their calls.
        """
        height, width = image.shape[-2:]
        around = image.device, options.max_memory, threads.count_threads()
        kind = (height, width), image.dtype, only, *around
        if kind not in self._banks:
            entries = self._entries if only is None else self._entries[only : only + 1]
            entries, skipped = bank(entries, self._poses, (height, width))
            if not entries:
                return None, skipped
            # No stride beyond the image leaves another window than the first.
            down, across = self._stride
            stride = min(down, height), min(across, width)
            own = image if image.dim() == 3 else image.new_zeros(image.shape[1:])
            made = _Kind(own, entries, self._metric, stride, *self._more)
            if len(self._banks) >= KINDS * len(self._entries):
                self._banks.clear()
            self._banks[kind] = made, skipped
            return made, skipped
        return self._banks[kind]


def _moved(matches: Matches, x: int, y: int) -> Matches:
    """Tell where matches in a region are in the image."""
    if x == y == 0:
        return matches
    return Matches(
        (replace(match, x=match.x + x, y=match.y + y) for match in matches), matches.skipped
    )


def _match(score: float, found: Found, kind: _Kind, batch: int) -> Match:
    y, x = int(found.row) * kind.stride[0], int(found.col) * kind.stride[1]
    entry = kind.entries[found.template]
    height, width = entry.kernel.shape[1:]
    pose = entry.template, entry.scale, entry.angle
    return Match(score, y, x, height, width, *pose, batch, entry.upright)


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


class _Kind:
    """Images (C, H, W) of one size and dtype, to be searched for templates of a bank."""

    def __init__(
        self,
        image: Tensor,
        entries: Sequence[Entry],
        metric: AnyMetric,
        stride: Pair,
        data_range: float | None,
        backend: str | Backend,
    ) -> None:
        self.entries, self.stride = entries, stride
        self.unit, self.memory = 1.0, options.max_memory
        if image.dtype not in INTEGER_RANGES and _scalable(metric):
            freely = isinstance(metric, Statistic) and metric.scalable  # whatever the data range is
            most = 120  # which float32 holds
            if image.dtype is torch.float64:
                most = 1000 if freely else 200
            self.unit = _unit([entry.kernel for entry in entries], most)
            if self.unit != 1 and not freely:
                data_range = self.unit * (1.0 if data_range is None else data_range)
        self.metric, self.more = metric, (data_range, backend)
        groups: dict[tuple[torch.Size, bool], list[int]] = {}
        for n, entry in enumerate(entries):
            groups.setdefault((entry.kernel.shape, entry.weight is None), []).append(n)
        self.groups = list(groups.values())
        self.shares = [self._whole(image, members) for members in self.groups]
        holding = sum(held(part.problem, part.metric) for part in self.shares)
        self.left = self.memory - holding
        self._calls: list[Call] = []
        if 2 * holding <= self.memory:
            pixels = self.pixels(image)
            calls = [self.call(pixels, members) for members in self.groups]
            self._calls = [replace(call, memory=self.left) for call in calls]

    def calls(self, image: Tensor) -> list[tuple[Call, list[int]]]:
        """Make a call of all windows of each size of templates; none if there is no room for it."""
        pixels = self.pixels(image)[None]
        each = zip(self._calls, self.groups, strict=False)
        return [(call.of(pixels).ready(), members) for call, members in each]

    def pixels(self, image: Tensor) -> Tensor:
        """Return an image as calls take it: in half precision bounds would leave many windows."""
        if image.dtype in (torch.float16, torch.bfloat16):
            image = image.float()
        return image if self.unit == 1 else image * self.unit

    def call(
        self, pixels: Tensor, members: Sequence[int], first: int = 0, last: int | None = None
    ) -> Call:
        """Make a call of templates of a size, in rows of their map from first to last."""
        kernels = torch.stack([self.entries[n].kernel for n in members])
        weights = [w for n in members if (w := self.entries[n].weight) is not None]
        weight = torch.stack(weights) if weights else None
        if last is not None:
            down = self.stride[0]
            pixels = pixels[:, first * down : (last - 1) * down + kernels.shape[2]]
        tensors, geometry = (pixels[None], self.pixels(kernels)), (self.stride, 0, 1)
        return read(*tensors, self.metric, geometry, weight, *self.more, bounds_only=True)

    def _whole(self, image: Tensor, members: list[int]) -> Part:
        """Describe all windows of templates of a size."""
        entry = self.entries[members[0]]
        weight = None if entry.weight is None else entry.weight[None]
        geometry = self.stride, 0, 1
        tensors = image[None], entry.kernel[None]
        call = read(*tensors, self.metric, geometry, weight, *self.more, bounds_only=True)
        problem = replace(call.problem, templates=len(members))
        return Part(tuple(members), 0, problem.map_size[0], problem, call.metric)


class _Image:
    """One image (C, H, W) to be searched for templates."""

    def __init__(self, kind: _Kind, image: Tensor) -> None:
        self.kind, self.image = kind, image
        self.directs: list[Direct] = []

    def matches(self, k: int | None, least: float, max_overlap: float) -> list[Found]:
        """Find k matches, or all, of at least that similarity: at once, or else in parts."""
        kind = self.kind
        if calls := kind.calls(self.image):
            survey = Survey(calls, k)
            self.directs = survey.directs
            most, room = survey.directs[0].furthest(least), kind.left // CANDIDATE
            found = survey.matches(most, max_overlap, room)
            if found is not None:
                return found
            del calls, survey
            self.directs = []
        make = partial(kind.call, kind.pixels(self.image))
        most = Direct(make([0], 0, 1).ready(), 0).furthest(least)
        sizes = np.array([entry.kernel.shape[1:] for entry in kind.entries])
        arguments = sizes, kind.stride, k, most, max_overlap, kind.memory
        return Search(make, kind.shares, *arguments).matches()

    def direct(self, found: Found) -> tuple[Direct, int]:
        """Return what measures windows around a match, and from which row of pixels on."""
        if self.directs:
            return self.directs[found.template], 0
        first = max(0, found.row - 1)
        pixels = self.kind.pixels(self.image)
        call = self.kind.call(pixels, [found.template], first, found.row + 2).ready()
        return Direct(call, 0), first * self.kind.stride[0]


def _scalable(metric: AnyMetric) -> bool:
    """Tell whether a search stays the same when image, templates and data range are multiplied."""
    if isinstance(metric, Statistic):
        return True
    return metric.prepare is None and metric.degree > 0


def _unit(kernels: Sequence[Tensor], most: int) -> float:
    """Return a power of 2 that makes templates about 1 if squares of their sums may underflow."""
    peak = max(max(map(abs, finite_range(kernel))) for kernel in kernels)
    exponent = math.frexp(peak)[1]
    return 1.0 if abs(exponent) < 30 else 2.0 ** -max(-most, min(exponent, most))
