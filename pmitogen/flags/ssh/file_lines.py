"""Cache of parsed configuration files and ``-o`` options: a run on a thousand hosts reads each of them a thousand times.

The file itself is read each time because it may have changed; the same text is parsed once.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
from typing import Any

from pmitogen.flags.ssh.keywords import ALIASES, TABLE, Keyword
from pmitogen.flags.ssh.lexer import DEFAULT_FORM, Arguments, ConfigValueError, MissingArgument, read_line
from pmitogen.flags.ssh.openssh_version import ValueContext
from pmitogen.util.patterns import ascii_lower

_MAX_TEXTS = 32  # texts
_MAX_OPTIONS = 256  # options
_OPTION_FORM = "-o {}=VALUE"
_texts: dict[bytes, list[Line]] = {}
_changing = threading.Lock()


@dataclasses.dataclass(eq=False, repr=False)
class Line:
    """One line that is neither blank nor a comment. *problem*: the reason why it cannot be split."""

    number: int  # from 1
    keyword: str
    rest: str
    args: list[str]
    problem: str | None
    row: Keyword | None
    written: str  # the keyword in the user's spelling
    bare: str = ""  # the keyword, if nothing follows it
    _parsed: tuple[ValueContext, Any, str | None] | None = None

    def check(self) -> None:
        """Raise ConfigValueError if the line cannot be split."""
        if self.bare:
            raise MissingArgument(self.problem or "", self.bare)
        if self.problem is not None:
            raise ConfigValueError(self.problem)

    def arguments(self) -> Arguments:
        """Return its arguments with the cursor at the start. Raises ConfigValueError."""
        self.check()
        return Arguments(self.keyword, self.rest, self.args)

    def value(self, row: Keyword, context: ValueContext) -> Any:
        """Return its value. Raises ConfigValueError."""
        parsed = self._parsed
        if (
            parsed is None
            or parsed[0].program is not context.program
            or (row.value_type.uses_environ and parsed[0] is not context)
        ):
            parsed = (context, *parse_value(self.arguments(), row, context))
            self._parsed = parsed
        if parsed[2] is not None:
            raise ConfigValueError(parsed[2])
        return parsed[1]


def parse_value(arguments: Arguments, row: Keyword, context: ValueContext) -> tuple[Any, str | None]:
    """Return the value of a line of keyword *row*, or the error in it."""
    try:
        value = row.value_type.parse(arguments, context)
    except ConfigValueError as problem:
        return None, f"{row.name}: {problem}"
    if arguments.left:
        return None, f"{row.name}: extra arguments at end of line: {arguments.take_rest()[0]!r}"
    return value, None


def parse_lines(text: bytes) -> list[Line]:
    """Split a file into lines without blank ones and comments. Thread-safe."""
    lines = _texts.get(text)
    if lines is None:
        lines = [line for index, raw in enumerate(text.split(b"\n"), 1) if (line := _parse_line(index, os.fsdecode(raw)))]
        with _changing:
            while len(_texts) >= _MAX_TEXTS:
                del _texts[next(iter(_texts))]
            _texts[text] = lines
    return lines


@functools.lru_cache(_MAX_OPTIONS)
def parse_option(text: str) -> Line | None:
    """Split the text of a ``-o`` option; None if it is blank. Thread-safe."""
    return _parse_line(0, text, _OPTION_FORM)


def _parse_line(line_number: int, text: str, form: str = DEFAULT_FORM) -> Line | None:
    seen: list[str] = []
    try:
        arguments = read_line(text, seen.append, form)
    except ConfigValueError as problem:
        bare = problem.keyword if isinstance(problem, MissingArgument) else ""
        return Line(line_number, ascii_lower(seen[0]) if seen else "", "", [], str(problem), None, seen[0] if seen else "", bare)
    if arguments is None:
        return None
    row = TABLE.get(ALIASES.get(arguments.keyword, arguments.keyword))
    return Line(line_number, arguments.keyword, arguments.rest, arguments.args, None, row, seen[0])
