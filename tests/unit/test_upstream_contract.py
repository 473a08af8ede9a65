"""Undocumented names of other projects that pmitogen uses are in one table, and the supported releases have them."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pmitogen
from pmitogen.util.overrides import require_methods
from tests.support import session, upstream
from tests.support.ansible import installed_cores
from tests.support.definitions import defined_names
from tests.support.programs import find_python

PACKAGE = session.repository / "pmitogen"
SCRIPT = session.repository / "tests/support/upstream.py"
KNOWN = {row.name for row in upstream.ROWS}
OF_A_NAMED_TUPLE = {"_replace", "_asdict", "_fields"}  # documented, for all their names
CORES = installed_cores()


def _check(python: str, *libraries: str) -> list[str]:
    """Return the rows that do not hold in the environment of *python*."""
    args = [python, "-I", str(SCRIPT), *libraries]
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_installed_libraries_have_every_name() -> None:
    assert not _check(sys.executable)


@pytest.mark.needs_ansible
@pytest.mark.parametrize("core", CORES)
def test_every_core_has_every_name(core: str) -> None:
    assert not _check(str(CORES[core]), "ansible")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("newest", [False, True], ids=["oldest", "newest"])
def test_the_oldest_and_newest_releases_have_every_name(newest: bool, tmp_path: Path) -> None:
    """The oldest releases that pyproject.toml allows, and the newest available ones."""
    text = (session.repository / "pyproject.toml").read_text()
    ranges = re.findall(r'"((?:paramiko|mitogen)>=[^"]+)"', text)
    assert len(ranges) == 2
    wanted = ranges if newest else [each.partition(",")[0].replace(">=", "==") for each in ranges]
    python = tmp_path / "venv/bin/python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--upgrade"]
    done = subprocess.run([*pip, *wanted], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot be installed: {done.stderr[-200:]}")
    assert not _check(str(python), "paramiko", "mitogen")
    code = "import pmitogen.transport.connect, pmitogen.hub.mitogen_router, pmitogen.hub.mitogen_stream"
    env = {"PYTHONPATH": str(session.repository), "PATH": "/usr/bin:/bin"}
    subprocess.run([str(python), "-W", "error", "-c", code], check=True, env=env)


def _modules() -> Iterator[types.ModuleType]:
    """Yield pmitogen's modules that run on the controller."""
    for found in pkgutil.walk_packages(pmitogen.__path__, "pmitogen."):
        if not found.name.startswith(("pmitogen.target", "pmitogen.become", "pmitogen.__main__", "pmitogen.ansible")):
            yield importlib.import_module(found.name)


def _classes() -> Iterator[type]:
    seen = set()
    for module in _modules():
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__.startswith("pmitogen.") and value not in seen:
                seen.add(value)
                yield value


def _foreign(cls: type) -> Iterator[type]:
    """Yield the base classes of a class that belong to a library; for a mixin, those of the class that uses it."""
    for other in {cls, *(user for user in _classes() if cls in user.__mro__)}:
        yield from (base for base in other.__mro__ if base.__module__.partition(".")[0] in upstream.DISTRIBUTIONS)


def test_every_override_is_in_the_table() -> None:
    missing = [
        f"{cls.__module__}.{cls.__qualname__}.{name} overrides {base.__module__}.{base.__qualname__}'s"
        for cls in _classes()
        for base in set(_foreign(cls))
        for name in vars(cls).keys() & vars(base).keys()
        if name.startswith("_") and not name.startswith(("__", "_abc_", "_is_protocol")) and name not in KNOWN
    ]
    assert not missing


def _standard_bases(cls: type) -> Iterator[type]:
    """Yield the base classes of the standard library that are written in Python: those of C have no private attributes."""
    standard = {name for name in sys.stdlib_module_names if not name.startswith("_")} - {"builtins", "typing", "abc", "enum"}
    yield from (base for base in cls.__mro__ if base.__module__.partition(".")[0] in standard)


# Private names of a class: its attributes, and those that its methods use.
NAMES_OF_BASES = """
import importlib, json, sys
found = {}
for path in sys.argv[1:]:
    module, _, name = path.rpartition(".")
    base = getattr(importlib.import_module(module), name)
    names = set(vars(base))
    for value in vars(base).values():
        code = getattr(value, "__code__", None)
        names.update(code.co_names if code else ())
    found[path] = sorted(n for n in names if n.startswith("_") and not n.startswith(("__", "_abc_")))
print(json.dumps(found))
"""


