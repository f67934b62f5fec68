"""Code, proofs and proofs/README.md name the same theorems. Do they hold? `make proofs` says."""

import inspect
import re
from pathlib import Path

import pytest

import patchsim
from patchsim.backends import BACKENDS

PACKAGE = Path(patchsim.__file__).parent
ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "proofs").glob("*.v"))
README = (ROOT / "proofs" / "README.md").read_text(encoding="utf-8")
MODULES = sorted(PACKAGE.rglob("*.py"))


def named(kind):
    """Names of all theorems, or lemmas, and the files that have them."""
    pattern = rf"^(?:{kind}) (\w+)"
    return {
        name: path.name
        for path in SOURCES
        for name in re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    }


THEOREMS = named("Theorem")


def marks(text):
    """Names in marks such as (Coq: ``l2_expansion``)."""
    return re.findall(r"``(\w+)``", " ".join(re.findall(r"\(Coq:[^)]*\)", text)))


def entries(label):
    """What the items of that label list, as the README writes it."""
    return re.findall(rf"^- {label}: ((?:.+\n)(?:  .+\n)*)", README, re.MULTILINE)


def test_theorems_have_one_name_each():
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    assert len(THEOREMS) == len(re.findall(r"^Theorem ", text, re.MULTILINE)) > 0


def test_the_page_names_every_theorem_and_its_file():
    found = {}
    for entry in entries("Coq"):
        for names, file in re.findall(r"((?:`\w+`,?\s+)+)\(`(\w+\.v)`\)", entry):
            found.update(dict.fromkeys(re.findall(r"`(\w+)`", names), file))
    assert found == THEOREMS


def test_every_entry_names_code_and_tests():
    assert len(entries("Coq")) == len(entries("Code")) == len(entries("Test"))


def test_the_page_names_code_that_exists():
    for file, name in re.findall(r"`(patchsim/[\w/]+\.py)(?:: (\w+))?`", README):
        text = (ROOT / file).read_text(encoding="utf-8")
        defined = rf"^ *(?:def|class) {name}\b|^{name}\b.* =" if name else ""
        assert re.search(defined, text, re.MULTILINE), f"{file}: {name}"


def test_the_page_names_tests_that_exist():
    references = re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", README)
    assert len(references) > len(entries("Test"))
    for file, name in references:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8") or not name, name


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_name_in_the_code_dangles(path):
    known, text = THEOREMS | named("Lemma"), path.read_text(encoding="utf-8")
    assert text.count("Coq:") == len(re.findall(r"\(Coq:[^)]*``\w+``[^)]*\)", text))
    assert set(marks(text)) <= set(known)


@pytest.mark.parametrize("path", sorted((PACKAGE / "metrics").glob("*.py")), ids=lambda p: p.name)
def test_every_expansion_names_its_theorem(path):
    text = path.read_text(encoding="utf-8")
    if re.search(r"\bExpansion\.of\b|\b(?:expansion|terms)=", text):
        assert marks(text)


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
def test_every_error_bound_names_its_theorem(backend):
    assert marks(Path(inspect.getfile(backend.error)).read_text(encoding="utf-8"))
