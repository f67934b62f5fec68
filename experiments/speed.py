"""How fast is patchsim, beside what a user would pick instead and beside the machine's limit?

    python experiments/speed.py targets            # a minute or two: the claims of the README
    python experiments/speed.py grid [--limit 60]  # hours in full; a smaller limit skips more
    python experiments/speed.py report             # again from grid.csv: summary and picture

The contestants of a case take turns, so that a drift of the machine's speed touches all alike. A
turn is a burst of calls for about 20 ms (one call where it takes longer), as a program that calls
one of them repeatedly would, and counts as the mean of its calls. Reported are medians over the
turns with their quartiles. Contestants are checked against `patchsim.distance` in float64 before
they are timed. What would take a contestant more than --limit seconds a call, or 8 GB of memory, is
skipped, and the table says so.

Writes targets.csv, grid.csv and speed.png to experiments/results/.
"""

import argparse
import csv
import math
import os
import platform
import statistics
import time
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import cv2
import numba
import numpy as np
import scipy
import scipy.signal
import skimage
import skimage.feature
import torch
from tqdm import tqdm

import patchsim
from patchsim import threads
from patchsim.rates import machine

RESULTS = Path(__file__).parent / "results"
BURST = 0.02  # seconds of a turn
MEMORY = 8e9  # bytes that a contestant may take
ROOFLINE = "l1 at the machine's limit"
SIZES = [(101, 101), (512, 512), (1080, 1920), (2048, 2048), (4096, 4096)]
TAPS = [3, 8, 16, 32, 64, 200]
COLUMNS = [
    *("height", "width", "taps", "channels", "stride", "templates", "dtype", "contestant"),
    *("median_ms", "lower_ms", "upper_ms", "turns", "skipped"),
]