def _private_names(cls: type) -> set[str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    return {name for name in defined_names(tree) if name.startswith("_") and not name.startswith("__") and name != "_"}


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_no_class_uses_a_private_name_of_a_standard_class(version: str) -> None:
    """Another Python's ``threading.Thread`` may have an attribute of the name that a subclass here has for a method."""
    python = find_python(version)
    if not python:
        pytest.skip(f"no Python {version}")
    classes = [(cls, base) for cls in _classes() for base in _standard_bases(cls)]
    paths = sorted({f"{base.__module__}.{base.__qualname__}" for _cls, base in classes})
    done = subprocess.run([python, "-I", "-c", NAMES_OF_BASES, *paths], capture_output=True, text=True, timeout=60, check=True)
    theirs: dict[str, list[str]] = json.loads(done.stdout)
    assert "_started" in theirs["threading.Thread"]
    assert not {
        f"{ours.__qualname__}.{name} is {path}'s"
        for cls, base in classes
        for path in [f"{base.__module__}.{base.__qualname__}"]
        for ours in cls.__mro__
        if ours.__module__.startswith("pmitogen.")
        for name in _private_names(ours).intersection(theirs[path])
    }


def _own_names() -> set[str]:
    """Return every name that pmitogen defines or assigns; private ones are its own, unless the table lists them."""
    return {name for path in PACKAGE.rglob("*.py") for name in defined_names(ast.parse(path.read_text()))}


def _private(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield private attributes in use, and imported private names, with their lines."""
    for node in ast.walk(tree):
        args = node.args if isinstance(node, ast.Call) else []
        texts = [word.value for word in args if isinstance(word, ast.Constant)]
        if isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("pmitogen"):
            yield from ((node.lineno, alias.name) for alias in node.names)
            yield from ((node.lineno, part) for part in (node.module or "").split("."))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            yield from ((node.lineno, text) for text in texts if isinstance(text, str))


def test_every_private_name_in_use_is_in_the_table() -> None:
    known = KNOWN | OF_A_NAMED_TUPLE | {part for row in upstream.ROWS for part in re.split(r"[.:]", row.owner)}
    ours = _own_names()
    missing = [
        f"{path.relative_to(session.repository)}:{line}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, name in _private(ast.parse(path.read_text()))
        if name.startswith("_") and not name.startswith("__") and name not in known and name not in ours
    ]
    assert not missing


def test_each_file_in_the_table_uses_the_name() -> None:
    idle = []
    for row in upstream.ROWS:
        for name in row.used_in.split(" and ")[0].split(", "):
            directory = row.used_in.rpartition("/")[0]
            path = PACKAGE / (name if "/" in name else f"{directory}/{name}")
            if not re.search(rf"\b{re.escape(row.name)}\b", path.read_text()):
                idle.append(f"{row}: {path}")
    assert not idle


class _Base:
    def check(self, key: bytes, signature: bytes, *, strict: bool = False) -> None: ...


@pytest.mark.parametrize("signature", ["verify(self, key)", "check(self, key)", "check(self, key, sig, strict)", "__doc__(self)"])
def test_an_override_of_a_removed_or_changed_method_fails_on_import(signature: str) -> None:
    require_methods(_Base, "check(self, key, signature, strict)")
    with pytest.raises(ImportError, match=r"_Base\..*install a release that pmitogen supports"):
        require_methods(_Base, signature)


@pytest.mark.parametrize(
    ("library", "name", "module"),
    [
        ("paramiko.Transport", "_verify_key", "pmitogen.transport.paramiko_ext.transport"),
        ("paramiko.packet.Packetizer", "read_message", "pmitogen.transport.paramiko_ext.packets.packetizer"),
        ("mitogen.core.Router", "_async_route", "pmitogen.hub.mitogen_router"),
    ],
)
def test_a_library_without_a_required_protection_is_refused(library: str, name: str, module: str) -> None:
    code = f"import {library.rpartition('.')[0]} as it\ndel it.{library.rpartition('.')[2]}.{name}\nimport {module}"
    args: list[Any] = [sys.executable, "-c", code]
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, cwd=session.repository)
    assert done.returncode == 1 and f"has no method {name}" in done.stderr.splitlines()[-1], done.stderr


def test_a_row_that_does_not_hold_is_named() -> None:
    row = upstream.Row("mitogen.core:Router", "_async_route", "(self, message)", "hub/mitogen_router.py", "routing")
    assert upstream._problem(row) == "has (self, msg, in_stream)"
    assert upstream._problem(upstream.Row("mitogen.core:Router", "_gone", upstream.ATTRIBUTE, "", "")) == "no such attribute"
