"""Quoting of arguments for an unknown login shell.

``su -c``, ``sudo -s`` and ``sudo -i`` pass the command to the account's login shell: a POSIX shell, csh or fish. The text built
here has the same meaning in each of them. Some arguments cannot be quoted in a common way: csh allows no newline in quotes, and
``sudo -i`` leaves every ``$`` to the shell and loses newlines and empty arguments. Such arguments are encoded, and /bin/sh
decodes them.

NOTE: runs on the target.
"""

from __future__ import absolute_import

import re

from pmitogen.become.strings import as_bytes

MYPY = False
if MYPY:
    from typing import List  # noqa: F401

_SHELL_SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./-]+\Z")  # not $, which a newline may follow
_FRAGILE = re.compile(r"[$\n\r]")
_UNENCODED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./,:=@%+- ")


def posix_quote(argument):
    # type: (str) -> str
    """Quote one argument for /bin/sh only."""
    if _SHELL_SAFE.match(argument):
        return argument
    return "'" + argument.replace("'", "'\"'\"'") + "'"


def any_shell_quote(argument):
    # type: (str) -> str
    r"""Quote one argument, which must not contain a newline, for sh, csh and fish alike.

    Single quotes protect all but three characters: the quote, the backslash (fish reads ``\\`` in quotes as one) and ``!`` (csh
    expands its history even in quotes). These are placed outside the quotes with a backslash before each, which all three
    shells read as the character itself. zsh replaces a word that begins with ``=`` by the path of a program, so it is quoted.
    """
    if _SHELL_SAFE.match(argument) and not argument.startswith("="):
        return argument
    pieces = re.split(r"(['\\!])", argument)
    return "".join("\\" + p if p in ("'", "\\", "!") else "'" + p + "'" for p in pieces if p) or "''"


def shell_safe_argv(argv):
    # type: (List[str]) -> List[str]
    """Return *argv*, or an equivalent argv in which no argument is empty or contains ``$``, CR or NL."""
    if not any(argument == "" or _FRAGILE.search(argument) for argument in argv):
        return list(argv)
    text = "exec " + " ".join(posix_quote(argument) for argument in argv)
    encoded = "".join(chr(byte) if chr(byte) in _UNENCODED else "\\0%03o" % byte for byte in bytearray(as_bytes(text)))
    # Backquotes, because $(...) contains a $. printf is a builtin of every sh, and %b decodes \0ooo in all of them.
    return ["/bin/sh", "-c", "eval \"`printf %b '" + encoded + "'`\""]


def shell_string(argv):
    # type: (List[str]) -> str
    """Return *argv* as one string for ``-c`` of any shell. The command replaces the shell, so no extra process stays."""
    return "exec " + " ".join(any_shell_quote(argument) for argument in shell_safe_argv(argv))
