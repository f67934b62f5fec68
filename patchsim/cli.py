"""The command ``patchsim``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

import patchsim
from patchsim.backends import BACKENDS, Backend
from patchsim.metrics import METRICS, AnyMetric
from patchsim.problem import Problem, problem_of
from patchsim.search import Match, peaks

MATCHES, NO_MATCH, BAD_INPUT = 0, 1, 2

#: Predicted seconds from which a map is computed in bands, and seconds until their bar appears.
LONG, DELAY = 1.0, 1.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 for matches, 1 for none, 2 for bad input."""
    try:
        options = _parser().parse_args(arguments)
        return int(options.run(options))
    except ModuleNotFoundError as error:
        return _complain(f"this command needs {error.name}: pip install 'patchsim[cli]'")
    except (OSError, ValueError, TypeError) as error:
        return _complain(str(error))


def _complain(message: str) -> int:
    print(f"patchsim: error: {' '.join(message.split())}", file=sys.stderr)
    return BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="patchsim", description="Sliding patch similarity.")
    parser.add_argument("--version", action="version", version=patchsim.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    match = commands.add_parser(
        "match",
        help="find a template in a scene",
        description="Find a template in a scene. Exits 0 with matches, 1 with none, 2 on errors.",
    )
    match.add_argument("scene", metavar="SCENE", help="image file to search in")
    match.add_argument("template", metavar="TEMPLATE", help="image file to search for")
    match.add_argument("--metric", default="l1", help=", ".join(METRICS) + " (default: l1)")
    match.add_argument(
        "--backend", default="auto", help=", ".join(BACKENDS) + " or auto (default: auto)"
    )
    match.add_argument("--stride", type=int, default=1, help="pixels between windows (default: 1)")
    match.add_argument(
        "--top", type=int, default=1, metavar="K", help="matches at most (default: 1)"
    )
    match.add_argument("--threshold", type=float, help="least score of a match")
    match.add_argument("--output", metavar="PNG", help="write the scene with the matches drawn in")
    match.add_argument("--heatmap", metavar="PNG", help="write the similarity map")
    match.add_argument("--json", action="store_true", help="print JSON instead of a table")
    match.set_defaults(run=_match)

    variants = commands.add_parser("variants", help="list the metrics and backends")
    variants.set_defaults(run=_variants)

    warmup = commands.add_parser("warmup", help="compile all kernels ahead")
    warmup.set_defaults(run=_warmup)

    calibrate = commands.add_parser(
        "calibrate",
        help="measure the backends, so that auto chooses well on this machine",
        description="Measure every backend, about 20 seconds. Run it when nothing else runs.",
    )
    calibrate.set_defaults(run=_calibrate)
    return parser


def _match(options: argparse.Namespace) -> int:
    from patchsim.images import read_images

    scene, template = read_images(options.scene, options.template)
    scores = _similarity(scene, template, options)
    size = template.shape[1], template.shape[2]
    matches = peaks(scores, size, options.stride, k=options.top, threshold=options.threshold)
    print(_json(matches) if options.json else _table(matches))
    if options.output or options.heatmap:
        from patchsim import plots

        if options.output:
            plots.save_matches(options.output, scene, matches)
        if options.heatmap:
            plots.save_map(options.heatmap, scores, f"similarity ({options.metric})")
    return MATCHES if matches else NO_MATCH


def _similarity(scene: Tensor, template: Tensor, options: argparse.Namespace) -> Tensor:
    """Compute the map, in bands of rows where it takes long, to show how far it is."""
    from tqdm import tqdm

    problem = problem_of(scene, template, options.stride)
    (rows, _), (height, _) = problem.map_size, problem.kernel_size
    plan = patchsim.plan(scene, template, options.metric, stride=options.stride)
    seconds = plan.seconds.get(options.backend, plan.seconds[plan.backend])
    # Neighbouring bands share `height` rows of the scene: keep that a small part.
    band = rows if seconds < LONG else max(math.ceil(rows / 20), 4 * height // options.stride)
    bands = []
    progress = tqdm(total=rows, unit="row", delay=DELAY, disable=None, file=sys.stderr, leave=False)
    with progress:
        for first in range(0, rows, band):
            last = min(first + band, rows) - 1
            start, stop = first * options.stride, last * options.stride + height
            bands.append(
                patchsim.similarity(
                    scene[:, start:stop],
                    template,
                    options.metric,
                    stride=options.stride,
                    backend=options.backend,
                )
            )
            progress.update(last + 1 - first)
    return torch.cat(bands)


def _table(matches: Sequence[Match]) -> str:
    lines = [f"{'score':>8} {'x':>6} {'y':>6} {'width':>6} {'height':>6}"]
    lines += [f"{m.score:8.4f} {m.x:6} {m.y:6} {m.width:6} {m.height:6}" for m in matches]
    return "\n".join(lines) if matches else "no match"


def _json(matches: Sequence[Match]) -> str:
    return json.dumps([dataclasses.asdict(match) for match in matches], indent=2)


def _variants(options: argparse.Namespace) -> int:
    print(f"{'':13}" + "".join(f"{name:9}" for name in BACKENDS).rstrip())
    reasons: dict[str, list[str]] = {}
    for name, metric in METRICS.items():
        cells = []
        for backend in BACKENDS.values():
            cell, why = _cell(metric, backend)
            cells.append(f"{cell:9}")
            if why:
                reasons.setdefault(why, []).append(f"{name}_{backend.name}")
        print(f"{name:13}" + "".join(cells).rstrip())
    print("exact: integers exactly, floats within error_bound; bounded: all within error_bound")
    for why, names in reasons.items():
        print(f"- no {', '.join(names)}: {why}")
    return MATCHES


def _cell(metric: AnyMetric, backend: Backend) -> tuple[str, str]:
    """Tell what a backend can do for a metric, and why if nothing."""
    whole, real = (Problem(1, 1, (1, 1), 1, (1, 1), dtype=d) for d in (torch.uint8, torch.float32))
    why = backend.refuse(real, metric.summed)
    if why:
        return "-", why[0]
    exact = metric.prepare is None and not backend.refuse(whole, metric.summed)
    return ("exact" if exact else "bounded"), ""


def _warmup(options: argparse.Namespace) -> int:
    from patchsim.warmup import warmup

    warmup(_progress)
    print("every kernel is compiled")
    return MATCHES


def _calibrate(options: argparse.Namespace) -> int:
    from patchsim.calibration import calibrate

    print(f"wrote {calibrate(_progress)}")
    return MATCHES


def _progress(jobs: list[Any]) -> Iterable[Any]:
    from tqdm import tqdm

    return tqdm(jobs, disable=None, file=sys.stderr, leave=False)
