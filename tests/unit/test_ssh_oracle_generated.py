"""Generated configurations and command lines of ssh compared with the installed ``ssh -G``.

``PMITOGEN_FUZZ_SECONDS`` is the duration of the search; the default is a few seconds.
"""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings

from tests.support import ssh_oracle
from tests.support.ssh_strategies import ASKS, CONFIGS, KNOWN_TO_DIFFER, mutated

SECONDS = float(os.environ.get("PMITOGEN_FUZZ_SECONDS", "4"))

searching = settings(
    max_examples=int(SECONDS * 30),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ssh_oracle.need_ssh()
    return tmp_path_factory.mktemp("oracle") / "config"


@pytest.fixture(scope="module")
def until() -> float:
    return time.monotonic() + SECONDS


def _same(path: Path, text: str, ask: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    try:
        argv = ["-F", str(path), *shlex.split(ask)]
    except ValueError:
        argv = ["-F", str(path), *ask.split()]
    what = ssh_oracle.difference(argv, str(path))
    assert what is None, f"{what}\n{ask}\n{text}"


@pytest.mark.timeout(SECONDS * 3 + 120)
@searching
@given(text=CONFIGS, ask=ASKS)
def test_generated_configurations_are_read_as_by_ssh(path: Path, until: float, text: str, ask: str) -> None:
    if time.monotonic() < until:
        assume(not KNOWN_TO_DIFFER.search(text))
        _same(path, text, ask)


@pytest.mark.timeout(SECONDS * 3 + 120)
@searching
@given(text=mutated(CONFIGS), ask=ASKS)
def test_mutated_configurations_are_read_as_by_ssh(path: Path, until: float, text: str, ask: str) -> None:
    if time.monotonic() < until + SECONDS:
        assume(not KNOWN_TO_DIFFER.search(text) and not any("\ud800" <= char <= "\udfff" for char in text))
        _same(path, text, ask)
