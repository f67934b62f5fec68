"""How much does a search leave out, and how much faster than a map does that make it?"""

from __future__ import annotations

import math
import sys
from functools import partial
from itertools import product
from typing import Any
from unittest import mock

import cv2
import figures
import harness
import numpy as np
import skimage.data
import torch
from figures import BLUE, GREEN, GREY, ORANGE, PURPLE
from harness import Experiment, Settings, Table, Tables
from matplotlib.figure import Figure
from torch import Tensor

import patchsim
from patchsim.arguments import read
from patchsim.search import lower_bounds, pruning
from patchsim.search.survey import Survey

#: Photos, enlarged; and kinds of images that are hard to prune, or easy.
PHOTOS = ("astronaut", "coffee", "rocket")
KINDS = (*PHOTOS, "text", "noise", "periodic", "constant")
#: Standard deviation of the noise that is added to templates, of 1.
NOISE = 0.03
#: Templates are cut where a photo has some structure: least standard deviation.
LEAST_DEVIATION = 0.08
METRICS = ("l1", "l2", "zncc")
METHODS = {"l2": cv2.TM_SQDIFF, "zncc": cv2.TM_CCOEFF_NORMED}
WAYS = {
    pruning.of_blocks: "blocks",
    lower_bounds.of_maps: "map",
}
#: The search; the same result from maps of all windows alone; an inexact one; and a peer.
COLOURS = {"find": BLUE, "dense": ORANGE, "map": GREEN, "OpenCV": PURPLE}


