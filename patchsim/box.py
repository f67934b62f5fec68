"""Box sums: the sum over each window of one plane."""

from __future__ import annotations

from torch import Tensor

from patchsim.problem import Problem


def box_sum(planes: Tensor, problem: Problem) -> Tensor:
    """Sum `planes` over the windows of a problem without padding.

    Parameters
    ----------
    planes : Tensor, shape (..., H, W)
    problem : Problem

    Returns
    -------
    Tensor, shape (..., Ho, Wo), of the dtype of `planes`

    Notes
    -----
    One pass an axis, each adding runs of 1, 2, 4, … pixels: O(H·W·log(h·w)) additions. Unlike a
    running sum or an integral image nothing is ever subtracted, so that rounding errors don't
    grow with the image, and a NaN reaches only the windows that hold it.
    """
    for axis, dim in enumerate((-2, -1)):
        planes = _run_sum(planes, dim, problem.kernel_size[axis], problem.dilation[axis])
        step = slice(None, None, problem.stride[axis])
        planes = planes[..., step, :] if dim == -2 else planes[..., step]
    return planes


def _run_sum(planes: Tensor, dim: int, length: int, dilation: int) -> Tensor:
    """Sum `length` pixels, `dilation` apart, from every position where they fit."""
    size = planes.shape[dim] - dilation * (length - 1)
    run, width, start = planes, 1, 0  # `run` holds the sums of `width` pixels
    total = None
    while True:
        if length & width:
            part = run.narrow(dim, start * dilation, size)
            total = part if total is None else total + part
            start += width
        if start == length:
            assert total is not None
            return total
        reach = run.shape[dim] - width * dilation
        run = run.narrow(dim, 0, reach) + run.narrow(dim, width * dilation, reach)
        width *= 2
