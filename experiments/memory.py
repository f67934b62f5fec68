"""How much memory does each variant take beyond its input and output, beside its peers?

Each measurement is a process of its own: this script, called with ``--measure``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import figures
import harness
from contestants import CONTESTANTS, Case, ours
from figures import AMBER, BLACK, BLUE, GREEN, GREY, ORANGE, PEERS, PURPLE, SKY
from harness import Experiment, Row, Settings, Table, Tables
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import patchsim

MIB = 2**20
#: What each variant may take, as the package promises.
TARGET = 512
#: Bytes a difference beyond which a process of 12 GB would be killed.
LARGEST = 10e9
LEVELS = 16
#: Backends that would take minutes on 4096² with 64²: a strip of rows takes as many tiles' worth.
SLOW = ("unfold", "shift", "conv2d", "values", "levels", "lowrank")
STRIP = 96


SIDE, LARGE = 768, 4096
TAPS = (4, 8, 16, 32, 64)
COLOURS = {
    **{"loop": GREY, "unfold": ORANGE, "shift": AMBER, "fused": BLUE, "conv2d": PURPLE},
    **{"fft": GREEN, "values": SKY, "levels": "#A05000", "lowrank": BLACK},
}
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident(field: str) -> float:
    """Return this process's memory in MiB, now (VmRSS) or at most since the last reset (VmHWM)."""
    return int(re.findall(rf"{field}:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"))[0]) / 1024


def measure_here(contestant: str, height: int, width: int, taps: int) -> float:
    """Return the MiB that one call takes at most, beyond what there was and its output."""
    run = CONTESTANTS[contestant].run if contestant in PEERS else _variant(contestant)
    case = _case(height, width, taps)
    run(_case(40, 40, 8))  # compiles kernels and starts thread pools
    before = resident("VmRSS")
    CLEAR.write_text("5", encoding="utf-8")
    scores = run(case)
    output = scores[0].nbytes if isinstance(scores, list) else scores.numel() * 4
    return resident("VmHWM") - before - output / MIB


def _case(height: int, width: int, taps: int) -> Case:
    """Make a case of so few levels that values and levels make as few correlations."""
    case, step = Case((height, width), (taps, taps)), 256 / LEVELS
    for values in (case.image, case.kernel):
        values.div_(step).floor_().mul_(step)
    return case


def _variant(name: str) -> Callable[[Case], object]:
    variant = getattr(patchsim, name)
    return ours(variant.metric, variant.backend)


def in_a_process(cell: tuple[str, int, int, int]) -> Row:
    """Measure one in a fresh process; say why, where it isn't measured."""
    contestant, height, width, taps = cell
    row = {"contestant": contestant, "height": height, "width": width, "taps": taps}
    if contestant in PEERS:
        differences = 3 * (height - taps + 1) * (width - taps + 1) * taps**2
        needed = differences * CONTESTANTS[contestant].bytes_per_difference
        if needed > LARGEST:
            return {**row, "peak_mib": "", "skipped": f"would need {needed / 1e9:.0f} GB"}
    command = [sys.executable, __file__, "--measure", *map(str, cell)]
    # Blocks of more than 1 MiB go back to the system when freed, so that none hides in the heap.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1048576"}
    process = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    return {**row, "peak_mib": f"{float(process.stdout):.1f}", "skipped": ""}


def cells(settings: Settings) -> list[tuple[str, int, int, int]]:
    """List what to measure: (contestant, height, width, taps)."""
    if settings.quick:
        few = ("l1_unfold", "l1_fused", "l2_conv2d", "l2_fft", "l1 known answer", "l2 OpenCV")
        return [(name, 320, 320, taps) for name in few for taps in (8, 24)]
    growth = [str(v) for v in patchsim.variants() if v.metric in ("l1", "l2")]
    others = [str(v) for v in patchsim.variants() if v.metric not in ("l1", "l2")]
    large = [
        (str(v), STRIP if v.backend in SLOW else LARGE, LARGE, 64)
        for v in patchsim.variants()
        if v.backend != "loop"
    ]
    return [
        *[(name, SIDE, SIDE, taps) for name in (*growth, *PEERS) for taps in _sides(name)],
        *[(name, SIDE, SIDE, 16) for name in others],
        *large,
    ]


def _sides(name: str) -> tuple[int, ...]:
    """Leave out large kernels for the loop, which takes minutes, and holds one window at a time."""
    return TAPS[:3] if name.endswith("loop") else TAPS


def measure(settings: Settings) -> Tables:
    """Measure each in a process, two at a time."""
    wanted = cells(settings)
    with ThreadPoolExecutor(2) as pool:
        rows = list(harness.progress(pool.map(in_a_process, wanted), "memory", len(wanted)))
    return {"memory": rows}