def picture(kind: str, size: tuple[int, int], random: np.random.Generator) -> Tensor:
    """Return an image, (3, H, W), float32 in 0 to 1; its first channel stands for a grey one."""
    height, width = size
    if kind == "noise":
        pixels = random.random((height, width, 3))
    elif kind == "constant":
        pixels = np.full((height, width, 3), 0.4)
    elif kind == "periodic":
        tile = random.random((36, 40, 3))
        pixels = np.tile(tile, (height // 36 + 1, width // 40 + 1, 1))[:height, :width]
    else:
        given = getattr(skimage.data, "page" if kind == "text" else kind)()
        given = given if given.ndim == 3 else np.repeat(given[:, :, None], 3, 2)
        pixels = cv2.resize(given, (width, height), interpolation=cv2.INTER_CUBIC) / 255
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(planes)


def noisy_template(image: Tensor, taps: int, random: np.random.Generator) -> Tensor:
    """Cut a template where the image has structure, if it has any, and add noise."""
    for _ in range(1000):
        y, x = (int(random.integers(0, n - taps + 1)) for n in image.shape[1:])
        template = image[:, y : y + taps, x : x + taps]
        if template.std(dim=(1, 2)).mean() >= LEAST_DEVIATION:
            break
    noise = random.normal(0, NOISE, template.shape).astype(np.float32)
    return (template + torch.from_numpy(noise)).clamp(0, 1)


def measure(settings: Settings) -> Tables:
    """Look for templates in every kind of image."""
    random, rows = settings.random(), []
    size = settings.choose((270, 480), (1080, 1920))
    kinds = settings.choose(("coffee", "noise", "constant"), KINDS)
    sides, depths = settings.choose((32,), (32, 64)), settings.choose((3,), (3, 1))
    for kind in harness.progress(kinds, "search"):
        whole = picture(kind, size, random)
        for taps, channels in product(sides, depths):
            image = whole[:channels].clone()
            template = noisy_template(image, taps, random)
            for metric in METRICS:
                rows += _compare(kind, image, template, metric, settings.choose(3, 9))
    return {"search": rows}


def _compare(kind: str, image: Tensor, template: Tensor, metric: str, turns: int) -> Table:
    """Time a search, one without sums, a map with argmax, and OpenCV."""
    runs: dict[str, Any] = {
        "find": partial(patchsim.find, image, template, metric),
        "dense": partial(_dense, image, template, metric),
        "map": partial(_by_map, image, template, metric),
    }
    scene, patch = (np.ascontiguousarray(t.permute(1, 2, 0).numpy()) for t in (image, template))
    if metric in METHODS:
        runs["OpenCV"] = partial(_by_opencv, scene, patch, metric)
    [match] = runs["find"]()
    scores = patchsim.similarity(image.double(), template.double(), metric)
    bounds, left = _left(image, template, metric, match)
    same = int(abs(float(scores.max()) - match.score) < 1e-12)
    same *= int(abs(float(scores[match.y, match.x]) - match.score) < 1e-12)
    return [
        {
            "image": kind,
            "taps": template.shape[1],
            "channels": len(template),
            "metric": metric,
            "contestant": name,
            "bounds": bounds if name == "find" else "",
            "left": f"{left:.3g}" if name == "find" else "",
            **harness.quartiles(samples),
            "same_place": same,
        }
        for name, samples in harness.interleave(runs, turns).items()
    ]


def _dense(image: Tensor, template: Tensor, metric: str) -> Any:
    """Search without sums of blocks: by maps, and what their errors leave."""
    with mock.patch.object(pruning, "possible", return_value=False):
        return patchsim.find(image, template, metric)


def _by_map(image: Tensor, template: Tensor, metric: str) -> int:
    return int(patchsim.similarity(image, template, metric).argmax())


def _by_opencv(scene: np.ndarray, patch: np.ndarray, metric: str) -> Any:
    return cv2.minMaxLoc(cv2.matchTemplate(scene, patch, METHODS[metric]))


def _left(image: Tensor, template: Tensor, metric: str, match: Any) -> tuple[str, float]:
    """Tell by which bounds a search goes, and what share of windows those by blocks leave."""
    call = read(
        image[None], template[None], metric, (1, 0, 1), None, None, "auto", bounds_only=True
    )
    survey = Survey([(call, [0])], 1)
    survey.matches(math.inf, 0.3, sys.maxsize)
    [bounds] = pruning.of_blocks(call)
    return WAYS[survey.groups[0].ways[0].bound], bounds.count(1 - match.score) / bounds.values.size


def draw(tables: Tables) -> dict[str, Figure]:
    """Draw the time of each contestant on three channels, and the share of windows left."""
    rows = harness.pick(tables["search"], channels=3)
    sides = harness.distinct(rows, "taps")
    drawing, axes = figures.figure(
        len(METRICS), len(sides), 9.6, sharey=True, sharex=True, squeeze=False
    )
    for line, metric in zip(axes, METRICS, strict=True):
        for ax, taps in zip(line, sides, strict=True):
            _draw_times(ax, harness.pick(rows, metric=metric, taps=taps))
            ax.set_title(f"{metric}, {taps}×{taps}")
    for ax in axes[-1]:
        ax.set_xlabel("ms a search (median), and the share of\nwindows that bounds by blocks leave")
    axes[0, 0].invert_yaxis()  # shared by all
    handles = axes[1, 0].get_legend_handles_labels()
    drawing.legend(*handles, loc="outside upper center", ncols=4)
    return {"search": drawing}


def _draw_times(ax: Any, rows: Table) -> None:
    kinds = harness.distinct(rows, "image")
    for number, (name, colour) in enumerate(COLOURS.items()):
        own = {r["image"]: r for r in harness.pick(rows, contestant=name)}
        if not own:
            continue
        places = [kinds.index(kind) + 0.2 * (number - 1.5) for kind in own]
        times = [r["median_ms"] for r in own.values()]
        ax.barh(places, times, 0.19, color=colour, label=name)
        if name == "find":
            for y, row in zip(places, own.values(), strict=True):
                longest = max(r["median_ms"] for r in rows if r["image"] == row["image"])
                text = f" {100 * row['left']:.1g} %" if row["left"] < 0.1 else f" {row['left']:.0%}"
                ax.text(longest, y, text, va="center", fontsize=8, color=GREY)
    ax.set_yticks(range(len(kinds)), kinds)
    ax.set(xscale="log")
    ax.margins(x=0.25)
    ax.grid(visible=False, axis="y")


def shows(tables: Tables) -> list[Any]:
    """Give ratios and shares."""
    rows = tables["search"]
    keys = "image", "taps", "channels", "metric"
    times = {(*(r[key] for key in keys), r["contestant"]): r["median_ms"] for r in rows}
    cells = dict.fromkeys(cell[:-1] for cell in times)
    lines, table = [], []
    for cell in cells:
        [own] = harness.pick(rows, **dict(zip(keys, cell, strict=True)), contestant="find")
        image, taps, channels, metric = cell
        line = {
            "image": image,
            "taps": f"{taps}²",
            "channels": channels,
            "metric": metric,
            "% left by blocks": 100 * own["left"],
            "bounds": own["bounds"],
            "find, ms": own["median_ms"],
        }
        peer = times.get((*cell, "OpenCV"))
        line["dense, times as long"] = times[(*cell, "dense")] / own["median_ms"]
        line["map, times as long"] = times[(*cell, "map")] / own["median_ms"]
        line["OpenCV, times as long"] = peer / own["median_ms"] if peer else "-"
        table.append(line)
    for channels, metric in product(harness.distinct(rows, "channels"), METRICS):
        own = [c for c in cells if c[2:] == (channels, metric)]
        ratios = {c: times[(*c, "map")] / times[(*c, "find")] for c in own}
        photos = [r for c, r in ratios.items() if c[0] in PHOTOS]
        worst = min(ratios, key=ratios.__getitem__)
        lines.append(
            f"{metric}, channels: {channels}. On photos the search is {min(photos):.1f} to "
            f"{max(photos):.1f} times as fast as the map and argmax; over all kinds at least "
            f"{ratios[worst]:.2f} times ({worst[0]}, {worst[1]}²)."
        )
    dense = {c: times[(*c, "dense")] / times[(*c, "find")] for c in cells}
    worst = min(dense, key=dense.__getitem__)
    lines.append(
        "dense is the search without sums of blocks or channels, a map of all windows with greedy "
        "suppression and the same exact result; the map with argmax alone is inexact. Beside dense "
        f"the search is at least {dense[worst]:.2f} times as fast ({worst[0]}, {worst[1]}², "
        f"channels: {worst[2]}, {worst[3]})."
    )
    methods = {"l2": "TM_SQDIFF", "zncc": "TM_CCOEFF_NORMED"}
    for channels, metric in product(harness.distinct(rows, "channels"), methods):
        own = [c for c in cells if c[2:] == (channels, metric)]
        peers = [times[(*c, "OpenCV")] / times[(*c, "find")] for c in own]
        mean = math.exp(sum(map(math.log, peers)) / len(peers))
        lines.append(
            f"{metric}, channels: {channels}. {mean:.1f} times as fast as OpenCV's matchTemplate "
            f"({methods[metric]}) and minMaxLoc, in the geometric mean of {len(peers)} cases."
        )
    return [*lines, harness.markdown(table)]


EXPERIMENT = Experiment(
    name="search",
    title="Search without a map",
    asks="What share of windows do bounds by sums of blocks leave, on which kinds of images? How "
    "does a search for the best match compare with a map and its argmax, and with OpenCV?",
    measure=measure,
    draw=draw,
    shows=shows,
    leaves_open=(
        f"One template a size and image, cut where it has a standard deviation of at least "
        f"{LEAST_DEVIATION} (of 1) and with normal noise of {NOISE}: bounds leave more where a "
        "template is flat or the noise is stronger.",
        "float32 only; searches for one match only.",
        "That the answer is right is tested elsewhere, on small images; here it is compared with "
        "the best score of a map in float64.",
    ),
)

if __name__ == "__main__":
    harness.main(EXPERIMENT)
