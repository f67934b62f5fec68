"""Templates that are bound once: the same answers as of the functions, image after image."""

import copy
import dataclasses
import pickle
import threading

import pytest
import torch

import patchsim
from patchsim import Matcher
from patchsim.backends import BACKENDS
from patchsim.metrics import METRICS


def _images(dtype, channels=3):
    generator = torch.Generator().manual_seed(11)
    sizes = (20, 24), (20, 24), (13, 40)
    return [
        (255 * torch.rand(channels, *size, generator=generator)).to(dtype)
        if dtype is torch.uint8
        else torch.rand(channels, *size, generator=generator).to(dtype)
        for size in sizes
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.float16])
@pytest.mark.parametrize("metric", METRICS)
def test_maps_are_those_of_the_functions(metric, dtype):
    images = _images(dtype)
    kernel, weight = images[0][:, 3:9, 4:11].clone(), torch.rand(6, 7)
    for arguments in ({}, {"stride": (2, 1), "padding": 1}, {"weight": weight}):
        matcher = Matcher(kernel, metric, **arguments)
        for image in [*images, images[1][None]]:
            found = matcher.similarity(image)
            assert torch.equal(found, patchsim.similarity(image, kernel, metric, **arguments))
            found = matcher.distance(image)
            assert torch.equal(found, patchsim.distance(image, kernel, metric, **arguments))
            bound = matcher.error_bound(image)
            assert torch.equal(bound, patchsim.error_bound(image, kernel, metric, **arguments))
            plan = patchsim.plan(image, kernel, metric, **arguments)
            assert str(matcher.plan(image)) == str(plan)


@pytest.mark.parametrize("backend", ["loop", "unfold", "shift", "fused", "conv2d", "fft", "values"])
def test_every_backend_binds(backend):
    images = _images(torch.uint8, 1)
    kernel = torch.stack([images[0][:, 3:9, 4:11], images[0][:, 1:7, 9:16]])
    matcher = Matcher(kernel, "l2", backend=backend)
    for image in images:
        expected = patchsim.distance(image, kernel, "l2", backend="loop", reduction="sum")
        assert torch.equal(matcher.distance(image, reduction="sum"), expected)


def test_searches_are_those_of_the_function():
    images = _images(torch.uint8)
    kernels = [images[0][:, 3:9, 4:11], images[1][:, 1:5, 9:16]]
    for metric in ("l1", "zncc"):
        matcher = Matcher(kernels, metric, scales=[1, 1.5])
        for image in images:
            found = matcher.find(image, k=5, max_overlap=0)
            expected = patchsim.find(image, kernels, metric, scales=[1, 1.5], k=5, max_overlap=0)
            assert list(found) == list(expected)
            assert found.skipped == expected.skipped


def test_a_matcher_holds_what_it_was_given():
    """Neither the caller's tensors nor settings of a moment change it."""
    [image, *_] = _images(torch.float32)
    kernel, weight = image[:, 3:9, 4:11].clone(), torch.ones(6, 7)
    matcher = Matcher(kernel, "l1", weight=weight)
    expected = matcher.similarity(image)
    kernel.zero_()
    weight[:3] = 0
    assert torch.equal(matcher.similarity(image), expected)
    assert torch.equal(matcher.similarity(image.clone()), expected)
    before = patchsim.options.max_memory
    try:
        patchsim.options.max_memory = 2**15
        assert (matcher.similarity(image) - expected).abs().max() < 1e-6
    finally:
        patchsim.options.max_memory = before


def test_gradients_flow():
    [image, *_] = _images(torch.float32)
    kernel = image[:, 3:9, 4:11].clone().requires_grad_()
    image = image.clone().requires_grad_()
    for metric in ("l1", "l2", "zncc"):
        matcher = Matcher(kernel, metric)
        for _ in range(2):
            found = torch.autograd.grad(matcher.similarity(image).sum(), (image, kernel))
            score = patchsim.similarity(image, kernel, metric).sum()
            expected = torch.autograd.grad(score, (image, kernel))
            assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
        constant = Matcher(kernel.detach(), metric)
        with torch.no_grad():
            plain = constant.similarity(image)
        assert not plain.requires_grad
        for _ in range(2):
            [slope] = torch.autograd.grad(constant.similarity(image).sum(), image)
            assert torch.equal(slope, expected[0])


def test_it_can_be_pickled():
    [image, *_] = _images(torch.float32)
    kernel = image[:, 3:9, 4:11]
    matcher = Matcher(kernel, "zncc", weight=torch.ones(6, 7), angles=[0, 90], backend="fft")
    again = pickle.loads(pickle.dumps(matcher))
    assert repr(again) == repr(matcher)
    assert torch.equal(again.similarity(image), matcher.similarity(image))
    assert list(again.find(image)) == list(matcher.find(image))


def test_several_threads_may_use_it():
    images = _images(torch.float32)
    kernel = images[0][:, 3:9, 4:11]
    matcher, found = Matcher(kernel, "l2", backend="fft"), {}

    def work(number):
        found[number] = [matcher.similarity(image) for image in images * 5]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [patchsim.l2_fft(image, kernel) for image in images * 5]
    assert len(found) == 4
    for own in found.values():
        assert all(torch.equal(*pair) for pair in zip(own, expected, strict=True))


