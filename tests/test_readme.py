"""Every code block of the pages runs; their tables are those of the code."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

import patchsim
from patchsim import cli, planner
from patchsim.backends import BACKENDS
from patchsim.metrics import METRICS

ROOT = Path(__file__).parents[1]
PAGES = {
    name: (ROOT / f"{name}.md").read_text(encoding="utf-8")
    for name in ("README", "ARCHITECTURE", "CONTRIBUTING")
}


def blocks(page, language):
    found = re.findall(r"```(\w+)\n(.*?)```", PAGES[page], re.DOTALL)
    return [text for kind, text in found if kind == language]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_kind_that_is_run(page):
    kinds = re.findall(r"```(\w+)\n.*?```", PAGES[page], re.DOTALL)
    assert set(kinds) <= {"sh", "python", "bibtex", "text"}
    assert PAGES[page].count("```") == 2 * len(kinds)


def test_the_first_page_is_short():
    assert len(PAGES["README"].splitlines()) < 150


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks(page, monkeypatch, capsys):
    monkeypatch.setattr(patchsim.options, "max_memory", patchsim.options.max_memory)
    namespace = {}
    with mock.patch.dict(METRICS), mock.patch.dict(BACKENDS):  # some are registered
        for text in blocks(page, "python"):
            exec(compile(text, f"{page}.md", "exec"), namespace)
    planner.forget()
    if page == "README":
        assert "Match(score=1.0, y=40, x=60" in capsys.readouterr().out


LINES = [line for page in PAGES for text in blocks(page, "sh") for line in text.splitlines()]


@pytest.mark.parametrize("line", LINES)
def test_shell_blocks(line):
    program, *arguments = shlex.split(line)
    if program == "make":
        # A dry run: `make test` would run this test.
        command = [shutil.which("make"), "--dry-run", *arguments]
    elif program == "python":
        command = [sys.executable, arguments[0], "--maps", "4", "--searches", "2"]
    else:
        command = [str(Path(sys.executable).parent / program), *arguments]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout


def test_the_citation_names_this_version():
    [text] = blocks("README", "bibtex")
    assert f"version = {{{patchsim.__version__}}}" in text


def test_the_matrix_is_what_the_command_prints(capsys):
    assert cli.main(["variants"]) == 0
    [matrix] = blocks("ARCHITECTURE", "text")
    assert matrix.strip() == capsys.readouterr().out.strip()


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page):
    for name in re.findall(r"`((?:patchsim|tests|experiments|proofs)/[\w/.-]*)`", PAGES[page]):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"\]\(([^)#:]+)\)", PAGES[page]):
        assert (ROOT / name).exists(), name
