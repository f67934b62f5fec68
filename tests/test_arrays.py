"""Arrays in, arrays out: of any layout, without a copy where that can be, and never changed."""

import numpy as np
import pytest
import torch

import patchsim
from patchsim.arrays import tensor_of

DTYPES = ["uint8", "int16", "bool", "float16", "float32", "float64"]


def picture(dtype="float32", channels=3):
    random = np.random.default_rng(4)
    values = random.random((channels, 20, 24))
    return values > 0.5 if dtype == "bool" else (values * 99).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", ["l1", "zncc"])
def test_a_map_for_an_array_is_an_array(dtype, metric):
    image = picture(dtype)
    kernel, options = image[:, 3:9, 4:11], {"data_range": 99}
    found = patchsim.similarity(image, kernel, metric, **options)
    tensors = torch.from_numpy(image), torch.from_numpy(kernel.copy())
    expected = patchsim.similarity(*tensors, metric, **options)
    assert type(found) is np.ndarray
    assert np.array_equal(found, expected.numpy())
    assert found[3, 4] == 1
    assert np.array_equal(
        patchsim.distance(image, kernel, metric, **options),
        patchsim.distance(*tensors, metric, **options).numpy(),
    )
    bound = patchsim.error_bound(image, tensors[1], metric, **options)  # one of each will do
    assert type(bound) is np.ndarray
    assert type(patchsim.similarity(tensors[0], kernel, metric, **options)) is torch.Tensor
    assert patchsim.find(image, [kernel], metric, **options)[0].box == (4, 3, 11, 9)
    matcher = patchsim.Matcher(kernel, metric, **options)
    assert np.array_equal(matcher.similarity(image), found)


LAYOUTS = {
    "turned": lambda a: a[:, ::-1, ::-1][:, ::-1, ::-1],
    "upside down": lambda a: np.ascontiguousarray(a[:, ::-1])[:, ::-1],
    "big endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "Fortran": np.asfortranarray,
    "channels apart": lambda a: np.ascontiguousarray(a.transpose(1, 2, 0)).transpose(2, 0, 1),
    "inside a larger one": lambda a: np.pad(a, ((0, 0), (2, 3), (1, 4)))[:, 2:-3, 1:-4],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_any_layout_will_do(layout, dtype):
    image = picture(dtype)
    kernel = image[:, 3:9, 4:11].copy()
    found = patchsim.l1_fused(LAYOUTS[layout](image), LAYOUTS[layout](kernel))
    expected = patchsim.l1_fused(image, kernel)
    bound = 0 if dtype == "uint8" else 2 * patchsim.error_bound(image, kernel, "l1", "fused")
    assert (abs(found - expected) <= bound).all()


@pytest.mark.parametrize("locked", [False, True])
def test_memory_is_shared(locked, tmp_path):
    """Of an array on the disk, too, that may not be written to."""
    path = tmp_path / "image.npy"
    np.save(path, picture())
    image = np.load(path, mmap_mode="r" if locked else "r+")
    assert image.flags.writeable is not locked
    tensor = tensor_of("image", image)
    assert tensor.data_ptr() == image.__array_interface__["data"][0]
    kernel = np.array(image[:, 3:9, 4:11])
    assert patchsim.find(image, kernel, "l2")[0].score == 1
    assert np.array_equal(image, picture())


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor], ids=["array", "tensor"])
def test_grey_images_need_no_axis_of_channels(make):
    image = make(picture(channels=1)[0])
    kernel = image[3:9, 4:11]
    found = patchsim.similarity(image, kernel, "l2", stride=2)
    assert tuple(found.shape) == (8, 9)
    expected = patchsim.similarity(image[None], kernel[None], "l2", stride=2)
    assert (make(found) == make(expected)).all()
    assert patchsim.find(image, kernel)[0].box == (4, 3, 11, 9)
    assert patchsim.Matcher(kernel).similarity(image)[3, 4] == 1


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor], ids=["array", "tensor"])
def test_channels_may_be_last(make):
    image = picture("uint8")
    kernels, weight = image[None, :, 3:9, 4:11].repeat(2, 0), np.ones((2, 3, 6, 7))
    weight[1, :, :2] = 0
    last = [make(np.moveaxis(own, -3, -1)) for own in (image, kernels, weight)]
    for function in (patchsim.similarity, patchsim.distance, patchsim.error_bound):
        found = function(last[0], last[1], "l2", weight=last[2], channels_last=True)
        assert np.array_equal(found, function(image, kernels, "l2", weight=weight))
    matcher = patchsim.Matcher(last[1], "l2", channels_last=True)
    found = matcher.find(last[0], k=2)
    assert list(found) == list(patchsim.find(image, kernels, "l2", k=2))
    assert list(patchsim.find(last[0], last[1], "l2", k=2, channels_last=True)) == list(found)
    plan = patchsim.plan(last[0], last[1], channels_last=True)
    assert str(plan) == str(patchsim.plan(image, kernels))


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (TypeError, "`image` is an array of .U1", lambda a: np.full((1, 9, 9), "a")),
        (TypeError, "`image` is an array of object", lambda a: a.astype(object)),
        (TypeError, "`image` has dtype torch.int64", lambda a: a.astype(np.int64)),
        (ValueError, r"channels_last|looks channels-last", lambda a: a.transpose(1, 2, 0)),
    ],
)
def test_what_is_wrong_is_said(error, message, change):
    image = picture()
    with pytest.raises(error, match=message):
        patchsim.similarity(change(image), image[:, :5, :5])
