"""The functions users call, each a `Matcher` used once, and the named variants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from patchsim.backends import BACKENDS, Backend
from patchsim.finish import Reduction
from patchsim.matcher import Given, Matcher
from patchsim.metrics import METRICS, AnyMetric
from patchsim.planner import Plan
from patchsim.problem import DTYPES, IntOrPair, Padding, Problem
from patchsim.search.matches import Matches


def similarity(
    image: Tensor,
    kernel: Tensor,
    metric: str | AnyMetric = "l1",
    *,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    weight: Tensor | None = None,
    data_range: float | None = None,
    backend: str | Backend = "auto",
) -> Tensor:
    """Slide templates over images and measure how similar each window is.

    similarity = 1 − distance: 1 where window and template are the same, lower where they differ.
    ncc, zncc, ssim and intersection are similarities of their own.

    Parameters
    ----------
    image : Tensor, shape (C, H, W) or (B, C, H, W)
        float16, bfloat16, float32, float64, uint8, int16 or bool.
    kernel : Tensor, shape (C, h, w) or (N, C, h, w)
        One template or N, of the image's dtype and device.
    metric : str or Metric
        "l1" (mean absolute difference), "l2" (mean squared difference), "rmse" (its root), "l4",
        "hamming" (of labels), "hue", "hue_l1", "hsv", "ncc", "zncc", "ssim" or "intersection".
    stride, dilation : int or pair of int
        Steps between windows, and between the pixels of a window: (down, across).
    padding : int, pair of int, "valid" or "same"
        Zeros around the image, as in `torch.nn.functional.conv2d`.
    weight : Tensor, shape (h, w), (C, h, w) or (N, C, h, w), optional
        How much each pixel of the template counts, finite and not negative; a mask is its 0/1
        case. The mean is then the weighted one. Three sizes (N, h, w) are weights per template
        where N is not C. A constant: no gradient flows into it.
    data_range : float, optional
        Values are divided by it first. By default 1 for floats and bool, 255 for uint8; int16
        must name it.
    backend : str or Backend
        "auto" takes the fastest; a named one runs or raises.

    Returns
    -------
    Tensor, shape (Ho, Wo), with B and N before it where image and kernel have them: (B, N, Ho, Wo)
        Ho = int((H + padding − d·(h−1) − 1) / stride) + 1, the division truncated toward zero: a
        template larger than the image by less than a stride meets one window, completed with
        zeros. Of the image's dtype for floats, else float32.

    Raises
    ------
    TypeError
        For what isn't a tensor, dtypes that differ or aren't supported, int16 without data_range.
    ValueError
        For shapes, channels or devices that don't fit, a template that no window fits, an unknown
        metric or backend, a backend that can't compute the metric, or weights out of range.

    Notes
    -----
    Integers are exact on every backend: sums are computed without rounding, then divided. Floats
    are within `error_bound`. A NaN or inf in the image spoils the windows that hold it, no other.
    Autocast, a default device or dtype and subclasses of Tensor change nothing. Image and kernel
    have derivatives, backward and forward, as `torch.func` takes them, but for its vmap: give the
    whole batch.
    Time is O(B·N·C·Ho·Wo·h·w) for loop, unfold, shift, fused and conv2d, O(C·H·W·log(h·w)) per
    image and template for fft; memory beyond input and output stays under
    `patchsim.options.max_memory`.

    Examples
    --------
    >>> import torch
    >>> image = torch.zeros(1, 3, 3, dtype=torch.uint8)
    >>> image[0, 1, 2] = 255
    >>> similarity(image, image[:, 1:, 1:])
    tensor([[0.7500, 0.5000],
            [0.7500, 1.0000]])
    """
    given = Given(kernel, metric, stride, padding, dilation, weight, data_range, backend)
    return Matcher.once(given).similarity(image)


def distance(
    image: Tensor,
    kernel: Tensor,
    metric: str | AnyMetric = "l1",
    *,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    weight: Tensor | None = None,
    data_range: float | None = None,
    backend: str | Backend = "auto",
    reduction: Reduction = "mean",
) -> Tensor:
    """Slide templates over images and measure how far each window is from the template.

    Parameters
    ----------
    reduction : "mean" or "sum"
        "mean" divides by the number of values in a template (or their weight). "sum" gives the
        window sum itself in units of the input, whatever `data_range`: the SAD for l1, the SSD
        for l2 and rmse; in int64, exactly, for integers without real-valued weights. A metric of
        one's own whose d of integers isn't a whole number gives them in float64, as do hue, hue_l1
        and hsv, which give those of half types in float32.

    Returns
    -------
    Tensor
        Never negative. Shape, dtype, the other parameters and errors as in `similarity`.

    Examples
    --------
    >>> import torch
    >>> image = torch.tensor([[[0, 3, 5]]], dtype=torch.uint8)
    >>> distance(image, image[:, :, 1:2], "l2", reduction="sum")
    tensor([[9, 0, 4]])
    """
    given = Given(kernel, metric, stride, padding, dilation, weight, data_range, backend)
    return Matcher.once(given).distance(image, reduction=reduction)


def error_bound(
    image: Tensor,
    kernel: Tensor,
    metric: str | AnyMetric = "l1",
    backend: str | Backend = "auto",
    *,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    weight: Tensor | None = None,
    data_range: float | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Bound |computed − exact| before computing anything.

    Parameters
    ----------
    reduction : "mean" or "sum"
        "mean" bounds the error of `similarity` and of `distance`; "sum" that of
        ``distance(reduction="sum")``.

    Returns
    -------
    Tensor, float64, of the map's shape
        Infinite where the arithmetic may overflow, not finite where a window holds NaN or inf.
        For integers it is the rounding of the last division, and 0 for sums. The other parameters
        and errors are as in `similarity`.

    Notes
    -----
    The bounds assume that conv2d adds products, as it does on CPUs, and that FFTs obey Higham's
    theorem 24.2. They are a priori, hence loose: 10² to 10³ times the error met is normal.
    O(C·H·W·log(h·w)).
    """
    given = Given(kernel, metric, stride, padding, dilation, weight, data_range, backend)
    return Matcher.once(given).error_bound(image, reduction=reduction)


