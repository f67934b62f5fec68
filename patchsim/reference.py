"""The original loop, the law that every variant obeys. It imports nothing of patchsim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def window_sums(
    image: torch.Tensor,
    kernel: torch.Tensor,
    pointwise: Callable[[Any, Any], Any],
    stride: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compare each window of the image with each template, one at a time.

    Parameters
    ----------
    image : Tensor, shape (B, C, H, W)
    kernel : Tensor, shape (N, C, h, w), of the same dtype, which must hold every sum
    pointwise : callable
        d(patch, template), elementwise.
    stride, dilation : pair of int
        Steps between windows and between the pixels of a window, down and across.
    pads : four int
        Zeros added at the top, bottom, left and right.
    weight : Tensor, shape (N, C, h, w), optional

    Returns
    -------
    Tensor, shape (B, N, Ho, Wo)
        Σ weight·d, where Ho = int((H − h) / stride) + 1 with the division truncated toward zero,
        h being the rows a dilated template covers and H the rows of the padded image.

    Notes
    -----
    A window that overhangs the bottom or right edge is completed with zeros (Coq: ``overhang``,
    ``loop_padding``).
    O(B·N·Ho·Wo·C·h·w) operations, one Python step per window.
    """
    (sy, sx), (dy, dx) = stride, dilation
    top, bottom, left, right = pads
    rows, cols = dy * (kernel.shape[2] - 1) + 1, dx * (kernel.shape[3] - 1) + 1
    image = torch.nn.functional.pad(image, (left, right, top, bottom))
    height, width = image.shape[2:]
    map_rows, map_cols = int((height - rows) / sy) + 1, int((width - cols) / sx) + 1

    sums = []
    for scene in image:
        for n, template in enumerate(kernel):
            for i in range(map_rows):
                for j in range(map_cols):
                    patch = scene[:, i * sy : i * sy + rows, j * sx : j * sx + cols]
                    missing = (0, cols - patch.shape[2], 0, rows - patch.shape[1])
                    if any(missing):
                        patch = torch.nn.functional.pad(patch, missing)
                    difference = pointwise(patch[:, ::dy, ::dx], template)
                    if weight is not None:
                        difference = difference * weight[n]
                    sums.append(difference.sum())
    return torch.stack(sums).reshape(len(image), len(kernel), map_rows, map_cols)
