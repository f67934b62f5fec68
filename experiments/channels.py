"""How far does conv2d go for l1: what error do R correlations leave, and what do they cost?

l1 on a continuum is no finite sum of correlations. Approximations are: a truncated series or
factorisation of |x − y| of R terms, or images of few grey levels, which L − 1 correlations compare
exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import figures
import harness
import numpy as np
import skimage.data
import torch
from figures import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE
from harness import Experiment, Row, Settings, Table, Tables
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import patchsim
from patchsim.sums import fitted

GREYS = 256
RANKS = (1, 2, 4, 8, 16, 32, 64)
LEVELS = (2, 3, 5, 9, 17, 33, 65)
#: A correlation of this many times the fused sum's time isn't waited for.
PATIENCE = 8

#: |x − y| on the grey levels, as an array.
GRID = np.linspace(0, 1, GREYS)
DIFFERENCE = np.abs(GRID[:, None] - GRID)


def ours(basis: str, rank: int) -> np.ndarray:
    """Return what `patchsim.lowrank` puts in the place of |x − y|, by kernels of one pixel.

    Distances are never negative; a second channel, of the pair 1 and 0, keeps sums away from 0.
    """
    backend, grey = patchsim.lowrank(terms=rank, basis=basis), torch.from_numpy(GRID)
    image = torch.stack([grey, torch.ones_like(grey)])[:, None]  # (2, 1, GREYS)
    kernels = torch.stack([grey, torch.zeros_like(grey)], 1)[..., None, None]  # (GREYS, 2, 1, 1)
    sums = patchsim.distance(image, kernels, backend=backend, reduction="sum")[:, 0]
    return (sums.T - sums[0, -1] / 2).numpy()


def best(rank: int) -> np.ndarray:
    """Return the matrix of that rank nearest to |x − y| in the mean square (Eckart and Young)."""
    left, values, right = np.linalg.svd(DIFFERENCE)
    return (left[:, :rank] * values[:rank]) @ right[:rank]


def best_beside_sums(rank: int) -> np.ndarray:
    """Return the nearest sum of a function of x, one of y, and such a matrix.

    Functions of x or y alone cost a box sum or a number, no correlation; the best are those that
    take the means of rows and columns away. As no sum is nearer in mean square, none is off by less
    than that in the worst case.
    """
    rows, columns = DIFFERENCE.mean(1, keepdims=True), DIFFERENCE.mean(0, keepdims=True)
    additive = rows + columns - DIFFERENCE.mean()
    left, values, right = np.linalg.svd(DIFFERENCE - additive)
    return additive + (left[:, :rank] * values[:rank]) @ right[:rank]


BEST = "SVD beside box sums"

#: Name -> (rank -> what stands in for |x − y|, (GREYS, GREYS)), and the colour.
FACTORISATIONS: dict[str, tuple[Callable[[int], np.ndarray], str]] = {
    "fitted": (partial(ours, "fitted"), BLUE),
    "sines": (partial(ours, "sines"), GREY),
    "SVD": (best, ORANGE),
    BEST: (best_beside_sums, GREEN),
}


#: By how much of the range each may be off.
BOUNDS: dict[str, Callable[[int], float]] = {
    "fitted": lambda rank: fitted.fit(rank).error,
    "sines": lambda rank: 4 / (np.pi**2 * rank),
    "grey levels": lambda rank: 1 / rank,
}


def photo(side: int, taps: int) -> tuple[Tensor, Tensor]:
    """Return a part of the photo and a window of it, brightened, in 0 … GREYS − 1."""
    pixels = torch.from_numpy(skimage.data.astronaut().transpose(2, 0, 1).copy()).long()
    image = pixels.repeat(1, 2, 2)[:, :side, :side]
    kernel = image[:, 20 : 20 + taps, 30 : 30 + taps]
    return image, (kernel + 12).clamp(max=GREYS - 1)


def map_error(stand_in: np.ndarray, side: int, taps: int, stride: int) -> Tensor:
    """Return by how much the mean distance of each window is off, in float64."""
    image, kernel = photo(side, taps)
    table = torch.from_numpy(stand_in - DIFFERENCE)
    windows = image.unfold(1, taps, stride).unfold(2, taps, stride).permute(1, 2, 0, 3, 4)
    return torch.stack([table[row, kernel].mean((1, 2, 3)) for row in windows]).abs()


def measure(settings: Settings) -> Tables:
    """Measure errors, then times."""
    return {"channels-error": _all_errors(settings), "channels-time": _times(settings)}


def _all_errors(settings: Settings) -> Table:
    side, stride = settings.choose((128, 8), (256, 4))
    cells = [(name, r) for name in FACTORISATIONS for r in settings.choose(RANKS[:5:2], RANKS)]
    rows = [
        _error_row(name, rank, FACTORISATIONS[name][0](rank), side, stride)
        for name, rank in harness.progress(cells, "errors")
    ]
    return rows + [
        _error_row("grey levels", levels - 1, _quantised(levels), side, stride)
        for levels in settings.choose(LEVELS[:5:2], LEVELS)
    ]


def _quantised(levels: int) -> np.ndarray:
    """Return |x − y| of the nearest of so many levels."""
    nearest = np.round(GRID * (levels - 1)) / (levels - 1)
    return np.abs(nearest[:, None] - nearest)


def _error_row(name: str, rank: int, stand_in: np.ndarray, side: int, stride: int) -> Row:
    off = map_error(stand_in, side, 16, stride)
    grid = np.abs(stand_in - DIFFERENCE)
    return {
        "method": name,
        "correlations": rank,
        "bound": f"{BOUNDS[name](rank):.4g}" if name in BOUNDS else "",
        "largest_pixel_error": f"{grid.max():.4g}",
        "rms_pixel_error": f"{np.sqrt((grid**2).mean()):.4g}",
        "largest_map_error": f"{float(off.max()):.4g}",
        "mean_map_error": f"{float(off.mean()):.4g}",
    }


def _times(settings: Settings) -> Table:
    """Time lowrank, of both bases, and levels beside the fused sum, on float32."""
    rows, side = [], settings.choose(256, 512)
    for taps in harness.progress(settings.choose((8, 64), (16, 64, 160)), "times"):
        image, kernel = (x.float() / (GREYS - 1) for x in photo(side, taps))
        fused = partial(patchsim.l1_fused, image, kernel)
        fused()
        limit = PATIENCE * harness.seconds(fused, 1)
        runs: dict[Any, Any] = {("fused", 1): fused}
        for basis, rank in product(("fitted", "sines"), settings.choose(RANKS[:5:2], RANKS)):
            run = partial(_l1, image, kernel, patchsim.lowrank(terms=rank, basis=basis))
            if _within(run, limit):
                runs[basis, rank] = run
        for levels in settings.choose(LEVELS[:5:2], LEVELS):
            coarse = [(x * (levels - 1)).round() / (levels - 1) for x in (image, kernel)]
            run = partial(_l1, *coarse, "levels")
            if not _within(run, limit):
                break
            runs["levels", levels - 1] = run
        times = harness.interleave(runs, settings.choose(3, 5))
        for (method, number), samples in times.items():
            row = {"image": side, "taps": taps, "method": method, "correlations": number}
            rows.append({**row, **harness.quartiles(samples)})
    return rows


def _l1(image: Tensor, kernel: Tensor, backend: Any) -> Tensor:
    return patchsim.similarity(image, kernel, "l1", backend=backend)


def _within(run: Callable[[], object], limit: float) -> bool:
    """Tell whether a call stays within the limit, or a second one where the first nearly does."""
    return harness.seconds(run, 1) <= 4 * limit and harness.seconds(run, 1) <= limit


def draw(tables: Tables) -> dict[str, Figure]:
    """Draw error against correlations, and against time."""
    return {
        "channels-error": _draw_errors(tables["channels-error"]),
        "channels-time": _draw_times(tables["channels-error"], tables["channels-time"]),
    }


def _draw_errors(rows: Table) -> Figure:
    drawing, axes = figures.figure(1, 2, 3.9, sharey=True)
    kinds = {
        "largest_pixel_error": "of |x − y|, the worst x and y",
        "largest_map_error": "of the map, the worst window of a photo",
    }
    colours = {**{n: c for n, (_, c) in FACTORISATIONS.items()}, "grey levels": PURPLE}
    for ax, (kind, title) in zip(axes, kinds.items(), strict=True):
        ends = []
        for name, colour in colours.items():
            own = harness.pick(rows, method=name)
            xs, ys = harness.column(own, "correlations"), harness.column(own, kind)
            ax.plot(xs, ys, color=colour, marker="o")
            if kind == "largest_pixel_error" and own[0]["bound"]:
                ax.plot(xs, harness.column(own, "bound"), color=colour, ls=":", lw=1.2)
            ends.append((xs[-1], ys[-1], name, colour))
        ax.set(xscale="log", yscale="log", title=f"error {title}", xlabel="correlations")
        ticks = harness.distinct(harness.pick(rows, method="SVD"), "correlations")
        ax.set_xticks(ticks, ticks)
        ax.minorticks_off()
        if kind == "largest_map_error":
            figures.label_lines(ax, ends)
    axes[0].set_ylabel("error, share of the range (bounds dotted)")
    return drawing


def _draw_times(errors: Table, rows: Table) -> Figure:
    sizes = harness.distinct(rows, "taps")
    drawing, axes = figures.figure(1, len(sizes), 3.5, sharey=True)
    for ax, taps in zip(axes, sizes, strict=True):
        own = harness.pick(rows, taps=taps)
        _draw_tradeoff(ax, errors, own)
        ax.set(title=f"kernel {taps}², image {own[0]['image']}²", xlabel="ms a call (median)")
    axes[0].set_ylabel("error of the map, share of the range")
    handles, names = axes[0].get_legend_handles_labels()
    drawing.legend(handles, names, loc="outside upper center", ncols=3)
    return drawing


def _draw_tradeoff(ax: Axes, errors: Table, rows: Table) -> None:
    """Draw error against time, and the exact fused sum's time as a line."""
    for method, name, colour in METHODS:
        points = [
            (row["median_ms"], _map_error(errors, name, row["correlations"]))
            for row in harness.pick(rows, method=method)
        ]
        if points:
            ax.plot(*zip(*points, strict=True), color=colour, marker="o", label=name)
    [fused] = harness.pick(rows, method="fused")
    ax.axvline(fused["median_ms"], color=BLACK, lw=2, label="fused, exact")
    ax.set(xscale="log", yscale="log")
    ax.minorticks_off()


