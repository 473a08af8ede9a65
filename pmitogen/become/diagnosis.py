"""From what a program printed to the kind of failure that it means.

The tables of rows are tried in order. English is matched directly; other languages by asking the target's own message
catalogues for the same sentences, after the failure, in the language that the program saw. All text is decoded first, so that
case and full-width colons are compared as characters.

NOTE: runs on the target.
"""

from __future__ import absolute_import

import os
import re

from pmitogen.become import doas, su, sudo

METHODS = {"sudo": sudo, "su": su, "doas": doas}
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
    """Bytes of a terminal to the text that it would show: without colours, and without what was taken back, such as the
    asterisks of a password. What is no UTF-8 shows as replacement characters.
    """
    text = data.decode("utf-8", "replace")
    if not _CONTROL.search(text):
        return text
    shown = []
    for char in _ESCAPES.sub("", text):
        if char == "\b":
            del shown[-1:]
        elif not _CONTROL.match(char):
            shown.append(char)
    return "".join(shown)


def refusal(methods, text):
    """The kind of failure that *text*, all that was printed, amounts to; None if no row of any of *methods* knows it."""
    for method in methods:
        for kind, pattern in METHODS[method].PATTERNS:
            if re.search(pattern, text):
                return kind
    for method in methods:
        kind = _localised_refusal(method, text)
        if kind is not None:
            return kind
    return None


def retry_prompted(text):
    """True if *text* says that the password was wrong and will be asked for again: no need to wait for the question."""
    return bool(re.search("[Ss]orry, try again|[Aa]uthentication failed, try again", text))


def _localised_refusal(method, text):
    if not any(ord(char) > 127 for char in text) and not language():
        return None
    for kind, domain, msgid in METHODS[method].MESSAGE_IDS:
        pattern = _localised(domain, msgid)
        if pattern is not None and re.search(pattern, text, re.UNICODE):
            return kind
    return None


def language():
    """The language of this process, or None if it is the untranslated one."""
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name, "")
        if value and value.split(".")[0] not in ("C", "POSIX"):
            return value
    return None


def _localised(domain, msgid):
    """A pattern for *msgid* in this process's language, or None where there is no catalogue or no translation."""
    text = translated(domain, msgid)
    if text is None:
        return None
    pieces = re.split(r"%(?:\d+\$)?[sdu]", text.strip())
    return ".{0,256}?".join(re.escape(piece) for piece in pieces)


def translated(domain, msgid):
    """*msgid* in this process's language, or None where there is no catalogue or no translation."""
    import gettext  # costs a millisecond, and only what is in another language pays it

    for directory in LOCALE_DIRECTORIES:
        try:
            catalogue = gettext.translation(domain, directory, fallback=True)
        except (IOError, OSError, ValueError, LookupError, SyntaxError):  # one that is damaged
            continue
        lookup = getattr(catalogue, "ugettext", catalogue.gettext)
        text = lookup(msgid)
        if text != msgid:
            return text
    return None


def command_failure(text, command):
    """True if *text* says that *command* (argv, a Python) itself was not found, cannot be executed or broke down at its start."""
    if _PYTHON_FAILED.search(text):
        return True
    name = os.path.basename(command[0])
    name = re.escape(name if str is not bytes else visible_text(name))
    missing = "(?:" + _NOT_FOUND + ")"
    return bool(re.search(name + ".{0,80}" + missing + "|" + missing + ".{0,80}" + name, text, _FLAGS))


def shell_failure(text, status, command, shell):
    """``shell``, ``python`` or None: how the account's login shell or the command itself failed.

    *status* is the exit status or None, *command* the argv that should have run, *shell* the shell that was to run it, or None.
    """
    if _NOLOGIN.search(text):
        return "shell"
    if command_failure(text, command):
        return "python"
    if shell is not None and os.path.basename(shell) in ("false", "true", "nologin", "git-shell", "sync"):
        return "shell"
    if _SYNTAX_ERROR.search(text):
        return "shell"
    return "python" if status in (126, 127) else None
