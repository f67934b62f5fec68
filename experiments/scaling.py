"""How does the time grow: with the kernel, the image, stride, templates and dtype?

The known answer's table (a loop over patches beside `Tensor.unfold`) with every variant, then time
along each of these, beside peers and the machine's limit. `speed.py` measures a grid of them.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import figures
import harness
import torch
from contestants import CONTESTANTS, ROOFLINE, Case, check, known_answer, ours, roofline
from figures import BLACK, BLUE, GREEN, PEERS
from harness import Experiment, Settings, Table, Tables
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import patchsim

KNOWN_ANSWER = "known answer (unfold, whole image)"
#: What is varied, from 512² with a 16² kernel at stride 1.
BASE = {"image": 512, "kernel": 16, "stride": 1, "templates": 1, "dtype": "float32"}
AXES = {
    "kernel": ((4, 16, 64), (3, 4, 8, 16, 32, 64, 128)),
    "image": ((128, 512), (64, 128, 256, 512, 1024, 2048)),
    "stride": ((1, 4), (1, 2, 3, 4, 8)),
    "templates": ((1, 4), (1, 2, 4, 8, 16)),
    "dtype": (("float32", "uint8"), ("float64", "float32", "float16", "int16", "uint8")),
}
COLOURS = {
    "l1 auto": BLUE,
    "l2 auto": GREEN,
    **PEERS,
    ROOFLINE: BLACK,
}


def measure(settings: Settings) -> Tables:
    """Measure both tables."""
    return {"known-answer": _known_answer(settings), "scaling": _scaling(settings)}


def _known_answer(settings: Settings) -> Table:
    """Time every variant on 101×101 with a 10×9 kernel, of 32 grey levels in float32."""
    rows = []
    for stride in harness.progress(settings.choose((2,), (1, 2, 3)), "known answer"):
        case = Case((101, 101), (10, 9), stride=stride)
        # values and levels take as many correlations as a template holds values.
        case.image, case.kernel = ((x / 8).floor() * 8 for x in (case.image, case.kernel))
        runs = {KNOWN_ANSWER: partial(known_answer, case)}
        for variant in patchsim.variants():
            if not settings.quick or variant.metric in ("l1", "l2"):
                runs[str(variant)] = partial(ours(variant.metric, variant.backend), case)
        for name, samples in harness.interleave(runs, settings.choose(3, 7)).items():
            rows.append({"stride": stride, "contestant": name, **harness.quartiles(samples)})
    return rows


def _scaling(settings: Settings) -> Table:
    """Time all contestants along each axis."""
    limit, roof = settings.choose(0.05, 1.0), roofline(settings.choose(3, 15))
    cells = [(axis, x) for axis, ticks in AXES.items() for x in settings.choose(*ticks)]
    rows = []
    for axis, x in harness.progress(cells, "scaling"):
        case = _case({**BASE, axis: x})
        refusals = {name: _refusal(name, case, limit) for name in COLOURS if name != ROOFLINE}
        runs = {n: partial(CONTESTANTS[n].run, case) for n, why in refusals.items() if not why}
        if case.size[0] <= 128:
            check(case, runs)
        times = harness.interleave(runs, settings.choose(3, 7))
        for name, why in refusals.items():
            figures_ = harness.quartiles(times[name]) if name in times else _blank()
            rows.append({"axis": axis, "x": x, "contestant": name, **figures_, "skipped": why})
        if case.dtype is torch.float32:
            least = harness.quartiles(2 * [case.differences / roof / 1e6])
            rows.append({"axis": axis, "x": x, "contestant": ROOFLINE, **least, "skipped": ""})
    return rows


def _case(cell: dict[str, Any]) -> Case:
    return Case(
        2 * (cell["image"],),
        2 * (cell["kernel"],),
        stride=cell["stride"],
        templates=cell["templates"],
        dtype=getattr(torch, cell["dtype"]),
    )


def _refusal(name: str, case: Case, limit: float) -> str:
    if name.endswith("auto"):
        return ""
    if case.dtype not in (torch.float32, torch.uint8):
        return "not compared at this dtype"
    return CONTESTANTS[name].refusal(case, limit)


def _blank() -> dict[str, str]:
    return dict.fromkeys(("lower_ms", "median_ms", "upper_ms"), "")


def draw(tables: Tables) -> dict[str, Figure]:
    """Draw the known answer's table and the growth along each axis."""
    return {
        "known-answer": _draw_variants(tables["known-answer"]),
        "scaling": _draw_scaling(tables["scaling"]),
        "dtypes": _draw_dtypes(tables["scaling"]),
    }


def _draw_variants(rows: Table) -> Figure:
    """Draw time by metric and backend, in milliseconds, as a table with colours."""
    rows = harness.pick(rows, stride=2)
    times = {row["contestant"]: row["median_ms"] for row in rows}
    variants = [v for v in patchsim.variants() if str(v) in times]
    metrics = list(dict.fromkeys(v.metric for v in variants))
    backends = list(dict.fromkeys(v.backend for v in variants))
    grid = [[times.get(f"{m}_{b}", math.nan) for b in backends] for m in metrics]
    drawing, ax = figures.figure(1, 1, 1.4 + 0.27 * len(metrics))
    figures.heat_table(ax, grid, metrics, backends, log=True)
    known = times[KNOWN_ANSWER]
    ax.set_title(f"ms a call: 101×101×3, kernel 10×9, stride 2 (the known answer: {known:.2f} ms)")
    return drawing


