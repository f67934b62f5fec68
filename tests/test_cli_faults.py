"""The command line under bad input: an exit status, a line at most, and no part of a file."""

import contextlib
import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import patchsim
from patchsim import cli

RANDOM = np.random.default_rng(0)
SCENE = RANDOM.integers(0, 256, (30, 40, 3), dtype=np.uint8)


@pytest.fixture
def files(tmp_path):
    """A scene, its template, and files of other kinds."""
    tmp_path = tmp_path / "files"  # others write beside it
    tmp_path.mkdir()
    Image.fromarray(SCENE).save(tmp_path / "scene.png")
    Image.fromarray(SCENE[5:13, 8:17]).save(tmp_path / "template.png")
    Image.fromarray(SCENE[5:13, 8:17, 0]).save(tmp_path / "grey.jpg")
    alpha = np.dstack([SCENE[5:13, 8:17], np.full((8, 9), 255, np.uint8)])
    alpha[:3, :, 3] = 0
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    Image.new("RGB", (50, 50)).save(tmp_path / "large.png")
    Image.new("L", (1, 1)).save(tmp_path / "dot.png")
    tifffile.imwrite(tmp_path / "deep.tif", SCENE[..., 0].astype(np.uint16) * 16)
    real = SCENE[..., 0].astype(np.float32)
    real[2, 3:9] = np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-42
    tifffile.imwrite(tmp_path / "real.tif", real)
    tifffile.imwrite(tmp_path / "stack.tif", SCENE.transpose(2, 0, 1), photometric="minisblack")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    return tmp_path


def match(files, *options, scene="scene.png", template="template.png"):
    return cli.main(["match", str(files / scene), str(files / template), *map(str, options)])


def one_line(capsys, message):
    """Assert that nothing but one line was printed, as an error."""
    out, err = capsys.readouterr()
    assert err.startswith("patchsim: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert out == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--angles=0:10:0"], "argument --angles: 0:10:0: takes finite numbers, and a STEP other"),
        (["--angles=0:inf:1"], "takes finite numbers"),
        (["--angles=nan:1:1"], "takes finite numbers"),
        (["--angles=10:0:1"], "10:0:1: STEP leads away from STOP"),
        (["--angles=0:1:1e-300"], "0:1:1e-300: lists more than 10000 numbers"),
        (["--scales=1:2:5e-324"], "lists more than 10000 numbers"),
        (["--scales=1:5000:1", "--angles=0:99:1"], "500000 templates, scaled and turned, are too"),
        (["--scales=1e6"], "covers 8000000x9000000 pixels and the image has 30x40"),
        (["--scales=1e308"], "no window fits"),
        (["--scales=nan"], "`scales` takes a number, got nan"),
        (["--scales=inf"], "`scales` must be positive and finite"),
        (["--scales="], "invalid list of numbers value"),
        (["--angles=1e999"], "`angles` must be finite"),
        (["--threshold=nan"], "`threshold` takes a number, got nan"),
        (["--max-overlap=nan"], "`max_overlap` takes a number, got nan"),
        (["--top=0"], "`k` must be at least 1, got 0"),
        (["--top=some"], "invalid number of matches value: 'some'"),
        (["--stride=-99999999999999999999"], "`stride` must be at least 1"),
        (["--data-range=0"], "--data-range must be positive and finite, got 0.0"),
        (["--data-range=nan"], "--data-range must be positive and finite, got nan"),
        (["--max-pixels=100"], "has 40x30 pixels, more than 100; --max-pixels"),
        (["--output=folder.png"], "Is a directory: "),
        (["--heatmap=missing/a.png"], "No such file or directory: "),
        (["--figure=a.xyz"], "Format 'xyz' is not supported; there are "),
        (["--mask=text.png"], "cannot identify image file"),
    ],
)
def test_bad_options(files, options, message, capsys, monkeypatch):
    monkeypatch.chdir(files)
    before = sorted(files.iterdir())
    assert match(files, *options) == 2
    one_line(capsys, message)
    assert sorted(files.iterdir()) == before


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("missing.png", "No such file or directory: "),
        ("folder.png", "Is a directory: "),
        ("text.png", "cannot identify image file "),
        ("empty.png", "cannot identify image file "),
        ("large.png", "no window fits: the template covers 50x50 pixels and the image has 30x40"),
        ("stack.tif", "holds 3 pages; choose one with --page"),
        ("deep.tif", "say what white is with --data-range"),
        ("nul\0.png", "embedded null byte"),
    ],
)
def test_bad_files(files, template, message, capsys):
    assert match(files, template=template) == 2
    one_line(capsys, message)


