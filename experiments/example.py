"""The question's own example: what does conv2d say of a black kernel, and what does patchsim?"""

from __future__ import annotations

import math

import figures
import harness
import numpy as np
import skimage.color
import skimage.data
import torch
from figures import GREEN, ORANGE
from harness import Experiment, Settings, Tables
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

import patchsim

SIDE = 32
#: What is looked for in the photo of an astronaut: where it was cut out (None for plain black), the
#: colour space, and patchsim's metric.
KERNELS = {
    "black, RGB": (None, "RGB", "l1"),
    "orange suit, RGB": ((330, 80), "RGB", "l1"),
    "orange suit, HSV": ((330, 80), "HSV", "hsv"),
    "black, HSV, hue of the suit": (None, "HSV", "hsv"),
}


def photo(space: str) -> Tensor:
    """Return the photo, (3, H, W) in 0 … 1, in a colour space."""
    pixels = skimage.data.astronaut() / 255
    pixels = skimage.color.rgb2hsv(pixels) if space == "HSV" else pixels
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float()


def kernel(name: str) -> Tensor:
    """Return a kernel, (3, SIDE, SIDE)."""
    place, space, _ = KERNELS[name]
    if place:
        y, x = place
        return photo(space)[:, y : y + SIDE, x : x + SIDE].contiguous()
    black = torch.zeros(3, SIDE, SIDE)
    if space == "HSV":  # black has no hue: any will do
        black[0], black[1] = 0.03, 1
    return black


def maps(name: str) -> dict[str, Tensor]:
    """Return both maps of a kernel, (Ho, Wo)."""
    _, space, metric = KERNELS[name]
    image, template = photo(space), kernel(name)
    return {
        "conv2d": torch.nn.functional.conv2d(image[None], template[None])[0, 0],
        "patchsim": patchsim.similarity(image, template, metric),
    }


def measure(settings: Settings) -> Tables:
    """Compute all maps; the answer is where conv2d and patchsim are largest."""
    rows = [
        _row(name, method, scores)
        for name in harness.progress(KERNELS, "example")
        for method, scores in maps(name).items()
    ]
    return {"example": rows}


def _row(name: str, method: str, scores: Tensor) -> harness.Row:
    place = KERNELS[name][0]
    best = y, x = divmod(int(scores.argmax()), scores.shape[1])
    window = photo("RGB")[:, y : y + SIDE, x : x + SIDE]
    wanted = kernel(name) if KERNELS[name][1] == "RGB" else _rgb(kernel(name))
    return {
        "kernel": name,
        "method": method,
        "metric": KERNELS[name][2] if method == "patchsim" else "sum of products",
        "least": f"{float(scores.min()):.6g}",
        "largest": f"{float(scores.max()):.6g}",
        "best_y": y,
        "best_x": x,
        "pixels_from_its_place": f"{math.dist(best, place):.3g}" if place else "",
        "colour_difference_there": f"{float((window - wanted).abs().mean()):.4f}",
    }


def _rgb(hsv: Tensor) -> Tensor:
    return torch.from_numpy(skimage.color.hsv2rgb(hsv.permute(1, 2, 0).numpy())).permute(2, 0, 1)


def draw(tables: Tables) -> dict[str, Figure]:
    """Show kernel, both maps, and on the photo where each is largest."""
    drawing, axes = figures.figure(len(KERNELS), 4, 7.6, width_ratios=(1, 0.45, 1.12, 1.12))
    for line, name in zip(axes, KERNELS, strict=True):
        line[0].imshow(photo("RGB").permute(1, 2, 0).numpy())
        for row in harness.pick(tables["example"], kernel=name):
            colour = GREEN if row["method"] == "patchsim" else ORANGE
            corner = row["best_x"], row["best_y"]
            line[0].add_patch(Rectangle(corner, SIDE, SIDE, fill=False, ec=colour, lw=2.5))
        space = KERNELS[name][1]
        shown = kernel(name) if space == "RGB" else _rgb(kernel(name))
        line[1].imshow(shown.permute(1, 2, 0).numpy())
        line[1].set_title(name.replace(", ", ",\n"), fontsize=9)
        for ax, (method, scores) in zip(line[2:], maps(name).items(), strict=True):
            picture = ax.imshow(scores.numpy())
            bar = drawing.colorbar(picture, ax=ax, shrink=0.9)
            bar.locator = figures.few_ticks()
            bar.outline.set_visible(False)
            metric = f", {KERNELS[name][2]}" if method == "patchsim" else f" on {space}"
            colour = GREEN if method == "patchsim" else ORANGE
            ax.set_title(method + metric, color=colour, weight="bold")
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    return {"example": drawing}


def shows(tables: Tables) -> list[str]:
    """Say what the maps hold."""
    rows = {(row["kernel"], row["method"]): row for row in tables["example"]}
    black = rows["black, RGB", "conv2d"], rows["black, RGB", "patchsim"]
    suit = rows["orange suit, RGB", "conv2d"], rows["orange suit, RGB", "patchsim"]
    hsv = rows["orange suit, HSV", "conv2d"], rows["orange suit, HSV", "patchsim"]
    dark = rows["black, HSV, hue of the suit", "patchsim"]
    return [
        f"Black kernel: conv2d is {black[0]['least']:g} to {black[0]['largest']:g} over the whole "
        f"map, so it says nothing; patchsim's l1 goes from {black[1]['least']:.2f} to "
        f"{black[1]['largest']:.2f}, and its best window differs from black by "
        f"{black[1]['colour_difference_there']:.3f} on average.",
        f"Orange kernel in RGB: conv2d prefers what is bright, a window that differs by "
        f"{suit[0]['colour_difference_there']:.2f} and lies {suit[0]['pixels_from_its_place']:.0f} "
        f"pixels away; patchsim finds the window itself, "
        f"{suit[1]['pixels_from_its_place']:g} pixels off.",
        f"In HSV conv2d multiplies hues, so that red, whose hue is near 0, counts for nothing: it "
        f"is {hsv[0]['pixels_from_its_place']:.0f} pixels off, patchsim's hsv "
        f"{hsv[1]['pixels_from_its_place']:g}. A black kernel with the suit's hue still finds "
        f"black, to {dark['colour_difference_there']:.3f}.",
        "Boxes on the photo: orange where conv2d is largest, green where patchsim is.",
    ]


EXPERIMENT = Experiment(
    name="example",
    title="The question's own example",
    asks="A black kernel, and a coloured one in RGB and in HSV, slid over a photo: where does "
    "conv2d see them, and where does patchsim?",
    measure=measure,
    draw=draw,
    shows=shows,
    leaves_open=(
        "How often this goes well: it is one photo, and the kernels are cut from it. "
        "See “Which metric finds the template?”.",
    ),
)

if __name__ == "__main__":
    harness.main(EXPERIMENT)
