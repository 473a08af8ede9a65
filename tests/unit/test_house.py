"""Rules that hold for the whole project: linters, types, what the wheel holds, which room may import which."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.session import repository

PACKAGE = repository / "pmitogen"

# Which rooms a room may import from; what travels to targets (target and become) imports nothing else of ours.
MAY_IMPORT = {
    "util": {"util"},
    "flags": {"flags", "util"},
    "target": {"target", "become"},
    "become": {"become"},
    "protocol": {"protocol", "util"},
    "transport": {"transport", "flags", "protocol", "target", "util"},
    "hub": {"hub", "transport", "flags", "protocol", "target", "become", "util"},
}


def _run(*words: str, timeout: float = 110) -> None:
    done = subprocess.run(words, cwd=repository, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    pytest.importorskip("ruff")
    _run(sys.executable, "-m", "ruff", "check", "-q", ".")
    _run(sys.executable, "-m", "ruff", "format", "-q", "--check", ".")


@pytest.mark.timeout(300)
def test_mypy_finds_nothing() -> None:
    pytest.importorskip("mypy")
    _run(sys.executable, "-m", "mypy", timeout=280)


def _imported(path: Path) -> Iterator[str]:
    """The pmitogen modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "pmitogen")
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "pmitogen":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_imports_run_downhill(room: str) -> None:
    wrong = []
    for path in sorted((PACKAGE / room).rglob("*.py")):
        for name in _imported(path):
            other = name.split(".")[1]
            if (PACKAGE / other).is_dir() and other not in MAY_IMPORT[room]:
                wrong.append(f"{path.relative_to(repository)} imports {name}")
    assert not wrong


def test_every_code_file_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(repository))
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_the_wheel_holds_every_module_and_the_plugin(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--disable-pip-version-check", "-w", str(tmp_path)]
    source = tmp_path / "source"  # a copy, for setuptools builds in place
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=repository, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if (repository / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((repository / name).read_bytes())
    _run(*pip, str(source))
    (wheel,) = tmp_path.glob("pmitogen-*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("pmitogen/")}
    modules = {str(path.relative_to(repository)) for path in PACKAGE.rglob("*.py")}
    assert modules <= held
    assert "pmitogen/ansible/plugins/connection/pmitogen.py" in held and "pmitogen/py.typed" in held