def test_large_strides_and_all_matches(files, capsys):
    assert (
        match(
            files,
            "--stride=99999999999999999999",
            "--top=all",
            "--json",
            f"--heatmap={files / 'a.png'}",
        )
        == 0
    )
    assert [(m["y"], m["x"]) for m in json.loads(capsys.readouterr().out)] == [(0, 0)]
    assert match(files, "--top=all", "--max-overlap=0", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    scene = torch.from_numpy(SCENE).permute(2, 0, 1)
    assert found == patchsim.find(scene, scene[:, 5:13, 8:17], k=None, max_overlap=0).to_dicts()
    assert len(found) > 3


def test_what_is_left_out_is_told_a_line_a_kind(files, capsys):
    scales = "--scales=" + ",".join(map(str, [0.01, 0.02, 1, *range(5, 90)]))
    assert match(files, scales, "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)[0]["scale"] == 1
    large, small = err.splitlines()
    assert large == (
        "patchsim: note: left out as larger than the scene of 30x40: template 0 at scale 5 and "
        "angle 0 (40x45), template 0 at scale 6 and angle 0 (48x54), template 0 at scale 7 and "
        "angle 0 (56x63) and 82 more"
    )
    assert "left out as too small: template 0 at scale 0.01 and angle 0 (0x0), " in small


def test_values_whose_white_is_guessed_are_told(files, capsys):
    assert match(files, scene="deep.tif", template="deep.tif") == 0
    assert "values are from 0 to 4080, so that differences count as parts of 4095" in (
        capsys.readouterr().err
    )
    assert match(files, "--data-range=4095", scene="deep.tif", template="deep.tif") == 0
    assert match(files, "--page=1", scene="stack.tif", template="stack.tif") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "not enough memory: use smaller images, or fewer"),
        (RuntimeError("can't allocate memory: you tried to allocate 9 bytes"), "not enough memory"),
        (RuntimeError("a\nb"), "unexpected RuntimeError: a b (PATCHSIM_TRACEBACK=1 shows where)"),
        (KeyError("x"), "unexpected KeyError: 'x' (PATCHSIM_TRACEBACK=1"),
        (ZeroDivisionError("by 0"), "unexpected ZeroDivisionError: by 0"),
        (RecursionError("deep"), "unexpected RecursionError"),
        (ValueError(), "unexpected ValueError"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    ],
)
def test_any_error_is_a_line(files, error, message, capsys, monkeypatch):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(patchsim, "find", fail)
    assert match(files) == 2
    one_line(capsys, message)
    monkeypatch.setenv("PATCHSIM_TRACEBACK", "1")
    with pytest.raises(type(error)):
        match(files)


