"""Rules for the whole project: linters, types, and the order of imports."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Container, Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.support import upstream
from tests.support.session import repository

PACKAGE = repository / "pmitogen"

# The packages from which a package may import: imports run downhill only. Code for targets (target and become) imports
# nothing else of pmitogen, except the part of the protocol that is sent to targets.
MAY_IMPORT = {
    "util": {"util"},
    "protocol": {"protocol", "util"},
    "flags": {"flags", "protocol", "util"},
    "target": {"target", "become", "protocol"},
    "become": {"become", "protocol"},
    "transport": {"transport", "flags", "util"},
    "hub": {"hub", "transport", "flags", "target", "become", "protocol", "util"},
    "ansible": {"ansible", "hub", "flags", "target", "become", "protocol", "util"},
    "api": {"api", "hub", "transport", "flags", "target", "become", "protocol", "util"},
    "aio": {"aio", "api", "hub", "transport", "protocol", "util"},
    "executors": {"executors", "api", "util"},
    "testing": {"testing", "cli", "api", "hub"},
    "cli": {"cli", "api", "hub", "transport", "flags", "ansible", "protocol", "util"},
}
# Permitted imports that close a circle of files: (file, imported file) -> the reason.
CIRCLES: dict[tuple[str, str], str] = {}
MAX_FILES = 22  # in one package
MAX_LINES = 400  # in one file
# Files above the limit; no further one may be added, and these must not grow.
LONGER = {
    "pmitogen/ansible/plugins/connection/pmitogen.py": 480,  # the documentation of options, which Ansible reads from this file
}


def _run(*args: str, timeout: float = 110) -> None:
    done = subprocess.run(args, cwd=repository, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
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
    """Yield the pmitogen modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "pmitogen")
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "pmitogen":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _runtime_imports(path: Path, modules: Container[str]) -> set[str]:
    """Return the *modules* that a file imports at run time, also in functions, except those for annotations only."""
    found, nodes = set(), [cast("ast.AST", ast.parse(path.read_text()))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "MYPY"):
            nodes += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = path.relative_to(repository).parts[: -node.level] if node.level else ()
            source = ".".join([*parents, *([node.module] if node.module else [])])
            members = {f"{source}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else source for name in members}
        nodes += ast.iter_child_nodes(node)
    return {name for name in found if name in modules}


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports by name are not checked: those of pmitogen/__init__.py and of the table of commands."""
    modules = {
        ".".join(path.relative_to(repository).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    imports = {name: _runtime_imports(path, modules) - {name} for name, path in modules.items()}
    for (name, imported), reason in CIRCLES.items():
        assert reason and imported in imports[name], f"{name} no longer imports {imported}: remove it from CIRCLES"
        imports[name].remove(imported)
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, which names the files


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_imports_run_downhill(package: str) -> None:
    wrong = []
    for path in sorted((PACKAGE / package).rglob("*.py")):
        for name in _imported(path):
            other = name.partition(".")[2].partition(".")[0]
            if other and (PACKAGE / other).is_dir() and other not in MAY_IMPORT[package]:
                wrong.append(f"{path.relative_to(repository)} imports {name}")
    assert not wrong


def test_code_for_targets_imports_only_the_framing_of_the_protocol() -> None:
    wrong = [
        f"{path.relative_to(repository)} imports {name}"
        for directory in ("target", "become")
        for path in sorted((PACKAGE / directory).rglob("*.py"))
        for name in _imported(path)
        if name.startswith("pmitogen.protocol") and not name.startswith("pmitogen.protocol.framing")
        if (path.name, name) != ("types.py", "pmitogen.protocol.escalation_plan.EscalationPlan")  # not sent to targets
    ]
    assert not wrong


def test_the_transport_imports_neither_mitogen_nor_ansible() -> None:
    """So it can be used as a separate library."""
    wrong = [
        f"{path.relative_to(repository)} imports {name}"
        for path in sorted((PACKAGE / "transport").rglob("*.py"))
        for name in _foreign_imports(path)
        if name in ("mitogen", "ansible")
    ]
    assert not wrong


def _foreign_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0]


def test_only_the_scheduler_uses_the_queue_and_timers_of_the_io_loop() -> None:
    """An exception in the loop would end every connection, so the scheduler runs all work under the guard of its owner."""
    wrong = [
        f"{path.relative_to(repository)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "scheduler.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and (
            node.attr == "timers"
            and isinstance(node.ctx, ast.Load)
            or node.attr == "defer"
            and "broker" in ast.unparse(node.value)
        )
    ]
    assert not wrong


def test_only_paramiko_ext_uses_paramikos_private_names() -> None:
    """Other code uses its public wrappers. The demo server, which is not part of the transport, has its own transport."""
    generic = {"_channels", "_closed", "_event", "_lock", "_log", "_send"}  # names that pmitogen's classes have as well
    private = {row.name for row in upstream.ROWS if row.owner.startswith("paramiko") and row.name.startswith("_")} - generic
    wrong = [
        f"{path.relative_to(repository)}:{node.lineno}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if "paramiko_ext" not in path.parts and path != PACKAGE / "cli/demo/server.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Attribute, ast.FunctionDef))
        and (name := node.attr if isinstance(node, ast.Attribute) else node.name) in private
    ]
    assert private and not wrong


def test_packages_and_files_stay_small() -> None:
    for directory in [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]:
        assert len(list(directory.glob("*.py"))) <= MAX_FILES, directory
    for path in PACKAGE.rglob("*.py"):
        name, lines = str(path.relative_to(repository)), len(path.read_text().splitlines())
        assert lines <= LONGER.get(name, MAX_LINES), f"{name} has {lines} lines"


def test_every_file_has_a_docstring() -> None:
    silent = [
        str(path.relative_to(repository))
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


# Docstrings begin with the action or the thing.
PLAIN_ENGLISH = sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__")
SUBORDINATE = re.compile(r"(Whether|What|How|Which|Who|Whoever|Whatever|Why|Where|When|Have|Had|Its|Their|They|To be)\b(?! to\b)")


@pytest.mark.parametrize("package", PLAIN_ENGLISH)
def test_docstrings_begin_with_a_verb_or_a_noun(package: str) -> None:
    wrong = [
        f"{path.relative_to(repository)}:{node.body[0].lineno}: {text.splitlines()[0]}"
        for path in sorted((PACKAGE / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if (text := ast.get_docstring(node) or "") and SUBORDINATE.match(text)
    ]
    assert not wrong


@pytest.mark.parametrize("package", PLAIN_ENGLISH)
def test_docstrings_of_functions_begin_with_a_verb(package: str) -> None:
    """Say "Return the size.", not "The size."; a property and a fixture are things."""
    wrong = [
        f"{path.relative_to(repository)}:{node.body[0].lineno}: {text.splitlines()[0]}"
        for path in sorted((PACKAGE / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if not {"property", "cached_property", "fixture"} & {ast.unparse(each).split(".")[-1] for each in node.decorator_list}
        if re.match(r"(The|A|An|All|Those|True|False)\b", text := ast.get_docstring(node) or "")
    ]
    assert not wrong