def plan(
    image: Tensor,
    kernel: Tensor,
    metric: str | AnyMetric = "l1",
    *,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    weight: Tensor | None = None,
) -> Plan:
    """Tell what ``backend="auto"`` would run and why; print it to read it.

    Parameters and errors as in `similarity`.
    """
    given = Given(kernel, metric, stride, padding, dilation, weight, data_range=1.0)
    return Matcher.once(given).plan(image)


def find(
    image: Tensor,
    kernel: Tensor | Sequence[Tensor],
    metric: str | AnyMetric = "l1",
    *,
    k: int | None = 1,
    k_each: int | None = None,
    threshold: float | None = None,
    max_overlap: float = 0.3,
    region: Sequence[int] | Sequence[Sequence[int]] | None = None,
    stride: IntOrPair = 1,
    weight: Tensor | Sequence[Tensor | None] | None = None,
    data_range: float | None = None,
    subpixel: bool = False,
    scales: Sequence[float] | None = None,
    angles: Sequence[float] | None = None,
    scale_range: tuple[float, float] | None = None,
    angle_range: tuple[float, float] | None = None,
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
    k_each : int, optional
        In place of `k`: how many matches at most of every template, each searched by itself, so
        that matches of different templates may overlap.
    threshold : float, optional
        Least similarity of a match.
    max_overlap : float
        Greedy non-maximum suppression: a window whose intersection over union with a better
        match exceeds this (0 to 1) is no match, whatever their templates.
    region : four ints, or four for each template, optional
        Where to look: x, y, width and height of a part of the image, which holds matches whole.
        Places stay those of the image. One for each template goes with `k_each`.
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
    scale_range, angle_range : (float, float), optional
        From the least to the greatest, in place of lists. Steps follow from a template's size: its
        corners move by at most 2 pixels from one pose to the next.
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
    `patchsim.search.pruning` and `patchsim.search.correlated_blocks`), wherever that is likely to
    be faster than their map. Otherwise time is that of the map. Memory is a map or two a template,
    as long as that is within `patchsim.options.max_memory`: beyond, parts are searched one by one.

    Examples
    --------
    >>> import torch
    >>> image = torch.zeros(1, 6, 6, dtype=torch.uint8)
    >>> image[0, 2, 3] = 200
    >>> print(find(image, image[:, 1:4, 2:5]))
     score x y width height
    1.0000 2 1     3      3
    """
    given = Given(
        kernel,
        metric,
        stride=stride,
        weight=weight,
        data_range=data_range,
        scales=scales,
        angles=angles,
        scale_range=scale_range,
        angle_range=angle_range,
        backend=backend,
    )
    return Matcher.once(given).find(
        image,
        k=k,
        k_each=k_each,
        threshold=threshold,
        max_overlap=max_overlap,
        region=region,
        subpixel=subpixel,
    )


@dataclass(frozen=True)
class Variant:
    """A metric computed by one backend; called like `similarity`.

    Attributes
    ----------
    metric, backend : str
    """

    metric: str
    backend: str

    def __str__(self) -> str:
        return f"{self.metric}_{self.backend}"

    def __call__(
        self,
        image: Tensor,
        kernel: Tensor,
        stride: IntOrPair = 1,
        *,
        padding: Padding = 0,
        dilation: IntOrPair = 1,
        weight: Tensor | None = None,
        data_range: float | None = None,
    ) -> Tensor:
        """Return ``similarity(image, kernel, self.metric, ..., backend=self.backend)``."""
        return similarity(
            image,
            kernel,
            self.metric,
            stride=stride,
            padding=padding,
            dilation=dilation,
            weight=weight,
            data_range=data_range,
            backend=self.backend,
        )


def variants() -> tuple[Variant, ...]:
    """Every pair of a metric and a backend that can compute it for some dtype.

    Examples
    --------
    >>> [str(variant) for variant in variants() if variant.metric == "l1"]
    ['l1_loop', 'l1_unfold', 'l1_shift', 'l1_fused', 'l1_values', 'l1_levels', 'l1_lowrank']
    """
    return tuple(
        Variant(metric.name, backend.name)
        for metric in METRICS.values()
        for backend in BACKENDS.values()
        if any(not backend.refuse(problem, metric.summed) for problem in _SMALLEST)
    )


#: One problem a dtype, to ask backends in general.
_SMALLEST = tuple(Problem(1, 1, (1, 1), 1, (1, 1), dtype=dtype) for dtype in DTYPES)