def test_interrupted(files, capsys, monkeypatch):
    def fail(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(patchsim, "find", fail)
    assert match(files) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("option", ["--output", "--heatmap", "--figure"])
def test_a_full_disk_leaves_what_was_there(files, option, capsys):
    target = files / "picture.png"
    target.write_bytes(b"old")
    target.chmod(0o604)
    assert match(files, option, "/dev/full") == 2
    assert "can't write /dev/full: No space left on device" in capsys.readouterr().err
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = sorted(files.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        code = match(files, option, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2
    assert f"can't write {target}: File too large" in capsys.readouterr().err
    assert target.read_bytes() == b"old"
    assert sorted(files.iterdir()) == before
    link = files / "link.png"
    link.symlink_to(target)
    assert match(files, option, link) == 0
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o604
    with Image.open(target) as picture:
        picture.load()


@pytest.mark.parametrize("values", ["bytes", "real", "deep"])
def test_pictures_of_any_scene(values, files, capsys):
    """Of one pixel, and of values far outside 0 to 1, NaN and inf among them."""
    scene = {"bytes": "dot.png", "real": "real.tif", "deep": "deep.tif"}[values]
    options = [f"{option}={files / 'p.png'}" for option in ("--output", "--heatmap", "--figure")]
    assert match(files, *options, scene=scene, template=scene) in (0, 1)
    colours = np.dstack([SCENE[..., 0].astype(np.float32)] * 3) - 300
    tifffile.imwrite(files / "colours.tif", colours, photometric="rgb")
    assert match(files, *options, scene="colours.tif", template="colours.tif") == 0
    with Image.open(files / "p.png") as picture:
        picture.load()


@contextlib.contextmanager
def stdout_to(descriptor, monkeypatch):
    with open(descriptor, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        yield


def test_a_reader_that_has_gone_is_no_error(files, capsys, monkeypatch):
    """The exit status is that of the search, and pictures are written."""
    for options, code in (["--output", files / "a.png"], 0), (["--threshold=2"], 1):
        reader, writer = os.pipe()
        os.close(reader)
        with stdout_to(writer, monkeypatch):
            assert match(files, *options) == code
    assert (files / "a.png").exists()
    for arguments in (["variants"], ["--help"]):
        reader, writer = os.pipe()
        os.close(reader)
        with stdout_to(writer, monkeypatch), contextlib.suppress(SystemExit):
            assert cli.main(arguments) == 0
    assert capsys.readouterr().err == ""


def test_a_full_disk_behind_the_output(files, capsys, monkeypatch):
    with stdout_to(os.open("/dev/full", os.O_WRONLY), monkeypatch):
        assert match(files) == 2
    one_line(capsys, "can't write the output: No space left on device")


def test_no_output_at_all(files, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert match(files) == 0
    assert match(files, "--top=0") == 2


PIPE = f'"{Path(sys.executable).parent / "patchsim"}" match "$0" "$1" --top=all | head -c 0; '
PIPE += "echo ${PIPESTATUS[0]}"


def test_a_closed_pipe_is_quiet(files):
    command = ["bash", "-c", PIPE, files / "scene.png", files / "template.png"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert (found.stdout, found.stderr) == ("0\n", "")


SLOW = """
import sys
from pathlib import Path
import torch
import patchsim
from patchsim import cli, process
part = Path(sys.argv.pop())
def slow(*args, **options):
    part.write_bytes(b"half")
    process._unfinished.add(part)
    process.say("ready")
    torch.linalg.svdvals(torch.rand(4000, 4000))  # compiled code, for many seconds
patchsim.find = slow
sys.exit(cli.main())
"""


def test_interrupts_are_obeyed_at_once(files):
    part = files / "half"
    command = [
        sys.executable,
        "-c",
        SLOW,
        "match",
        files / "scene.png",
        files / "template.png",
        part,
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as running:
        assert running.stdout.readline() == "ready\n"
        start = time.monotonic()
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=100) == 130
        assert time.monotonic() - start < 2
        assert (running.stdout.read(), running.stderr.read()) == ("", "")
    assert not part.exists()


NUMBERS = ["0", "1", "2", "-1", "0.5", "1.5", "1e9", "-1e300", "nan", "inf", "x", "", "9" * 30]
LISTS = [*NUMBERS, "1,2", "0.5,,1", "0:90:30", "0:1:1e-9", "3:1:1", "a:b:c", "0.01,1", "1:2:3:4"]
OPTIONS = {
    "--metric": ["l1", "l2", "zncc", "hamming", "l3", ""],
    "--backend": ["auto", "unfold", "fft", "gpu"],
    "--stride": NUMBERS,
    "--top": [*NUMBERS, "all"],
    "--threshold": [*NUMBERS, "0.9", "2"],
    "--max-overlap": NUMBERS,
    "--scales": LISTS,
    "--angles": LISTS,
    "--page": NUMBERS,
    "--data-range": NUMBERS,
    "--max-pixels": NUMBERS,
    "--mask": ["template.png", "alpha.png", "scene.png", "text.png", "deep.tif", "none.png"],
    "--output": ["a.png", "a.jpg", "a.svg", "folder.png", "none/a.png", "a.x", "a"],
    "--heatmap": ["b.png", "b.pdf", "/dev/full", "folder.png"],
    "--figure": ["c.png", "", "."],
}
FLAGS = ["--json", "--subpixel", "--frobnicate", "--"]
INPUTS = ["scene.png", "template.png", "grey.jpg", "alpha.png", "large.png", "dot.png", "deep.tif",
    "real.tif", "stack.tif", "text.png", "empty.png", "folder.png", "none.png"]  # fmt: skip
PICTURES = {"a.png", "a.jpg", "a.svg", "a", "b.png", "b.pdf", "c.png"}


def garble(random, path):
    """Cut a file, or change some of its bytes."""
    data = bytearray(path.read_bytes())
    if data and random.random() < 0.4:
        data = data[: random.integers(len(data))]
    for _ in range(random.integers(6) if data else 0):
        data[random.integers(len(data))] = random.integers(256)
    path.write_bytes(data)


def test_random_command_lines(files, capsys, monkeypatch):
    """An exit status of 0, 1 or 2, a line if 2, and pictures whole or not at all."""
    monkeypatch.chdir(files)
    random = np.random.default_rng(0)
    originals = {path: path.read_bytes() for path in files.iterdir() if path.is_file()}
    codes = []
    for _ in range(RUNS):
        for path, data in originals.items():
            path.write_bytes(data)
        if random.random() < 0.5:
            garble(random, random.choice(list(originals)))
        # The first inputs and values are sane more often, so that searches run.
        scene, *templates = random.choice(INPUTS[: random.choice([4, 13])], random.integers(2, 4))
        if random.random() < 0.5:
            scene, templates = "scene.png", [random.choice(INPUTS[1:4]), "--threshold=0.9"]
        arguments = ["match", scene, *templates]
        for name in random.choice(list(OPTIONS), random.integers(4), replace=False):
            arguments.append(f"{name}={random.choice(OPTIONS[name])}")
        arguments += list(random.choice(FLAGS, random.integers(2)))
        code = cli.main(arguments)
        out, err = capsys.readouterr()
        assert code in (0, 1, 2), arguments
        assert "Traceback" not in err, arguments
        assert "unexpected" not in err, arguments
        errors = [line for line in err.splitlines() if not line.startswith("patchsim: note: ")]
        assert len(errors) == (code == 2), (arguments, err)
        assert all(line.startswith("patchsim: error: ") for line in errors)
        if code == 2:
            assert not out or "can't write" in err, arguments
        elif "--json" in arguments:
            assert bool(json.loads(out)) == (code == 0)
        codes.append(code)
        assert {path.name for path in files.iterdir() if path not in originals} <= {
            "folder.png",
            *PICTURES,
        }
        for name in ("a.png", "a.jpg", "a", "b.png", "c.png"):
            if (files / name).exists():
                with Image.open(name) as picture:
                    picture.load()
                (files / name).unlink()
    assert codes.count(0) > RUNS // 10
    assert codes.count(1) > 0


RUNS = 150
