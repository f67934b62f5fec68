"""What all experiments share: settings, tables, timing and the report.

An experiment is a script with one `EXPERIMENT`, which ends in ``main(EXPERIMENT)``:

    python experiments/accuracy.py [--quick] [--results DIR] [--seed N] [--draw]

It measures first and writes its tables (CSV); figures and sentences are made from the tables alone,
so that ``--draw`` makes them again without measuring. Full results go to experiments/results/,
which is committed, quick ones to its folder quick/, which isn't.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import platform
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import DPI
from matplotlib.figure import Figure
from tqdm import tqdm

from patchsim import rates

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
#: Seconds of a turn of a contestant, who is called so often as to fill it; and of a call that the
#: marks of the one before don't change by much.
BURST, LONG = 0.02, 0.5
PACKAGES = ("torch", "numpy", "numba", "opencv-python-headless", "scikit-image", "scipy")

Row = dict[str, Any]
Table = list[Row]
Tables = dict[str, Table]


@dataclass(frozen=True)
class Settings:
    """How much to measure, from which seed, and where the results go."""

    quick: bool = False
    results: Path = RESULTS
    seed: int = 0

    def choose(self, quick: Any, full: Any) -> Any:
        """Return what these settings ask for."""
        return quick if self.quick else full

    def generator(self) -> torch.Generator:
        """Return a fresh generator of the seed's random numbers."""
        return torch.Generator().manual_seed(self.seed)

    def random(self) -> np.random.Generator:
        """Return the same for NumPy."""
        return np.random.default_rng(self.seed)


@dataclass(frozen=True)
class Experiment:
    """One question and how it is answered.

    Attributes
    ----------
    name : str
        The script's name without its ending.
    title, asks : str
        A heading and what is asked, in a sentence or two.
    measure : callable
        Settings -> the tables by name, each a list of rows with the same columns.
    draw : callable
        The tables, read from disk -> figures by name.
    shows : callable
        The tables, read from disk -> what they show: sentences with the tables' numbers, or
        `markdown` tables.
    leaves_open : sequence of str
        What they don't show.
    """

    name: str
    title: str
    asks: str
    measure: Callable[[Settings], Tables]
    draw: Callable[[Tables], Mapping[str, Figure]]
    shows: Callable[[Tables], Sequence[str]]
    leaves_open: Sequence[str]


def progress(items: Iterable[Any], label: str, total: int | None = None) -> Any:
    """Show a progress bar over items."""
    return tqdm(items, desc=label, total=total, leave=False, dynamic_ncols=True)


# Timing


