"""Are gradients of use? Registers an image, and learns a template, by descent on them."""

from __future__ import annotations

import math

import figures
import harness
import numpy as np
import skimage.data
import torch
from figures import BLACK, BLUE, GREEN, ORANGE
from harness import Experiment, Row, Settings, Table, Tables
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample, pad

import patchsim

#: Side of the template that is registered, and Gaussian blurs, in pixels, from coarse to fine.
SIDE, BLURS, STEPS = 48, (8.0, 4.0, 2.0, 0.0), 40
METRICS = {"l1": BLUE, "l2": GREEN, "zncc": ORANGE}
#: A registration has converged when it is this near, in pixels.
NEAR = 0.1
#: Sides of the hidden pattern, the template that learns it, and the images that hold it somewhere.
PATTERN, LEARNED, SCENE, EPOCHS = 12, 18, 36, 150


def photo() -> Tensor:
    """Return a grey photo, (1, H, W) in 0 … 1."""
    return torch.from_numpy(skimage.data.camera() / 255).float()[None]


def blurred(image: Tensor, deviation: float) -> Tensor:
    """Blur (1, H, W) by a Gaussian."""
    if deviation == 0:
        return image
    reach = math.ceil(3 * deviation)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets / deviation) ** 2)
    weights /= weights.sum()
    wide = pad(image[None], (reach,) * 4, mode="replicate")
    return conv2d(conv2d(wide, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))[0]


def window(image: Tensor, position: Tensor) -> Tensor:
    """Return a window by bilinear interpolation, differentiable in its position (down, across)."""
    _, height, width = image.shape
    steps = torch.arange(SIDE, dtype=torch.float32)
    y = (position[0] + steps) * (2 / (height - 1)) - 1
    x = (position[1] + steps) * (2 / (width - 1)) - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    return grid_sample(image[None], grid[None], align_corners=True)[0]


def register(metric: str, image: Tensor, template: Tensor, start: Tensor) -> list[Tensor]:
    """Descend on the distance from coarse to fine; return the positions on the way."""
    position = start.clone().requires_grad_()
    path = [start]
    for blur in BLURS:
        scene, kernel = blurred(image, blur), blurred(template, blur)
        optimiser = torch.optim.Adam([position], lr=max(0.05, blur / 4))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS, eta_min=0.005)
        for _ in range(STEPS):
            optimiser.zero_grad()
            loss = 1 - patchsim.similarity(window(scene, position), kernel, metric).mean()
            loss.backward()
            optimiser.step()
            schedule.step()
            path.append(position.detach().clone())
    return path


def measure(settings: Settings) -> Tables:
    """Register from many starts, and learn a template."""
    return {"gradients": _registrations(settings), "gradients-learned": _learn(settings)}


def _registrations(settings: Settings) -> Table:
    """Register windows at fractions of pixels from starts at growing distances."""
    random, image, rows = settings.random(), photo(), []
    distances = settings.choose((4, 16), (2, 4, 8, 16, 24))
    for start_distance in harness.progress(distances, "registration"):
        for trial in range(settings.choose(3, 20)):
            truth = torch.tensor(random.uniform(120, 250, 2), dtype=torch.float32)
            angle = random.uniform(0, 2 * math.pi)
            away = torch.tensor([math.sin(angle), math.cos(angle)]) * start_distance
            template = window(image, truth)
            for metric in METRICS:
                path = register(metric, image, template, truth + away)
                errors = [float((p - truth).norm()) for p in path]
                row: Row = {"metric": metric, "start_px": start_distance, "trial": trial}
                for stage, blur in enumerate(BLURS, 1):
                    row[f"after_{blur:g}"] = f"{errors[stage * STEPS]:.4g}"
                rows.append(row)
    return rows


def pattern() -> Tensor:
    """Return what is to be learned, (1, PATTERN, PATTERN): a cross in a ring."""
    offsets = torch.arange(PATTERN) - (PATTERN - 1) / 2
    y, x = offsets[:, None], offsets
    ring = (y.square() + x.square()).sqrt().sub(4.5).abs() < 1
    cross = (y.abs() < 1) | (x.abs() < 1)
    return (ring | (cross & (y.abs() + x.abs() < 4))).float()[None]


def scenes(number: int, generator: torch.Generator) -> Tensor:
    """Return noisy images that hold the pattern at an unknown place, (number, 1, SCENE, SCENE)."""
    images = 0.3 + 0.35 * torch.randn(number, 1, SCENE, SCENE, generator=generator)
    margin = LEARNED - PATTERN
    corners = torch.randint(margin, SCENE - LEARNED + 1, (number, 2), generator=generator).tolist()
    for image, (y, x) in zip(images, corners, strict=True):
        image[:, y : y + PATTERN, x : x + PATTERN] += 0.7 * pattern()
    return images


def _learn(settings: Settings) -> Table:
    """Raise the best similarity in each image, by gradients with respect to the template."""
    generator = settings.generator()
    images = scenes(settings.choose(64, 200), generator)
    first = scenes(1, generator)[0]
    kernel = first[:, :LEARNED, :LEARNED].clone().requires_grad_()
    optimiser, rows = torch.optim.Adam([kernel], lr=0.03), []
    for epoch in harness.progress(range(EPOCHS + 1), "learning"):
        optimiser.zero_grad()
        scores = patchsim.similarity(images, kernel, "zncc").flatten(1)
        # A softmax looks at many windows first and at the best later.
        sharpness = 10 + 40 * epoch / EPOCHS
        loss = -(scores.mul(sharpness).logsumexp(1) / sharpness).mean()
        loss.backward()
        rows.append(_learned_row(epoch, kernel, scores))
        optimiser.step()
    return rows