#: The timed method, whose errors those are, and the colour.
METHODS = (
    ("fitted", "fitted", BLUE),
    ("sines", "sines", GREY),
    ("levels", "grey levels", PURPLE),
)


def _map_error(errors: Table, name: str, correlations: int) -> float:
    [row] = harness.pick(errors, method=name, correlations=correlations)
    return float(row["largest_map_error"])


def shows(tables: Tables) -> list[str]:
    """Say what R correlations leave, and where they cost as much as the exact sum."""
    errors, times = tables["channels-error"], tables["channels-time"]
    lines = []
    for number in (4, 16):
        texts = [
            f"{r['largest_pixel_error']:.2g} by {r['method']}"
            for r in harness.pick(errors, correlations=number)
        ]
        [best] = harness.pick(errors, method=BEST, correlations=number)
        lines.append(
            f"With {number} correlations |x − y| is off by at most {', '.join(texts)}; the best "
            f"mean square, {float(best['rms_pixel_error']):.2g}, is less than any can leave."
        )
    for taps in harness.distinct(times, "taps"):
        lines += [
            _crossing(errors, harness.pick(times, taps=taps), method, name)
            for method, name, _ in METHODS
        ]
    return lines


def _crossing(errors: Table, rows: Table, method: str, name: str) -> str:
    [fused] = harness.pick(rows, method="fused")
    time, taps = fused["median_ms"], rows[0]["taps"]
    within = [r for r in harness.pick(rows, method=method) if r["median_ms"] <= time]
    where = f"Kernel {taps}²: the exact fused sum takes {time:.3g} ms;"
    if not harness.pick(rows, method=method):
        return f"{where} one correlation for {name} took over {PATIENCE} times as long."
    if not within:
        return f"{where} no number of correlations measured for {name} is faster."
    most = max(within, key=lambda r: r["correlations"])
    error = _map_error(errors, name, most["correlations"])
    return (
        f"{where} {name} is as fast with up to {most['correlations']} correlations "
        f"({most['median_ms']:.3g} ms), which leave the map off by up to {error:.2g}."
    )


EXPERIMENT = Experiment(
    name="channels",
    title="How far does conv2d go for l1?",
    asks="What error is left of l1 when it is computed by R correlations, or on L grey levels, and "
    "at what error does that stop to be faster than the exact fused sum?",
    measure=measure,
    draw=draw,
    shows=shows,
    leaves_open=(
        "Errors of the map are those of one photo with one kernel of 16², whose pixels err in both "
        "directions; the bounds hold for all.",
        "What is fitted to the worst case leaves 2 to 4 times the best mean square, which no sum "
        "beats: how much of that could be gained. For a photo's own histogram other products may "
        "be better.",
        "GPUs, where conv2d is faster beside everything else.",
    ),
)

if __name__ == "__main__":
    harness.main(EXPERIMENT)