def _draw_scaling(rows: Table) -> Figure:
    drawing, axes = figures.figure(2, 2, 7.2)
    labels = {
        "kernel": "kernel side, pixels (image 512²)",
        "image": "image side, pixels (kernel 16²)",
        "stride": "stride (512², 16²)",
        "templates": "number of templates (512², 16²)",
    }
    for ax, (axis, label) in zip(axes.flat, labels.items(), strict=True):
        _draw_axis(ax, harness.pick(rows, axis=axis))
        ax.set(xlabel=label)
    for ax in axes[:, 0]:
        ax.set_ylabel("ms a call (median)")
    handles = axes[0, 0].get_lines()
    names = [_name(line.get_label()) for line in handles]
    drawing.legend(handles, names, loc="outside upper center", ncols=3)
    return drawing


def _name(contestant: str) -> str:
    return contestant.replace("auto", "patchsim")


def _draw_axis(ax: Axes, rows: Table) -> None:
    for name, colour in COLOURS.items():
        points = [(r["x"], r["median_ms"]) for r in harness.pick(rows, contestant=name)]
        xs, ys = zip(*[(x, y if y != "" else math.nan) for x, y in points], strict=True)
        own = name.endswith("auto")
        style = {"lw": 2.8, "marker": "o", "zorder": 3} if own else {"lw": 1.3, "marker": "."}
        ax.plot(xs, ys, color=colour, label=name, ls=":" if name == ROOFLINE else "-", **style)
    ticks = harness.distinct(rows, "x")
    ax.set(xscale="log", yscale="log")
    ax.set_xticks(ticks, ticks)
    ax.minorticks_off()


def _draw_dtypes(rows: Table) -> Figure:
    rows = [r for r in harness.pick(rows, axis="dtype") if r["contestant"].endswith("auto")]
    drawing, axes = figures.figure(1, 2, 2.3, sharey=True)
    for ax, name in zip(axes, ("l1 auto", "l2 auto"), strict=True):
        own = harness.pick(rows, contestant=name)
        times = harness.column(own, "median_ms")
        bars = ax.barh(harness.column(own, "x"), times, color=COLOURS[name])
        ax.bar_label(bars, [f" {t:.2g} ms" for t in times], fontsize=9)
        ax.set(title=f"{_name(name)}, 512², 16²", xlabel="ms a call (median)")
        ax.margins(x=0.2)
        ax.grid(visible=False, axis="y")
    return drawing


def shows(tables: Tables) -> list[str]:
    """Give the ratios."""
    return [*_known_answer_says(tables["known-answer"]), *_scaling_says(tables["scaling"])]


def _known_answer_says(rows: Table) -> list[str]:
    lines = []
    for stride in harness.distinct(rows, "stride"):
        times = {r["contestant"]: r["median_ms"] for r in harness.pick(rows, stride=stride)}
        fused = times["l1_fused"]
        lines.append(
            f"The known answer's case at stride {stride}: the loop takes {times['l1_loop']:.3g} "
            f"ms, the known answer {times[KNOWN_ANSWER]:.2g} ms, l1_fused {fused:.2g} ms: "
            f"{times['l1_loop'] / fused:.0f} and {times[KNOWN_ANSWER] / fused:.1f} times less."
        )
    return lines


def _scaling_says(rows: Table) -> list[str]:
    times = {(r["axis"], r["x"], r["contestant"]): r["median_ms"] for r in rows}
    lines = []
    for peer, own in (("l1 known answer", "l1 auto"), ("l2 OpenCV", "l2 auto")):
        known = {k: t / times[(*k[:2], own)] for k, t in times.items() if k[2] == peer and t != ""}
        worst, best = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
        lines.append(
            f"Beside {peer}, {_name(own)} takes between 1/{known[worst]:.2g} of the time (at "
            f"{worst[0]} {worst[1]}) and 1/{known[best]:.3g} (at {best[0]} {best[1]}), over "
            f"{len(known)} cases."
        )
    shares = [
        times[axis, x, ROOFLINE] / t
        for (axis, x, name), t in times.items()
        if name == "l1 auto" and (axis, x, ROOFLINE) in times
    ]
    lines.append(
        f"l1 runs at {100 * min(shares):.0f} to {100 * max(shares):.0f} % of the machine's limit, "
        "which is how fast its cores add |a − b| of numbers that lie in their first-level cache."
    )
    skipped = ", ".join(sorted({r["skipped"] for r in rows if r["skipped"]}))
    return [*lines, f"Where a line ends, its contestant was skipped ({skipped})."]


EXPERIMENT = Experiment(
    name="scaling",
    title="Speed",
    asks="How long does every variant take where the known answer was measured? How does the time "
    "grow with kernel, image, stride, templates and dtype, beside peers and the machine's limit?",
    measure=measure,
    draw=draw,
    shows=shows,
    leaves_open=(
        "Other machines: times don't carry over, ratios only roughly.",
        "One axis at a time, from 512² with 16²: `make bench` measures a whole grid.",
        "The known answer's table takes values of 32 grey levels, or values and levels would make "
        "hundreds of correlations.",
        "scikit-image computes another metric, and F.conv2d no answer at all: they do similar "
        "work.",
    ),
)

if __name__ == "__main__":
    harness.main(EXPERIMENT)
