"""Who takes part in comparisons of speed: patchsim, its peers and the machine's limit."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numba
import numpy as np
import scipy.signal
import skimage.feature
import torch
from harness import seconds

import patchsim
from patchsim import threads

MEMORY = 8e9  # bytes that a contestant may take
ROOFLINE = "l1 at the machine's limit"


@dataclass
class Case:
    """One image, its templates, and the two in the layouts that the peers want."""

    size: tuple[int, int]
    taps: tuple[int, int]
    channels: int = 3
    stride: int = 1
    templates: int = 1
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        """Make the tensors."""
        generator = torch.Generator().manual_seed(0)
        shape = (1, self.channels, *self.size)
        image = torch.rand(shape, generator=generator) * 255
        noise = torch.rand((self.templates, *shape[1:]), generator=generator) * 20
        rows, cols = self.taps
        kernel = (image + noise)[:, :, :rows, :cols].clamp(max=255)
        self.image, self.kernel = image.to(self.dtype), kernel.to(self.dtype)
        self.scene = np.ascontiguousarray(self.image[0].permute(1, 2, 0).numpy())
        self.patches = [np.ascontiguousarray(k.permute(1, 2, 0).numpy()) for k in self.kernel]

    @property
    def windows(self) -> int:
        """Number of windows, of all templates."""
        rows, cols = ((n - k) // self.stride + 1 for n, k in zip(self.size, self.taps, strict=True))
        return rows * cols * self.templates

    @property
    def differences(self) -> int:
        """Number of |a − b| in the definition."""
        return self.windows * self.channels * math.prod(self.taps)


def known_answer(case: Case) -> torch.Tensor:
    """Compare all windows at once, as the known answer to the question does."""
    image, kernel, s = case.image.float(), case.kernel.float(), case.stride
    windows = image.unfold(2, kernel.shape[2], s).unfold(3, kernel.shape[3], s)
    return torch.stack([(windows - k[:, None, None]).abs().sum((1, 4, 5))[0] for k in kernel])


def cdist(case: Case) -> torch.Tensor:
    """Compute l1 distances of unfolded patches."""
    image, kernel = case.image.float(), case.kernel.float()
    windows = torch.nn.functional.unfold(image, case.taps, stride=case.stride)[0].T
    sums = torch.cdist(windows.contiguous(), kernel.flatten(1), p=1)
    rows = (case.size[0] - case.taps[0]) // case.stride + 1
    return sums.T.unflatten(1, (rows, -1))


def conv2d(case: Case) -> torch.Tensor:
    """Correlate only: not an answer, but what the question hoped for."""
    return torch.nn.functional.conv2d(case.image.float(), case.kernel.float(), stride=case.stride)


def opencv(case: Case) -> torch.Tensor:
    """Compute TM_SQDIFF."""
    s = case.stride
    maps = [cv2.matchTemplate(case.scene, k, cv2.TM_SQDIFF)[::s, ::s] for k in case.patches]
    return torch.from_numpy(np.stack(maps))


def skimage_zncc(case: Case) -> list[Any]:
    """Compute scikit-image's normalised correlation: another metric, the same work."""
    return [skimage.feature.match_template(case.scene, k) for k in case.patches]


def scipy_ssd(case: Case) -> torch.Tensor:
    """Compute the SSD by SciPy's overlap-add convolution."""
    image = case.image[0].float().numpy()
    ones = np.ones((1, *case.taps), dtype=image.dtype)
    squares = scipy.signal.oaconvolve((image**2).sum(0)[None], ones, "valid", axes=(1, 2))[0]
    maps = []
    for kernel in case.kernel.float().numpy():
        flipped = kernel[:, ::-1, ::-1]
        crosses = scipy.signal.oaconvolve(image, flipped, "valid", axes=(1, 2)).sum(0)
        maps.append(squares - 2 * crosses + (kernel**2).sum())
    return torch.from_numpy(np.stack(maps)[:, :: case.stride, :: case.stride].copy())


def ours(metric: str, backend: str = "auto") -> Callable[[Case], Any]:
    """Make a contestant of patchsim."""

    def run(case: Case) -> torch.Tensor:
        return patchsim.similarity(
            case.image[0], case.kernel, metric, stride=case.stride, backend=backend, data_range=255
        )

    return run


@dataclass
class Contestant:
    """How to run it, and roughly what it takes: nanoseconds and bytes a difference or a pixel."""

    run: Callable[[Case], Any]
    per_difference: float = 0.0
    per_pixel: float = 0.0
    bytes_per_difference: float = 0.0

    def refusal(self, case: Case, limit: float) -> str:
        """Tell why it is skipped, if it is."""
        pixels = math.prod(case.size) * case.channels * case.templates
        seconds = 1e-9 * (case.differences * self.per_difference + pixels * self.per_pixel)
        memory = case.differences * self.bytes_per_difference
        if memory > MEMORY:
            return f"over {MEMORY / 1e9:.0f} GB"
        return f"over {limit:g} s" if seconds > limit else ""


CONTESTANTS = {
    "l1 auto": Contestant(ours("l1"), 0.02),
    "l2 auto": Contestant(ours("l2"), 0, 20),
    "l2 fused": Contestant(ours("l2", "fused"), 0.03),
    "l2 conv2d": Contestant(ours("l2", "conv2d"), 0.2, 10),
    "l2 fft": Contestant(ours("l2", "fft"), 0, 20),
    "l1 loop": Contestant(ours("l1", "loop"), 0.5, 12_000),
    "l1 known answer": Contestant(known_answer, 3, 0, 8),
    "l1 torch.cdist": Contestant(cdist, 2, 0, 8),
    "F.conv2d alone": Contestant(conv2d, 0.2),
    "l2 OpenCV": Contestant(opencv, 0, 20),
    "zncc scikit-image": Contestant(skimage_zncc, 0, 400),
    "l2 SciPy": Contestant(scipy_ssd, 0, 200),
}


def check(case: Case, names: Iterable[str]) -> None:
    """Refuse to time what gives another answer."""
    image, kernel = case.image[0].double(), case.kernel.double()
    for metric in ("l1", "l2"):
        exact = patchsim.distance(image, kernel, metric, stride=case.stride, reduction="sum")
        mean = exact / kernel[0].numel() / (255 if metric == "l1" else 255**2)
        for name in names:
            result = CONTESTANTS[name].run(case)
            if name.split()[0] != metric:
                continue
            if name.split()[1] in patchsim.backends.BACKENDS or name.endswith("auto"):
                assert torch.allclose(result.double(), 1 - mean, atol=2e-5), name
            else:  # peers cancel: relative to the terms that they add
                scale = 255.0 ** (2 if metric == "l2" else 1) * kernel[0].numel()
                assert torch.allclose(result.double(), exact, atol=1e-4 * scale), name


@numba.njit(nogil=True, fastmath=True, cache=True)
def _differences(values: Any, other: Any, repeats: int) -> Any:
    total = np.float32(0)
    for r in range(repeats):
        k = other[r % other.size]
        for x in range(values.size):
            total += abs(values[x] - k)
    return total


def roofline(turns: int = 15) -> float:
    """Measure billions of |a − b| added per second, of float32 in the first-level cache."""
    generator = np.random.default_rng(0)
    values, other = generator.random(4096, np.float32), generator.random(7, np.float32)
    repeats, count = 10_000, torch.get_num_threads()

    def run() -> None:
        threads.each(lambda _: _differences(values, other, repeats), range(count))

    run()
    return (
        count
        * values.size
        * repeats
        / statistics.median(seconds(run, 1) for _ in range(turns))
        / 1e9
    )
