"""Every code block of the README runs; its table and figures are those of the code."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import patchsim
from patchsim import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def blocks(language):
    return [text for kind, text in BLOCKS if kind == language]


def test_every_block_is_of_a_kind_that_is_run():
    assert {kind for kind, _ in BLOCKS} == {"sh", "python", "bibtex", "text"}
    assert README.count("```") == 2 * len(BLOCKS)


def test_python_blocks(monkeypatch, capsys):
    monkeypatch.setattr(patchsim.options, "max_memory", patchsim.options.max_memory)
    namespace = {}
    for text in blocks("python"):
        exec(compile(text, "README.md", "exec"), namespace)
    assert "Match(score=1.0, y=40, x=60" in capsys.readouterr().out


@pytest.mark.parametrize("line", [line for text in blocks("sh") for line in text.splitlines()])
def test_shell_blocks(line):
    program, *arguments = shlex.split(line)
    if program == "make":
        # A dry run: `make test` would run this test.
        command = [shutil.which("make"), "--dry-run", *arguments]
    else:
        command = [str(Path(sys.executable).parent / program), *arguments]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout


def test_the_citation_names_this_version():
    [text] = blocks("bibtex")
    assert f"version = {{{patchsim.__version__}}}" in text


def test_the_matrix_is_what_the_command_prints(capsys):
    assert cli.main(["variants"]) == 0
    [matrix] = blocks("text")
    assert matrix.strip() == capsys.readouterr().out.strip()
