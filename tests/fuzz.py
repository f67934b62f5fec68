"""Random maps and searches against an oracle that shares no code with patchsim.

    python tests/fuzz.py --maps 100000 --searches 10000 --seed 0 --seconds 600 --processes 2

Each problem is drawn from the seed and its number alone, so that one that fails is run again by
the command that is printed.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, Literal

# Threads that wait for work in a loop would take a core from other processes.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from fuzzing import maps, searches

import patchsim

Kind = Literal["map", "search"]
KINDS: dict[Kind, Any] = {"map": maps, "search": searches}
#: Examples that are kept of each kind of violation.
KEPT = 4


@dataclass
class Report:
    """What ran, and what it found."""

    ran: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    slowest: list[tuple[float, str]] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: Report) -> None:
        for name in ("ran", "refused", "problems", "found"):
            getattr(self, name).update(getattr(other, name))
        for key, texts in other.examples.items():
            known = self.examples.setdefault(key, [])
            known += texts[: KEPT - len(known)]
        self.slowest = sorted(self.slowest + other.slowest, reverse=True)[:10]
        self.seconds = max(self.seconds, other.seconds)

    def __str__(self) -> str:
        lines = [
            f"{self.ran[kind]} {kind} calls of {self.problems[kind]} problems, "
            f"{self.refused[kind]} refused"
            for kind in KINDS
        ]
        lines.append(f"{self.seconds:.0f} s; the slowest:")
        lines += [f"  {seconds:.2f} s {text}" for seconds, text in self.slowest]
        for key, count in self.found.most_common():
            lines += ["", f"VIOLATION, {count} times: {key}", *self.examples[key]]
        lines.append(f"{sum(self.found.values())} violations")
        return "\n".join(lines)


def problem(kind: Kind, seed: int, number: int) -> Any:
    """Draw one problem."""
    rng = np.random.default_rng([seed, list(KINDS).index(kind), number])
    return KINDS[kind].draw(rng)


def run_one(kind: Kind, seed: int, number: int, report: Report) -> None:
    """Draw and check one problem, and report it."""
    begun, case = time.perf_counter(), None
    try:
        case = problem(kind, seed, number)
        ran, refused = KINDS[kind].check(case)
        report.ran[kind] += ran
        report.refused[kind] += refused
    except Exception as error:  # whatever is raised is a finding
        report.ran[kind] += 1
        _note(report, error, f"{_command(kind, seed, number)}\n    {case}")
    report.problems[kind] += 1
    taken = time.perf_counter() - begun
    report.slowest = sorted([*report.slowest, (taken, f"{kind} {number}")], reverse=True)[:10]


def _note(report: Report, error: Exception, text: str) -> None:
    """Sort a violation among those like it: the same words, whatever the numbers."""
    message = f"{type(error).__name__}: {error}"
    key = re.sub(r"[-+]?\d[\d.e+-]*|nan|inf", "#", message)[:110]
    if not isinstance(error, maps.Violation):
        last = traceback.extract_tb(error.__traceback__)[-1]
        key = f"{key} in {last.filename.rsplit('/', 1)[-1]}:{last.name}"
    report.found[key] += 1
    examples = report.examples.setdefault(key, [])
    if len(examples) < KEPT:
        examples.append(f"  {message[:500]}\n    {text}")


def _command(kind: Kind, seed: int, number: int) -> str:
    return f"python tests/fuzz.py --seed {seed} --{kind} {number}"


def run(
    counts: dict[Kind, int],
    seed: int,
    seconds: float = float("inf"),
    share: tuple[int, int] = (0, 1),
) -> Report:
    """Run problems until so many maps and searches were computed, or the time is over.

    ``share``: which of how many processes this is; each takes every so-many-th problem.
    """
    report, begun = Report(), time.perf_counter()
    before = patchsim.options.max_memory, torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for kind, number in _in_turn(counts, report, share):
                run_one(kind, seed, number, report)
                report.seconds = time.perf_counter() - begun
                if report.seconds > seconds:
                    break
    finally:
        patchsim.options.max_memory = before[0]
        torch.set_num_threads(before[1])
    return report


def _in_turn(
    counts: dict[Kind, int], report: Report, share: tuple[int, int]
) -> Iterator[tuple[Kind, int]]:
    """Go through numbers of problems, of each kind as far as its share of the whole."""
    following = dict.fromkeys(counts, share[0])
    while True:
        left = {k: report.ran[k] / n for k, n in counts.items() if report.ran[k] < n}
        if not left:
            return
        kind = min(left, key=left.__getitem__)
        yield kind, following[kind]
        following[kind] += share[1]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--maps", type=int, default=100_000)
    parser.add_argument("--searches", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--map", type=int, help="run this problem alone")
    parser.add_argument("--search", type=int, help="run this problem alone")
    return parser.parse_args()


def main() -> int:
    given = _arguments()
    for kind in KINDS:
        number = getattr(given, kind)
        if number is not None:
            case = problem(kind, given.seed, number)
            sys.stdout.write(f"{case}\n{KINDS[kind].check(case)}\n")
            return 0
    count = given.processes
    counts: dict[Kind, int] = {
        "map": -(-given.maps // count),
        "search": -(-given.searches // count),
    }
    report = Report()
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        shares = [
            pool.submit(run, counts, given.seed, given.seconds, (i, count)) for i in range(count)
        ]
        for future in shares:
            report.add(future.result())
    sys.stdout.write(f"{report}\n")
    return 1 if report.found else 0


if __name__ == "__main__":
    sys.exit(main())
