"""The command ``patchsim``."""

from __future__ import annotations

import argparse
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
from patchsim.search.bank import Entry, bank
from patchsim.search.matches import Match, Matches

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
        help="find templates in a scene",
        description="Find templates in a scene. Exits 0 with matches, 1 with none, 2 on errors.",
    )
    _add_match(match)
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


def _add_match(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``patchsim match``."""
    add = parser.add_argument
    add("scene", metavar="SCENE", help="image file to search in")
    add("templates", metavar="TEMPLATE", nargs="+", help="image files to search for; transparent "
        "pixels don't count")  # fmt: skip
    add("--metric", default="l1", help=", ".join(METRICS) + " (default: l1)")
    add("--backend", default="auto", help=", ".join(BACKENDS) + " or auto (default: auto)")
    add("--stride", type=int, default=1, help="pixels between windows (default: 1)")
    add("--top", type=int, default=1, metavar="K", help="matches at most (default: 1)")
    add("--threshold", type=float, help="least score of a match")
    add("--max-overlap", type=float, default=0.3, metavar="IOU", help="overlap of matches at most, "
        "0 to 1 (default: 0.3)")  # fmt: skip
    add("--scales", type=_numbers, help="sizes of the templates, such as 0.8,1,1.25")
    add("--angles", type=_numbers, help="degrees by which they are turned counter-clockwise, such "
        "as --angles=-10,0,10 or --angles=-30:30:5")  # fmt: skip
    add("--mask", metavar="FILE", help="image whose black pixels don't count in the template")
    add("--subpixel", action="store_true", help="refine places between pixels")
    add("--output", metavar="PNG", help="write the scene with the matches drawn in")
    add("--heatmap", metavar="PNG", help="write the best match's similarity map")
    add("--figure", metavar="PNG", help="write matches, templates and map in one picture")
    add("--json", action="store_true", help="print JSON instead of a table")


def _numbers(text: str) -> list[float]:
    """Read numbers between commas, or START:STOP:STEP, of which STOP is the last."""
    if text.count(":") != 2:
        return [float(number) for number in text.split(",")]
    start, stop, step = (float(number) for number in text.split(":"))
    count = math.floor((stop - start) / step + 1e-9) + 1
    return [start + i * step for i in range(count)]


_numbers.__name__ = "list of numbers"  # as argparse calls it


def _match(options: argparse.Namespace) -> int:
    from patchsim.images import read_images

    scene, *templates = read_images(options.scene, *options.templates)
    weights = _weights(options)
    matches = patchsim.find(
        scene,
        templates,
        options.metric,
        k=options.top,
        threshold=options.threshold,
        max_overlap=options.max_overlap,
        stride=options.stride,
        weight=weights,
        subpixel=options.subpixel,
        scales=options.scales,
        angles=options.angles,
        backend=options.backend,
    )
    print(json.dumps(matches.to_dicts(), indent=2) if options.json else matches)
    if options.output or options.heatmap or options.figure:
        _draw(scene, templates, weights, matches, options)
    return MATCHES if matches else NO_MATCH


def _weights(options: argparse.Namespace) -> list[Tensor | None]:
    """Read the mask, or the templates' transparency."""
    from patchsim.images import read_alpha, read_mask

    if options.mask is None:
        return [read_alpha(path) for path in options.templates]
    if len(options.templates) > 1:
        raise ValueError("--mask goes with one template; give several transparent pixels instead")
    return [read_mask(options.mask)]


def _draw(
    scene: Tensor,
    templates: list[Tensor],
    weights: list[Tensor | None],
    matches: Matches,
    options: argparse.Namespace,
) -> None:
    """Write the pictures that are asked for."""
    from patchsim import plots

    if options.output:
        plots.save_matches(options.output, scene, matches)
    if not (options.heatmap or options.figure):
        return
    given = [
        Entry(own, None if w is None else w.expand_as(own), n)
        for n, (own, w) in enumerate(zip(templates, weights, strict=True))
    ]
    entries = bank(given, options.scales, options.angles)
    best = next((e for m in matches for e in entries if _made(e) == _made(m)), entries[0])
    scores = _similarity(scene, best.kernel, options, best.weight)
    label = f"similarity ({options.metric})"
    if options.heatmap:
        plots.save_map(options.heatmap, scores, label)
    if options.figure:
        plots.save_figure(options.figure, scene, matches, entries, scores, label)


def _made(of: Entry | Match) -> tuple[int, float, float]:
    """Tell which template something is made of, and how."""
    return of.template, of.scale, of.angle


def _similarity(
    scene: Tensor, template: Tensor, options: argparse.Namespace, weight: Tensor | None = None
) -> Tensor:
    """Compute the map, in bands of rows where it takes long, to show how far it is."""
    from tqdm import tqdm

    problem = problem_of(scene, template, options.stride)
    (rows, _), (height, _) = problem.map_size, problem.kernel_size
    plan = patchsim.plan(scene, template, options.metric, stride=options.stride, weight=weight)
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
                    weight=weight,
                    backend=options.backend,
                )
            )
            progress.update(last + 1 - first)
    return torch.cat(bands)


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