def test_what_it_prints():
    kernel = torch.zeros(2, 3, 6, 7, dtype=torch.uint8)
    assert repr(Matcher(kernel)) == "Matcher of 2 templates of 3x6x7 uint8, metric 'l1'"
    matcher = Matcher([kernel[0], kernel[0, :, :4]], "l2", stride=2, angles=[0, 90])
    assert repr(matcher) == (
        "Matcher of 2 templates of 3x6x7, 3x4x7 uint8, metric 'l2', stride 2, angles 2"
    )


@pytest.mark.parametrize(
    ("error", "message", "make"),
    [
        (TypeError, "`kernel` must be a torch.Tensor", lambda k: Matcher(k.numpy())),
        (ValueError, "unknown metric 'l3'", lambda k: Matcher(k, "l3")),
        (ValueError, "unknown backend 'ftt'", lambda k: Matcher(k, backend="ftt")),
        (ValueError, "`data_range` must be a positive", lambda k: Matcher(k, data_range=0)),
        (ValueError, "`weight` has shape", lambda k: Matcher(k, weight=torch.ones(2, 2))),
        (ValueError, "there is no template", lambda k: Matcher([])),
        (ValueError, "`stride` must be at least 1", lambda k: Matcher(k, stride=0)),
        (ValueError, "`padding` must be at least 0", lambda k: Matcher(k, padding=-1)),
        (ValueError, "`dilation` must be at least 1", lambda k: Matcher(k, dilation=0)),
        (ValueError, "`reduction` must be", lambda k: Matcher(k).distance(k, reduction=["sum"])),
        (TypeError, "`angles` takes", lambda k: Matcher(k, angles=3)),
        (TypeError, "torch.stack joins", lambda k: Matcher([k]).similarity(k)),
        (ValueError, "takes neither `padding`", lambda k: Matcher(k, padding=1).find(k)),
        (TypeError, "`image` must be a torch.Tensor", lambda k: Matcher(k).similarity(None)),
        (TypeError, "convert one with .to", lambda k: Matcher(k).similarity(k.double())),
    ],
)
def test_what_is_wrong_is_said(error, message, make):
    with pytest.raises(error, match=message):
        make(torch.zeros(3, 6, 7))


def test_values_are_looked_at_in_every_image():
    """What is refused for its values is refused, however many images came before."""
    image = torch.rand(1, 9, 9)
    kernel = image[:, :3, :3].clone()
    matcher = Matcher(kernel, "intersection")
    matcher.similarity(image)
    matcher.find(image)
    batch = torch.stack([image, image - 1])
    for call in (matcher.similarity, matcher.find):
        for wrong in (image - 1, batch):
            with pytest.raises(ValueError, match="aren't negative; the least value of `image`"):
                call(wrong)
    with pytest.raises(ValueError, match="aren't negative; the least value of `kernel`"):
        Matcher(-kernel, "intersection")


@pytest.mark.parametrize("metric", ["l1", "l2", "zncc", "ssim"])
def test_inference_leaves_no_trace(metric):
    with torch.inference_mode():
        matcher = Matcher(torch.rand(1, 3, 3), metric, weight=torch.rand(3, 3))
        again = pickle.loads(pickle.dumps(matcher))
        again.similarity(torch.rand(1, 9, 9))
    image = torch.rand(1, 9, 9, requires_grad=True)
    for own in (matcher, again):
        own.similarity(image).sum().backward()
    assert image.grad.isfinite().all()


def test_copies_keep_what_is_ones_own():
    image = torch.rand(1, 9, 9)
    matcher = Matcher(image[:, :3, :3].clone().requires_grad_(), METRICS["l2"])
    assert torch.equal(copy.deepcopy(matcher).similarity(image), matcher.similarity(image))
    found = pickle.loads(pickle.dumps(matcher)).similarity(image)
    assert torch.equal(found, matcher.similarity(image))
    other = dataclasses.replace(BACKENDS["loop"], run=lambda *given: 0 * right(*given))
    matcher = Matcher(image[:, :3, :3], "l1", backend=other)
    assert (copy.deepcopy(matcher).similarity(image) == 1).all()


right = BACKENDS["loop"].run


@pytest.mark.parametrize("change", [torch.Tensor.to_sparse, torch.Tensor.to_mkldnn])
def test_images_of_another_kind_are_refused(change):
    image = torch.rand(1, 9, 9)
    matcher = Matcher(image[:, :3, :3])
    matcher.similarity(image)
    with pytest.raises(TypeError, match="must be a dense tensor"):
        matcher.similarity(change(image))


def test_lists_say_the_same_as_tuples():
    image = torch.rand(1, 9, 9)
    kernels = image[None, :, :3, :3].repeat(2, 1, 1, 1)
    matcher = Matcher(kernels, weight=[None, torch.ones(3, 3)], padding=[0, 0], dilation=[1, 1])
    assert matcher.find(image)[0].score == 1


def test_threads_may_search_many_sizes():
    """More than are kept, so that what one thread made another one may clear."""
    image = torch.rand(1, 40, 40)
    matcher, failed = Matcher(image[:, :3, :3]), []

    def work():
        try:
            for size in range(8, 40):
                matcher.find(image[:, :size, :size])
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
