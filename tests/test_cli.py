"""The command line, run as users run it."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import patchsim
from patchsim import calibration, cli, rates
from patchsim.images import read_images
from patchsim.metrics import METRICS

IMAGES = Path(__file__).parents[1] / "experiments" / "images"
SCENE, BADGE = str(IMAGES / "astronaut.png"), str(IMAGES / "badge.png")


@pytest.fixture
def files(tmp_path):
    """A scene with two copies of a template, and the template."""
    generator = np.random.default_rng(0)
    scene = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    scene[20:30, 30:42] = scene[5:15, 8:20]
    Image.fromarray(scene).save(tmp_path / "scene.png")
    Image.fromarray(scene[5:15, 8:20]).save(tmp_path / "template.png")
    return tmp_path


def match(files, *options):
    return cli.main(["match", str(files / "scene.png"), str(files / "template.png"), *options])


def test_the_command_finds_the_badge():
    command = [str(Path(sys.executable).parent / "patchsim"), "match", SCENE, BADGE, "--stride=2"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    header, row = process.stdout.splitlines()
    assert header.split() == ["score", "x", "y", "width", "height"]
    assert row.split()[1:] == ["132", "346", "80", "80"]
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.parametrize(
    "variant",
    [v for v in patchsim.variants() if v.metric in ("l1", "l2", "zncc") and v.backend != "lowrank"],
    ids=str,
)
def test_some_variants(files, variant, capsys):
    options = ["--metric", variant.metric, "--backend", variant.backend, "--top", "2", "--json"]
    assert match(files, *options) == 0
    same = {"template": 0, "scale": 1.0, "angle": 0.0, "batch": 0}
    assert json.loads(capsys.readouterr().out) == [
        {"score": 1.0, "x": 8, "y": 5, "width": 12, "height": 10, **same},
        {"score": 1.0, "x": 30, "y": 20, "width": 12, "height": 10, **same},
    ]


def test_templates_scaled_turned_and_several_at_once(files, capsys):
    """The template turned by 90 degrees, and twice as large; the other one as it is."""
    template = np.asarray(Image.open(files / "template.png"))
    scene = np.asarray(Image.open(files / "scene.png")).copy()
    scene[10:22, 38:48] = np.rot90(template)
    Image.fromarray(scene).save(files / "scene.png")
    Image.fromarray(scene[25:35, 2:14]).save(files / "other.png")
    options = [str(files / "other.png"), "--angles=0,90", "--scales=1,2", "--top=3", "--json"]
    assert match(files, *options, "--max-overlap=0", "--threshold=0.99") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(m["template"], m["angle"], m["scale"], m["x"], m["y"]) for m in found] == [
        (0, 0, 1, 8, 5),
        (0, 90, 1, 38, 10),
        (1, 0, 1, 2, 25),
    ]


def test_transparent_pixels_and_masks_do_not_count(files, capsys):
    template = np.asarray(Image.open(files / "template.png")).copy()
    mask = np.full(template.shape[:2], 255, dtype=np.uint8)
    mask[:4] = 0
    template[:4] = 77
    Image.fromarray(template).save(files / "template.png")
    Image.fromarray(mask).save(files / "mask.png")
    assert match(files, "--json", "--threshold=1") == 1
    assert match(files, "--json", "--threshold=1", "--mask", str(files / "mask.png")) == 0
    Image.fromarray(np.dstack([template, mask])).save(files / "template.png")
    assert match(files, "--json", "--threshold=1") == 0
    out = capsys.readouterr().out
    assert out.count('"x": 8') == 2


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0.8,1,1.25", [0.8, 1, 1.25]), ("-10:10:5", [-10, -5, 0, 5, 10]), ("3", [3])],
)
def test_lists_of_numbers(text, numbers):
    assert cli._numbers(text) == numbers


def test_no_match_exits_1(files, capsys):
    Image.new("RGB", (5, 5)).save(files / "template.png")
    assert match(files, "--threshold", "0.99") == 1
    assert capsys.readouterr().out == "no match\n"
    assert match(files, "--threshold", "0.99", "--json") == 1
    assert json.loads(capsys.readouterr().out) == []


def test_pictures(files):
    output, heatmap, figure = (files / f"{name}.png" for name in ("out", "heat", "figure"))
    options = ["--output", str(output), "--heatmap", str(heatmap), "--figure", str(figure)]
    assert match(files, *options, "--angles=0,30") == 0
    assert figure.stat().st_size > 5000
    with Image.open(output) as picture:
        assert picture.size == (50, 40)
        assert (np.asarray(picture.convert("RGB")) == (0, 255, 0)).all(2).any()
    with Image.open(heatmap) as picture:
        assert picture.size[0] == 700


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "l3"], "unknown metric 'l3'"),
        (["--backend", "gpu"], "unknown backend 'gpu'"),
        (["--backend", "fft"], "backend 'fft' can't compute 'l1'"),
        (["--stride", "0"], "`stride` must be at least 1"),
        (["--stride", "x"], "argument --stride: invalid int value: 'x'"),
        (["--angles", "x"], "argument --angles: invalid list of numbers value: 'x'"),
        (["--scales", "0"], "`scales` must be positive"),
        (["--max-overlap", "2"], "`max_overlap` must be between 0 and 1"),
        ([BADGE, "--mask", BADGE], "--mask goes with one template"),
        (["--top", "0"], "`k` must be at least 1"),
        (["--output", "nowhere/out.png"], "No such file or directory"),
        (["--output", "out.xyz"], "Format 'xyz' is not supported"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
    ],
)
def test_bad_options_exit_2_with_one_line(files, options, message, capsys):
    assert match(files, *options) == 2
    assert_one_line(capsys.readouterr().err, message)


def assert_one_line(text, message):
    assert text.startswith("patchsim: error: ")
    assert text.count("\n") == 1
    assert message in text


@pytest.mark.parametrize(
    ("scene", "template", "message"),
    [
        ("missing.png", BADGE, "No such file or directory"),
        (__file__, BADGE, "cannot identify image file"),
        (BADGE, SCENE, "no window fits: the template covers 512x512"),
    ],
)
def test_bad_files_exit_2_with_one_line(scene, template, message, capsys):
    assert cli.main(["match", scene, template]) == 2
    assert_one_line(capsys.readouterr().err, message)


def test_no_command(capsys):
    assert cli.main([]) == 2
    assert_one_line(capsys.readouterr().err, "required: COMMAND")


def test_a_missing_extra_is_named(files, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "patchsim.images")
    assert match(files) == 2
    assert_one_line(capsys.readouterr().err, "pip install 'patchsim[cli]'")


def test_bands_make_no_difference(monkeypatch):
    """A long run goes band by band, to show how far it is; the map is the same."""
    scene, badge = read_images(SCENE, BADGE)
    options = cli._parser().parse_args(["match", SCENE, BADGE, "--metric=l2", "--stride=3"])
    whole = cli._similarity(scene, badge, options)
    monkeypatch.setattr(cli, "LONG", 0)
    assert torch.equal(cli._similarity(scene, badge, options), whole)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_on_a_terminal_only(terminal, tmp_path):
    command = [sys.executable, "-c", "import sys; from patchsim import cli; cli.LONG = 0; "]
    command[-1] += "cli.DELAY = 0; sys.exit(cli.main(sys.argv[1:]))"
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    process = subprocess.run(
        [*command, "match", SCENE, BADGE, "--stride=4", "--heatmap", tmp_path / "map.png"],
        stdout=subprocess.DEVNULL,
        stderr=follower if terminal else subprocess.PIPE,
        check=False,
        timeout=100,
    )
    assert process.returncode == 0
    os.set_blocking(leader, False)
    shown = os.read(leader, 10_000) if terminal else process.stderr
    os.close(follower)
    os.close(leader)
    assert (b"row" in shown) == terminal


def test_variants_prints_the_matrix(capsys):
    assert cli.main(["variants"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    cells = [row.split() for row in rows[: len(METRICS)]]
    found = {
        f"{metric}_{backend}"
        for metric, *kinds in cells
        for backend, kind in zip(header.split(), kinds, strict=True)
        if kind != "-"
    }
    assert found == {str(variant) for variant in patchsim.variants()}
    assert all(row.startswith("- no ") for row in rows[len(METRICS) + 1 :])


def test_images_of_all_kinds(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    colour = np.stack([grey, grey + 1, grey + 2, grey + 3], 2)
    Image.fromarray(colour).save(tmp_path / "rgba.png")
    Image.fromarray(grey > 5).save(tmp_path / "mono.png")

    [plain] = read_images(tmp_path / "grey.png")
    assert torch.equal(plain, torch.from_numpy(grey)[None])
    plain, rgba, mono = read_images(*(tmp_path / f"{n}.png" for n in ("grey", "rgba", "mono")))
    assert torch.equal(plain, torch.from_numpy(grey).expand(3, 3, 4))
    assert torch.equal(rgba, torch.from_numpy(colour[..., :3]).permute(2, 0, 1))
    assert torch.equal(mono, torch.from_numpy((grey > 5) * np.uint8(255)).expand(3, 3, 4))
    plain, deep = read_images(tmp_path / "grey.png", tmp_path / "deep.png")
    torch.testing.assert_close(deep, plain)
    assert deep.dtype is torch.float32


AFTER_WARMUP = """
from itertools import product
from unittest import mock
import torch
import patchsim
from patchsim.search import pruning
from patchsim.kernels import jit
from patchsim import cli, warmup
assert cli.main(["warmup"]) == 0
generator = torch.Generator().manual_seed(0)
values = torch.randint(0, 200, (3, 200, 240), generator=generator)
# Small searches are direct; large ones take the processor's instructions, and tiled transforms.
cases = [(60, 9, 12, stride) for stride in (1, 2, 3)] + [(240, 48, 40, 1), (240, 20, 21, (2, 1))]
cases += [(240, 28, 28, 2), (240, 60, 58, (1, 2)), (240, 70, 71, (1, 3))]
ways = (True, False), (False, False), (False, True)
with mock.patch.object(jit, "compiled", side_effect=AssertionError("compiled")):
    for metric, dtype, case in product(patchsim.metrics.METRICS, warmup.DTYPES, cases):
        (size, h, w, stride), image = case, values.to(dtype)[..., : case[0]]
        options = {"k": 2, "stride": stride, "data_range": 255}
        if metric == "l4" and dtype is torch.int16:
            continue  # no backend holds its sums
        for blocks, weighted in ways:
            weight = torch.ones(h, w) if weighted else None
            with mock.patch.object(pruning, "promising", return_value=blocks):
                kernel = image[:, 4 : 4 + h, 5 : 5 + w]
                patchsim.find(image, kernel, metric, weight=weight, **options)
"""


@pytest.mark.deep
def test_no_search_compiles_anything_after_warmup():
    """In a process of its own, as others compile for all tests."""
    command = [sys.executable, "-c", AFTER_WARMUP]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    assert process.stdout == "every kernel is compiled\n"


def test_calibrate(monkeypatch, capsys):
    monkeypatch.setattr(calibration, "measure", lambda backend, dtype: (1000.0, 0.5))
    assert cli.main(["calibrate"]) == 0
    assert capsys.readouterr().out == f"wrote {rates.rates_path()}\n"
    assert rates.rates_path().exists()
