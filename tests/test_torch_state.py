"""What is set for torch around a call, and how tensors are kept, changes no answer."""

from contextlib import contextmanager

import pytest
import torch
import torch.autograd.forward_ad as forward
from torch import func
from torch.utils.checkpoint import checkpoint

import patchsim
from patchsim.backends import BACKENDS

#: torch's own, of what its transforms import.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
]

#: One metric of each kind, and all backends.
VARIANTS = [
    variant
    for variant in patchsim.variants()
    if variant.metric == "l1"
    or (
        variant.metric in ("l2", "zncc") and variant.backend in ("unfold", "fused", "conv2d", "fft")
    )
    or str(variant) == "hsv_fft"
]
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)

#: No hue of a grey pixel, no kink: neighbours and template differ.
DOUBLE = {"dtype": torch.float64}


def scene(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if dtype is torch.uint8:
        image = torch.randint(0, 256, (3, 11, 10), dtype=dtype, generator=generator)
        return image, torch.randint(0, 256, (3, 4, 3), dtype=dtype, generator=generator)
    image = torch.rand(3, 11, 10, dtype=torch.float64, generator=generator).to(dtype)
    return image, torch.rand(3, 4, 3, dtype=torch.float64, generator=generator).to(dtype)


def answers(variant, image, kernel):
    """All that the functions return for a variant, as one list of tensors."""
    weight = torch.linspace(0, 2, 12, device="cpu", dtype=torch.float32).reshape(4, 3)
    found = []
    for own in (None, weight, (weight > 1).float()):
        options = {"weight": own, "backend": variant.backend}
        similarity = patchsim.similarity(image, kernel, variant.metric, **options)
        bound = patchsim.error_bound(image, kernel, variant.metric, **options)
        match = patchsim.find(image, kernel, variant.metric, angles=[0, 30], **options)[0]
        place = [match.score, match.y, match.x, match.angle]
        found += [similarity, bound, torch.tensor(place, device="cpu", **DOUBLE)]
    return found


THREADS = torch.get_num_threads()


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def a_mode_left_on(enter, leave):
    enter()
    try:
        yield
    finally:
        leave()


STATES = {
    "autocast to bfloat16": lambda: torch.autocast("cpu"),
    "autocast to float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "a default device": lambda: torch.device("meta"),
    "a default device that stays": lambda: a_mode_left_on(
        lambda: torch.set_default_device("meta"), lambda: torch.set_default_device(None)
    ),
    "float64 by default": lambda: default_dtype(torch.float64),
    "bfloat16 by default": lambda: default_dtype(torch.bfloat16),
    "inference": torch.inference_mode,
    "no gradients": torch.no_grad,
    "any algorithm": lambda: a_mode_left_on(
        lambda: torch.use_deterministic_algorithms(False),
        lambda: torch.use_deterministic_algorithms(True),
    ),
    "no denormal numbers": lambda: a_mode_left_on(
        lambda: torch.set_flush_denormal(True), lambda: torch.set_flush_denormal(False)
    ),
    "one thread": lambda: a_mode_left_on(
        lambda: torch.set_num_threads(1), lambda: torch.set_num_threads(THREADS)
    ),
    "forward derivatives of others": forward.dual_level,
}


@each_variant
@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.uint8, marks=pytest.mark.deep)], ids=str
)
def test_states_change_nothing(variant, dtype):
    image, kernel = scene(dtype)
    if dtype is torch.uint8 and variant.backend == "lowrank":  # refused
        return
    expected = answers(variant, image, kernel)
    for name, state in STATES.items():
        with state():
            found = answers(variant, image, kernel)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype is other.dtype, name
            assert one.device == other.device, name
            assert torch.equal(one, other), name


@each_variant
def test_gradients_are_the_same_under_autocast(variant):
    if not BACKENDS[variant.backend].differentiable:
        return
    gradients = []
    for state in (lambda: torch.autocast("cpu", enabled=False), lambda: torch.autocast("cpu")):
        leaves = [t.requires_grad_() for t in scene()]
        with state():
            variant(*leaves).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


class Subclass(torch.Tensor):
    """As libraries of images have them."""


def kept_otherwise(values):
    """The same numbers, each kept in another way."""
    channels, height, width = values.shape
    wider = torch.zeros(channels + 1, height + 2, width + 3, dtype=values.dtype)
    wider[1:, 1:-1, 2:-1] = values
    yield "with an offset", wider[1:, 1:-1, 2:-1]
    yield "transposed", values.mT.contiguous().mT
    yield "channels last", values[None].contiguous(memory_format=torch.channels_last)[0]
    yield "every second", values.repeat_interleave(2, -1)[..., ::2]
    yield "a subclass", values.as_subclass(Subclass)
    if values.is_floating_point():
        yield "to be negated", torch.complex(values, -values).conj().imag
        yield "a part of complex numbers", torch.complex(-values, values).imag
        yield "a parameter", torch.nn.Parameter(values, requires_grad=False)
        with torch.inference_mode():
            inferred = values.clone()
        yield "made in inference", inferred


