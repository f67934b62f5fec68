"""Kernels generated from a metric's expression and compiled by Numba.

Every tap of a template, whatever the stride and dilation, is one shift of a flat plane (see
`patchsim.sums.slide`), so that one loop serves all of them: eight shifted runs of pixels are
compared with eight taps and added to a run of sums that stays in the first-level cache.

Numba is imported when the first kernel is needed. Compiled kernels are kept (see `keeping`) beside
this package or, where that can't be written, in the user's cache directory (or
``NUMBA_CACHE_DIR``); where neither can, each process compiles its own.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import FunctionType
from typing import Any

import torch

from patchsim.kernels import butterflies, emit, heap, intrinsics, sources, sweeps
from patchsim.kernels import phases as phasing
from patchsim.kernels import spectra as transforms
from patchsim.kernels.emit import UNROLL, Arithmetic
from patchsim.kernels.expression import parse
from patchsim.kernels.instructions import Instruction
from patchsim.once import made_once
from patchsim.problem import INTEGER_RANGES, Problem, name_of

#: Sums may be taken in any order and products fused with them, as the error bounds allow; but NaN,
#: inf and the order of other operations keep their meaning.
FLAGS = ("reassoc", "contract", "nsz")

Kernel = Callable[..., None]


def usable(problem: Problem) -> bool:
    """Tell whether kernels compute a problem: on a CPU, without gradients, and not being traced."""
    cpu = problem.device.type == "cpu" and not problem.grad
    return cpu and not torch.compiler.is_compiling()


@made_once
def kernel(text: str, form: str, weighted: bool, dtype: torch.dtype) -> Kernel:
    """Compile one kernel, or load it from the disk.

    Parameters
    ----------
    text : str
        The expression of p and k (see `patchsim.kernels.expression.parse`) that is summed.
    form : "sums", "image gradient" or "template gradient"
        Sums of d(p, k) over taps; of g·d over taps, g being shifted; of g·d over windows.
    weighted : bool
        Whether each tap is multiplied by a weight.
    dtype : torch.dtype
        Of the values: float32, float64, uint8 or int16.
    """
    arithmetic = Arithmetic(parse(text), dtype)
    shifted, fixed = {
        "sums": ("p", None),
        "image gradient": ("g", "p"),
        "template gradient": ("p", "g"),
    }[form]
    names = [shifted, "k", *(["w"] if weighted else []), *([fixed] if fixed else [])]
    template = sources.REDUCE if form == "template gradient" else sources.SLIDE
    source = _source(template, weighted, fixed is not None, arithmetic)
    return compiled(source, [_signature(form, weighted, arithmetic)], *term_of(arithmetic, names))


@made_once
def phases(dtype: torch.dtype, stride: int) -> Kernel:
    """Compile (image, planes, (sy, sx), rows, cols, first, last), which splits an image.

    image (B, C, H, W), planes (B, C, at most sy, at most sx, at least rows·cols), rows = ⌈H/sy⌉,
    cols = ⌈W/sx⌉: of the B·C·rows rows of planes, those from first to last are filled with every
    sx-th pixel of every sy-th row, or with zeros beyond the image. sx is `stride`, and planes are
    all sx, or where that is 0 any.
    """
    from numba import types

    value = type_of(dtype)
    planes, numbers = types.Array(value, 5, "C"), [tuple_of(2), *[types.int64] * 4]
    images = types.Array(value, 4, "C"), types.Array(value, 4, "A")
    signatures = [types.void(image, planes, *numbers) for image in images]
    source = phasing.source(stride, dtype.itemsize)
    split = {"split": phasing.split(stride, dtype.itemsize)} if stride else {}
    return compiled(source, signatures, split, str(stride))


@made_once
def box(text: str, dtype: torch.dtype, total: torch.dtype) -> Kernel:
    """Compile a sum over boxes of an expression of p − centre.

    (image, centre, sums, steps, (H, W), h, w, sy, sx, first, last): of sums (B, 1, Ho, Wo), of
    dtype `total`, rows first to last get the sums over all channels and h·w pixels of a flat image
    of `dtype`, whose images, channels and rows lie `steps` apart. centre (C,) is subtracted.

    Down, each window is the end of one block of h rows and the beginning of the next (van Herk
    1992, Gil and Werman 1993, for sums); across, runs of 1, 4, 16, … pixels are added. Of integers,
    which must stay below 2⁵³ in `total`, running sums are kept instead.
    """
    from numba import types

    value, sums = type_of(dtype), type_of(total)
    pair, triple = tuple_of(2), tuple_of(3)
    arrays = value[::1], sums[::1], sums[:, :, :, ::1]
    signature = types.void(*arrays, triple, pair, *[types.int64] * 6)
    template = sources.RUNNING_BOX if dtype in INTEGER_RANGES else sources.BOX
    arithmetic = Arithmetic(parse(text), total)
    source = template.format(total=arithmetic.total)
    return compiled(source, [signature], *term_of(arithmetic, ["p"]))


@made_once
def blocks(text: str, dtype: torch.dtype, total: torch.dtype) -> Kernel:
    """Compile sums of d over the blocks of windows.

    (image, (to_channel, to_row), (C, W), blocks, side, (sy, sx), bounds, peaks, first, last): of
    the flat image of `dtype`, pixels are summed over its channels and blocks of side·side pixels,
    side being a power of 2. bounds (N, Ho, Wo) gets, in rows first to last, Σ d(p, k) of the sums
    p of a window's blocks, side apart, and those of templates, blocks (N, h', w'), all of `total`.
    peaks[first] gets the greatest magnitude of the pixels that these windows hold, but for NaN.
    """
    from numba import types

    value, sums = type_of(dtype), type_of(total)[:, :, ::1]
    layout = value[::1], tuple_of(2), tuple_of(2)
    signature = types.void(
        *layout, sums, types.int64, tuple_of(2), sums, type_of(total)[::1], *[types.int64] * 2
    )
    arithmetic = Arithmetic(parse(text), total)
    plain = dict.fromkeys(("more", "arguments", "before", "after"), "")
    line = "bounds[n, top // down]"
    source = sources.BLOCKS.format(total=arithmetic.total, line=line, **plain)
    return compiled(source, [signature], *term_of(arithmetic, ["p", "k"]))


@made_once
def spectra(dtype: torch.dtype) -> Kernel:
    """Compile the transforms of templates for `overlap_save`.

    (factors, spectra, (L, M), radices and roots down and across, first, last): of the planes of
    factors (P, h, w), all of `dtype`, those from first to last are completed with zeros to (L, M)
    and transformed; spectra (P, 2·L·M) gets the results, divided by L·M.
    """
    from numba import types

    value = type_of(dtype)
    arrays = value[:, :, ::1], value[:, ::1]
    axis = types.int64[::1], value[::1]
    signature = types.void(*arrays, tuple_of(2), *axis, *axis, *[types.int64] * 2)
    source = transforms.spectra(str(value), dtype.itemsize)
    return compiled(source, [signature], _transforms(dtype))


@made_once
def overlap_save(
    texts: tuple[str, ...], dtype: torch.dtype, total: torch.dtype, *, exact: bool, boxed: bool
) -> Kernel:
    """Compile the correlation of pairs of tiles with templates.

    (image, centre, spectra, boxes, constants, sums, steps, (H, W), (L, M), grid, valid, stride,
    radices and roots down and across, first, last): each image has `grid` tiles (down, across),
    `valid` rows and columns apart, of L·M pixels of a flat image of `dtype`, with zeros beyond it;
    images, channels and rows lie `steps` apart. Of all tiles two by two the pairs from first to
    last are transformed, after expressions of p − centre, given by `texts`, and multiplied with
    conjugates of spectra (N, R·C, 2·L·M) of R texts and C channels, the products added and
    transformed back. The results of every stride-th of the valid windows go to sums
    (B, N, Ho, Wo), rounded to integers if `exact`; if `boxed`, as
    max(0, boxes + result + constants[n]), else boxes and constants aren't read. All but the image
    is of `total`.
    """
    from numba import types

    value, sums = type_of(dtype), type_of(total)
    maps = sums[:, :, :, ::1]
    arrays = value[::1], sums[::1], sums[:, :, ::1], maps, sums[::1], maps
    axis = types.int64[::1], sums[::1]
    numbers = tuple_of(3), *[tuple_of(2)] * 5, *axis, *axis, *[types.int64] * 2
    functions, keys = _transforms(total), []
    for i, text in enumerate(texts):
        term, key = term_of(Arithmetic(parse(text), total), ["p"])
        functions[f"term{i}"] = term["term"]
        keys.append(key)
    source = transforms.overlap_save(str(sums), total.itemsize, texts, rounded=exact, boxed=boxed)
    return compiled(source, [types.void(*arrays, *numbers)], functions, str(keys))


def _transforms(dtype: torch.dtype) -> dict[str, Any]:
    """Make the functions that the kernels of `patchsim.kernels.spectra` call."""
    bits = 8 * dtype.itemsize
    functions = {
        f"{name}{radix}": butterflies.butterfly(radix, name == "backward", bits)
        for name in ("forward", "backward")
        for radix in butterflies.RADICES
    }
    return {
        **functions,
        "transpose": butterflies.transposition(bits),
        "multiply": butterflies.product(bits, more=False),
        "multiply_add": butterflies.product(bits, more=True),
    }


@made_once
def spread(step: int, size: int, across: int, dtype: torch.dtype) -> Kernel:
    """Compile (image, spread, steps, cols, first, last), which lays pixels out for `quads`.

    Rows of the flat image, of so many columns, are split into as many phases as windows lie columns
    `across`. Every `step` pixels of a phase `size` are copied to spread (B, C·across, H, pitch), so
    that they overlap; zeros after a row. Of the B·C·across·H rows first to last are spread.
    """
    from numba import types

    arrays = type_of(dtype)[::1], type_of(dtype)[:, :, :, ::1]
    signature = types.void(*arrays, tuple_of(3), *[types.int64] * 3)
    starts = intrinsics.LINE // (size * dtype.itemsize)
    places = [across * (step * start + i) for start in range(starts) for i in range(size)]
    reach = 2 ** places[-1].bit_length()  # a size that registers have
    numbers = {"size": size, "step": across * step, "starts": starts, "reach": reach}
    source = sources.SPREAD.format(across=across, **numbers)
    overlap = intrinsics.shuffling(8 * dtype.itemsize, reach, tuple(places))
    return compiled(source, [signature], {"overlap": overlap})


@made_once
def quads(instruction: Instruction, words: int, rows: int) -> Kernel:
    """Compile (spread, offsets, words, factor, sums, to_image, to_row, chunk, first, last).

    To the windows of sums (B, N, Ho, Wo) `factor` times the sums over groups of so many `words` of
    four bytes of taps are added. Group t meets the bytes offsets[t] after those of a window's
    start; images and rows of windows lie to_image and to_row apart. Of all B·⌈Ho/rows⌉ blocks of
    `rows` rows those from first to last are computed. Each row of a block has taps of its own, to
    be compared with the pixels of the first: words is (N·rows, groups·words). At most `chunk`
    windows are summed at a time.
    """
    from numba import types

    unroll = UNROLL // words
    source = sources.QUADS.format(
        windows=instruction.register // instruction.spread,
        spread=instruction.spread,
        part=instruction.part,
        group=instruction.limit // words,
        words=words,
        rows=rows,
        unroll=unroll,
    )
    functions = {
        name: sweeps.words(instruction, words, groups, rows)
        for name, groups in (("many", unroll), ("one", 1))
    }
    taps = types.int64[::1], types.int32[:, ::1], types.float64
    signature = types.void(types.uint8[::1], *taps, types.float64[:, :, :, ::1], *[types.int64] * 5)
    return compiled(source, [signature], functions, str(instruction))


def type_of(dtype: torch.dtype) -> Any:
    """Return Numba's type of a dtype's numbers."""
    from numba import types

    return getattr(types, name_of(dtype))


def tuple_of(length: int) -> Any:
    """Return Numba's type of a tuple of so many integers."""
    from numba import types

    return types.UniTuple(types.int64, length)  # type: ignore[no-untyped-call]


