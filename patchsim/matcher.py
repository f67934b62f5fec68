"""Matcher: templates that are bound once and slid over many images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active as _functions_active
from torch.autograd import forward_ad

from patchsim import options, threads
from patchsim.ambient import independent, plain, refuse_transforms
from patchsim.arguments import Geometry, Templates, of_counts, read_templates
from patchsim.backends import BACKENDS, Backend
from patchsim.backends.base import OfImage
from patchsim.call import data_range_of
from patchsim.finish import Reduction, check_reduction
from patchsim.metrics import METRICS, AnyMetric
from patchsim.planner import Plan, make_plan
from patchsim.problem import IntOrPair, Padding, as_pair, name_of
from patchsim.search.find import Searcher
from patchsim.search.matches import Matches
from patchsim.search.wanted import Wanted, poses_of

#: Kinds of images, by size and dtype, for which a matcher keeps what it prepared.
KINDS = 8


@dataclass(eq=False)
class Given:
    """What a matcher is made of, as it was given: see `Matcher`."""

    kernel: Any
    metric: str | AnyMetric
    stride: IntOrPair = 1
    padding: Padding = 0
    dilation: IntOrPair = 1
    weight: Any = None
    data_range: float | None = None
    backend: str | Backend = "auto"
    scales: Sequence[float] | None = None
    angles: Sequence[float] | None = None
    scale_range: tuple[float, float] | None = None
    angle_range: tuple[float, float] | None = None

    @property
    def geometry(self) -> Geometry:
        """Stride, padding and dilation."""
        return self.stride, self.padding, self.dilation

    @property
    def poses(self) -> tuple[Any, ...]:
        """What `poses_of` takes."""
        return self.scales, self.angles, self.scale_range, self.angle_range


class Matcher:
    """Templates, a metric and a geometry, prepared once and used on many images.

    Parameters
    ----------
    kernel : Tensor, shape (C, h, w) or (N, C, h, w), or a sequence of tensors (C, h, w)
        Copied, so that it may change afterwards. A sequence, whose sizes may differ, is for `find`.
    metric, stride, padding, dilation, weight, data_range, backend
        As in `patchsim.similarity`. Of a sequence of templates `weight` is one, too.
    scales, angles, scale_range, angle_range : optional
        As in `patchsim.find`, for which they are: maps are of the templates as they are given.

    Raises
    ------
    TypeError, ValueError
        As `patchsim.similarity` and `patchsim.find`.

    Notes
    -----
    What depends on an image's size and dtype is worked out when the first such image is met, and
    kept for the next ones, for up to 8 kinds at a time. Several threads may use a matcher at the
    same time. It can be pickled, as its arguments. Templates that require gradients are prepared
    for each image anew.

    Examples
    --------
    >>> frames = torch.zeros(2, 1, 5, 5, dtype=torch.uint8)
    >>> frames[0, 0, 1, 2] = frames[1, 0, 3, 1] = 200
    >>> matcher = Matcher(frames[0, :, 0:3, 1:4], "l2")
    >>> print(matcher)
    Matcher of 1 template of 1x3x3 uint8, metric 'l2'
    >>> [matcher.similarity(frame).argmax().item() for frame in frames]
    [1, 6]
    >>> [(match.y, match.x) for frame in frames for match in matcher.find(frame)]
    [(0, 1), (2, 0)]
    """

    def __init__(
        self,
        kernel: Tensor | Sequence[Tensor],
        metric: str | AnyMetric = "l1",
        *,
        stride: IntOrPair = 1,
        padding: Padding = 0,
        dilation: IntOrPair = 1,
        weight: Tensor | Sequence[Tensor | None] | None = None,
        data_range: float | None = None,
        scales: Sequence[float] | None = None,
        angles: Sequence[float] | None = None,
        scale_range: tuple[float, float] | None = None,
        angle_range: tuple[float, float] | None = None,
        backend: str | Backend = "auto",
    ) -> None:
        kernel, weight = _copied(kernel), _copied(weight)
        given = Given(
            kernel,
            metric,
            stride,
            padding,
            dilation,
            weight,
            data_range,
            backend,
            scales,
            angles,
            scale_range,
            angle_range,
        )
        self._begin(given)
        # What is wrong should be said now, not at the first image.
        as_pair("stride", stride, 1)
        as_pair("dilation", dilation, 1)
        if not isinstance(padding, str):
            as_pair("padding", padding, 0)
        posed = any(own is not None for own in given.poses)
        if posed or any(isinstance(own, list | tuple) for own in (kernel, weight)):
            self._of_search()
        else:
            summed = self._of_maps().metric.summed
            if data_range is not None:
                data_range_of(data_range, given.kernel.dtype, summed.degree)

    @classmethod
    def once(cls, given: Given) -> Matcher:
        """Make a matcher that is used once, for which nothing is copied."""
        matcher = cls.__new__(cls)
        matcher._begin(given)
        return matcher

    def _begin(self, given: Given) -> None:
        self._given = given
        self._known: dict[tuple[Any, ...], OfImage] = {}
        self._templates: Templates | None = None
        self._searcher: Searcher | None = None

    @independent
    def similarity(self, image: Tensor) -> Tensor:
        """Measure how similar each window of an image is: see `patchsim.similarity`."""
        return self._map(image, "mean", True)

    @independent
    def distance(self, image: Tensor, *, reduction: Reduction = "mean") -> Tensor:
        """Measure how far each window of an image is: see `patchsim.distance`."""
        check_reduction(reduction)
        return self._map(image, reduction, False)

    @independent
    def error_bound(self, image: Tensor, *, reduction: Reduction = "mean") -> Tensor:
        """Bound |computed − exact| of an image's map: see `patchsim.error_bound`."""
        refuse_transforms("error_bound")
        check_reduction(reduction)
        return self._of_maps().call(plain("image", image)).bound(reduction)

    @independent
    def plan(self, image: Tensor) -> Plan:
        """Tell what would compute an image's map if the backend is "auto": see `patchsim.plan`."""
        call = self._of_maps().call(plain("image", image))
        return make_plan(call.problem, call.metric.summed)

    @independent
    def find(
        self,
        image: Tensor,
        *,
        k: int | None = 1,
        k_each: int | None = None,
        threshold: float | None = None,
        max_overlap: float = 0.3,
        region: Sequence[int] | Sequence[Sequence[int]] | None = None,
        subpixel: bool = False,
    ) -> Matches:
        """Find where the templates are in an image: see `patchsim.find`."""
        refuse_transforms("find")
        wanted = Wanted.read(k, k_each, threshold, max_overlap, region, subpixel)
        return self._of_search().matches(plain("image", image), wanted)

    def __repr__(self) -> str:
        given = self._given
        kernels = [given.kernel] if isinstance(given.kernel, Tensor) else list(given.kernel)
        number = sum(len(own) if own.dim() == 4 else 1 for own in kernels)
        sizes = dict.fromkeys("x".join(map(str, own.shape[-3:])) for own in kernels)
        of = f"{', '.join(sizes)} {name_of(kernels[0].dtype)}"
        metric, backend = (getattr(own, "name", own) for own in (given.metric, given.backend))
        more = {
            "stride": None if given.stride == 1 else given.stride,
            "padding": None if given.padding == 0 else given.padding,
            "dilation": None if given.dilation == 1 else given.dilation,
            "weight": None if given.weight is None else "given",
            "data_range": given.data_range,
            "scales": None if given.scales is None else len(given.scales),
            "angles": None if given.angles is None else len(given.angles),
            "scale_range": given.scale_range,
            "angle_range": given.angle_range,
            "backend": None if backend == "auto" else backend,
        }
        text = "".join(f", {name} {own!r}" for name, own in more.items() if own is not None)
        return f"Matcher of {number} template{'s' * (number != 1)} of {of}, metric {metric!r}{text}"

    def __getstate__(self) -> dict[str, Any]:
        given = self._given
        metric, backend = _named(given.metric, METRICS), _named(given.backend, BACKENDS)
        return vars(replace(given, kernel=_leaf(given.kernel), metric=metric, backend=backend))

    def __setstate__(self, arguments: dict[str, Any]) -> None:
        self._begin(Given(**arguments))

    def _map(self, image: Tensor, reduction: Reduction, similarity: bool) -> Tensor:
        image = plain("image", image)
        if not self._keeps(image):
            call = self._of_maps().call(image)
            return call.map(reduction, similarity=similarity)
        key = (
            image.shape,
            image.dtype,
            image.device,
            image.requires_grad and torch.is_grad_enabled(),
            reduction,
            similarity,
            options.max_memory,
            threads.count_threads(),
        )
        found = self._known.get(key)
        if found is None:
            call = self._of_maps().call(image)
            if of_counts(call.metric):
                return call.map(reduction, similarity=similarity)
            if len(self._known) >= KINDS:
                self._known.clear()
            found = call.of_image(reduction, similarity=similarity)
            self._known[key] = found
        return found(image)

    def _keeps(self, image: Tensor) -> bool:
        """Tell whether what is worked out for an image holds for the next one."""
        kernel = self._given.kernel
        both = isinstance(image, Tensor) and isinstance(kernel, Tensor)
        if torch.compiler.is_compiling() or not both:
            return False
        if image.is_nested or image.layout is not torch.strided:
            return False
        derived = kernel.requires_grad or forward_ad._current_level >= 0
        return not derived and not _functions_active()

    def _of_maps(self) -> Templates:
        """Read the templates for maps."""
        given, kernel = self._given, self._given.kernel
        if isinstance(kernel, list | tuple) and any(map(torch.is_tensor, kernel)):
            raise TypeError(
                "a map is of one tensor of templates; of a sequence, whose sizes may differ, there "
                "is only `find`. torch.stack joins those of one size"
            )
        if self._templates is None:
            more = given.geometry, given.weight, given.data_range, given.backend
            with _outside_of_inference():
                self._templates = read_templates(kernel, given.metric, *more)
        return self._templates

    def _of_search(self) -> Searcher:
        """Read the templates for searches."""
        if self._searcher is None:
            given = self._given
            _, padding, dilation = given.geometry
            if padding not in (0, "valid", (0, 0), [0, 0]) or dilation not in (1, (1, 1), [1, 1]):
                raise ValueError(
                    "`find` looks for templates inside the image, pixel by pixel: it takes neither "
                    f"`padding` (={padding!r}) nor `dilation` (={dilation!r})"
                )
            self._searcher = Searcher(
                given.kernel,
                given.metric,
                stride=given.stride,
                weight=given.weight,
                data_range=given.data_range,
                poses=poses_of(*given.poses),
                backend=given.backend,
            )
        return self._searcher


def _leaf(kernel: Any) -> Any:
    """Return templates apart from what they were computed from, which isn't copied with them."""
    if not isinstance(kernel, Tensor):
        return kernel
    return kernel.detach().requires_grad_(kernel.requires_grad)


def _named(own: Any, table: Mapping[str, Any]) -> Any:
    """Return the name of what everyone has; what is one's own is kept itself."""
    name = own if isinstance(own, str) else own.name
    return name if isinstance(own, str) or table.get(name) is own else own


def _outside_of_inference() -> AbstractContextManager[Any]:
    """Make tensors that may be part of a gradient later on; what is traced isn't kept."""
    compiling = torch.compiler.is_compiling()
    return nullcontext() if compiling else torch.inference_mode(mode=False)


def _copied(given: Any) -> Any:
    """Copy tensors, so that those who gave them may change theirs."""
    if isinstance(given, Tensor):
        with _outside_of_inference():
            return given.clone()
    return list(map(_copied, given)) if isinstance(given, list | tuple) else given
