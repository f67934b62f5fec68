"""How much faster than the original loop is each variant on the known answer's case?

The image is 1×3×101×101, the kernel 3×10×9, the stride 2, all in float32. The contestants take
turns, so that a drift of the machine's speed touches all alike. A turn is a burst of calls for
about 20 ms, as a program that calls one of them repeatedly would, and counts as the mean of its
calls; the table gives medians over the rounds, quartiles and the median's ratio to the loop of the
same metric. Before anything is timed, each is checked against the loop. The known answer itself,
`Tensor.unfold` over the whole image, takes part as `known answer`.

    python experiments/speed.py [--rounds 50]

Writes experiments/results/speed.csv.
"""

import argparse
import csv
import os
import platform
import statistics
import time
from pathlib import Path

import torch

import patchsim

RESULT = Path(__file__).parent / "results" / "speed.csv"
STRIDE = 2
BURST = 0.02  # seconds of a turn


def known_answer(image, kernel):
    """Compare all windows at once, as the known answer to the question does."""
    windows = image.unfold(2, kernel.shape[1], STRIDE).unfold(3, kernel.shape[2], STRIDE)
    return 1 - (windows - kernel[:, None, None]).abs().mean((1, 4, 5))


def main():
    """Check, time, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 101, 101, generator=generator)
    kernel = torch.rand(3, 10, 9, generator=generator)
    contestants = {str(v): lambda v=v: v(image, kernel, STRIDE) for v in patchsim.variants()}
    contestants["l1_known answer"] = lambda: known_answer(image, kernel)
    check(contestants, image, kernel)
    rows = summarise(measure(contestants, rounds))
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    print(f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, {versions}, {rounds} rounds")
    print(f"{'variant':16} {'median ms':>10} {'quartiles ms':>18} {'x loop':>8}")
    for row in rows:
        spread = f"{row['lower_ms']:.3f} - {row['upper_ms']:.3f}"
        print(f"{row['variant']:16} {row['median_ms']:10.3f} {spread:>18} {row['times_loop']:8.1f}")
    RESULT.parent.mkdir(exist_ok=True)
    with RESULT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def check(contestants, image, kernel):
    """Refuse to time what doesn't agree with the loop."""
    for name, run in contestants.items():
        metric, _, backend = name.partition("_")
        expected = contestants[f"{metric}_loop"]()
        bound = sum(
            patchsim.error_bound(image, kernel, metric, b, stride=STRIDE)
            for b in ("loop", backend if backend in patchsim.backends.BACKENDS else "unfold")
        )
        assert bool(((run() - expected).abs() <= bound).all()), name


def measure(contestants, rounds):
    """Return milliseconds a call, one mean a round, after one call to warm up."""
    times = {name: [] for name in contestants}
    calls = {name: max(1, round(BURST / seconds(run, 1))) for name, run in contestants.items()}
    for _ in range(rounds):
        for name, run in contestants.items():
            times[name].append(1e3 * seconds(run, calls[name]))
    return times


def seconds(run, calls):
    """Time a number of calls; return the mean of one."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def summarise(times):
    """Turn milliseconds by contestant into one row each."""
    medians = {name: statistics.median(samples) for name, samples in times.items()}
    rows = []
    for name, samples in times.items():
        lower, _, upper = statistics.quantiles(samples, n=4)
        loop = medians[f"{name.split('_')[0]}_loop"]
        rows.append(
            {
                "variant": name,
                "median_ms": round(medians[name], 4),
                "lower_ms": round(lower, 4),
                "upper_ms": round(upper, 4),
                "times_loop": round(loop / medians[name], 2),
            }
        )
    return rows


if __name__ == "__main__":
    main()
