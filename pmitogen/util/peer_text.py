"""Make text from a peer safe to show.

Everything that a server, a target or another account wrote goes through :func:`escape` before it reaches a terminal, a log or
a message of Ansible. The result is one line that cannot move the cursor, hide or reorder characters, or fill the screen:

- Control characters are escaped in octal, as OpenSSH does (``vis(3)``): ``\\033[2J``. So are bytes that are not UTF-8.
- Other characters that are invisible or change the order of text (bidirectional controls, zero-width characters, fillers) are
  escaped as Python does: ``\\u202e``. So are combining marks after the third on one character.
- A run of whitespace, line ends included, becomes one space, because spaces can wrap text to the start of a line.
- Longer text than the limit ends in ``...``.

Escaping twice is the same as escaping once. Backslashes are not escaped, as in OpenSSH's prompts.
"""

from __future__ import annotations

import re
import unicodedata

LIMIT = 300  # characters of one text in a message
PROMPT_LIMIT = 200  # characters of a prompt
LINE_LIMIT = 4000  # characters of a whole message or line of a log
ELLIPSIS = "..."

_MAX_MARKS = 3  # combining marks on one character
_INPUT_FACTOR = 8  # times the limit; further characters of the input are ignored

_LINE_ENDS = re.compile("[\t\n\v\f\r\x85\u2028\u2029]+")

# Invisible characters for which str.isprintable() is true.
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(code) for start, end in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF)) for code in range(start, end + 1)
}


def escape(text: str | bytes, limit: int = LIMIT, keep_end: bool = False) -> str:
    """Return *text* as one harmless line of at most *limit* characters.

    :param text: the peer's text; bytes are read as UTF-8.
    :param limit: characters of the result, at least 3.
    :param keep_end: shorten at the start instead of the end, for output whose last line says what went wrong.
    """
    cut = text[-_INPUT_FACTOR * limit :] if keep_end else text[: _INPUT_FACTOR * limit]
    shortened = len(cut) < len(text)
    line = cut.decode("utf-8", "surrogateescape") if isinstance(cut, bytes) else cut
    line = _make_visible(" ".join(line.split()))
    if len(line) <= limit and not shortened:
        return line
    room = max(0, limit - len(ELLIPSIS))
    if keep_end:
        return ELLIPSIS + line[max(0, len(line) - room) :]
    return line[:room] + ELLIPSIS


def escape_lines(text: str | bytes, max_lines: int = 20) -> list[str]:
    """Return the lines of *text*, each as :func:`escape` gives it; lines without visible text are left out.

    :param text: the peer's text, such as a banner or an instruction.
    :param max_lines: more lines than that are replaced by one ``...``.
    """
    cut = text[: _INPUT_FACTOR * LIMIT * max_lines]
    if isinstance(cut, bytes):
        cut = cut.decode("utf-8", "surrogateescape")
    lines = [line for line in (escape(each) for each in re.split("[\r\n]+", cut)) if line]
    if len(lines) > max_lines or len(cut) < len(text):
        return [*lines[:max_lines], ELLIPSIS]
    return lines


def escape_text(text: str | bytes) -> str:
    """Return a text of several lines as :func:`escape` would, but whole, with its spaces, tabs and empty lines.

    For a terminal alone, where a user reads what the peer wrote. The caller limits the length.
    """
    whole = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
    lines = re.split("\r\n|[\r\n]", whole)
    return "\n".join("\t".join(map(_make_visible, line.split("\t"))) for line in lines)


def one_line(text: str, limit: int = LINE_LIMIT) -> str:
    """Return a message, which may contain a peer's text, as one line without control characters.

    The last defence before a terminal or a log. Unlike :func:`escape` it keeps spaces, because names of files have them.
    """
    line = _make_visible(_LINE_ENDS.sub(" ", text[: limit + 1]))
    return line if len(line) <= limit else line[: limit - len(ELLIPSIS)] + ELLIPSIS


def format_prompt(peer: str, text: str | bytes) -> str:
    """Return a peer's prompt for the user, as OpenSSH shows it: ``(user@host) Password: ``.

    :param peer: its account and host, as the caller names them.
    :param text: the peer's text.
    """
    return f"({escape(peer)}) {escape(text, PROMPT_LIMIT)} "


def _make_visible(line: str) -> str:
    """Escape every character of *line* that must not reach a terminal."""
    if line.isascii() and line.isprintable():
        return line
    shown = []
    marks = 0  # marks on the preceding character
    for char in line:
        marks = marks + 1 if unicodedata.category(char) in ("Mn", "Me") else 0
        harmless = char.isprintable() and char not in _INVISIBLE and marks <= _MAX_MARKS
        shown.append(char if harmless else _escaped(char))
    return "".join(shown)


def _escaped(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as surrogateescape decodes it
        code -= 0xDC00
    if code < 0x100:
        return f"\\{code:03o}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