def seconds(run: Callable[[], object], calls: int) -> float:
    """Time a number of calls; return the mean of one."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def interleave(runs: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Return milliseconds a call, one mean a turn, after one call to warm up.

    Contestants take turns, in an order drawn anew each time, so that a drift of the machine's speed
    touches all alike. A turn's calls, unless long, are made twice and the second time counts, as
    the one before leaves its mark for up to 20 ms: threads that spin while they wait for more work,
    memory that goes back to the system.
    """
    order, shuffle = list(runs), random.Random(0).shuffle
    for run in runs.values():
        run()
    alone = {name: seconds(run, 1) for name, run in runs.items()}
    calls = {name: max(1, round(BURST / time)) for name, time in alone.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        shuffle(order)
        for name in order:
            if alone[name] < LONG:
                seconds(runs[name], calls[name])
            times[name].append(1e3 * seconds(runs[name], calls[name]))
    return times


def quartiles(samples: Sequence[float]) -> dict[str, str]:
    """Return the columns lower_ms, median_ms and upper_ms of samples of a time."""
    lower, median, upper = statistics.quantiles(samples, n=4)
    return {"lower_ms": f"{lower:.5g}", "median_ms": f"{median:.5g}", "upper_ms": f"{upper:.5g}"}


# Tables


def write(path: Path, rows: Table) -> None:
    """Write rows to a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(path: Path) -> Table:
    """Read a CSV file, with its numbers as numbers."""
    with path.open(encoding="utf-8") as file:
        return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def pick(rows: Table, **wanted: Any) -> Table:
    """Return the rows that have these values."""
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def column(rows: Table, key: str) -> list[Any]:
    """Return a column's values."""
    return [row[key] for row in rows]


def distinct(rows: Table, key: str) -> list[Any]:
    """Return a column's values, each once, in the order in which they come."""
    return list(dict.fromkeys(column(rows, key)))


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table; numbers are right-aligned."""
    keys = list(rows[0])
    numeric = [all(isinstance(row[key], int | float) for row in rows) for key in keys]
    lines = [keys, ["---:" if right else "---" for right in numeric]]
    lines += [
        [f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# Running and reporting


def describe() -> dict[str, str]:
    """Return machine, versions and date."""
    here = rates.machine()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return {
        "machine": f"{here['processor']}, {os.cpu_count()} cores, {here['threads']} threads",
        "system": platform.platform(terse=True),
        "versions": f"Python {platform.python_version()}, {versions}",
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
    }


def _commit() -> str:
    commit = _git("describe", "--always", "--exclude=*") or "not in a git repository"
    return f"{commit}-dirty" if changes() else commit


def changes() -> str:
    """Tell which files of the project, results apart, differ from the commit."""
    return _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude)results")


def _git(*arguments: str) -> str:
    try:
        process = subprocess.run(
            ["git", *arguments], cwd=FOLDER, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return process.stdout.strip()


def measure(experiment: Experiment, settings: Settings) -> None:
    """Run an experiment; write its tables and the circumstances."""
    if not settings.quick and changes():
        raise SystemExit(f"a report is of a commit, and these aren't committed:\n{changes()}")
    start = time.perf_counter()
    tables = experiment.measure(settings)
    for name, rows in tables.items():
        write(settings.results / f"{name}.csv", rows)
    record = {
        **describe(),
        "settings": "quick" if settings.quick else "full",
        "seed": settings.seed,
        "seconds": round(time.perf_counter() - start),
        "tables": list(tables),
    }
    _record(experiment, settings.results).write_text(
        json.dumps(record, indent=1) + "\n", encoding="utf-8"
    )


def _record(experiment: Experiment, results: Path) -> Path:
    return results / f"{experiment.name}.json"


def load(experiment: Experiment, results: Path) -> tuple[Row, Tables]:
    """Read the circumstances and the tables of the last run."""
    record = json.loads(_record(experiment, results).read_text(encoding="utf-8"))
    return record, {name: read(results / f"{name}.csv") for name in record["tables"]}


def draw(experiment: Experiment, results: Path) -> list[str]:
    """Draw the figures of the last run; return their names."""
    _, tables = load(experiment, results)
    drawings = experiment.draw(tables)
    for name, drawing in drawings.items():
        drawing.savefig(results / f"{name}.png", dpi=DPI, metadata={"Software": None})
    return list(drawings)


def section(experiment: Experiment, results: Path) -> str:
    """Return an experiment's part of the report, in Markdown, drawing its figures."""
    record, tables = load(experiment, results)
    figures = [f"![{experiment.title}]({name}.png)" for name in draw(experiment, results)]
    shown = [block if block.startswith("|") else f"- {block}" for block in experiment.shows(tables)]
    files = ", ".join(f"[{name}.csv]({name}.csv)" for name in record["tables"])
    return "\n\n".join(
        [
            f"## {experiment.title}",
            f"**Asked.** {experiment.asks}",
            *figures,
            "**What it shows.**",
            _joined(shown),
            "**What it doesn't.**",
            "\n".join(f"- {line}" for line in experiment.leaves_open),
            f"*Script `experiments/{experiment.name}.py`, {record['settings']} settings, seed "
            f"{record['seed']}, {record['seconds']} s on {record['date']} at commit "
            f"{record['commit']}. Tables: {files}.*",
        ]
    )


def _joined(blocks: Sequence[str]) -> str:
    """Join bullets by single line breaks, tables by blank lines."""
    text = ""
    for block in blocks:
        both = block.startswith("-") and text.rpartition("\n")[2].startswith("-")
        text += ("\n" if both else "\n\n") * bool(text) + block
    return text


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser of the options that all scripts share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument(
        "--results", type=Path, help="folder (default: experiments/results, quick/ in it if quick)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draw", action="store_true", help="draw again, without measuring")
    return parser


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings that a command line asks for."""
    folder = options.results or (RESULTS / "quick" if options.quick else RESULTS)
    return Settings(options.quick, folder, options.seed)


def main(experiment: Experiment) -> None:
    """Run one experiment from the command line and print its part of the report."""
    options = arguments(experiment.asks).parse_args()
    settings = settings_of(options)
    if not options.draw:
        measure(experiment, settings)
    print(section(experiment, settings.results))
