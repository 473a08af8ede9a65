"""Handing words through a shell that we do not know.

``su -c``, ``sudo -s`` and ``sudo -i`` hand the command to somebody's login shell, which may be a POSIX one, csh or fish. The
text made here means the same to all of them. Where they have no common way (csh cannot hold a newline in quotes, sudo -i
leaves every ``$`` to the shell, and loses newlines and empty words), the words are rewritten so that neither occurs, and
/bin/sh undoes that.

NOTE: runs on the target.
"""

from __future__ import absolute_import

import re

_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+\Z")  # not $, which a newline may follow
_FRAGILE = re.compile(r"[$\n\r]")
_UNENCODED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./,:=@%+- ")


def posix_quote(word):
    """*word* for /bin/sh alone."""
    if _PLAIN.match(word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def any_shell_quote(word):
    r"""*word* for any of sh, csh and fish; it must hold no newline.

    Single quotes guard all but three characters: the quote, the backslash (fish reads ``\\`` in quotes as one) and ``!`` (csh
    reads it as history even in quotes). These stand outside, each behind a backslash, which means the character itself to all
    three.
    """
    if _PLAIN.match(word):
        return word
    pieces = re.split(r"(['\\!])", word)
    return "".join("\\" + p if p in ("'", "\\", "!") else "'" + p + "'" for p in pieces if p) or "''"


def shell_safe_argv(argv):
    """*argv* (native strings), or words that do the same, none of them empty or with ``$``, CR or NL in it."""
    if not any(word == "" or _FRAGILE.search(word) for word in argv):
        return list(argv)
    text = "exec " + " ".join(posix_quote(word) for word in argv)
    data = text if isinstance(text, bytes) else text.encode("utf-8")
    encoded = "".join(chr(byte) if chr(byte) in _UNENCODED else "\\0%03o" % byte for byte in bytearray(data))
    # Backquotes, not $(...): see above. printf is a builtin of every sh, and %b knows \0ooo in all of them.
    return ["/bin/sh", "-c", "eval \"`printf %b '" + encoded + "'`\""]


def shell_string(argv):
    """*argv* as one string for ``-c`` of any shell. It is executed in the shell's place, so no shell stays in between."""
    return "exec " + " ".join(any_shell_quote(word) for word in shell_safe_argv(argv))
