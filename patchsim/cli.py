"""The command ``patchsim``."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

import patchsim
from patchsim import process
from patchsim.backends import BACKENDS, Backend
from patchsim.metrics import METRICS, AnyMetric
from patchsim.problem import Problem, problem_of
from patchsim.search.bank import Entry, Poses, bank
from patchsim.search.matches import Match, Matches, Skipped

if TYPE_CHECKING:
    from patchsim.deep import Picture

MATCHES, NO_MATCH, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

#: Numbers that START:STOP:STEP may list, and templates, scaled and turned, that a search may have.
MOST_NUMBERS, MOST_TEMPLATES = 10_000, 100_000

#: Predicted seconds from which a map is computed in bands, and seconds until their bar appears.
LONG, DELAY = 1.0, 1.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process, which then obeys Ctrl-C at once and prints no warnings.

    Returns
    -------
    int
        0 for matches, 1 for none, 2 for errors, which are one line on the standard error; 130 if
        interrupted.
    """
    try:
        if arguments is None:
            process.own(INTERRUPTED)
        options = _parser().parse_args(arguments)
        return int(options.run(options))
    except SystemExit:  # after --help and --version
        process.flush()
        raise
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("PATCHSIM_TRACEBACK"):
            raise
        process.complain(f"patchsim: error: {' '.join(_explain(error).split())}")
        return BAD_INPUT


def _explain(error: Exception) -> str:
    """Say in a line what is wrong."""
    text = str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"this command needs {error.name}: pip install 'patchsim[cli]'"
    # torch has no type of its own for it.
    if isinstance(error, MemoryError) or (type(error) is RuntimeError and "allocate" in text):
        return f"not enough memory: use smaller images, or fewer scales and angles ({text})"
    if isinstance(error, OSError | ValueError | TypeError) and text:
        return text
    return f"unexpected {type(error).__name__}: {text} (PATCHSIM_TRACEBACK=1 shows where)"


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
    add("--top", type=_top, default=1, metavar="K", help="matches at most, or all (default: 1)")
    add("--threshold", type=float, help="least score of a match")
    add("--max-overlap", type=float, default=0.3, metavar="IOU", help="overlap of matches at most, "
        "0 to 1 (default: 0.3)")  # fmt: skip
    add("--scales", type=_numbers, help="sizes of the templates, such as 0.8,1,1.25 or 0.5:2:0.1; "
        "those that don't fit the scene are left out, as a line on stderr says")  # fmt: skip
    add("--angles", type=_numbers, help="degrees by which they are turned counter-clockwise, such "
        "as --angles=-10,0,10 or --angles=-30:30:5, the last included")  # fmt: skip
    add("--page", type=int, metavar="N", help="page of files that hold several, from 0")
    add("--data-range", type=float, metavar="X", help="value of white in files of more than 8 "
        "bits a channel, such as 4095 for 12 bits (default: guessed, as stderr says)")  # fmt: skip
    add("--max-pixels", type=int, metavar="N", help="pixels that a file may have "
        "(default: 180 million)")  # fmt: skip
    add("--mask", metavar="FILE", help="image whose black pixels don't count in the template")
    add("--subpixel", action="store_true", help="refine places between pixels")
    add("--output", metavar="PNG", help="write the scene with the matches drawn in")
    add("--heatmap", metavar="PNG", help="write the best match's similarity map")
    add("--figure", metavar="PNG", help="write matches, templates and map in one picture")
    add("--json", action="store_true", help="print JSON instead of a table")


def _top(text: str) -> int | None:
    """Read how many matches are wanted, None for all."""
    return None if text == "all" else int(text)


_top.__name__ = "number of matches"  # as argparse calls it


def _numbers(text: str) -> list[float]:
    """Read numbers between commas, or START:STOP:STEP, of which STOP is the last."""
    if text.count(":") != 2:
        return [float(number) for number in text.split(",")]
    start, stop, step = (float(number) for number in text.split(":"))
    if not (math.isfinite(start) and math.isfinite(stop) and math.isfinite(step)) or step == 0:
        raise argparse.ArgumentTypeError(f"{text}: takes finite numbers, and a STEP other than 0")
    steps = (stop - start) / step + 1e-9
    if not 0 <= steps < MOST_NUMBERS:
        raise argparse.ArgumentTypeError(
            f"{text}: STEP leads away from STOP"
            if steps < 0
            else f"{text}: lists more than {MOST_NUMBERS} numbers"
        )
    return [start + i * step for i in range(math.floor(steps) + 1)]


