"""sudo's options (sudo(8) 1.9, the BSD ones included), and what each means for an account that is entered once per run.

The password goes through a terminal with a prompt of our own, so ``-S`` and ``-p`` are ours. ``-n`` with a password at hand is
dropped, as Ansible's sudo plugin does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pmitogen.flags.become.getopt import Given, Reading, Scanned, Switch, check_repeats, check_user, render, scan
from pmitogen.flags.ssh.settings import Finding, Verdict

_H, _X, _E, _R = Verdict.HONOURED, Verdict.HARMLESS, Verdict.EMULATED, Verdict.REFUSED
_NO_COMMAND = "runs no command: remove it"

TABLE = (
    Switch("A", "askpass", "no", _R, "needs an askpass program on the target: remove it and set become_password"),
    Switch("a", "auth-type", "required", _H, "passed to sudo"),
    Switch("B", "bell", "no", _X, "nobody hears the bell"),
    Switch("b", "background", "no", _R, "would cut the command off from us: remove it and use async"),
    Switch("C", "close-from", "required", _H, "passed to sudo"),
    Switch("c", "login-class", "required", _H, "passed to sudo"),
    Switch("D", "chdir", "required", _H, "passed to sudo"),
    Switch("E", "preserve-env", "no", _H, "passed to sudo"),
    Switch("", "preserve-env", "optional", _H, "passed to sudo"),
    Switch("e", "edit", "no", _R, _NO_COMMAND),
    Switch("g", "group", "required", _H, "passed to sudo; part of what tells accounts apart"),
    Switch("H", "set-home", "no", _H, "passed to sudo"),
    # -h is --help if it stands alone and --host if a value follows; neither can be.
    Switch("h", "help", "no", _R, "runs no command, or one on another host: remove it, and name the host in the inventory"),
    Switch("", "host", "required", _R, "would run the command on another host: name that host in the inventory instead"),
    Switch("i", "login", "no", _H, "passed to sudo; what the profile prints is skipped"),
    Switch("K", "remove-timestamp", "no", _R, _NO_COMMAND),
    Switch("k", "reset-timestamp", "no", _H, "passed to sudo"),
    Switch("l", "list", "no", _R, _NO_COMMAND),
    Switch("N", "no-update", "no", _H, "passed to sudo"),
    Switch("n", "non-interactive", "no", _E, "passed without a password; dropped with one, which it would forbid to ask for"),
    Switch("P", "preserve-groups", "no", _H, "passed to sudo"),
    Switch("p", "prompt", "required", _E, "the prompt is one of ours, which no other text can be taken for"),
    Switch("R", "chroot", "required", _H, "passed to sudo"),
    Switch("r", "role", "required", _H, "passed to sudo"),
    Switch("S", "stdin", "no", _E, "the password goes through a terminal, so that stdin stays free for data"),
    Switch("s", "shell", "no", _H, "passed to sudo; the command is quoted for that shell"),
    Switch("T", "command-timeout", "required", _R, "would end what all tasks of the account share: use the task's timeout"),
    Switch("t", "type", "required", _H, "passed to sudo"),
    Switch("U", "other-user", "required", _R, "belongs to -l: remove it, or write become_user"),
    Switch("u", "user", "required", _X, ""),
    Switch("V", "version", "no", _R, _NO_COMMAND),
    Switch("v", "validate", "no", _R, _NO_COMMAND),
)

_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
# Pairs that sudo itself refuses.
_EXCLUSIVE = (("login", "shell"), ("login", "preserve-env"))


def scan_words(words: Sequence[str], origin: str) -> tuple[Scanned, list[str]]:
    """The options in *words*, and the assignments (``VAR=value``) among them; what is left is a command. Raises UsageError."""
    assignments: list[str] = []

    def operand(word: str) -> bool:
        if not _ASSIGNMENT.match(word):
            return False
        assignments.append(word)
        return True

    return scan(words, TABLE, operand, "sudo", origin), assignments


def read(words: Sequence[str], *, user: str | None, password: bool, origin: str) -> Reading:
    """What *words* mean. *user* is become_user (None: unknown), *password* whether there is one. Raises UsageError."""
    scanned, assignments = scan_words(words, origin)
    reading = Reading(operands=assignments)
    for given in scanned.given:
        _apply(reading, given, user, password, origin)
    for word in assignments:
        name = word.partition("=")[0]
        reading.options[name] = word.partition("=")[2]
        reading.findings.append(Finding(name, origin, _H, "set in the command's environment, if sudoers lets it be"))
    if scanned.rest:
        why = "a command has no place in the flags: remove it"
        reading.findings.append(Finding(" ".join(scanned.rest), origin, _R, why, fatal=True))
    for one, other in _EXCLUSIVE:
        if one in reading.options and other in reading.options and reading.options[other] is True:
            why = f"sudo does not allow --{one} and --{other} together: remove one"
            reading.findings.append(Finding("--" + one, origin, Verdict.CONFLICT, why, fatal=True))
    check_repeats(reading, scanned, origin, may="preserve-env")
    return reading


def _apply(reading: Reading, given: Given, user: str | None, password: bool, origin: str) -> None:
    name = given.switch.long
    if name == "preserve-env":
        _preserve_env(reading, given)
    else:
        reading.options[name] = True if given.value is None else given.value
    if name == "user":
        check_user(reading, given, user, origin)
        return
    if name == "close-from" and not _is_number(given.value, 3):
        why = f"is {given.value}; the command needs its first three descriptors: write 3 or more"
        reading.note(given, _R, why, origin=origin)
        return
    if name == "non-interactive":
        reading.noninteractive = True
        reading.note(given, _E if password else _H, None if password else "passed to sudo", origin=origin)
        return
    reading.note(given, origin=origin)
    if name in ("login", "shell"):
        reading.form = "sudo-shell"
        reading.shell = "login" if name == "login" else None
    if given.switch.verdict is _H:
        reading.argv += render(given)


def _is_number(text: str | None, least: int) -> bool:
    return text is not None and text.isdigit() and int(text) >= least


def _preserve_env(reading: Reading, given: Given) -> None:
    known = reading.options.get("preserve-env")
    if known is True or given.value is None:
        reading.options["preserve-env"] = True
    else:
        reading.options["preserve-env"] = ",".join(filter(None, [known or "", given.value]))
