"""Every error says what was given, what is wanted and what to do."""

import numpy as np
import pytest
import torch

import patchsim

IMAGE, KERNEL = torch.ones(3, 8, 9), torch.ones(3, 4, 5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"image": np.ones((3, 8, 9))}, TypeError, r"`image` must be a torch.Tensor, got numpy"),
        ({"kernel": [[1.0]]}, TypeError, r"`kernel` must be .*got builtins.list; torch.as_tensor"),
        ({"image": torch.ones(8, 9)}, ValueError, r"`image` must have shape .* got \(8, 9\)"),
        ({"kernel": torch.ones(1, 1, 3, 4, 5)}, ValueError, r"`kernel` must have shape"),
        ({"image": IMAGE.long()}, TypeError, r"dtype torch.int64; convert it with .to\(\) to one"),
        ({"image": IMAGE.to(torch.complex64)}, TypeError, r"`image` has dtype torch.complex64"),
        ({"image": IMAGE.to(torch.complex64)}, TypeError, r"take .real or .abs\(\) to one of"),
        ({"kernel": KERNEL.to_sparse()}, TypeError, r"`kernel` must be a dense .*sparse.*to_dense"),
        ({"weight": torch.eye(4, 5).to_sparse()}, TypeError, r"`weight` must be a dense tensor"),
        (
            {"weight": torch.ones(4, 5) * 1j},
            TypeError,
            r"`weight` must be real, got torch.complex64",
        ),
        ({"image": torch.ones(3, 0, 9)}, ValueError, r"`image` is empty: its shape is \(3, 0, 9\)"),
        ({"kernel": torch.ones(0, 3, 4, 5)}, ValueError, r"`kernel` is empty"),
        ({"kernel": KERNEL.double()}, TypeError, r"float32 and `kernel` is torch.float64; convert"),
        ({"kernel": KERNEL.to("meta")}, ValueError, r"on cpu and `kernel` is on meta; move one"),
        ({"kernel": KERNEL[:2]}, ValueError, r"has 3 channels and `kernel` has 2, in shapes"),
        (
            {"kernel": torch.ones(3, 10, 5), "stride": 2},
            ValueError,
            r"no window fits: the template covers 10x5 pixels .* the image has 8x9",
        ),
        ({"stride": 0}, ValueError, r"`stride` must be at least 1, got 0"),
        ({"stride": 1.5}, TypeError, r"`stride` takes an int or a pair of ints, got 1.5"),
        ({"stride": (1, 2, 3)}, TypeError, r"`stride` takes an int or a pair"),
        *(
            ({name: value}, TypeError, rf"`{name}` takes an int or a pair of ints, got {shown}")
            for name in ("stride", "padding", "dilation")
            for value, shown in (
                (1.0, "1.0"),
                ((1, 1.0), r"\(1, 1.0\)"),
                (np.array([1.0, 2.0]), "array"),
                (torch.ones(3), "tensor"),
                ({1}, r"\{1\}"),
                ([[1], [1]], r"\[\["),
                (None, "None"),
            )
        ),
        ({"dilation": (1, 0)}, ValueError, r"`dilation` must be at least 1, got \(1, 0\)"),
        ({"padding": -1}, ValueError, r"`padding` must be at least 0, got -1"),
        ({"padding": "full"}, ValueError, r'"valid" or "same", got \'full\''),
        ({"padding": "same", "stride": 2}, ValueError, r'padding="same" needs stride 1'),
        (
            {"metric": "l3"},
            ValueError,
            r"unknown metric 'l3'; did you mean 'l.'.*There are: hamming",
        ),
        ({"metric": 2}, TypeError, r"`metric` takes a name or a Metric or a Statistic, got 2"),
        ({"backend": "convd"}, ValueError, r"unknown backend 'convd'; did you mean 'conv2d'\?"),
        (
            {"metric": "l1", "backend": "fft"},
            ValueError,
            r"'fft' can't compute 'l1': l1 has no finite-rank expansion. .*: loop, unfold, shift",
        ),
        ({"data_range": 0}, ValueError, r"`data_range` must be a positive finite number, got 0"),
        ({"data_range": float("nan")}, ValueError, r"`data_range` must be a positive finite"),
        (
            {"image": IMAGE.short(), "kernel": KERNEL.short()},
            TypeError,
            r"int16 has no natural range: pass `data_range`",
        ),
        ({"weight": np.ones((4, 5))}, TypeError, r"`weight` must be a torch.Tensor, got ndarray"),
        ({"weight": torch.ones(5, 4)}, ValueError, r"`weight` has shape \(5, 4\); .* \(4, 5\)"),
        ({"weight": torch.ones(5)}, ValueError, r"`weight` has shape \(5,\)"),
        ({"weight": -torch.ones(4, 5)}, ValueError, r"finite and non-negative, got .* -1.0 to -1"),
        ({"weight": torch.full((4, 5), torch.nan)}, ValueError, r"must be finite and non-negative"),
        ({"weight": torch.full((4, 5), torch.inf)}, ValueError, r"must be finite and non-negative"),
        ({"weight": torch.zeros(4, 5)}, ValueError, r"`weight` is zero everywhere"),
        ({"weight": torch.ones(4, 5).to("meta")}, ValueError, r"`weight` is on meta"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        patchsim.similarity(**{"image": IMAGE, "kernel": KERNEL, **arguments})


def test_integers_of_any_kind():
    expected = patchsim.similarity(IMAGE, KERNEL, stride=(2, 1))
    for stride in ([2, 1], np.array([2, 1]), torch.tensor([2, 1]), (np.int32(2), True)):
        assert torch.equal(patchsim.similarity(IMAGE, KERNEL, stride=stride), expected)
    expected = patchsim.similarity(IMAGE, KERNEL, stride=2, data_range=2)
    for two in (np.int64(2), np.array(2), torch.tensor(2)):
        found = patchsim.similarity(IMAGE, KERNEL, stride=two, data_range=np.float32(2))
        assert torch.equal(found, expected)


@pytest.mark.filterwarnings("ignore:.*nested tensors")
def test_nested_and_quantized_tensors():
    nested = torch.nested.nested_tensor([torch.ones(3, 8, 9), torch.ones(3, 8, 7)])
    with pytest.raises(TypeError, match="`image` must be a dense tensor, got one that is nested"):
        patchsim.similarity(nested, KERNEL)


@pytest.mark.parametrize(
    ("image", "kernel", "message"),
    [
        (
            (48, 640, 3),
            (20, 40, 3),
            r"`image` has 48 channels .* 20.*`kernel` looks .*permute\(2, 0",
        ),
        (
            (48, 640, 3),
            (48, 40, 3),
            r"look channels-last.*permute\(2, 0, 1\).* 48 channels .*trans",
        ),
        ((2, 48, 640, 4), (48, 40, 4), r"look channels-last.*\.permute\(0, 3, 1, 2\)"),
        ((48, 640, 3), (3, 20, 40), "`image` looks channels-last"),
        ((3, 48, 64), (20, 40, 3), "`kernel` looks channels-last"),
    ],
)
def test_channels_last_is_seen(image, kernel, message):
    for call in (patchsim.similarity, patchsim.find):
        with pytest.raises(ValueError, match=message):
            call(torch.ones(image), torch.ones(kernel))


def test_features_are_not_taken_for_channels_last():
    for image, kernel in [
        ((64, 3, 3), (64, 3, 3)),
        ((9, 20, 30), (9, 4, 3)),
        ((9, 8, 5), (9, 8, 5)),
    ]:
        assert patchsim.similarity(torch.ones(image), torch.ones(kernel)).isfinite().all()
    narrow, part = torch.ones(64, 20, 3), torch.ones(64, 5, 3)
    assert patchsim.similarity(narrow.transpose(-1, -2), part.transpose(-1, -2)).shape == (1, 16)


def test_bad_reduction():
    with pytest.raises(ValueError, match=r'`reduction` must be "mean" or "sum", got \'max\''):
        patchsim.distance(IMAGE, KERNEL, reduction="max")


def test_a_pair_that_is_no_variant_has_no_name():
    with pytest.raises(ImportError, match="l1_fft"):
        from patchsim import l1_fft  # noqa: F401


def test_one_window_beyond_the_memory_budget(monkeypatch):
    monkeypatch.setattr(patchsim.options, "max_memory", 200)
    with pytest.raises(ValueError, match=r"'unfold' .*one window takes it \d+ bytes.*max_memory"):
        patchsim.l1_unfold(torch.ones(1, 20, 20), torch.ones(1, 9, 9))
    with pytest.raises(ValueError, match=r"no backend can compute 'l1' here: loop: one window"):
        patchsim.similarity(torch.ones(1, 20, 20), torch.ones(1, 9, 9))