def term_of(arithmetic: Arithmetic, names: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Make ``term``, which adds an expression of variables, and a text that identifies it."""
    return {"term": emit.intrinsic(arithmetic, names)}, f"{arithmetic.expression} {names}"


def compiled(
    source: str,
    signatures: list[Any],
    functions: Mapping[str, Any] = {},
    key: str = "",
    *,
    strict: bool = False,
) -> Kernel:
    """Compile a kernel that calls `functions`, on which it depends as `key` says.

    If `strict`, operations are as they are written, so that the same numbers give the same result
    wherever in a loop they are.
    """
    import numba
    import numpy as np

    from patchsim.kernels.keeping import place_for

    heap.keep()
    # Numba keeps compiled code under a function's name, beside the file that it claims to come
    # from, and drops it when that file changes; not when those change that write LLVM code.
    flags = set() if strict else set(FLAGS)
    key = f"{source} {key} {signatures} {sorted(flags)} {_writers()}"
    name = f"kernel_{_digest(key)}"
    # Divisions by 0 needn't raise: a loop that could be left in the middle isn't vectorised.
    options: dict[str, Any] = {"nogil": True, "fastmath": flags, "error_model": "numpy"}

    def njit(function: Callable[..., Any]) -> Any:
        return numba.njit(**options)(named(function, key))

    namespace = {"np": np, "njit": njit, "__name__": __name__, **functions}
    exec(compile(source.replace("def kernel", f"def {name}"), emit.__file__, "exec"), namespace)
    # Forks wait for this lock: see `patchsim.threads`.
    with numba.core.compiler_lock.global_compiler_lock:
        kernel = numba.njit(**options)(namespace[name])
        kernel._cache = place_for(namespace[name])
        for signature in signatures:
            kernel.compile(signature)
        kernel.disable_compile()
    return kernel  # type: ignore[no-any-return]


def named(function: Callable[..., Any], key: str) -> Callable[..., Any]:
    """Copy a function that kernels call, under a name that `key` makes its own.

    Kernels on the disk bring the functions that they call with them. Of those of the same name one
    takes the place of all that a process loads, and to tell them apart Numba only counts, anew in
    every process that compiles.
    """
    name = f"{function.__name__}_{_digest(key)}"
    copy = FunctionType(
        function.__code__,
        function.__globals__,
        name,
        function.__defaults__,
        function.__closure__,
    )
    copy.__qualname__, copy.__module__ = name, function.__module__
    return copy


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _writers() -> str:
    """Identify this version of what writes and names the functions that kernels call."""
    texts = map(inspect.getsource, (intrinsics, emit, butterflies, sweeps, phasing))
    return _digest("".join([*texts, inspect.getsource(named)]))


def _source(template: str, weighted: bool, fixed: bool, arithmetic: Arithmetic) -> str:
    """Fill in a kernel's source: UNROLL taps a pass, then the rest one by one."""

    def runs(count: int, indent: str) -> str:
        lines = []
        for u in range(count):
            lines += [
                f"run{u} = shifted[base + offsets[t + {u}] : base + offsets[t + {u}] + size]",
                f"k{u} = values[n, t + {u}]",
                *([f"w{u} = weights[n, t + {u}]"] if weighted else []),
            ]
        return "\n".join(indent + line for line in lines)

    def terms(count: int) -> str:
        text = "part[x]"
        for u in range(count):
            weight, constant = f", w{u}" * weighted, ", here[x]" * fixed
            text = f"term({text}, run{u}[x], k{u}{weight}{constant})"
        return text

    return template.format(
        fixed_argument="fixed, " * fixed,
        weights_argument="weights, " * weighted,
        fixed_run="here = fixed[start + y * pitch + left : start + y * pitch + left + size]"
        * fixed,
        weight="w = weights[n, t]" * weighted,
        weight_name="w, " * weighted,
        part=arithmetic.part,
        total=arithmetic.total,
        running="float64" if arithmetic.total == "float32" else arithmetic.total,
        group=arithmetic.group,
        unroll=UNROLL,
        many_runs=runs(UNROLL, 24 * " "),
        many_terms=terms(UNROLL),
        one_run=runs(1, 24 * " "),
        one_term=terms(1),
    )


def _signature(form: str, weighted: bool, arithmetic: Arithmetic) -> Any:
    from numba import types

    value, total = getattr(types, arithmetic.value), getattr(types, arithmetic.total)
    flat, taps = types.Array(value, 1, "C"), types.Array(value, 2, "C")
    offsets, number = types.Array(types.int64, 1, "C"), types.int64
    fixed = {"sums": [], "image gradient": [flat]}.get(form, [types.Array(value, 4, "C")])
    sums = taps if form == "template gradient" else types.Array(total, 4, "C")
    weights = [taps] if weighted else []
    place = tuple_of(3)
    return types.void(flat, *fixed, offsets, taps, *weights, sums, place, *[number] * 5)
