"""Escape sequences of an interactive session, such as ``~.`` at the start of a line. No I/O.

Source: process_escapes() in clientloop.c of OpenSSH 10.5.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

HELP = """\
Supported escape sequences:
 {0}.   - terminate session
 {0}B   - send a BREAK to the remote system
 {0}^Z  - suspend pmitogen ssh
 {0}?   - this message
 {0}{0}   - send the escape character by typing it twice
(Note that escapes are only recognized immediately after newline.)
"""


class Escape(enum.Enum):
    """The action of an escape sequence."""

    TERMINATE = "."
    BREAK = "B"
    SUSPEND = "\x1a"
    HELP = "?"


class EscapeReader:
    """Parser that separates escape sequences from typed input. One thread."""

    def __init__(self, character: str) -> None:
        self._character = character.encode("latin-1")
        self._at_line_start = True
        self._pending = False  # the last character was the escape character, at the start of a line

    def feed(self, data: bytes) -> Iterator[bytes | Escape]:
        """Split typed *data* into text for the session and escapes, in order."""
        text = bytearray()
        for code in data:
            character = bytes((code,))
            if self._pending:
                self._pending = False
                escape = _ESCAPES.get(character)
                if escape is not None:
                    if text:
                        yield bytes(text)
                        text.clear()
                    yield escape
                    self._at_line_start = True
                    continue
                if character != self._character:
                    text += self._character
            elif self._at_line_start and character == self._character:
                self._pending = True
                continue
            text += character
            self._at_line_start = character in b"\r\n"
        if text:
            yield bytes(text)


_ESCAPES = {escape.value.encode(): escape for escape in Escape}
