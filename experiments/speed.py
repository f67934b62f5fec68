"""How fast is patchsim, beside what a user would pick instead and beside the machine's limit?

    python experiments/speed.py targets            # a minute or two: the claims of the README
    python experiments/speed.py grid [--limit 60]  # hours in full; a smaller limit skips more
    python experiments/speed.py report             # again from grid.csv: summary and picture

The contestants of a case take turns, so that a drift of the machine's speed touches all alike. A
turn is a burst of calls for about 20 ms (one call where it takes longer), as a program that calls
one of them repeatedly would, after as many that don't count, and counts as the mean of its calls.
Reported are medians over the turns with their quartiles. Contestants are checked against
`patchsim.distance` in float64 before they are timed. What would take a contestant more than --limit
seconds a call, or 8 GB of memory, is skipped, and the table says so.

Writes targets.csv, grid.csv and speed.png to experiments/results/.
"""

import argparse
import csv
import math
import statistics
from functools import partial
from itertools import product

import harness
import torch
from contestants import CONTESTANTS, ROOFLINE, Case, check, known_answer, ours, roofline
from harness import RESULTS
from tqdm import tqdm

import patchsim
from patchsim.problem import name_of

SIZES = [(101, 101), (512, 512), (1080, 1920), (2048, 2048), (4096, 4096)]
TAPS = [3, 8, 16, 32, 64, 200]
COLUMNS = [
    *("height", "width", "taps", "channels", "stride", "templates", "dtype", "contestant"),
    *("median_ms", "lower_ms", "upper_ms", "turns", "skipped"),
]


def row(case, name, times=(), skipped=""):
    """Make a row of the table."""
    cell = [*case.size, case.taps[0], case.channels, case.stride, case.templates]
    lower, median, upper = statistics.quantiles(times, n=4) if times else ("", "", "")
    figures = [f"{x:.5g}" if times else "" for x in (median, lower, upper)]
    text = name_of(case.dtype)
    return dict(zip(COLUMNS, [*cell, text, name, *figures, len(times) or "", skipped], strict=True))


def targets(turns):
    """Measure the claims of the README."""
    print("; ".join(harness.describe().values()))
    large = Case((1024, 1024), (32, 32))
    bytes_ = Case((1024, 1024), (32, 32), dtype=torch.uint8)
    planar = large.image[0].permute(1, 2, 0).contiguous().permute(2, 0, 1)
    template = large.kernel[0]
    eight = Case((1024, 1024), (32, 32), templates=8)
    medium, known = Case((512, 512), (16, 16)), Case((101, 101), (10, 9), stride=2)
    l1 = CONTESTANTS["l1 auto"].run

    def strided(case, stride):
        return lambda: patchsim.similarity(case.image[0], case.kernel[0], stride=stride)

    runs = {
        "1024/32 l1 float32": lambda: l1(large),
        "1024/32 l1 float32, stride 2": strided(large, 2),
        "1024/32 l1 float32, stride 4": strided(large, 4),
        "1024/32 l1 float32, 8 templates": lambda: l1(eight),
        "1024/32 l1 float32, H W C permuted": lambda: patchsim.similarity(planar, template),
        "1024/32 l1 uint8": lambda: l1(bytes_),
        "1024/32 l1 uint8, stride 2": strided(bytes_, 2),
        "1024/32 l1 uint8, stride 4": strided(bytes_, 4),
        "512/16 l1 float32": lambda: l1(medium),
        "512/16 l1 known answer": lambda: known_answer(medium),
        "101/10x9 stride 2 l1 loop": lambda: CONTESTANTS["l1 loop"].run(known),
        "101/10x9 stride 2 l1 unfold": lambda: ours("l1", "unfold")(known),
        "101/10x9 stride 2 l1 known answer": lambda: known_answer(known),
        "101/10x9 stride 2 l1 auto": lambda: l1(known),
    }
    limit = [roofline()]
    times = harness.interleave(runs, turns)
    limit.append(roofline())
    rows = []
    for name, samples in times.items():
        lower, median, upper = statistics.quantiles(samples, n=4)
        figures = (round(x, 4) for x in (median, lower, upper))
        columns = ("case", "median_ms", "lower_ms", "upper_ms")
        rows.append(dict(zip(columns, (name, *figures), strict=True)))
        print(f"{name:36} {median:10.3f} ms   ({lower:.3f} - {upper:.3f})")
    harness.write(
        RESULTS / "targets.csv",
        [{k: v if k == "case" else f"{v:.5g}" for k, v in r.items()} for r in rows],
    )
    median = {r["case"]: r["median_ms"] for r in rows}
    report(median, limit, large, bytes_)


def report(median, limit, large, bytes_):
    """Print the ratios that the targets are about."""
    base = median["1024/32 l1 float32"]
    rate, known = large.differences / base / 1e6, median["101/10x9 stride 2 l1 auto"]
    roof = statistics.mean(limit)
    print(f"roofline before and after: {limit[0]:.1f} and {limit[1]:.1f} G differences/s, float32")
    print(f"l1 float32: {rate:.1f} G/s, {rate / roof:.2f} of the roofline")
    print(f"l1 uint8: {bytes_.differences / median['1024/32 l1 uint8'] / 1e6:.1f} G/s")
    for dtype, stride in product(("float32", "uint8"), (2, 4)):
        one = median[f"1024/32 l1 {dtype}"]
        cost = median[f"1024/32 l1 {dtype}, stride {stride}"] * stride**2 / one
        print(f"{dtype}, stride {stride}: {cost:.2f}/s² of stride 1")
    for what in ("8 templates", "H W C permuted"):
        print(f"{what}: {median[f'1024/32 l1 float32, {what}'] / base:.2f} x one, contiguous")
    ratio = median["512/16 l1 known answer"] / median["512/16 l1 float32"]
    print(f"512/16: {ratio:.0f} x known answer")
    for other in ("loop", "unfold", "known answer"):
        ratio = median[f"101/10x9 stride 2 l1 {other}"] / known
        print(f"known answer's case: {ratio:.1f} x {other}")