@dataclass
class Case:
    """One image, its templates, and the two in the layouts that the peers want."""

    size: tuple[int, int]
    taps: tuple[int, int]
    channels: int = 3
    stride: int = 1
    templates: int = 1
    dtype: torch.dtype = torch.float32

    def __post_init__(self):
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
    def windows(self):
        """Number of windows, of all templates."""
        rows, cols = ((n - k) // self.stride + 1 for n, k in zip(self.size, self.taps, strict=True))
        return rows * cols * self.templates

    @property
    def differences(self):
        """Number of |a − b| in the definition."""
        return self.windows * self.channels * math.prod(self.taps)


def known_answer(case):
    """Compare all windows at once, as the known answer to the question does."""
    image, kernel, s = case.image.float(), case.kernel.float(), case.stride
    windows = image.unfold(2, kernel.shape[2], s).unfold(3, kernel.shape[3], s)
    return torch.stack([(windows - k[:, None, None]).abs().sum((1, 4, 5))[0] for k in kernel])


def cdist(case):
    """Compute l1 distances of unfolded patches."""
    image, kernel = case.image.float(), case.kernel.float()
    windows = torch.nn.functional.unfold(image, case.taps, stride=case.stride)[0].T
    sums = torch.cdist(windows.contiguous(), kernel.flatten(1), p=1)
    rows = (case.size[0] - case.taps[0]) // case.stride + 1
    return sums.T.unflatten(1, (rows, -1))


def conv2d(case):
    """Correlate only: not an answer, but what the question hoped for."""
    return torch.nn.functional.conv2d(case.image.float(), case.kernel.float(), stride=case.stride)


def opencv(case):
    """Compute TM_SQDIFF."""
    s = case.stride
    maps = [cv2.matchTemplate(case.scene, k, cv2.TM_SQDIFF)[::s, ::s] for k in case.patches]
    return torch.from_numpy(np.stack(maps))


def skimage_zncc(case):
    """Compute scikit-image's normalised correlation: another metric, the same work."""
    return [skimage.feature.match_template(case.scene, k) for k in case.patches]


def scipy_ssd(case):
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


def ours(metric, backend="auto"):
    """Make a contestant of patchsim."""

    def run(case):
        return patchsim.similarity(
            case.image[0], case.kernel, metric, stride=case.stride, backend=backend, data_range=255
        )

    return run


@dataclass
class Contestant:
    """How to run it, and roughly what it takes: nanoseconds and bytes a difference or a pixel."""

    run: object
    per_difference: float = 0.0
    per_pixel: float = 0.0
    bytes_per_difference: float = 0.0

    def refusal(self, case, limit):
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


def check(case, names):
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


def seconds(run, calls):
    """Time a number of calls; return the mean of one."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def measure(runs, turns):
    """Return milliseconds a call, one mean a turn, after one call to warm up."""
    for run in runs.values():
        run()
    calls = {name: max(1, round(BURST / seconds(run, 1))) for name, run in runs.items()}
    times = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            times[name].append(1e3 * seconds(run, calls[name]))
    return times


def row(case, name, times=(), skipped=""):
    """Make a row of the table."""
    cell = [*case.size, case.taps[0], case.channels, case.stride, case.templates]
    lower, median, upper = statistics.quantiles(times, n=4) if times else ("", "", "")
    figures = [f"{x:.5g}" if times else "" for x in (median, lower, upper)]
    text = str(case.dtype).removeprefix("torch.")
    return dict(zip(COLUMNS, [*cell, text, name, *figures, len(times) or "", skipped], strict=True))


def write(name, rows):
    """Write rows to a table in the results' folder."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@numba.njit(nogil=True, fastmath=True, cache=True)
def _differences(values, other, repeats):
    total = np.float32(0)
    for r in range(repeats):
        k = other[r % other.size]
        for x in range(values.size):
            total += abs(values[x] - k)
    return total


def roofline(turns=15):
    """Measure billions of |a − b| added per second, of float32 in the first-level cache."""
    generator = np.random.default_rng(0)
    values, other = generator.random(4096, np.float32), generator.random(7, np.float32)
    repeats, count = 10_000, torch.get_num_threads()

    def run():
        threads.each(lambda _: _differences(values, other, repeats), range(count))

    run()
    return (
        count
        * values.size
        * repeats
        / statistics.median(seconds(run, 1) for _ in range(turns))
        / 1e9
    )


def describe():
    """Say what was measured on."""
    here = machine()
    return (
        f"{here['processor']}, {os.cpu_count()} cores, {here['threads']} threads; Python "
        f"{platform.python_version()}, torch {here['torch']}, numba {numba.__version__}, OpenCV "
        f"{cv2.__version__}, scikit-image {skimage.__version__}, SciPy {scipy.__version__}"
    )


def targets(turns):
    """Measure the claims of the README."""
    print(describe())
    large = Case((1024, 1024), (32, 32))
    bytes_ = Case((1024, 1024), (32, 32), dtype=torch.uint8)
    planar = large.image[0].permute(1, 2, 0).contiguous().permute(2, 0, 1)
    template = large.kernel[0]
    eight = Case((1024, 1024), (32, 32), templates=8)
    medium, known = Case((512, 512), (16, 16)), Case((101, 101), (10, 9), stride=2)
    l1 = CONTESTANTS["l1 auto"].run

    def strided(stride):
        return lambda: patchsim.similarity(large.image[0], template, stride=stride)

    runs = {
        "1024/32 l1 float32": lambda: l1(large),
        "1024/32 l1 float32, stride 2": strided(2),
        "1024/32 l1 float32, stride 4": strided(4),
        "1024/32 l1 float32, 8 templates": lambda: l1(eight),
        "1024/32 l1 float32, H W C permuted": lambda: patchsim.similarity(planar, template),
        "1024/32 l1 uint8": lambda: l1(bytes_),
        "512/16 l1 float32": lambda: l1(medium),
        "512/16 l1 known answer": lambda: known_answer(medium),
        "101/10x9 stride 2 l1 loop": lambda: CONTESTANTS["l1 loop"].run(known),
        "101/10x9 stride 2 l1 unfold": lambda: ours("l1", "unfold")(known),
        "101/10x9 stride 2 l1 known answer": lambda: known_answer(known),
        "101/10x9 stride 2 l1 auto": lambda: l1(known),
    }
    limit = [roofline()]
    times = measure(runs, turns)
    limit.append(roofline())
    rows = []
    for name, samples in times.items():
        lower, median, upper = statistics.quantiles(samples, n=4)
        figures = (round(x, 4) for x in (median, lower, upper))
        columns = ("case", "median_ms", "lower_ms", "upper_ms")
        rows.append(dict(zip(columns, (name, *figures), strict=True)))
        print(f"{name:36} {median:10.3f} ms   ({lower:.3f} - {upper:.3f})")
    write(
        "targets.csv", [{k: v if k == "case" else f"{v:.5g}" for k, v in r.items()} for r in rows]
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
    for stride in (2, 4):
        cost = median[f"1024/32 l1 float32, stride {stride}"] * stride**2 / base
        print(f"stride {stride}: {cost:.2f}/s² of stride 1")
    for what in ("8 templates", "H W C permuted"):
        print(f"{what}: {median[f'1024/32 l1 float32, {what}'] / base:.2f} x one, contiguous")
    ratio = median["512/16 l1 known answer"] / median["512/16 l1 float32"]
    print(f"512/16: {ratio:.0f} x known answer")
    for other in ("loop", "unfold", "known answer"):
        ratio = median[f"101/10x9 stride 2 l1 {other}"] / known
        print(f"known answer's case: {ratio:.1f} x {other}")


def grid(turns, limit, strides, templates, sizes):
    """Measure the grid."""
    print(describe())
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
        times = measure(runs, turns)
        rows += [row(case, name, times.get(name, ()), refusals[name]) for name in CONTESTANTS]
        if dtype is torch.float32:
            rows.append(row(case, ROOFLINE, 2 * [case.differences / roof / 1e6]))
        write("grid.csv", rows)


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
