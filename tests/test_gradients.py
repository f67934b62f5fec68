"""Every variant's gradients, against finite differences in float64."""

import pytest
import torch

import patchsim
from patchsim.backends import BACKENDS

#: hsv takes three channels, and hamming and intersection have corners at equal values.
each_variant = pytest.mark.parametrize(
    "variant",
    [
        v
        for v in patchsim.variants()
        if BACKENDS[v.backend].differentiable and v.metric not in ("hsv", "hamming")
    ],
    ids=str,
)


def random(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64, requires_grad=True)


@each_variant
@pytest.mark.parametrize("weighted", [False, pytest.param(True, marks=pytest.mark.deep)])
def test_gradients_of_image_and_kernel(variant, weighted):
    image, kernel = random(2, 2, 4, 6, seed=0), random(2, 2, 3, 2, seed=1)
    weight = torch.arange(6.0).reshape(3, 2) if weighted else None

    def scores(image, kernel):
        return variant(image, kernel, (2, 1), padding=(1, 2), dilation=(1, 2), weight=weight)

    assert torch.autograd.gradcheck(scores, (image, kernel))


@each_variant
def test_gradients_over_many_tiles(variant, monkeypatch):
    image, kernel = random(1, 2, 9, 8, seed=2), random(1, 2, 3, 3, seed=3)
    whole = torch.autograd.grad(variant(image, kernel).sum(), (image, kernel))
    monkeypatch.setattr(patchsim.options, "max_memory", 20_000)
    tiled = torch.autograd.grad(variant(image, kernel).sum(), (image, kernel))
    for one, other in zip(whole, tiled, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.deep
@each_variant
def test_second_derivatives(variant):
    image, kernel = random(1, 1, 4, 4, seed=4), random(1, 1, 2, 3, seed=5)
    assert torch.autograd.gradgradcheck(variant, (image, kernel))


@pytest.mark.parametrize("backend", ["unfold", "conv2d", "fft"])
def test_the_root_of_a_perfect_match_has_no_nan_in_its_gradient(backend):
    image = torch.ones(1, 5, 5, dtype=torch.float64, requires_grad=True)
    patchsim.similarity(image, image.detach()[:, :3, :3], "rmse", backend=backend).sum().backward()
    assert torch.equal(image.grad, torch.zeros_like(image))


def test_a_template_can_be_learned():
    """Descend on a template until it equals the windows it slides over."""
    image = random(1, 3, 12, 12, seed=6).detach()
    kernel = torch.zeros(3, 12, 12, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([kernel], lr=100)
    for _ in range(40):
        optimizer.zero_grad()
        (1 - patchsim.l2_conv2d(image, kernel)).sum().backward()
        optimizer.step()
    assert patchsim.l2_conv2d(image, kernel).item() > 1 - 1e-6
