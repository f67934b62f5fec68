"""fused: differences and sums in one pass, by kernels generated from the metric's expression."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal

import torch
from torch import Tensor

from patchsim import bounds, threads
from patchsim.backends.base import Backend, OfImage, Work, bound_to
from patchsim.kernels.definition import expression_of, text_of
from patchsim.kernels.emit import Arithmetic
from patchsim.kernels.expression import function as function_of
from patchsim.kernels.expression import parse
from patchsim.metrics.base import Metric
from patchsim.problem import Pair, Problem
from patchsim.sums import integers, pointwise, slide
from patchsim.sums.checks import check


def _register() -> None:
    """Make the functions operators, which torch can trace, compile and differentiate."""
    tensors = "Tensor image, Tensor kernel, Tensor? weight"
    more = "str expression, int[2] stride, int[2] dilation"
    library = torch.library
    library.define("patchsim::sums", f"({tensors}, {more}) -> Tensor")
    library.impl("patchsim::sums", "CPU", _sums)
    library.register_fake("patchsim::sums", _fake_sums)
    library.register_autograd("patchsim::sums", _backward, setup_context=_save)
    for gradient in (slide.image_gradient, slide.template_gradient):
        name = f"patchsim::{gradient.__name__}"
        library.define(name, f"(Tensor gradient, {tensors}, {more}) -> Tensor")
        library.impl(name, "CPU", _checked(gradient))
    library.register_fake("patchsim::image_gradient", _fake_image_gradient)
    library.register_fake("patchsim::template_gradient", _fake_template_gradient)


def _sums(
    image: Tensor,
    kernel: Tensor,
    weight: Tensor | None,
    expression: str,
    stride: list[int],
    dilation: list[int],
) -> Tensor:
    """Sum as `slide.sums`, of arguments that may come from anywhere."""
    pairs = check(image, kernel, weight, expression, stride, dilation)
    if not len(image) or not len(kernel):
        return slide.empty_sums(image, kernel, *pairs)
    return slide.sums(image, kernel, weight, expression, *pairs)


def _checked(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make an operator of a gradient, the same way."""

    def operator(
        gradient: Tensor,
        image: Tensor,
        kernel: Tensor,
        weight: Tensor | None,
        expression: str,
        stride: list[int],
        dilation: list[int],
    ) -> Tensor:
        pairs = check(image, kernel, weight, expression, stride, dilation, gradient)
        if not gradient.numel():
            return torch.zeros_like(image if function is slide.image_gradient else kernel)
        return function(gradient, image, kernel, weight, expression, *pairs)

    return operator


def _fake_sums(
    image: Tensor,
    kernel: Tensor,
    weight: Tensor | None,
    expression: str,
    stride: Pair,
    dilation: Pair,
) -> Tensor:
    return slide.empty_sums(image, kernel, stride, dilation)


