"""Stricter settings than users', two depths, and the number of examples at the end of the run.

`make test` runs what isn't marked ``deep``, with the profile "quick"; `make test-all` runs all.
"""

import os
import re

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "dev", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
# CI repeats the same examples; `pytest --hypothesis-profile=long` searches for new ones.
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True)
settings.register_profile("quick", parent=settings.get_profile("ci"), max_examples=10)
settings.register_profile("long", parent=settings.get_profile("dev"), max_examples=2000)
settings.load_profile("ci" if os.environ.get("CI") else "dev")
torch.use_deterministic_algorithms(True)

_examples = pytest.StashKey[int]()


def pytest_configure(config):
    config.stash[_examples] = 0


def pytest_runtest_teardown(item):
    statistics = getattr(item, "hypothesis_statistics", "")
    found = re.findall(r"(\d+) passing", statistics)
    item.config.stash[_examples] += sum(map(int, found))


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["examples"] = session.config.stash[_examples]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    node.config.stash[_examples] += getattr(node, "workeroutput", {}).get("examples", 0)


def pytest_terminal_summary(terminalreporter, config):
    terminalreporter.write_line(f"{config.stash[_examples]} property examples ran")


@pytest.fixture(autouse=True)
def default_rates(monkeypatch, tmp_path):
    """Plan with the default rates, not with what was measured on this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
