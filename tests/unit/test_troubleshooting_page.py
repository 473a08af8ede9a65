"""docs/troubleshooting.md quotes existing messages, in alphabetical order."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.session import repository

PAGE = repository / "docs/troubleshooting.md"
LISTING = repository / "tests/unit/messages.txt"
HEADER = "| message | cause | what to do |"
FOREIGN = "(Ansible's)"  # ends the cell of a message that is not pmitogen's


def tables() -> Iterator[list[str]]:
    """Yield the first cells of each table of messages."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for index, line in enumerate(lines):
        if line == HEADER:
            cells = []
            for row in lines[index + 2 :]:
                if not row.startswith("|"):
                    break
                cells.append(row.split("|")[1].strip())
            yield cells


def quoted(cell: str) -> str:
    """Return the message in a cell."""
    found = re.match(r"`([^`]+)`", cell)
    assert found, f"{cell}: no message in backquotes"
    return found[1]


OWN = [quoted(cell) for cells in tables() for cell in cells if not cell.endswith(FOREIGN)]
MESSAGES = [line.partition(" | ")[2] for line in LISTING.read_text(encoding="utf-8").splitlines() if " | " in line]


@pytest.mark.parametrize("message", OWN)
def test_each_quoted_message_exists(message: str) -> None:
    pattern = re.compile(".*?".join(map(re.escape, message.split("..."))))
    assert any(pattern.search(text) for text in MESSAGES), "not in tests/unit/messages.txt"


def test_the_tables_are_alphabetical() -> None:
    assert len(OWN) > 40
    for cells in tables():
        keys = [re.sub(r"^\W+", "", quoted(cell)).casefold() for cell in cells]
        assert keys == sorted(keys)


def test_no_message_is_listed_twice() -> None:
    assert len(OWN) == len(set(OWN))