def _fake_image_gradient(gradient: Tensor, image: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(image, memory_format=torch.contiguous_format)


def _fake_template_gradient(
    gradient: Tensor, image: Tensor, kernel: Tensor, *others: Any
) -> Tensor:
    return torch.empty_like(kernel, memory_format=torch.contiguous_format)


def _save(ctx: Any, inputs: Any, output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.arguments = inputs[3:]


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    image, kernel, weight = ctx.saved_tensors
    wanted = ctx.needs_input_grad[:2]
    if torch.is_grad_enabled():
        gradients = _differentiable(wanted, gradient, image, kernel, weight, *ctx.arguments)
    else:
        arguments = gradient, image, kernel, weight, *ctx.arguments
        operators = torch.ops.patchsim.image_gradient, torch.ops.patchsim.template_gradient
        gradients = [
            f(*arguments) if need else None for f, need in zip(operators, wanted, strict=True)
        ]
    return (*gradients, None, None, None, None)


def _differentiable(
    wanted: tuple[bool, bool],
    gradient: Tensor,
    image: Tensor,
    kernel: Tensor,
    weight: Tensor | None,
    expression: str,
    stride: Pair,
    dilation: Pair,
) -> list[Tensor | None]:
    """Compute gradients that have gradients themselves, by torch, in the memory of all windows."""
    inputs = [t for t, need in zip((image, kernel), wanted, strict=True) if need]
    function = function_of(parse(expression))
    output = pointwise.unfolded(function, image, kernel, weight, stride, dilation)
    found = iter(torch.autograd.grad(output, inputs, gradient, create_graph=True))
    return [next(found) if need else None for need in wanted]


_register()


def run(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Run the kernels on the CPU; elsewhere let torch compile the formula."""
    return bind(metric, problem, kernel, weight)(image)


def bind(metric: Metric, problem: Problem, kernel: Tensor, weight: Tensor | None) -> OfImage:
    """Choose the way, and prepare the taps of kernels of the expression."""
    if problem.device.type != "cpu":
        return bound_to(compiled, metric, problem, kernel, weight)
    way = _way(metric, problem)
    if way == "sad":
        return partial(integers.sad, kernel, problem)
    if way == "min":
        return partial(integers.minima, kernel, problem)
    if way == "dot":
        return partial(integers.expansion, metric, kernel, problem)
    arguments = text_of(metric), problem.stride, problem.dilation
    if not problem.grad and not torch.compiler.is_compiling():
        # The operator costs a few microseconds more than the function.
        shape = problem.batch, problem.channels, *problem.image_size
        return slide.bind(shape, kernel, weight, *arguments)

    def of_image(image: Tensor) -> Tensor:
        result: Tensor = torch.ops.patchsim.sums(image, kernel, weight, *arguments)
        return result

    return of_image


@lru_cache(maxsize=512)
def _way(metric: Metric, problem: Problem) -> integers.Way | Literal["pointwise"]:
    """Choose between the processor's instructions for integers and kernels of the expression."""
    rows, cols = problem.map_size
    taps = problem.batch * problem.templates * rows * cols * problem.taps
    absolute = text_of(metric) == "abs((p-k))"
    if absolute and integers.in_place("sad", problem) and integers.can("sad", problem):
        # Kernels of the expression would have to split the image into its phases first.
        splitting = _SPLITTING * problem.batch * problem.channels * math.prod(problem.image_size)
        return "sad" if taps + splitting >= _WORTH_STRIDING else "pointwise"
    if taps < _WORTH_INSTRUCTIONS * problem.stride[1]:
        return "pointwise"
    if absolute:
        if integers.can("sad", problem):
            return "sad"
        worth = _WORTH_SPREADING * math.prod(problem.stride)
        if math.prod(problem.kernel_size) >= worth and integers.can("min", problem):
            return "min"
    if integers.expands(metric) and integers.can("dot", problem):
        return "dot"
    return "pointwise"


def _engine(problem: Problem, metric: Metric) -> str:
    """Name the way: kernels of the expression, or instructions for differences or products."""
    if problem.device.type != "cpu":
        return "torch.compile"
    way = _way(metric, problem)
    return "expression" if way == "pointwise" else way


def compiled(
    metric: Metric, problem: Problem, image: Tensor, kernel: Tensor, weight: Tensor | None
) -> Tensor:
    """Sum by a kernel that torch generates from the formula, on any device it compiles for."""
    dtype = pointwise.sum_dtype(problem, metric)
    image, kernel = image.to(dtype), kernel.to(dtype)
    weight = None if weight is None else weight.to(dtype)
    formula = torch.compile(pointwise.unfolded)
    return formula(metric.pointwise, image, kernel, weight, problem.stride, problem.dilation)


def refuse(problem: Problem, metric: Metric) -> list[str]:
    """Refuse definitions that can't be read, and integers too large for 64 bits."""
    if problem.transformed:
        return ["it has neither forward derivatives nor those that torch.func takes"]
    expression = expression_of(metric)
    if expression is None:
        return [f"{metric.name} isn't written with +, -, *, ** and abs() only"]
    exact = problem.value_range is not None
    if exact and not Arithmetic(expression, problem.value_dtype).possible:
        return [f"{metric.name} of {problem.dtype} needs more than 64 bits"]
    return pointwise.refuse(problem, metric)


#: Bytes of sums that are computed at once, of all templates together: of floats, which are divided
#: in their own precision, and of integers, which aren't.
_WHOLE_FLOATS, _WHOLE_INTEGERS = 2**25, 2**23

#: Bytes that an image is spread out to at a time.
SPREAD = 2**22

#: How many operations of the expression's kernels take as long as one tap of each way.
_PER_TAP = {"pointwise": 3.0, "sad": 0.3, "min": 0.9, "dot": 0.28}

#: Sums that instructions could compute while a row of them is begun.
START = 130

#: Taps of all windows from which on instructions pay for what is to be done at Python first, times
#: the stride across.
_WORTH_INSTRUCTIONS = 3 * 2**19

#: Taps of all windows from which on instructions pay for pixels that are read where they lie; and
#: as how many of them it counts to split a pixel from its neighbours.
_WORTH_STRIDING, _SPLITTING = 2**21, 4

#: Taps a channel from which on sums of minima pay for spreading int16 and for box sums; times as
#: many where a stride leaves fewer windows.
_WORTH_SPREADING = 100


def work(problem: Problem, metric: Metric) -> Work:
    """Count the operations; the memory is that of the maps and of a rearranged image.

    Between short rows, or in place of a run's start, sums are computed in vain: see
    `slide.sums`.
    """
    way, (rows, cols) = _way(metric, problem), problem.map_size
    maps = problem.batch * problem.templates * rows * cols
    per_tap, copies = _PER_TAP[way], 2
    if way == "pointwise":
        pitch = -(-problem.image_size[1] // problem.stride[1])
        length, in_place = min(pitch, cols + slide.START), problem.stride == (1, 1)
    elif integers.spreads(way, problem):
        # Taps are spread over registers for every row of sums.
        length, copies, in_place = cols + START, 5, False
        per_tap *= integers.filled(way, problem)
        if way != "sad" and problem.stride[0] > 1:
            per_tap *= 1.8  # no rows of windows are summed together
    else:
        length, in_place = cols, integers.in_place(way, problem)
        # Sums of each lane are kept apart, and added in the end.
        per_tap *= 1.3 * integers.filled(way, problem)
    computed = maps // cols * length
    image = problem.batch * problem.channels * problem.image_size[0] * problem.image_size[1]
    itemsize, sums = problem.value_dtype.itemsize, _size_of_sum(problem)
    gradients = problem.grad * (2 * image + maps) * itemsize
    # Storing and dividing a sum takes as long as hundreds of operations in the cache, and so does
    # rearranging a pixel. Operations on int16 take twice as long as those on bytes.
    storing = 50 * sums // (2 if problem.dtype is torch.int16 else 1)
    moving = storing * maps + 50 * image * (not in_place)
    summing = math.ceil(per_tap * computed * problem.taps)
    return Work(
        # What isn't worth sharing takes one thread twice as long; the rest waits for another to
        # wake, which may take longer than where to share begins to pay.
        operations=summing + min(summing, 2 * threads.WORTH_SHARING) + moving,
        bytes=3 * maps * sums + copies * image * itemsize + gradients,
        steps=3 if way == "pointwise" else 7,
    )


def _size_of_sum(problem: Problem) -> int:
    """Return the bytes of a sum: those of integers are taken in 64 bits."""
    return problem.value_dtype.itemsize if problem.value_range is None else 8


def _windows(problem: Problem, metric: Metric) -> int:
    """A tile's sums still lie in the cache when they are divided, and every thread gets some tiles.

    But so many operations a tile that handing it to a thread doesn't matter; and maps that lie in a
    cache altogether aren't cut: threads share a kernel's work, but not what is done at Python.
    """
    way, (rows, cols) = _way(metric, problem), problem.map_size
    whole = problem.batch * rows * cols
    most = _WHOLE_FLOATS if problem.value_range is None else _WHOLE_INTEGERS
    if problem.templates * whole * _size_of_sum(problem) <= most:
        return whole
    taps = math.ceil(_PER_TAP[way] * problem.taps)
    fewest = max(2**23 // (problem.templates * taps), 2**14)
    if way == "pointwise" or not integers.spreads(way, problem):
        return max(2**18 // problem.templates, fewest)
    # Each tile spreads its part of the image, which must stay in the cache as well, but should not
    # be mostly what the next tile spreads again.
    spread = (2 if way == "min" else 4) * problem.value_dtype.itemsize
    line = spread * problem.channels * problem.image_size[1]
    fitting = slide.rows_at_a_time(SPREAD, line, problem.stride[0], problem.extent[0])
    share = -(-problem.batch * rows // threads.count_threads())
    return max(min(share, fitting) * cols, fewest)


FUSED = Backend(
    name="fused",
    run=run,
    bind=bind,
    error=bounds.direct,
    flat=bounds.flat_direct,
    refuse=refuse,
    work=work,
    memory="a few maps",
    rates={
        "float32": (5500, 0.0031),
        "float64": (5300, 0.0055),
        "uint8": (7500, 0.004),
        "int16": (5100, 0.0075),
    },
    windows=_windows,
    parallel=True,
    engine=_engine,
)
