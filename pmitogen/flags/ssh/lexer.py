"""How ssh_config(5) lines and ``-o`` words are cut into a keyword and its arguments.

Two lexers are at work, as in OpenSSH: the keyword is cut off by an old one, for which ``=`` is a separator and only the
double quote is a quote; the arguments by a newer one with both quotes, backslash escapes and ``#`` comments. Some keywords
(commands) take the rest of the line unsplit; it must still be well quoted. Source: readconf.c and misc.c of OpenSSH 10.5.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

from pmitogen.util.patterns import ascii_lower

WHITESPACE = " \t\r\n"
_SEPARATOR = re.compile(r'[ \t\r\n"=]')
_PLAIN = re.compile(r"[^ \t#'\"\\]+")


class BadWord(Exception):
    """A word that cannot be read; the message lacks the place, which the caller knows."""


def cut_first(text: str) -> tuple[str | None, str | None]:
    """Cut the first token off: (token, rest). A token of None means an unmatched quote; a rest of None, the end."""
    found = _SEPARATOR.search(text)
    if found is None:
        return text, None
    at = found.start()
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


def split_args(text: str, comments: bool = True) -> list[str]:
    """Split arguments at blanks, honouring quotes and backslashes. Raises BadWord when a quote stays open."""
    if _PLAIN.fullmatch(text):
        return [text]
    args: list[str] = []
    i, size = 0, len(text)
    while i < size:
        if text[i] in " \t":
            i += 1
            continue
        if comments and text[i] == "#":
            break
        word, i = _one_arg(text, i)
        args.append(word)
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
        raise BadWord("invalid quotes: a quote is opened and never closed")
    return "".join(out), i


def quote_arg(word: str) -> str:
    """The word as :func:`split_args` reads it back."""
    if word and not word.startswith(("#", "=")) and not any(char in "\"'\\" or ord(char) <= 32 for char in word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclasses.dataclass(eq=False, repr=False)
class Words:
    """The arguments of one keyword: *rest* as written, and a cursor over the split words."""

    keyword: str  # lower case
    rest: str
    args: list[str]
    at: int = 0

    def next(self) -> str | None:
        """The next word, or None at the end."""
        if self.at >= len(self.args):
            return None
        self.at += 1
        return self.args[self.at - 1]

    def need(self) -> str:
        """The next word, which must be there and not be empty."""
        word = self.next()
        if not word:
            raise BadWord("missing argument")
        return word

    @property
    def left(self) -> int:
        """How many words are still unread."""
        return len(self.args) - self.at

    def consume(self) -> list[str]:
        """All remaining words."""
        taken = self.args[self.at :]
        self.at = len(self.args)
        return taken


def read_line(line: str, check: Callable[[str], object] = lambda keyword: None) -> Words | None:
    """Cut one configuration line; None for a blank or a comment.

    *check* is called with the keyword before its arguments are looked at, so that an unknown keyword is what gets reported.
    Raises BadWord.
    """
    line = line.partition("\0")[0]
    line = line[:1] + line[1:].rstrip(WHITESPACE + "\f")
    keyword, rest = cut_first(line)
    if keyword == "" and rest is not None:
        keyword, rest = cut_first(rest)
    if not keyword or keyword.startswith("#"):
        return None
    keyword = ascii_lower(keyword)
    rest = (rest or "").lstrip(WHITESPACE)
    if not rest:
        raise BadWord(f'{keyword}: no argument after the keyword; write "{keyword} VALUE"')
    check(keyword)
    return Words(keyword, rest, split_args(rest))
