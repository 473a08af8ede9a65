"""Split ssh_config(5) lines and ``-o`` options into a keyword and its arguments.

There are two lexers, as in OpenSSH. The older one splits off the keyword: ``=`` is a separator and only the double quote is a
quote. The newer one splits the arguments: both quotes, backslash escapes and ``#`` comments. Some keywords (commands) take the
rest of the line unsplit; its quotes must still match. Source: readconf.c and misc.c of OpenSSH 10.5.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

from pmitogen.util.patterns import ascii_lower

WHITESPACE = " \t\r\n"
_SEPARATOR = re.compile(r'[ \t\r\n"=]')
_UNQUOTED = re.compile(r"[^ \t#'\"\\]+")
DEFAULT_FORM = '"{} VALUE"'  # of a keyword with a value, in messages


class ConfigValueError(Exception):
    """An invalid value. The message does not name the place; the caller adds it."""


class UnknownKeyword(ConfigValueError):
    """A keyword that ssh_config(5) does not have, as written."""

    def __init__(self, message: str, keyword: str) -> None:
        super().__init__(message)
        self.keyword = keyword


class MissingArgument(ConfigValueError):
    """A keyword, as written, without an argument."""

    def __init__(self, message: str, keyword: str) -> None:
        super().__init__(message)
        self.keyword = keyword


class OptionConflict(ConfigValueError):
    """A flag that another one excludes. Its value is not the problem."""


def split_keyword(text: str) -> tuple[str | None, str | None]:
    """Split a line into (keyword, rest). The keyword is None if a quote is not closed; the rest is None if nothing follows."""
    match = _SEPARATOR.search(text)
    if match is None:
        return text, None
    at = match.start()
    if text[at] == '"':
        text = text[:at] + text[at + 1 :]
        end = text.find('"', at)
        if end < 0:
            return None, None
        return text[:end], text[end + 1 :].lstrip(WHITESPACE)
    rest = text[at + 1 :].lstrip(WHITESPACE)
    if text[at] != "=" and rest.startswith("="):
        rest = rest[1:].lstrip(WHITESPACE)
    return text[:at], rest


def split_args(text: str) -> list[str]:
    """Split arguments at blanks, up to a ``#``, honouring quotes and backslashes. Raises ConfigValueError for an open quote."""
    if _UNQUOTED.fullmatch(text):
        return [text]
    args: list[str] = []
    i, size = 0, len(text)
    while i < size:
        if text[i] in " \t":
            i += 1
            continue
        if text[i] == "#":
            break
        arg, i = _one_arg(text, i)
        args.append(arg)
    return args


def _one_arg(text: str, i: int) -> tuple[str, int]:
    out: list[str] = []
    quote = ""
    while i < len(text):
        char = text[i]
        following = text[i + 1 : i + 2]
        if char == "\\" and following and (following in "'\"\\" or (not quote and following == " ")):
            out.append(following)
            i += 1
        elif not quote and char in " \t":
            break
        elif not quote and char in "\"'":
            quote = char
        elif quote and char == quote:
            quote = ""
        else:
            out.append(char)
        i += 1
    if quote:
        raise ConfigValueError("invalid quotes: a quote is opened and never closed")
    return "".join(out), i


def quote_arg(arg: str) -> str:
    """Quote an argument so that :func:`split_args` returns it unchanged."""
    if arg and not arg.startswith(("#", "=")) and not any(char in "\"'\\" or ord(char) <= 32 for char in arg):
        return arg
    return '"' + arg.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclasses.dataclass(eq=False, repr=False)
class Arguments:
    """The arguments of one keyword: *rest* as written, and a cursor over the split ones."""

    keyword: str  # lower case
    rest: str
    args: list[str]
    at: int = 0

    def next(self) -> str | None:
        """Return the next argument, or None at the end."""
        if self.at >= len(self.args):
            return None
        self.at += 1
        return self.args[self.at - 1]

    def next_required(self) -> str:
        """Return the next argument. Raises ConfigValueError if it is missing or empty."""
        arg = self.next()
        if not arg:
            raise ConfigValueError("missing argument")
        return arg

    @property
    def left(self) -> int:
        """The number of unread arguments."""
        return len(self.args) - self.at

    def take_rest(self) -> list[str]:
        """Return all unread arguments."""
        taken = self.args[self.at :]
        self.at = len(self.args)
        return taken


def read_line(line: str, check: Callable[[str], object] = lambda keyword: None, form: str = DEFAULT_FORM) -> Arguments | None:
    """Split one configuration line; None for a blank line or a comment.

    *check* is called with the keyword as written, before its arguments are split, so that an unknown keyword is reported first.
    *form*: how the keyword is written with a value, for the message.
    Raises ConfigValueError.
    """
    line = line.partition("\0")[0]
    line = line[:1] + line[1:].rstrip(WHITESPACE + "\f")
    keyword, rest = split_keyword(line)
    if keyword == "" and rest is not None:
        keyword, rest = split_keyword(rest)
    if not keyword or keyword.startswith("#"):
        return None
    rest = (rest or "").lstrip(WHITESPACE)
    if not rest:
        raise MissingArgument(f"{keyword}: no argument after the keyword; use {form.format(keyword)}", keyword)
    check(keyword)
    return Arguments(ascii_lower(keyword), rest, split_args(rest))
