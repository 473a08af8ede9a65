"""Split a simple shell command into the arguments that ``/bin/sh`` would pass.

ssh runs a ProxyCommand in a shell. If the shell would only split it, remove quotes and expand ``~``, ``~user``, ``$NAME`` and
``${NAME}``, the result is certain. Anything else (operators, patterns, substitutions, comments, differences between shells)
is left to the shell: :func:`split_command` returns None.

Source: POSIX, Shell Command Language, 2.2 and 2.6.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pmitogen.flags.ssh.local_host import LocalHost

_BLANK = " \t"
_SPECIAL = frozenset("|&;<>()`*?[]{}!\n\r\0")  # unquoted, each is special in some shell
_SPLITS = frozenset(" \t\n*?[\\")  # in an unquoted variable's value: it would become several arguments, or a pattern
_NAME = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_TILDE = re.compile(r"~([A-Za-z0-9_.][A-Za-z0-9_.-]*)?(?=[/ \t]|$)")

# Variables that some shells set themselves. A variable that the environment lacks may be set by a shell as well.
_OWN = re.compile(
    "_|BASH.*|COMP_.*|DIRSTACK|E?UID|EPOCH.*|FUNCNAME|GROUPS|IFS|LINENO|OLDPWD|OPT.*|PIPESTATUS|PPID|PS[124]|PWD|S?RANDOM|SECONDS"
    "|SHELLOPTS|SHLVL"
)


class _NotSimple(Exception):
    """The command needs a shell."""


def split_command(command: str, local: LocalHost, expand: Callable[[str], str]) -> list[str] | None:
    """Return the arguments of *command*, or None if only a shell can tell.

    *expand* is applied to the text as written, quoted or not, but not to values of variables: ssh expands its tokens before
    it starts the shell.
    """
    try:
        return _Splitter(command, local, expand).split()
    except _NotSimple:
        return None


class _Splitter:
    """Splitter of one command. Pieces of an argument are literal text, to be expanded, or values, which are not."""

    def __init__(self, command: str, local: LocalHost, expand: Callable[[str], str]) -> None:
        self._text = command
        self._local = local
        self._expand = expand
        self._at = 0
        self._literal = ""
        self._done = ""
        self._started = False  # a part of this argument was read
        self._is_word = False  # a part other than an empty variable
        self._argv: list[str] = []

    def split(self) -> list[str]:
        while self._at < len(self._text):
            self._next()
        self._end_argument()
        return self._argv

    def _next(self) -> None:
        char = self._text[self._at]
        if char in _BLANK:
            self._end_argument()
            self._at += 1
            return
        first, self._started = not self._started, True
        if char == "'":
            self._single_quoted()
        elif char == '"':
            self._double_quoted()
        elif char == "\\":
            self._escaped()
        elif char == "$":
            self._variable(quoted=False)
        elif char == "~" and first:
            self._tilde()
        elif char in _SPECIAL or (char == "#" and first):
            raise _NotSimple
        else:
            self._add(char)
            self._at += 1

    def _add(self, text: str) -> None:
        self._literal += text
        self._is_word = True

    def _add_value(self, text: str) -> None:
        self._flush()
        self._done += text

    def _flush(self) -> None:
        self._done += self._expand(self._literal)
        self._literal = ""

    def _end_argument(self) -> None:
        if self._is_word:
            self._flush()
            self._argv.append(self._done)
        self._done, self._started, self._is_word = "", False, False

    def _single_quoted(self) -> None:
        self._is_word = True
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise _NotSimple
        self._add(self._text[self._at + 1 : end])
        self._at = end + 1

    def _double_quoted(self) -> None:
        self._is_word = True
        self._at += 1
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == '"':
                self._at += 1
                return
            if char == "\\":
                self._escaped(among='$`"\\')
            elif char == "$":
                self._variable(quoted=True)
            elif char in "`\n\0":
                raise _NotSimple
            else:
                self._add(char)
                self._at += 1
        raise _NotSimple

    def _escaped(self, among: str | None = None) -> None:
        """Read a backslash; within double quotes it is literal except before the characters of *among*."""
        following = self._text[self._at + 1 : self._at + 2]
        if not following or following in "\n\0":
            raise _NotSimple
        self._add(following if among is None or following in among else "\\" + following)
        self._at += 2

    def _variable(self, *, quoted: bool) -> None:
        match = _NAME.match(self._text, self._at)
        if match is None:
            following = self._text[self._at + 1 : self._at + 2]
            if following and not (following in _BLANK or (following == '"' and quoted) or following in "/:.,=%+^"):
                raise _NotSimple
            self._add("$")
            self._at += 1
            return
        name = match[1] or match[2]
        value = self._local.environ.get(name)
        if value is None or _OWN.fullmatch(name) or (not quoted and _SPLITS & set(value)):
            raise _NotSimple
        if value:
            self._is_word = True
        self._add_value(value)
        self._at = match.end()

    def _tilde(self) -> None:
        match = _TILDE.match(self._text, self._at)
        if match is None:
            raise _NotSimple
        home = self._local.home_of(match[1]) if match[1] else self._local.environ.get("HOME")
        if not home:
            raise _NotSimple  # shells differ
        self._is_word = True
        self._add_value(home)
        self._at = match.end()
