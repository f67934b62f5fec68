"""Run all experiments and write REPORT.md.

    python experiments/run_all.py [--quick] [--results DIR] [--only NAME ...] [--draw]

Each experiment runs in a process of its own. The report is made from the tables that are there, so
that ``--only accuracy`` measures one again and reports all.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import harness
from harness import Settings

#: The scripts, in the report's order.
EXPERIMENTS = (
    "scaling",
    "memory",
    "accuracy",
    "channels",
    "detection",
    "search",
    "example",
    "gradients",
)

INTRODUCTION = """\
# Report

Made by `make experiments` (`make experiments QUICK=1` for a rough one in minutes), which runs
`experiments/run_all.py`. Sentences and figures come from the tables beside them, and no number here
was typed. {settings}
"""


def run(name: str, settings: Settings) -> bool:
    """Measure in a fresh process; return whether it went well."""
    command = [sys.executable, str(harness.FOLDER / f"{name}.py")]
    command += ["--results", str(settings.results), "--seed", str(settings.seed)]
    command += ["--quick"] * settings.quick
    return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0


def report(results: Path) -> str:
    """Return the report on all experiments that have results."""
    there = [name for name in EXPERIMENTS if (results / f"{name}.json").exists()]
    missing = [name for name in EXPERIMENTS if name not in there]
    records = [json.loads((results / f"{n}.json").read_text(encoding="utf-8")) for n in there]
    sections = [harness.section(importlib.import_module(n).EXPERIMENT, results) for n in there]
    introduction = INTRODUCTION.format(settings=_settings(records))
    notes = [f"Not run: {', '.join(missing)}."] * bool(missing)
    return "\n\n".join([introduction + _circumstances(records), *notes, *sections]) + "\n"


def _settings(records: list[harness.Row]) -> str:
    kinds = sorted({record["settings"] for record in records})
    return f"Settings of this run: {' and '.join(kinds)}."


def _circumstances(records: list[harness.Row]) -> str:
    """List machine, versions and dates; several of each, where runs differ."""
    dates = sorted(record["date"] for record in records)
    lines = [f"- Date: {dates[0]} to {dates[-1]}"] if dates else []
    for key in ("machine", "system", "versions"):
        values = dict.fromkeys(record[key] for record in records)
        lines += [f"- {key.capitalize()}: {value}" for value in values]
    return "\n" + "\n".join(lines)


def main() -> int:
    """Read the command line; return 1 where an experiment failed."""
    parser = harness.arguments("Run all experiments and write REPORT.md.")
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=EXPERIMENTS)
    options = parser.parse_args()
    settings = harness.settings_of(options)
    failed = []
    for name in [] if options.draw else options.only:
        print(f"{name} ...", file=sys.stderr)
        if not run(name, settings):
            failed.append(name)
    path = settings.results / "REPORT.md"
    path.write_text(report(settings.results), encoding="utf-8")
    print(f"wrote {path}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
