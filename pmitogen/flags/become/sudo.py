"""sudo's options (sudo(8) 1.9, the BSD ones included), and the effect of each on an account that is entered once per run.

pmitogen answers the password prompt on a terminal and sets the prompt, so it controls ``-S`` and ``-p``. ``-n`` is dropped if
there is a password, as Ansible's sudo plugin does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pmitogen.flags.become.getopt import (
    Interpretation,
    Option,
    ParsedOption,
    ParsedOptions,
    check_repeats,
    check_user,
    parse,
    render,
)
from pmitogen.flags.ssh.settings import Finding, Verdict

HONOURED, HARMLESS, EMULATED, REFUSED = Verdict.HONOURED, Verdict.HARMLESS, Verdict.EMULATED, Verdict.REFUSED
_NO_COMMAND = "runs no command; remove it"

TABLE = (
    Option("A", "askpass", "no", REFUSED, "needs an askpass program on the target; remove it and set become_password"),
    Option("a", "auth-type", "required", HONOURED, "passed to sudo"),
    Option("B", "bell", "no", HARMLESS, "no effect: a bell needs a terminal"),
    Option("b", "background", "no", REFUSED, "would detach the command; remove it and use async"),
    Option("C", "close-from", "required", HONOURED, "passed to sudo"),
    Option("c", "login-class", "required", HONOURED, "passed to sudo"),
    Option("D", "chdir", "required", HONOURED, "passed to sudo"),
    Option("E", "preserve-env", "no", HONOURED, "passed to sudo"),
    Option("", "preserve-env", "optional", HONOURED, "passed to sudo"),
    Option("e", "edit", "no", REFUSED, _NO_COMMAND),
    Option("g", "group", "required", HONOURED, "passed to sudo; accounts entered with different values are separate"),
    Option("H", "set-home", "no", HONOURED, "passed to sudo"),
    # -h is --help without a value and --host with one; both are refused.
    Option("h", "help", "no", REFUSED, "runs no command, or one on another host; remove it, and name the host in the inventory"),
    Option("", "host", "required", REFUSED, "would run the command on another host: name that host in the inventory instead"),
    Option("i", "login", "no", HONOURED, "passed to sudo; output of the profile is skipped"),
    Option("K", "remove-timestamp", "no", REFUSED, _NO_COMMAND),
    Option("k", "reset-timestamp", "no", HONOURED, "passed to sudo"),
    Option("l", "list", "no", REFUSED, _NO_COMMAND),
    Option("N", "no-update", "no", HONOURED, "passed to sudo"),
    Option("n", "non-interactive", "no", EMULATED, "passed without a password; dropped with one, because it forbids the prompt"),
    Option("P", "preserve-groups", "no", HONOURED, "passed to sudo"),
    Option("p", "prompt", "required", EMULATED, "pmitogen sets its own prompt"),
    Option("R", "chroot", "required", HONOURED, "passed to sudo"),
    Option("r", "role", "required", HONOURED, "passed to sudo"),
    Option("S", "stdin", "no", EMULATED, "the password goes through a terminal, so that stdin stays free for data"),
    Option("s", "shell", "no", HONOURED, "passed to sudo; the command is quoted for that shell"),
    Option("T", "command-timeout", "required", REFUSED, "ends the process shared by an account's tasks: use the task's timeout"),
    Option("t", "type", "required", HONOURED, "passed to sudo"),
    Option("U", "other-user", "required", REFUSED, "belongs to -l; remove it, or set become_user"),
    Option("u", "user", "required", HARMLESS, ""),
    Option("V", "version", "no", REFUSED, _NO_COMMAND),
    Option("v", "validate", "no", REFUSED, _NO_COMMAND),
)

_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
# Pairs that sudo itself refuses.
_EXCLUSIVE = (("login", "shell"), ("login", "preserve-env"))


def parse_options(arguments: Sequence[str], origin: str) -> tuple[ParsedOptions, list[str]]:
    """Return the options in *arguments* and the assignments (``VAR=value``); the rest is a command. Raises UsageError."""
    assignments: list[str] = []

    def takes_operand(arg: str) -> bool:
        if not _ASSIGNMENT.match(arg):
            return False
        assignments.append(arg)
        return True

    return parse(arguments, TABLE, takes_operand, "sudo", origin), assignments


def interpret(arguments: Sequence[str], *, user: str | None, password: bool, origin: str) -> Interpretation:
    """Interpret *arguments*. *user*: become_user, None: unknown. *password*: True if a password is set. Raises UsageError."""
    parsed, assignments = parse_options(arguments, origin)
    interpretation = Interpretation(operands=assignments)
    for given in parsed.given:
        _apply(interpretation, given, user, password, origin)
    for arg in assignments:
        name = arg.partition("=")[0]
        interpretation.options[name] = arg.partition("=")[2]
        interpretation.findings.append(Finding(name, origin, HONOURED, "set in the command's environment, if sudoers allows it"))
    if parsed.rest:
        reason = "a command is not allowed in the flags; remove it"
        interpretation.findings.append(Finding(" ".join(parsed.rest), origin, REFUSED, reason, fatal=True))
    for one, other in _EXCLUSIVE:
        if one in interpretation.options and other in interpretation.options and interpretation.options[other] is True:
            reason = f"sudo does not allow --{one} and --{other} together; remove one"
            interpretation.findings.append(Finding("--" + one, origin, Verdict.CONFLICT, reason, fatal=True))
    check_repeats(interpretation, parsed, origin, repeatable="preserve-env")
    return interpretation


def _apply(interpretation: Interpretation, given: ParsedOption, user: str | None, password: bool, origin: str) -> None:
    name = given.option.long
    if name == "preserve-env":
        _preserve_env(interpretation, given)
    else:
        interpretation.options[name] = True if given.value is None else given.value
    if name == "user":
        check_user(interpretation, given, user, origin)
        return
    if name == "close-from" and not (given.value and given.value.isdigit() and int(given.value) >= 3):
        reason = f"is {given.value}; the command needs its first three descriptors: use 3 or more"
        interpretation.note(given, REFUSED, reason, origin=origin)
        return
    if name == "non-interactive":
        interpretation.noninteractive = True
        interpretation.note(given, EMULATED if password else HONOURED, None if password else "passed to sudo", origin=origin)
        return
    interpretation.note(given, origin=origin)
    if name in ("login", "shell"):
        interpretation.form = "sudo-shell"
        interpretation.shell = "login" if name == "login" else None
    if given.option.verdict is HONOURED:
        interpretation.argv += render(given)


def _preserve_env(interpretation: Interpretation, given: ParsedOption) -> None:
    known = interpretation.options.get("preserve-env")
    if known is True or given.value is None:
        interpretation.options["preserve-env"] = True
    else:
        interpretation.options["preserve-env"] = ",".join(filter(None, [known or "", given.value]))
