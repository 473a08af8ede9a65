"""The lines of configuration files, cut and parsed once however many hosts ask, for a run of a thousand reads each that often.

Files are read anew each time, as they may have changed; what is kept is the work on a text that is still the same.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from typing import Any

from pmitogen.flags.ssh.keywords import ALIASES, TABLE, Row
from pmitogen.flags.ssh.lexer import BadWord, Words, read_line
from pmitogen.flags.ssh.openssh_version import Reading

_KEPT = 32  # texts
_texts: dict[bytes, list[Line]] = {}
_changing = threading.Lock()


@dataclasses.dataclass(eq=False, repr=False)
class Line:
    """One line that says something. *problem*: why it cannot be cut into words."""

    number: int  # from 1
    keyword: str
    rest: str
    args: list[str]
    problem: str | None
    row: Row | None
    _parsed: tuple[Reading, Any, str | None] | None = None

    def words(self) -> Words:
        """Its words, unread. Raises BadWord."""
        if self.problem is not None:
            raise BadWord(self.problem)
        return Words(self.keyword, self.rest, self.args)

    def value(self, row: Row, reading: Reading) -> Any:
        """Its value. Raises BadWord."""
        kept = self._parsed
        if kept is None or kept[0].program is not reading.program or (row.kind.uses_environ and kept[0] is not reading):
            kept = (reading, *parse_value(self.words(), row, reading))
            self._parsed = kept
        if kept[2] is not None:
            raise BadWord(kept[2])
        return kept[1]


def parse_value(words: Words, row: Row, reading: Reading) -> tuple[Any, str | None]:
    """The value of a line of keyword *row*, or what is wrong with it."""
    try:
        value = row.kind.parse(words, reading)
    except BadWord as problem:
        return None, f"{row.name}: {problem}"
    if words.left:
        return None, f"{row.name}: extra arguments at end of line: {words.consume()[0]!r}"
    return value, None


def cut(text: bytes) -> list[Line]:
    """The lines of a file; blank ones and comments are left out. Thread-safe."""
    lines = _texts.get(text)
    if lines is None:
        lines = [line for number, raw in enumerate(text.split(b"\n"), 1) if (line := _cut_one(number, os.fsdecode(raw)))]
        with _changing:
            while len(_texts) >= _KEPT:
                del _texts[next(iter(_texts))]
            _texts[text] = lines
    return lines


def _cut_one(number: int, text: str) -> Line | None:
    seen: list[str] = []
    try:
        words = read_line(text, seen.append)
    except BadWord as problem:
        return Line(number, seen[0] if seen else "", "", [], str(problem), None)
    if words is None:
        return None
    row = TABLE.get(ALIASES.get(words.keyword, words.keyword))
    return Line(number, words.keyword, words.rest, words.args, None, row)