def draw(tables: Tables) -> dict[str, Figure]:
    """Draw memory against kernel size."""
    rows = [r for r in tables["memory"] if r["height"] < LARGE and r["height"] != STRIP]
    drawing, (left, right) = figures.figure(1, 2, 4.2, sharey=True)
    names = harness.distinct(rows, "contestant")
    own = [n for n in names if n.startswith(("l1_", "l2_"))]
    _draw_lines(left, rows, [(n, COLOURS[n.split("_")[1]]) for n in own])
    _draw_lines(right, rows, [(n, PEERS[n]) for n in names if n in PEERS])
    left.set_ylabel("MiB beyond input and output")
    for ax, title in (
        (left, "patchsim: l1 solid, l2 dashed"),
        (right, "what one would use instead"),
    ):
        ax.axhline(TARGET, color=BLACK, lw=1, ls=":")
        ax.set(title=title, xlabel=f"kernel side, pixels (image {rows[0]['height']}², 3 channels)")
    left.annotate(
        f"promised of all but loop: below {TARGET} MiB",
        (0.02, TARGET),
        xycoords=("axes fraction", "data"),
        xytext=(0, 4),
        textcoords="offset points",
        fontsize=9,
    )
    return {"memory": drawing}


def _draw_lines(ax: Axes, rows: Table, lines: Sequence[tuple[str, str]]) -> None:
    """Draw a line a contestant; less than 1 MiB counts as 1, which is what a process wavers by."""
    ends = []
    for name, colour in lines:
        own = [r for r in harness.pick(rows, contestant=name) if r["peak_mib"] != ""]
        xs, ys = harness.column(own, "taps"), [max(1, r["peak_mib"]) for r in own]
        ax.plot(xs, ys, color=colour, marker="o", ls="--" if name.startswith("l2_") else "-")
        if not name.startswith("l2_") or name.split("_")[1] in ("conv2d", "fft"):
            ends.append((xs[-1], ys[-1], name.removeprefix("l1_").removeprefix("l2_"), colour))
    ticks = harness.distinct(rows, "taps")
    ax.set(xscale="log", yscale="log", ylim=(0.8, 2e4))
    ax.set_xticks(ticks, ticks)
    ax.minorticks_off()
    figures.label_lines(ax, ends)


def shows(tables: Tables) -> list[str]:
    """Say how much is taken at most."""
    rows = [r for r in tables["memory"] if r["peak_mib"] != ""]
    own = [r for r in rows if r["contestant"] not in PEERS]
    top = max(own, key=lambda r: r["peak_mib"])
    over = [r for r in own if r["peak_mib"] > TARGET]
    lines = [
        f"Of {len(harness.distinct(own, 'contestant'))} variants in {len(own)} processes, "
        f"{len(over)} took more than {TARGET} MiB beyond input and output"
        f"{' (' + ', '.join(_cell(r) for r in over) + ')' if over else ''}. The most was "
        f"{top['peak_mib']:.0f} MiB, by {_cell(top)}."
    ]
    peers = [r for r in rows if r["contestant"] in PEERS]
    worst = max(peers, key=lambda r: r["peak_mib"])
    lines.append(f"Of the peers, {_cell(worst)} took {worst['peak_mib']:.0f} MiB.")
    lines += [f"{_cell(r)} {r['skipped']}." for r in tables["memory"] if r["skipped"]]
    large = [r for r in own if r["width"] == LARGE]
    if large:
        lines.append(f"On images {LARGE} pixels wide with a kernel of 64²:")
        lines.append(harness.markdown([_large(r) for r in large]))
    return lines


def _cell(row: Row) -> str:
    return f"{row['contestant']} on {row['height']}×{row['width']} with {row['taps']}²"


def _large(row: Row) -> Row:
    return {"variant": row["contestant"], "rows": row["height"], "peak, MiB": row["peak_mib"]}


EXPERIMENT = Experiment(
    name="memory",
    title="Memory",
    asks="How much resident memory does a call take at most, beyond input and output, for every "
    "variant and peer, as the kernel grows?",
    measure=measure,
    draw=draw,
    shows=shows,
    leaves_open=(
        "Each figure is one call in a fresh process, after a small one that compiles kernels and "
        "starts thread pools. A process wavers by about a MiB, and what the allocator kept from "
        "before isn't counted.",
        f"{', '.join(SLOW)} would take minutes on {LARGE}² with 64²: they got {STRIP} rows of it, "
        "more than enough to fill their tiles.",
        f"Images have {LEVELS} grey levels, or values and levels would take hundreds of "
        "correlations.",
        "It needs Linux, which can reset the peak of a process. GPUs have memory of their own.",
    ),
)

if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(measure_here(sys.argv[2], *map(int, sys.argv[3:])))
    else:
        harness.main(EXPERIMENT)