def grid(turns, limit, strides, templates, sizes):
    """Measure the grid."""
    print("; ".join(harness.describe().values()))
    cells = [
        (size, taps, channels, stride, count, dtype)
        for size, taps, channels, stride, count, dtype in product(
            SIZES[:sizes], TAPS, (1, 3), strides, templates, (torch.float32, torch.uint8)
        )
        if taps <= min(size)
    ]
    rows, roof = [], roofline()
    print(f"roofline: {roof:.1f} G differences/s, float32")
    for size, taps, channels, stride, count, dtype in tqdm(cells):
        case = Case(size, (taps, taps), channels, stride, count, dtype)
        refusals = {name: c.refusal(case, limit) for name, c in CONTESTANTS.items()}
        runs = {
            name: partial(contestant.run, case)
            for name, contestant in CONTESTANTS.items()
            if not refusals[name]
        }
        if size == SIZES[0]:
            check(case, runs)
        times = harness.interleave(runs, turns)
        rows += [row(case, name, times.get(name, ()), refusals[name]) for name in CONTESTANTS]
        if dtype is torch.float32:
            rows.append(row(case, ROOFLINE, 2 * [case.differences / roof / 1e6]))
        harness.write(RESULTS / "grid.csv", rows)


def read():
    """Read the grid."""
    with (RESULTS / "grid.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summarise(rows):
    """Print what the grid says about the targets."""
    cells = {}
    for r in rows:
        key = (*(int(r[c]) for c in COLUMNS[:6]), r["dtype"])
        cells.setdefault(key, {})[r["contestant"]] = float(r["median_ms"] or "nan")
    for dtype, channels in product(("float32", "uint8"), (3, 1)):
        ratios = {
            key: cell["l2 OpenCV"] / cell["l2 auto"]
            for key, cell in cells.items()
            if key[3:] == (channels, 1, 1, dtype)
        }
        known = [r for r in ratios.values() if r == r]
        mean = math.exp(statistics.mean(map(math.log, known))) if known else math.nan
        slower = sorted((r, *k[:3]) for k, r in ratios.items() if k[0] >= 512 and r < 1)
        print(f"l2 auto, {dtype}, {channels} channels: {mean:.2f} x OpenCV (geometric mean)")
        print(
            "  slower from 512² up: " + ", ".join(f"{h}x{w}/{t} {r:.2f}" for r, h, w, t in slower)
        )
    regrets = []
    for key, cell in cells.items():
        best = min((cell[f"l2 {b}"] for b in ("fused", "conv2d", "fft")), key=lambda t: (t != t, t))
        if best == best and cell["l2 auto"] == cell["l2 auto"]:
            regrets.append((cell["l2 auto"] / best, *key))
    regrets.sort()
    values = [r for r, *_ in regrets]
    print(
        f"l2 auto against the best backend, {len(values)} cells: median "
        f"{statistics.median(values):.2f}, 90th percentile {values[int(0.9 * len(values))]:.2f}, "
        f"worst {values[-1]:.2f}"
    )
    print("  above 1.3: " + ", ".join(f"{k} {r:.2f}" for r, *k in regrets if r > 1.3))


def plot(rows):
    """Draw time against template size."""
    import matplotlib.pyplot as plt

    rows = [r for r in rows if r["median_ms"]]
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True, layout="constrained")
    for ax, dtype in zip(axes, ("float32", "uint8"), strict=True):
        for name in (*CONTESTANTS, ROOFLINE):
            wanted = {"width": "1920", "channels": "3", "stride": "1", "templates": "1"}
            points = [
                (int(r["taps"]), float(r["median_ms"]))
                for r in rows
                if r["contestant"] == name
                and r["dtype"] == dtype
                and all(r[k] == v for k, v in wanted.items())
            ]
            if points and name not in ("l2 fused", "l2 conv2d", "l2 fft"):
                own = name.endswith("auto")
                style = {"lw": 2.6, "marker": "o"} if own else {"lw": 1, "marker": ".", "ls": "--"}
                ax.loglog(
                    *zip(*points, strict=True), label=name.replace("auto", "patchsim"), **style
                )
        ax.set(title=f"1080×1920, 3 channels, {dtype}", xlabel="template side (pixels)")
        ax.set_xticks(TAPS, TAPS)
        ax.minorticks_off()
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("milliseconds (median)")
    axes[1].legend(
        *axes[0].get_legend_handles_labels(), fontsize=8, loc="upper left", bbox_to_anchor=(1, 1)
    )
    figure.savefig(RESULTS / "speed.png", dpi=110)


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("targets", "grid", "report"))
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--limit", type=float, default=60, help="seconds a call (default: 60)")
    parser.add_argument("--strides", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--templates", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="only the smallest so many")
    options = parser.parse_args()
    if options.what == "targets":
        targets(options.turns)
    elif options.what == "grid":
        grid(options.turns, options.limit, options.strides, options.templates, options.sizes)
    if options.what != "targets":
        summarise(read())
        plot(read())


if __name__ == "__main__":
    main()