_numbers.__name__ = "list of numbers"


def _match(options: argparse.Namespace) -> int:
    _check(options)
    pictures = _pictures(options)
    from patchsim.images import comparable

    (scene, *templates), note = comparable(pictures, options.data_range)
    if note:
        process.complain(f"patchsim: note: {note}")
    weights = _weights(pictures[1:], options)
    # No stride beyond the scene leaves another window than the first.
    options.stride = min(options.stride, max(scene.shape[1:]))
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
    _tell_skipped(matches.skipped, scene)
    process.say(json.dumps(matches.to_dicts(), indent=2) if options.json else str(matches))
    if options.output or options.heatmap or options.figure:
        _draw(scene, templates, weights, matches, options)
    return MATCHES if matches else NO_MATCH


def _check(options: argparse.Namespace) -> None:
    """Check what is asked for before anything is read or computed."""
    if options.mask is not None and len(options.templates) > 1:
        raise ValueError("--mask goes with one template; give several transparent pixels instead")
    if options.data_range is not None and not 0 < options.data_range < math.inf:
        raise ValueError(f"--data-range must be positive and finite, got {options.data_range}")
    count = len(options.templates) * len(options.scales or [1]) * len(options.angles or [0])
    if count > MOST_TEMPLATES:
        raise ValueError(
            f"{count} templates, scaled and turned, are too many: use {MOST_TEMPLATES} at most"
        )
    pictures = [path for path in (options.output, options.heatmap, options.figure) if path]
    if pictures:
        from patchsim import plots

        for path in pictures:
            plots.check_picture(path)


def _pictures(options: argparse.Namespace) -> list[Picture]:
    """Read the scene and the templates."""
    from patchsim.images import MAX_PIXELS, read_picture

    if options.max_pixels is None:
        options.max_pixels = MAX_PIXELS
    return [
        read_picture(path, options.page, options.max_pixels)
        for path in (options.scene, *options.templates)
    ]


def _weights(templates: list[Picture], options: argparse.Namespace) -> list[Tensor | None]:
    """Read the mask, or the templates' transparency."""
    from patchsim.images import opacity, read_mask

    if options.mask is None:
        return [opacity(template) for template in templates]
    return [read_mask(options.mask, options.page, options.max_pixels)]


def _tell_skipped(skipped: Sequence[Skipped], scene: Tensor) -> None:
    """Print a line for each kind of template that was left out."""
    height, width = scene.shape[1:]
    large = f"larger than the scene of {height}x{width}"
    kinds: dict[str, list[Skipped]] = {large: [], "too small": []}
    for own in skipped:
        beyond = own.size[0] > height or own.size[1] > width
        kinds[large if beyond else "too small"].append(own)
    for why, kind in kinds.items():
        if kind:
            some = ", ".join(
                f"template {own.template} at scale {own.scale:g} and angle {own.angle:g} "
                f"({own.size[0]}x{own.size[1]})"
                for own in kind[:3]
            )
            more = f" and {len(kind) - 3} more" if len(kind) > 3 else ""
            process.complain(f"patchsim: note: left out as {why}: {some}{more}")


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
    height, width = scene.shape[1:]
    poses = Poses(tuple(options.scales or [1.0]), tuple(options.angles or [0.0]))
    entries, _ = bank(given, poses, (height, width))
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
    lines = [f"{'':13}" + "".join(f"{name:9}" for name in BACKENDS).rstrip()]
    reasons: dict[str, list[str]] = {}
    for name, metric in METRICS.items():
        cells = []
        for backend in BACKENDS.values():
            cell, why = _cell(metric, backend)
            cells.append(f"{cell:9}")
            if why:
                reasons.setdefault(why, []).append(f"{name}_{backend.name}")
        lines.append(f"{name:13}" + "".join(cells).rstrip())
    lines.append(
        "exact: integers exactly, floats within error_bound; bounded: all within error_bound"
    )
    lines += [f"- no {', '.join(names)}: {why}" for why, names in reasons.items()]
    process.say("\n".join(lines))
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
    process.say("every kernel is compiled")
    return MATCHES


def _calibrate(options: argparse.Namespace) -> int:
    from patchsim.calibration import calibrate

    process.say(f"wrote {calibrate(_progress)}")
    return MATCHES


def _progress(jobs: list[Any]) -> Iterable[Any]:
    from tqdm import tqdm

    return tqdm(jobs, disable=None, file=sys.stderr, leave=False)