@each_variant
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=str)
def test_how_tensors_are_kept_changes_nothing(variant, dtype):
    image, kernel = scene(dtype)
    if dtype is torch.uint8 and variant.backend == "lowrank":  # refused
        return
    expected = answers(variant, image, kernel)
    pairs = zip(kept_otherwise(image), kept_otherwise(kernel), strict=True)
    for (how, one), (_, other) in pairs:
        assert torch.equal(one, image), how
        found = answers(variant, one, other)
        for values, own in zip(found, expected, strict=True):
            assert type(values) is torch.Tensor, how
            torch.testing.assert_close(values, own, rtol=1e-5, atol=1e-5)  # added in another order
        if not dtype.is_floating_point:
            assert all(map(torch.equal, found[::3], expected[::3])), how


def test_one_value_for_all_pixels_needs_no_memory():
    image, kernel = torch.ones(1).expand(3, 9, 9), torch.zeros(1).expand(3, 2, 2)
    for variant in VARIANTS:
        if variant.metric in ("l1", "l2"):
            torch.testing.assert_close(variant(image, kernel), torch.zeros(8, 8), atol=0.03, rtol=0)


@each_variant
def test_a_weight_is_a_constant(variant):
    image, kernel = scene()
    weight = torch.linspace(0, 2, 12).reshape(4, 3)
    kept = [weight.clone().requires_grad_(), torch.nn.Parameter(weight)]
    kept += [torch.complex(weight, -weight).conj().imag, weight.as_subclass(Subclass)]
    expected = variant(image, kernel, weight=weight)
    for own in kept:
        found = variant(image, kernel, weight=own)
        assert torch.equal(found, expected)
        assert not found.requires_grad


@each_variant
def test_derivatives_of_every_kind(variant):
    """Those that are computed are right: against backward of the loop, or the variant's own."""
    image, kernel = (t.double() for t in scene())
    ways = [torch.linspace(-1, 1, t.numel(), **DOUBLE).reshape(t.shape) for t in (image, kernel)]

    def total(image, kernel):
        return variant(image, kernel).square().sum()

    def dual():
        with forward.dual_level():
            pair = map(forward.make_dual, (image, kernel), ways)
            return forward.unpack_dual(total(*pair)).tangent

    leaves = [t.clone().requires_grad_() for t in (image, kernel)]
    if not BACKENDS[variant.backend].differentiable:
        with pytest.raises(ValueError, match="no gradient"):
            total(*leaves)
        with pytest.raises(ValueError, match="no gradient"):
            dual()
        return
    slopes = torch.autograd.grad(total(*leaves), leaves)
    along = sum((slope * way).sum() for slope, way in zip(slopes, ways, strict=True))
    again = checkpoint(total, *leaves, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(again, leaves), slopes)
    transforms = [
        lambda: dual(),
        lambda: func.jvp(total, (image, kernel), tuple(ways))[1],
        lambda: (func.grad(total, (0, 1))(image, kernel), ways),
        lambda: (func.jacrev(total, (0, 1))(image, kernel), ways),
        lambda: (func.jacfwd(total, (0, 1))(image[:, :4, :4], kernel), None),
    ]
    if variant.backend == "fused":
        for transform in transforms:
            with pytest.raises(ValueError, match=r"torch\.func takes.*Backends that can: loop"):
                transform()
        return
    first, second, gradients, jacobian, _ = (transform() for transform in transforms)
    torch.testing.assert_close(first, along)
    torch.testing.assert_close(second, along)
    torch.testing.assert_close(gradients[0], slopes)
    torch.testing.assert_close(jacobian[0], slopes)


@pytest.mark.parametrize("backend", ["unfold", "conv2d", "fft"])
def test_second_derivatives_by_transforms(backend):
    image, kernel = (t.double() for t in scene())
    image = image[:, :5, :4]

    def total(image):
        return patchsim.distance(image, kernel, "l2", backend=backend).square().sum()

    expected = torch.autograd.functional.hessian(total, image)
    torch.testing.assert_close(func.hessian(total)(image), expected)


def test_derivatives_over_many_tiles(monkeypatch):
    image, kernel = (t.double() for t in scene())
    whole = func.jacfwd(patchsim.l2_conv2d)(image, kernel)
    monkeypatch.setattr(patchsim.options, "max_memory", 20_000)
    for derivative in (func.jacfwd, func.jacrev):
        torch.testing.assert_close(derivative(patchsim.l2_conv2d)(image, kernel), whole)


def test_what_holds_no_numbers_is_refused_in_words():
    image, kernel = scene()
    with pytest.raises(ValueError, match="meta device, where tensors hold no numbers"):
        patchsim.similarity(image.to("meta"), kernel.to("meta"))
    with torch._subclasses.FakeTensorMode() as mode:
        fake = mode.from_tensor(image)
    for function in (patchsim.similarity, patchsim.error_bound, patchsim.find):
        with pytest.raises(TypeError, match="`image` is a FakeTensor"):
            function(fake, kernel)
    with pytest.raises(TypeError, match="takes batches itself"):
        func.vmap(patchsim.similarity, (0, None))(image[None], kernel)
    for function in (patchsim.find, patchsim.error_bound):
        with pytest.raises(TypeError, match="has no derivative"):
            func.grad(function)(image, kernel)