def _learned_row(epoch: int, kernel: Tensor, scores: Tensor) -> Row:
    """Compare what is learned with the pattern, wherever it came to lie."""
    around = pad(kernel.detach(), (PATTERN // 2,) * 4)
    likeness = patchsim.similarity(around, pattern(), "zncc").max()
    values = kernel.detach().flatten().tolist()
    return {
        "epoch": epoch,
        "likeness": f"{float(likeness):.4f}",
        "best_similarity": f"{float(scores.detach().amax(1).mean()):.4f}",
        **{f"k{i}": f"{value:.4f}" for i, value in enumerate(values)},
    }


def draw(tables: Tables) -> dict[str, Figure]:
    """Draw the errors of registrations, and the template before and after."""
    return {
        "gradients": _draw_registrations(tables["gradients"]),
        "gradients-learned": _draw_learned(tables["gradients-learned"]),
    }


def _draw_registrations(rows: Table) -> Figure:
    drawing, (left, right) = figures.figure(1, 2, 3.4)
    for number, (metric, colour) in enumerate(METRICS.items()):
        own = harness.pick(rows, metric=metric)
        keys = ("start_px", *(f"after_{b:g}" for b in BLURS))
        medians = [np.median(harness.column(own, key)) for key in keys]
        left.plot(range(len(keys)), medians, color=colour, marker="o")
        starts = harness.distinct(own, "start_px")
        shares = [100 * _share(harness.pick(own, start_px=s)) for s in starts]
        bars = right.bar(np.arange(len(starts)) + 0.27 * (number - 1), shares, 0.25, color=colour)
        # Labels of neighbouring bars that reach the top would run into each other.
        labels = [f"{share:.0f}" if share < 100 else "" for share in shares]
        right.bar_label(bars, labels, fontsize=9)
        bars.set_label(metric)
    left.set(yscale="log", ylabel="pixels off (median)", title="descent from coarse to fine")
    left.set_xticks(range(len(keys)), ["start", *(f"blur {b:g}" for b in BLURS)])
    left.axhline(NEAR, color=BLACK, lw=1, ls=":")
    right.set_xticks(range(len(starts)), starts)
    right.set(xlabel="pixels off at the start", ylabel=f"% within {NEAR} pixels at the end")
    right.set(ylim=(0, 112))
    drawing.legend(*right.get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return drawing


def _share(rows: Table) -> float:
    return float(np.mean([row[f"after_{BLURS[-1]:g}"] <= NEAR for row in rows]))


def _draw_learned(rows: Table) -> Figure:
    drawing, axes = figures.figure(1, 4, 2.4, width_ratios=(1, 1, 1, 1.8))
    shown = {"true pattern": pattern()[0].numpy(), "first guess": _kernel(rows[0])}
    shown["learned"] = _kernel(rows[-1])
    for ax, (title, values) in zip(axes, shown.items(), strict=False):
        ax.imshow(values, cmap="gray")
        ax.set(title=title, xticks=[], yticks=[])
    axes[3].plot(harness.column(rows, "epoch"), harness.column(rows, "likeness"), color=BLUE)
    axes[3].set(xlabel="step", title="correlation with the pattern", ylim=(0, 1))
    return drawing


def _kernel(row: Row) -> np.ndarray:
    return np.array([row[f"k{i}"] for i in range(LEARNED**2)]).reshape(LEARNED, LEARNED)


def shows(tables: Tables) -> list[str]:
    """Say how near descent comes."""
    rows, learned = tables["gradients"], tables["gradients-learned"]
    lines = []
    for metric in METRICS:
        own = harness.pick(rows, metric=metric)
        median = np.median(harness.column(own, f"after_{BLURS[-1]:g}"))
        far = harness.distinct(own, "start_px")
        texts = [f"{100 * _share(harness.pick(own, start_px=s)):.0f} % from {s}" for s in far]
        lines.append(
            f"Registration by {metric} ends {median:.2g} pixels off (median); within {NEAR} pixels "
            f"end: {', '.join(texts)} pixels away."
        )
    return [
        *lines,
        f"The learned template's correlation with the pattern rises from "
        f"{learned[0]['likeness']:.2f} to {learned[-1]['likeness']:.2f} in {EPOCHS} steps; it "
        "starts from noise and sees only images that hold the pattern somewhere.",
    ]


EXPERIMENT = Experiment(
    name="gradients",
    title="Gradients",
    asks="Are gradients of use: does descent on a window's position, through the similarity, find "
    "a template to a fraction of a pixel? Does descent on a template learn a hidden pattern?",
    measure=measure,
    draw=draw,
    shows=shows,
    leaves_open=(
        "Registration is by translation of one photo's windows, without noise, and starts near.",
        "Whether learned templates beat other ways to learn them.",
    ),
)

if __name__ == "__main__":
    harness.main(EXPERIMENT)
