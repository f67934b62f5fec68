"""Who may import whom: where × what × how never mix."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import patchsim

PACKAGE = Path(patchsim.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(path):
    """Names of patchsim's modules that a file imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] == "patchsim"}


def test_the_loop_stands_alone():
    assert imported(PACKAGE / "reference.py") == set()


def test_problems_know_neither_metrics_nor_backends():
    assert imported(PACKAGE / "problem.py") == set()


@pytest.mark.parametrize("path", sorted((PACKAGE / "metrics").glob("*.py")), ids=lambda p: p.name)
def test_metrics_know_only_metrics(path):
    assert all(name.startswith("patchsim.metrics") for name in imported(path))


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "backends").glob("[a-z]*.py")), ids=lambda p: p.name
)
def test_a_backend_knows_no_other_backend_and_no_planner(path):
    for name in imported(path):
        assert not re.match(r"patchsim\.(backends\.(?!base)|planner|api|search|tiling)", name)


@pytest.mark.parametrize("path", sorted((PACKAGE / "kernels").glob("*.py")), ids=lambda p: p.name)
def test_kernels_know_neither_calls_nor_backends(path):
    for name in imported(path) - {"patchsim"}:
        assert re.match(r"patchsim\.(kernels|metrics|once|problem)\b", name)


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.parent.name in ("sums", "backends")],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_sums_know_neither_calls_nor_searches(path):
    for name in imported(path):
        assert not re.match(r"patchsim\.(api|call|planner|search)\b", name)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_needs_the_tests_tools(path):
    assert "patchsim.testing" not in imported(path)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_importing_patchsim_imports_nothing_optional():
    script = (
        "import sys, patchsim; patchsim.variants();"
        "print([m for m in ('PIL', 'matplotlib', 'hypothesis') if m in sys.modules])"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "[]"


def test_a_new_metric_is_one_new_file(tmp_path):
    """Drop a file into metrics/ and its variants exist, without another change."""
    copy = tmp_path / "patchsim"
    for path in MODULES:
        target = copy / path.relative_to(PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (copy / "metrics" / "l6.py").write_text(
        "from patchsim.metrics.base import Metric\n"
        "METRIC = Metric('l6', lambda p, k: (p - k) ** 6, degree=6)\n",
        encoding="utf-8",
    )
    script = (
        "import torch, patchsim; from patchsim import l6_shift;"
        "print(l6_shift(torch.full((1, 2, 2), 0.5), torch.ones(1, 1, 1)).tolist())"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert process.stdout.strip() == "[[0.984375, 0.984375], [0.984375, 0.984375]]"


PAGE = (PACKAGE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")


def entered(call):
    """Files of the package whose functions a call enters, kernels' own apart."""
    found = set()

    def note(frame, event, argument):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            found.add(str(path.relative_to(PACKAGE.parent)))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found - {"patchsim/kernels/emit.py"}  # the name that kernels go by


def named(title):
    """Files that a section of the page names."""
    [section] = re.findall(rf"^## {title}\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`(patchsim/[\w/]+\.py)`", section))


def scene():
    image = torch.rand(3, 300, 400, generator=torch.Generator().manual_seed(0))
    return image, image[:, 40:72, 60:92].clone()


def test_the_route_of_a_map_is_the_pages():
    image, kernel = scene()
    patchsim.similarity(image, kernel, "l2")  # reads definitions, and compiles
    matcher = patchsim.Matcher(kernel, "l2")
    first = entered(lambda: matcher.similarity(image))
    assert first == named("The route of an l2 map")
    again = entered(lambda: matcher.similarity(image))
    assert len(again) <= 11


def test_the_route_of_a_search_is_the_pages():
    image, kernel = scene()
    generator = torch.Generator().manual_seed(1)
    noisy = kernel + 0.1 * torch.rand(3, 32, 32, generator=generator)
    files = set()
    for metric in ("l1", "zncc"):
        matcher = patchsim.Matcher(noisy, metric, angles=[0])
        matcher.find(image)
        files |= entered(lambda matcher=matcher: matcher.find(image, k=3))
    rooms = {f"patchsim/search/{name}.py" for name in ("parts", "bank", "pruning", "subpixel")}
    rooms |= {"patchsim/search/correlated_blocks.py"}  # which depend on the image
    own = {name for name in files if name.startswith("patchsim/search/")}
    assert own - rooms == {
        name
        for name in named("The route of a search")
        if name.startswith("patchsim/search/") and name not in rooms
    }
