"""Every file, test and page that docs and docstrings refer to exists."""

from __future__ import annotations

import ast
import builtins
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.definitions import defined_names
from tests.support.session import repository

PAGES = [*sorted(repository.glob("*.md")), *sorted((repository / "docs").glob("*.md"))]
MODULES = sorted((repository / "pmitogen").rglob("*.py"))
_NAMED = re.compile(r"`((?:tests|pmitogen|bench|tools|docs)/[\w./-]+\.(?:py|md|yml))(?:::(\w+))?`")
_SHORT = re.compile(r"`((?:[\w-]+/)+[\w-]+\.py)`")  # below pmitogen/
_NAME_IN_FILE = re.compile(r"`(\w+)`(?: and `(\w+)`)? (?:of|in) `((?:[\w-]+/)+[\w-]+\.py)`")
_LINKED = re.compile(r"\]\(([\w./-]+\.md)(?:#[\w-]+)?\)")
_ROLE = re.compile(r":(?:func|class|meth|attr|mod|data|exc):`~?([\w.]+)`")
_MENTIONED = re.compile(r"\b(?:see|in|of) ((?:\w+/)*\w+\.py)\b")


def _missing_in_page(page: Path) -> Iterator[str]:
    text = page.read_text()
    for name, test in _NAMED.findall(text):
        if not (repository / name).exists():
            yield f"{page.name}: {name}"
        elif test and test not in (repository / name).read_text():
            yield f"{page.name}: {name}::{test}"
    for name in _SHORT.findall(text):
        if not (repository / name).exists() and not (repository / "pmitogen" / name).exists():
            yield f"{page.name}: {name}"
    for name in _LINKED.findall(text):
        if not (page.parent / name).exists():
            yield f"{page.name}: {name}"


def test_pages_name_existing_files_and_tests() -> None:
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]
    assert not [missing for page in pages for missing in _missing_in_page(page)]


def test_pages_name_what_the_file_has() -> None:
    """The recipes of CONTRIBUTING.md say "`TABLE` of `protocol/answers.py`", which is wrong once the name moves."""
    wrong = []
    for page in PAGES:
        for *names, file in _NAME_IN_FILE.findall(page.read_text()):
            path = next((path for path in (repository / "pmitogen" / file, repository / file) if path.exists()), None)
            text = path.read_text() if path else ""
            wrong += [f"{page.name}: {name} of {file}" for name in names if not re.search(rf"\b{name}\b", text)]
    assert not wrong


def test_modules_name_existing_files() -> None:
    known = [
        str(path) for directory in ("pmitogen", "tests", "bench", "tools") for path in (repository / directory).rglob("*.py")
    ]
    missing = []
    for module in MODULES:
        for name in _MENTIONED.findall(module.read_text()):
            if not any(path.endswith(os.sep + name) for path in known):
                missing.append(f"{module.relative_to(repository)}: {name}")
    assert not missing


def _names_of(module: Path) -> set[str]:
    """Return the names that a module defines at any level, and the name of the module itself."""
    tree = ast.parse(module.read_text())
    if module.name != "__init__.py":
        return {module.stem, *defined_names(tree)}
    imported = {node.asname or node.name for node in ast.walk(tree) if isinstance(node, ast.alias)}
    return {module.parent.name, *imported, *defined_names(tree)}


def test_docstrings_name_existing_functions_and_classes() -> None:
    known = {name for module in MODULES for name in _names_of(module)} | {"pmitogen"}
    missing = [
        f"{module.relative_to(repository)}: {target}"
        for module in MODULES
        for target in _ROLE.findall(module.read_text())
        if target.partition(".")[0] not in sys.stdlib_module_names | set(dir(builtins)) | {"paramiko", "mitogen", "ansible"}
        and not known.issuperset(target.split("."))
    ]
    assert not missing
