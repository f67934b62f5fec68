"""Window sums and their gradients on the CPU, by generated kernels over flat planes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchsim import threads
from patchsim.kernels import jit
from patchsim.kernels.expression import derivative, parse
from patchsim.kernels.phases import STRIDES
from patchsim.problem import Pair, name_of

#: Sums in one run of a kernel: with the pixels of a few taps they fit the first-level cache.
CHUNK = 2048

#: Bytes of an image that are split into phases at a time.
SPLIT = 2**22

#: Sums that could be computed in the time that a run takes to start.
START = 200

Offsets = np.ndarray[tuple[int], np.dtype[np.int64]]
Array = np.ndarray[Any, Any]


class Planes:
    """An image laid out so that each tap of a template is one shift of a flat array.

    With a stride the image is split into its phases, of which each holds every s-th row and
    column: neighbouring windows then read neighbouring pixels (Coq: ``phases``). Of strides longer
    than a window only the phases are kept that windows reach.

    Attributes
    ----------
    flat : array of one dimension
    pitch : int
        From one row of windows to the next.
    steps : tuple of int
        From one image, channel, phase of rows and phase of columns to the next.
    """

    def __init__(self, image: Tensor, stride: Pair, extent: Pair | None = None) -> None:
        self.stride = stride
        image = image.detach() if image.requires_grad else image
        to_image, to_channel, to_row, to_column = image.stride()
        if stride == (1, 1) and to_column == 1 and to_row >= image.shape[3]:
            self.pitch, self.steps = to_row, (to_image, to_channel, 0, 0)
            if not image.is_contiguous():
                last = zip(image.shape, image.stride(), strict=True)
                image = image.as_strided((1 + sum((n - 1) * step for n, step in last),), (1,))
            self.flat = image.numpy().reshape(-1)
        else:
            planes, self.pitch = phases(image, stride, extent or stride)
            _, channels, down, across, size = planes.shape
            self.steps = channels * down * across * size, down * across * size, across * size, size
            self.flat = planes.reshape(-1)

    def offsets(self, kernel_shape: torch.Size, dilation: Pair) -> Offsets:
        """Return where each of the C·h·w taps of the first window lies."""
        return _offsets(kernel_shape[1:], self.stride, dilation, self.steps[1:], self.pitch)


def phases(image: Tensor, stride: Pair, extent: Pair) -> tuple[np.ndarray[Any, Any], int]:
    """Split every sy-th row and sx-th column, as far as windows of that extent reach.

    Planes (B, C, sy or less, sx or less, rows·cols and a gap), cols.
    """
    pixels = image.numpy()
    shape, rows, cols, split = _phases(image.shape, image.dtype, stride, extent)
    planes = np.empty(shape, pixels.dtype)
    lines, operations = shape[0] * shape[1] * rows, 50 * planes.size
    if operations < threads.WORTH_SHARING:
        split(pixels, planes, stride, rows, cols, 0, lines)
    else:
        threads.share(partial(split, pixels, planes, stride, rows, cols), lines, operations)
    return planes, cols


@lru_cache(maxsize=256)
def _phases(
    shape: tuple[int, ...], dtype: torch.dtype, stride: Pair, extent: Pair
) -> tuple[tuple[int, ...], int, int, jit.Kernel]:
    """Return the shape of planes, the rows and columns of each, and what fills them."""
    (sy, sx), (batch, channels, height, width) = stride, shape
    rows, cols = -(-height // sy), -(-width // sx)
    down, across = (min(pair) for pair in zip(stride, extent, strict=True))
    # Planes that lie a multiple of 4096 bytes apart would compete for the same lines of the cache.
    page, line = 4096 // dtype.itemsize, 64 // dtype.itemsize
    gap = (9 * line - rows * cols) % page if rows * cols >= page else 0
    split = jit.phases(dtype, sx if sx == across and sx in STRIDES else 0)
    return (batch, channels, down, across, rows * cols + gap), rows, cols, split


@lru_cache(maxsize=256)
def _offsets(
    shape: tuple[int, ...], stride: Pair, dilation: Pair, steps: tuple[int, ...], pitch: int
) -> Offsets:
    channels = np.arange(shape[0])
    down, across = (d * np.arange(taps) for d, taps in zip(dilation, shape[1:], strict=True))
    to_channel, to_row_phase, to_column_phase = steps
    rows = down // stride[0] * pitch + down % stride[0] * to_row_phase
    cols = across // stride[1] + across % stride[1] * to_column_phase
    offsets = channels[:, None, None] * to_channel + rows[:, None] + cols
    flat: Offsets = offsets.reshape(-1).astype(np.int64)
    return flat


def enlarged(pixels: Array, more: Pair, value: int = 0) -> Array:
    """Add so many rows and columns of a value to images, which np.pad takes far longer for."""
    *outer, height, width = pixels.shape
    result = np.full((*outer, height + more[0], width + more[1]), value, pixels.dtype)
    result[..., :height, :width] = pixels
    return result


def sums(
    image: Tensor,
    kernel: Tensor,
    weight: Tensor | None,
    expression: str,
    stride: Pair,
    dilation: Pair,
) -> Tensor:
    """Sum weight·d(p, k) over every window of images on the CPU.

    Parameters
    ----------
    image : Tensor, shape (B, C, H, W)
        float32, float64, uint8 or int16, of any memory layout.
    kernel, weight : Tensor, shape (N, C, h, w), of the image's dtype
    expression : str
        d as a text that `patchsim.kernels.expression.parse` reads.
    stride, dilation : pair of int

    Returns
    -------
    Tensor, shape (B, N, Ho, Wo)
        Of the image's dtype for floats, int64 for integers.
    """
    return bind(image.shape, kernel, weight, expression, stride, dilation)(image)


def bind(
    image_shape: tuple[int, ...],
    kernel: Tensor,
    weight: Tensor | None,
    expression: str,
    stride: Pair,
    dilation: Pair,
) -> Callable[[Tensor], Tensor]:
    """Prepare `sums` of images of that shape."""
    of = image_shape, kernel.shape, kernel.dtype, weight is not None, expression, stride, dilation
    run = _run_of(*of, threads.count_threads())
    taps = _taps(kernel, weight)
    if run.order is not None:
        taps = [np.take(values, run.order, 1) for values in taps]
    return partial(run.at_once if run.whole else run.by_parts, taps)


class _Run:
    """What `sums` of such images and templates do, whatever these hold."""

    def __init__(
        self,
        image_shape: tuple[int, ...],
        kernel_shape: torch.Size,
        dtype: torch.dtype,
        weighted: bool,
        expression: str,
        stride: Pair,
        dilation: Pair,
        count: int,
    ) -> None:
        self.kernel_shape, self.stride, self.dilation = kernel_shape, stride, dilation
        self.shape, result = _sums(image_shape, kernel_shape, dtype, stride, dilation)
        self.name, nbytes = name_of(result), math.prod(image_shape) * dtype.itemsize
        self.run = jit.kernel(expression, "sums", weighted, dtype)
        taps, (rows, self.cols) = math.prod(kernel_shape[1:]), self.shape[2:]
        self.operations = 3 * math.prod(self.shape) * taps
        self.sharing = threads.sharing(self.operations)
        # The number of threads must not change the order in which floats are added; nor, where
        # there are rows enough for all, what runs there are: the last sums of a run may be added
        # otherwise.
        small = self.operations < threads.WORTH_SHARING and nbytes <= SPLIT
        self.whole = stride == (1, 1) or small
        self.order = None if self.whole else _by_phase(kernel_shape, stride, dilation)
        self.extent = _extent(kernel_shape, dilation)
        pitch, line = -(-image_shape[3] // stride[1]), nbytes // image_shape[2]
        self.block = _rows_in_a_run(rows, self.cols, pitch, self.sharing)
        # As many parts for each thread, of whole blocks.
        together = rows_at_a_time(SPLIT, line, stride[0], self.extent[0])
        parts = self.sharing * -(-rows // (self.sharing * together))
        self.most = self.block * -(-rows // (parts * self.block))

    def at_once(self, taps: list[Array], image: Tensor) -> Tensor:
        planes, result = Planes(image, self.stride, self.extent), np.empty(self.shape, self.name)
        rows = self.shape[2]
        block = _rows_in_a_run(rows, self.cols, planes.pitch, self.sharing)
        if self.sharing == 1 and self.operations <= threads.LONGEST:  # as it is oftenest
            self._add(taps, planes, result, 0, block, 0, rows)
        else:
            add = partial(self._add, taps, planes, result, 0, block)
            threads.share(add, rows, self.operations, block)
        return torch.from_numpy(result)  # torch takes longer to make a tensor

    def by_parts(self, taps: list[Array], image: Tensor) -> Tensor:
        result, down = np.empty(self.shape, self.name), self.stride[0]

        def split(first: int, last: int) -> None:
            """Split the pixels of some rows, which then lie in the cache, and compute these."""
            for top in range(first, last, self.most):
                bottom = min(top + self.most, last)
                lines = slice(top * down, (bottom - 1) * down + self.extent[0])
                planes = Planes(image[:, :, lines], self.stride, self.extent)
                self._add(taps, planes, result, top, self.block, top, bottom)

        threads.share(split, self.shape[2], self.operations, self.most)
        return torch.from_numpy(result)

    def _add(
        self,
        taps: list[Array],
        planes: Planes,
        result: Array,
        top: int,
        block: int,
        first: int,
        last: int,
    ) -> None:
        """Compute rows of sums, `block` in a run; planes begin with those of row `top`."""
        offsets = planes.offsets(self.kernel_shape, self.dilation)
        offsets = offsets if self.order is None else offsets[self.order]
        pitch, step = planes.pitch, planes.steps[0]
        for b in range(self.shape[0]):
            place = b, b * step - top * pitch, 0
            more = offsets, *taps, result, place, pitch, block, CHUNK
            self.run(planes.flat, *more, first, last)


@lru_cache(maxsize=256)
def _run_of(*of: Any) -> _Run:
    return _Run(*of)


def _extent(kernel_shape: torch.Size, dilation: Pair) -> Pair:
    """Return how many rows and columns of pixels a window covers."""
    down, across = (d * (n - 1) + 1 for d, n in zip(dilation, kernel_shape[2:], strict=True))
    return down, across


def rows_at_a_time(most: int, line: int, down: int, extent: int) -> int:
    """Choose of how many rows of windows, `down` apart, the pixels are rearranged together.

    Rows of pixels, of `line` bytes, should make at most so many bytes, which lie in the cache; but
    not be mostly those that the next windows take again.
    """
    return max(1, (most // line - extent) // down, extent // down)


@lru_cache(maxsize=256)
def _by_phase(kernel_shape: torch.Size, stride: Pair, dilation: Pair) -> Offsets:
    """Order taps so that those that meet one phase follow each other: it stays in the cache."""
    (_, channels, height, width), (sy, sx) = kernel_shape, stride
    c, y, x = np.indices((channels, height, width)).reshape(3, -1)
    y, x = y * dilation[0], x * dilation[1]
    order: Offsets = np.lexsort((x, y, x % sx, y % sy, c))
    return order


def _taps(*tensors: Tensor | None) -> list[np.ndarray[Any, Any]]:
    """Turn (N, C, h, w) into arrays of shape (N, C·h·w)."""
    given = (t.detach().numpy() for t in tensors if t is not None)
    return [np.ascontiguousarray(values.reshape(len(values), -1)) for values in given]


def _rows_in_a_run(rows: int, cols: int, pitch: int, sharing: int) -> int:
    """Choose how many rows of a map make one run.

    Short rows are joined, the pixels between them being computed in vain, where that takes less
    time than to start a run for each; but so that every thread that shares the work has some.
    """
    if pitch - cols >= START:
        return 1
    return max(1, min(-(-rows // sharing), CHUNK // pitch))


def empty_sums(image: Tensor, kernel: Tensor, stride: Pair, dilation: Pair) -> Tensor:
    """Allocate what `sums` returns."""
    shape, dtype = _sums(image.shape, kernel.shape, kernel.dtype, stride, dilation)
    return image.new_empty(shape, dtype=dtype)


def _sums(
    image_shape: Sequence[int],
    kernel_shape: Sequence[int],
    dtype: torch.dtype,
    stride: Pair,
    dilation: Pair,
) -> tuple[tuple[int, int, int, int], torch.dtype]:
    """Return shape and dtype of what `sums` returns."""
    (batch, _, height, width), (templates, _, h, w) = image_shape, kernel_shape
    rows = (height - dilation[0] * (h - 1) - 1) // stride[0] + 1
    cols = (width - dilation[1] * (w - 1) - 1) // stride[1] + 1
    dtype = dtype if dtype.is_floating_point else torch.int64
    return (batch, templates, rows, cols), dtype


def image_gradient(
    gradient: Tensor,
    image: Tensor,
    kernel: Tensor,
    weight: Tensor | None,
    expression: str,
    stride: Pair,
    dilation: Pair,
) -> Tensor:
    """Differentiate `sums` by the image: (B, C, H, W).

    A pixel collects, over the windows that hold it, the gradient (B, N, Ho, Wo) of the window's
    sum times ∂d/∂p at the tap that meets it: again a slide, of templates over gradients (Coq:
    ``sliding_image_gradient``).
    """
    (sy, sx), (batch, channels, height, width) = stride, image.shape
    pixels, cols = phases(image.detach(), stride, _extent(kernel.shape, dilation))
    planes = torch.from_numpy(pixels)
    rows, templates = -(-height // sy), len(kernel)
    down, across = (d * np.arange(n) for d, n in zip(dilation, kernel.shape[2:], strict=True))
    shifts = (down // sy)[:, None] * cols + across // sx  # (h, w)
    # Zeros in front stand for windows that would begin before the image.
    front = int(shifts[-1, -1])
    slopes = image.new_zeros((batch, templates, front + rows * cols))
    inside = slopes[..., front:].view(batch, templates, rows, cols)
    inside[..., : gradient.shape[2], : gradient.shape[3]] = gradient
    taps = [t.detach().numpy() for t in (kernel, weight) if t is not None]
    slope = str(derivative(parse(expression), "p"))
    run = jit.kernel(slope, "image gradient", weight is not None, image.dtype)
    result = image.new_zeros((batch, channels, height, width))
    sums = np.empty((1, 1, rows, cols), pixels.dtype)
    for c, i, j in product(range(channels), np.unique(down % sy), np.unique(across % sx)):
        mine = np.ix_(down % sy == i, across % sx == j)
        offsets = front - shifts[mine] + np.arange(templates)[:, None, None] * slopes.shape[2]
        values = [np.ascontiguousarray(t[:, c][:, mine[0], mine[1]]).reshape(1, -1) for t in taps]
        for b in range(batch):
            start = np.dot((b, c, i, j), planes.stride()[:4])
            place = 0, b * slopes.stride(0), int(start)
            operations = 5 * offsets.size * rows * cols
            arguments = slopes.view(-1).numpy(), planes.view(-1).numpy(), offsets.reshape(-1)
            block = _rows_in_a_run(rows, cols, cols, threads.sharing(operations))
            work = partial(run, *arguments, *values, sums, place, cols, block, CHUNK)
            threads.share(work, rows, operations, block)
            own = result[b, c, i::sy, j::sx]
            own[:] = torch.from_numpy(sums)[0, 0, : own.shape[0], : own.shape[1]]
    return result


def template_gradient(
    gradient: Tensor,
    image: Tensor,
    kernel: Tensor,
    weight: Tensor | None,
    expression: str,
    stride: Pair,
    dilation: Pair,
) -> Tensor:
    """Differentiate `sums` by the templates: (N, C, h, w).

    A tap collects, over all windows, the gradient of the window's sum times ∂d/∂k (Coq:
    ``template_gradient``).
    """
    planes = Planes(image.detach(), stride, _extent(kernel.shape, dilation))
    slope = str(derivative(parse(expression), "k"))
    run = jit.kernel(slope, "template gradient", weight is not None, image.dtype)
    slopes = gradient.contiguous().numpy()
    offsets, result = planes.offsets(kernel.shape, dilation), kernel.new_zeros(kernel.shape)
    sums = result.view(len(kernel), -1).numpy()
    operations, taps = 5 * slopes[0].size * offsets.size, _taps(kernel, weight)
    for b in range(len(image)):
        place = b, b * planes.steps[0], 0
        arguments = planes.flat, slopes, offsets, *taps, sums, place, planes.pitch
        threads.share(partial(run, *arguments, 1, CHUNK), offsets.size, operations)
    return result
