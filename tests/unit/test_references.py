"""Every file, test and page that docs and docstrings refer to exists."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.session import repository

PAGES = [*sorted(repository.glob("*.md")), *sorted((repository / "docs").glob("*.md"))]
MODULES = sorted((repository / "pmitogen").rglob("*.py"))
_NAMED = re.compile(r"`((?:tests|pmitogen|bench|tools|docs)/[\w./-]+\.(?:py|md|yml))(?:::(\w+))?`")
_LINKED = re.compile(r"\]\(([\w./-]+\.md)(?:#[\w-]+)?\)")
_MENTIONED = re.compile(r"\b(?:see|in|of) ((?:\w+/)*\w+\.py)\b")


def _missing_in_page(page: Path) -> Iterator[str]:
    text = page.read_text()
    for name, test in _NAMED.findall(text):
        if not (repository / name).exists():
            yield f"{page.name}: {name}"
        elif test and test not in (repository / name).read_text():
            yield f"{page.name}: {name}::{test}"
    for name in _LINKED.findall(text):
        if not (page.parent / name).exists():
            yield f"{page.name}: {name}"


def test_pages_name_what_exists() -> None:
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]
    assert not [missing for page in pages for missing in _missing_in_page(page)]


def test_modules_mention_files_that_exist() -> None:
    known = [str(path) for folder in ("pmitogen", "tests", "bench", "tools") for path in (repository / folder).rglob("*.py")]
    missing = []
    for module in MODULES:
        for name in _MENTIONED.findall(module.read_text()):
            if not any(path.endswith(os.sep + name) for path in known):
                missing.append(f"{module.relative_to(repository)}: {name}")
    assert not missing
