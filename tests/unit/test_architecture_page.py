"""docs/architecture.md lists every state, every thread and every lock of the code."""

from __future__ import annotations

import re

from pmitogen.hub.host.states import TRANSITIONS
from tests.support.session import repository

PAGE = (repository / "docs" / "architecture.md").read_text()
MODULES = sorted((repository / "pmitogen").rglob("*.py"))
_STARTED = re.compile(r"(?:threads\.start|WorkerThreads)\((?:[^()]|\([^()]*\))*?f?\"([^\"]+)\"", re.S)
_CONSTRUCTED = re.compile(r"threading\.Thread\((?:[^()]|\([^()]*\))*\)")
_LOCK = re.compile(r"(\w+) = threading\.(?:Lock|RLock|Condition)\(\)")


def _section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_states_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", _section("States of a host"), re.M)[1:]
    table = [(state.value, event.value, after.value) for state, row in TRANSITIONS.items() for event, after in row.items()]
    assert rows == table


def test_every_kind_of_thread_has_a_row() -> None:
    rows = _section("Threads").splitlines()
    missing = []
    for path in MODULES:
        name = str(path.relative_to(repository))
        for thread in _STARTED.findall(path.read_text()):
            text = thread.partition("{")[0].strip()
            if not any(f"`{text}" in row.replace("pmitogen HOST", "pmitogen") and name in row for row in rows):
                missing.append(f"{name}: {thread}")
    assert not missing


def test_every_thread_has_a_name_and_a_row() -> None:
    """Threads that util/threads.py does not start."""
    rows = _section("Threads")
    started = [call for path in MODULES if path.name != "threads.py" for call in _CONSTRUCTED.findall(path.read_text())]
    names = [re.search(r'name="([^"]+)"', call) for call in started]
    assert started and all(name is not None and f"`{name[1]}`" in rows for name in names)


def test_every_lock_has_a_row() -> None:
    rows = _section("Locks").splitlines()
    missing = []
    for path in MODULES:
        name = str(path.relative_to(repository))
        for lock in _LOCK.findall(path.read_text()):
            if lock != "lock" and not any(name in row and f"`{lock}`" in row for row in rows):
                missing.append(f"{name}: {lock}")
    assert not missing
