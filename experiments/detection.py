"""Which metric finds the template: in photos under noise, blur, JPEG, light, occlusion, hue shift?

Templates are windows of the clean photo, looked for in the degraded one. Each metric's answer is
its best window.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import cv2
import figures
import harness
import numpy as np
import skimage.data
import torch
from figures import AMBER, BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY
from harness import Experiment, Row, Settings, Table, Tables
from matplotlib.figure import Figure
from torch import Tensor

import patchsim

#: Photos that come with scikit-image, all in the public domain, CC0 or without known restrictions.
PHOTOS = ("astronaut", "coffee", "rocket", "chelsea", "immunohistochemistry")
SIDE, TAPS = 160, 24
#: A template must have some structure: this standard deviation, of 255.
LEAST_DEVIATION = 12
#: Detected means an intersection over union of more than a half with the right window.
DETECTED = 0.5
METRICS = ("l1", "l2", "l4", "ncc", "zncc", "ssim", "intersection", "hsv", "hue", "hue_l1")
CONV2D = "conv2d alone"
COLOURS = {
    **{"l1": BLUE, "l2": GREEN, "zncc": ORANGE, "ssim": PURPLE, "hsv": AMBER, "hue": SKY},
    CONV2D: BLACK,
}

Pixels = np.ndarray


def noise(image: Pixels, level: float, random: np.random.Generator) -> Pixels:
    """Add normal noise of that standard deviation."""
    return image + random.normal(0, level, image.shape)


def blur(image: Pixels, level: float, random: np.random.Generator) -> Pixels:
    """Blur by a Gaussian of that standard deviation, in pixels."""
    return cv2.GaussianBlur(image, (0, 0), level)


def jpeg(image: Pixels, level: float, random: np.random.Generator) -> Pixels:
    """Encode as JPEG of that quality, and decode."""
    _, data = cv2.imencode(".jpg", image.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, int(level)])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def brightness(image: Pixels, level: float, random: np.random.Generator) -> Pixels:
    """Add a number, of 255."""
    return image + level


def contrast(image: Pixels, level: float, random: np.random.Generator) -> Pixels:
    """Bring values nearer to mid-grey: level is what is left of the contrast."""
    return 128 + level * (image - 128.0)


def hue_shift(image: Pixels, level: float, random: np.random.Generator) -> Pixels:
    """Turn hues by an angle in degrees."""
    hsv = cv2.cvtColor(image.astype(np.uint8), cv2.COLOR_RGB2HSV).astype(int)
    hsv[:, :, 0] = (hsv[:, :, 0] + level / 2) % 180
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)


def nothing(image: Pixels, level: float, random: np.random.Generator) -> Pixels:
    """Leave the scene; occlusion depends on the template."""
    return image


#: Name -> (function, levels from mild to severe, unit).
DEGRADATIONS: dict[str, tuple[Callable[..., Pixels], tuple[float, ...], str]] = {
    "noise": (noise, (10, 30, 60, 100), "standard deviation, of 255"),
    "blur": (blur, (1, 2, 4, 8), "standard deviation, pixels"),
    "JPEG": (jpeg, (50, 20, 8, 2), "quality"),
    "brightness": (brightness, (10, 30, 60, 100), "added, of 255"),
    "contrast": (contrast, (0.8, 0.6, 0.4, 0.2), "contrast left"),
    "occlusion": (nothing, (0.2, 0.4, 0.6, 0.8), "share of the window"),
    "hue shift": (hue_shift, (10, 30, 60, 120), "degrees"),
}


def photo(name: str) -> Pixels:
    """Return a square of a photo's middle, (SIDE, SIDE, 3) in 0 … 255, at half its resolution."""
    pixels = getattr(skimage.data, name)().astype(float)
    pixels = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    side = min(SIDE, *pixels.shape[:2])
    top, left = ((n - side) // 2 for n in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def places(pixels: Pixels, number: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """Draw the corners of windows with some structure."""
    found: list[tuple[int, int]] = []
    while len(found) < number:
        y, x = (int(random.integers(0, n - TAPS + 1)) for n in pixels.shape[:2])
        if pixels[y : y + TAPS, x : x + TAPS].std((0, 1)).mean() >= LEAST_DEVIATION:
            found.append((y, x))
    return found


def tensor(pixels: Pixels) -> Tensor:
    """Return pixels as (3, H, W), float32 in 0 … 1, clipped and rounded to 8 bits."""
    eight_bits = np.clip(np.round(pixels), 0, 255).astype(np.float32) / 255
    return torch.from_numpy(np.ascontiguousarray(eight_bits.transpose(2, 0, 1)))


def in_hsv(image: Tensor) -> Tensor:
    """Return hue in turns, saturation and value."""
    hsv = cv2.cvtColor(image.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2HSV_FULL)
    hsv[:, :, 0] /= 360
    return torch.from_numpy(np.ascontiguousarray(hsv.transpose(2, 0, 1)))


def score(metric: str, image: Tensor, kernel: Tensor) -> Tensor:
    """Return a metric's map, converting colours for those that want HSV."""
    if metric == CONV2D:
        return torch.nn.functional.conv2d(image[None], kernel[None])[0, 0]
    if metric.startswith(("hsv", "hue")):
        image, kernel = in_hsv(image), in_hsv(kernel)
    if metric.startswith("hue"):
        image, kernel = image[:1].contiguous(), kernel[:1].contiguous()
    return patchsim.similarity(image, kernel, metric)


def occluded(image: Pixels, place: tuple[int, int], share: float, random: np.random.Generator):
    """Cover the lower part of a window by a piece of the same photo."""
    y, x = place
    rows = round(TAPS * share)
    top, left = (int(random.integers(0, n - TAPS + 1)) for n in image.shape[:2])
    covered = image.copy()
    covered[y + TAPS - rows : y + TAPS, x : x + TAPS] = image[top : top + rows, left : left + TAPS]
    return covered


def measure(settings: Settings) -> Tables:
    """Look for every template in every scene with every metric."""
    random, distances = settings.random(), {}
    number = settings.choose(2, 20)
    for name in harness.progress(settings.choose(PHOTOS[:3], PHOTOS), "detection"):
        clean = photo(name)
        corners = places(clean, number, random)
        for kind, (degrade, levels, _) in DEGRADATIONS.items():
            for level in settings.choose(levels[1::2], levels):
                scene = degrade(clean, level, random)
                for place in corners:
                    seen = occluded(scene, place, level, random) if degrade is nothing else scene
                    for metric, offset in _offsets(clean, seen, place).items():
                        distances.setdefault((kind, level, metric), []).append(offset)
    return {"detection": [_row(key, offsets, random) for key, offsets in distances.items()]}


def _offsets(clean: Pixels, seen: Pixels, place: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Return how far each metric's best window lies from the right one, down and across."""
    y, x = place
    image, kernel = tensor(seen), tensor(clean[y : y + TAPS, x : x + TAPS])
    offsets = {}
    for metric in (*METRICS, CONV2D):
        scores = score(metric, image, kernel)
        row, col = divmod(int(scores.argmax()), scores.shape[1])
        offsets[metric] = (row - y, col - x)
    return offsets


def _row(key: tuple[str, float, str], offsets: list, random: np.random.Generator) -> Row:
    kind, level, metric = key
    errors = np.array([math.hypot(*offset) for offset in offsets])
    hits = sum(_overlap(*offset) > DETECTED for offset in offsets)
    low, high = wilson(hits, len(offsets))
    means = random.choice(errors, (1000, len(errors))).mean(1)
    lower, upper = np.quantile(means, (0.025, 0.975))
    return {
        "degradation": kind,
        "level": level,
        "metric": metric,
        "trials": len(offsets),
        "detected": hits,
        "rate": f"{hits / len(offsets):.4f}",
        "rate_low": f"{low:.4f}",
        "rate_high": f"{high:.4f}",
        "median_error_px": f"{np.median(errors):.3g}",
        "mean_error_px": f"{errors.mean():.4g}",
        "mean_error_low": f"{lower:.4g}",
        "mean_error_high": f"{upper:.4g}",
    }


def _overlap(down: int, across: int) -> float:
    """Return the intersection over union of two windows that far apart."""
    common = max(0, TAPS - abs(down)) * max(0, TAPS - abs(across))
    return common / (2 * TAPS**2 - common)


def wilson(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a rate (Wilson, JASA 22, 1927)."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, shrink = hits / trials, 1 + z * z / trials
    centre = rate + z * z / (2 * trials)
    reach = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2))
    return max(0.0, (centre - reach) / shrink), min(1.0, (centre + reach) / shrink)


def draw(tables: Tables) -> dict[str, Figure]:
    """Draw rates against levels, and the rate of every metric over all levels."""
    return {
        "detection": _draw_table(tables["detection"]),
        "detection-levels": _draw_levels(tables["detection"]),
    }


def _rates(rows: Table, metric: str) -> list[float]:
    """Return a metric's share of detections under each degradation, over all levels."""
    rates = []
    for kind in DEGRADATIONS:
        own = harness.pick(rows, metric=metric, degradation=kind)
        rates.append(sum(harness.column(own, "detected")) / sum(harness.column(own, "trials")))
    return rates


def _ranked(rows: Table) -> list[str]:
    metrics = harness.distinct(rows, "metric")
    return sorted(metrics, key=lambda m: -sum(_rates(rows, m)))


def _draw_table(rows: Table) -> Figure:
    drawing, ax = figures.figure(1, 1, 4.2)
    metrics = _ranked(rows)
    grid = [[100 * rate for rate in _rates(rows, m)] for m in metrics]
    figures.heat_table(ax, grid, metrics, list(DEGRADATIONS), form=".0f", colours="viridis")
    ax.set_title("% of templates found, mean over levels from mild to severe")
    return drawing


def _draw_levels(rows: Table) -> Figure:
    drawing, axes = figures.figure(2, 4, 5.4, sharey=True)
    for ax, (kind, (_, _, unit)) in zip(axes.flat, DEGRADATIONS.items(), strict=False):
        for metric, colour in COLOURS.items():
            own = harness.pick(rows, degradation=kind, metric=metric)
            xs, ys = range(len(own)), [100 * r["rate"] for r in own]
            low, high = ([100 * r[key] for r in own] for key in ("rate_low", "rate_high"))
            ax.plot(xs, ys, color=colour, marker="o", label=metric)
            ax.fill_between(xs, low, high, color=colour, alpha=0.1, lw=0)
        ax.set_xticks(range(len(own)), [f"{r['level']:g}" for r in own])
        ax.set(title=kind, xlabel=unit.replace(", ", ",\n"), ylim=(-3, 103))
    for ax in axes[:, 0]:
        ax.set_ylabel("% found")
    axes[1, 3].set_axis_off()
    axes[1, 3].legend(*axes[0, 0].get_legend_handles_labels(), loc="center")
    return drawing


def shows(tables: Tables) -> list[str]:
    """Say which metric finds most."""
    rows = tables["detection"]
    ranked = _ranked(rows)
    means = {m: 100 * sum(_rates(rows, m)) / len(DEGRADATIONS) for m in ranked}
    lines = [
        "Found over all degradations and levels: "
        + ", ".join(f"{m} {means[m]:.0f} %" for m in ranked)
        + "."
    ]
    for number, kind in enumerate(DEGRADATIONS):
        order = sorted(ranked, key=lambda m: -_rates(rows, m)[number])
        level = harness.pick(rows, degradation=kind)[-1]["level"]
        [top] = harness.pick(rows, degradation=kind, metric=order[0], level=level)
        lines.append(
            f"{kind}: most by {order[0]} ({100 * _rates(rows, order[0])[number]:.0f} %), then "
            f"{order[1]} ({100 * _rates(rows, order[1])[number]:.0f} %); at the severest, "
            f"{order[0]} finds {100 * top['rate']:.0f} % (95 % interval "
            f"{100 * top['rate_low']:.0f} to {100 * top['rate_high']:.0f} %, "
            f"{top['trials']} trials), on average {top['mean_error_px']:.2g} pixels off "
            f"({top['mean_error_low']:.2g} to {top['mean_error_high']:.2g})."
        )
    return lines


EXPERIMENT = Experiment(
    name="detection",
    title="Which metric finds the template?",
    asks="Windows of clean photos are looked for in noisy, blurred, compressed, brighter, flatter, "
    "partly covered and recoloured ones. How often, and how exactly, does each metric find them?",
    measure=measure,
    draw=draw,
    shows=shows,
    leaves_open=(
        f"It is about {len(PHOTOS)} photos at half resolution and templates of {TAPS}² with a "
        f"standard deviation of at least {LEAST_DEVIATION} of 255. Intervals (Wilson's for rates, "
        "bootstrap for errors) treat trials as independent, which those of one photo aren't.",
        "Rotation, scale and perspective, which no metric here allows for.",
        "rmse, which ranks windows as l2 does, and hamming, which is for labels.",
    ),
)

if __name__ == "__main__":
    harness.main(EXPERIMENT)
