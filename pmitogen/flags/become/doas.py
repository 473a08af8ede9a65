"""doas's options: doas(1) of OpenBSD and of opendoas."""

from __future__ import annotations

from collections.abc import Sequence

from pmitogen.flags.become.getopt import Reading, Scanned, Switch, check_repeats, check_user, render, scan
from pmitogen.flags.ssh.settings import Finding, Verdict

_H, _X, _E, _R = Verdict.HONOURED, Verdict.HARMLESS, Verdict.EMULATED, Verdict.REFUSED

# doas has no long options: the names are ours, of one letter, so that they are never taken for any.
TABLE = (
    Switch("a", "a", "required", _H, "passed to doas (OpenBSD's authentication style)"),
    Switch("C", "C", "required", _R, "checks a configuration and runs no command: remove it"),
    Switch("L", "L", "no", _R, "clears authentications and runs no command: remove it"),
    Switch("n", "n", "no", _E, "passed without a password; dropped with one, which it would forbid to ask for"),
    Switch("s", "s", "no", _E, "doas -s takes no command: $SHELL is run with ours, as -s would run it"),
    Switch("u", "u", "required", _X, ""),
)
_NAMES = {"a": "style", "C": "config", "L": "clear", "n": "non-interactive", "s": "shell", "u": "user"}


def scan_words(words: Sequence[str], origin: str) -> tuple[Scanned, list[str]]:
    """The options in *words*; what is left is a command. Raises UsageError."""
    return scan(words, TABLE, lambda word: False, "doas", origin), []


def read(words: Sequence[str], *, user: str | None, password: bool, origin: str) -> Reading:
    """What *words* mean. *user* is become_user (None: unknown), *password* whether there is one. Raises UsageError."""
    scanned, _ = scan_words(words, origin)
    reading = Reading()
    for given in scanned.given:
        name = _NAMES[given.switch.long]
        reading.options[name] = True if given.value is None else given.value
        if name == "user":
            check_user(reading, given, user, origin)
        elif name == "non-interactive":
            reading.noninteractive = True
            reading.note(given, _E if password else _H, None if password else "passed to doas", origin=origin)
        else:
            reading.note(given, origin=origin)
        if name == "shell":
            reading.form = "own-shell"
        if given.switch.verdict is _H:
            reading.argv += render(given)
    if scanned.rest:
        why = "a command has no place in the flags: remove it"
        reading.findings.append(Finding(" ".join(scanned.rest), origin, _R, why, fatal=True))
    check_repeats(reading, scanned, origin)
    return reading
