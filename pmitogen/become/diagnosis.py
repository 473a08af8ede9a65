"""Find the kind of failure from the output of sudo, su and doas.

The rows of each table are tried in order. English is matched directly. For other languages the same sentences are looked up in
the target's message catalogues, after the failure, in the language of the program. All text is decoded first, so that case and
full-width colons are compared as characters.

NOTE: runs on the target.
"""

from __future__ import absolute_import

import os
import re

from pmitogen.become import doas_messages, su_messages, sudo_messages
from pmitogen.become.strings import as_bytes

MYPY = False
if MYPY:
    from typing import List, Optional, Sequence  # noqa: F401

PATTERNS = {"sudo": sudo_messages.PATTERNS, "su": su_messages.PATTERNS, "doas": doas_messages.PATTERNS}
MESSAGE_IDS = {"sudo": sudo_messages.MESSAGE_IDS, "su": su_messages.MESSAGE_IDS, "doas": doas_messages.MESSAGE_IDS}
LOCALE_DIRECTORIES = ("/usr/share/locale", "/usr/local/share/locale", "/usr/share/locale-langpack")

_FLAGS = re.IGNORECASE | re.UNICODE
_ESCAPES = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|[ -/]*[0-~])")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

_NOT_FOUND = (
    "not found|no such file or directory|unknown command|could not find command|permission denied"
    "|cannot execute|no such file|can't open"
)
_NOLOGIN = re.compile(
    "account is (?:currently )?not available|not a shell|interactive shell is disabled|login (?:is )?disabled"
    "|unrecognized command|cannot use a shell|refused to execute",
    _FLAGS,
)
_PYTHON_FAILED = re.compile("Fatal Python error|Traceback \\(most recent call last\\)")
_SYNTAX_ERROR = re.compile(
    "syntax error|unmatched|unexpected token|illegal variable name|badly placed|undefined variable", _FLAGS
)


def visible_text(data):
    # type: (bytes) -> str
    """Decode terminal output to the text that a terminal would show: without colours, and without erased characters such as
    the asterisks of a password. Bytes that are not UTF-8 become replacement characters.
    """
    text = data.decode("utf-8", "replace")
    if not _CONTROL.search(text):
        return text
    shown = []  # type: List[str]
    for char in _ESCAPES.sub("", text):
        if char == "\b":
            del shown[-1:]
        elif not _CONTROL.match(char):
            shown.append(char)
    return "".join(shown)


def refusal(methods, text):
    # type: (Sequence[str], str) -> Optional[str]
    """Return the kind of failure that *text*, the whole output, means; None if no row of any of *methods* matches."""
    for method in methods:
        for kind, pattern in PATTERNS[method]:
            if re.search(pattern, text):
                return kind
    for method in methods:
        localised = _localised_refusal(method, text)
        if localised is not None:
            return localised
    return None


def retry_prompted(text):
    # type: (str) -> bool
    """Return True if *text* says that the password was wrong and that the program will ask again: do not wait for the prompt."""
    return bool(re.search("[Ss]orry, try again|[Aa]uthentication failed, try again", text))


def _localised_refusal(method, text):
    # type: (str, str) -> Optional[str]
    if not any(ord(char) > 127 for char in text) and not language():
        return None
    for kind, domain, msgid in MESSAGE_IDS[method]:
        pattern = _localised(domain, msgid)
        if pattern is not None and re.search(pattern, text, re.UNICODE):
            return kind
    return None


def language():
    # type: () -> Optional[str]
    """Return the language of this process, or None if its messages are not translated."""
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name, "")
        if value and value.split(".")[0] not in ("C", "POSIX"):
            return value
    return None


def _localised(domain, msgid):
    # type: (str, str) -> Optional[str]
    """Return a pattern for *msgid* in this process's language, or None if there is no catalogue or no translation."""
    text = translated(domain, msgid)
    if text is None:
        return None
    pieces = re.split(r"%(?:\d+\$)?[sdu]", text.strip())
    return ".{0,256}?".join(re.escape(piece) for piece in pieces)


def translated(domain, msgid):
    # type: (str, str) -> Optional[str]
    """Translate *msgid* into this process's language. None if there is no catalogue or no translation."""
    import gettext  # takes a millisecond, so it is imported only for other languages

    for directory in LOCALE_DIRECTORIES:
        try:
            catalogue = gettext.translation(domain, directory, fallback=True)
        except (IOError, OSError, ValueError, LookupError, SyntaxError):  # a damaged catalogue
            continue
        text = getattr(catalogue, "ugettext", catalogue.gettext)(msgid)  # type: str
        if text != msgid:
            return text
    return None


def is_command_failure(text, command):
    # type: (str, Sequence[str]) -> bool
    """Return True if *text* says that *command* (the argv of a Python) was not found, cannot be executed or failed to start."""
    if _PYTHON_FAILED.search(text):
        return True
    name = re.escape(visible_text(as_bytes(os.path.basename(command[0]))))
    missing = "(?:" + _NOT_FOUND + ")"
    return bool(re.search(name + ".{0,80}" + missing + "|" + missing + ".{0,80}" + name, text, _FLAGS))


def shell_failure(text, status, command, shell):
    # type: (str, Optional[int], Sequence[str], Optional[str]) -> Optional[str]
    """Return ``shell`` if the account's login shell failed, ``python`` if the command itself failed, else None.

    *status*: exit status, or None.
    *command*: the argv that should have run.
    *shell*: the shell that should have run it, or None.
    """
    if _NOLOGIN.search(text):
        return "shell"
    if is_command_failure(text, command):
        return "python"
    if shell is not None and os.path.basename(shell) in ("false", "true", "nologin", "git-shell", "sync"):
        return "shell"
    if _SYNTAX_ERROR.search(text):
        return "shell"
    return "python" if status in (126, 127) else None
