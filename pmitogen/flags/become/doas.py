"""doas's options: doas(1) of OpenBSD and of opendoas."""

from __future__ import annotations

from collections.abc import Sequence

from pmitogen.flags.become.getopt import Interpretation, Option, ParsedOptions, check_repeats, check_user, parse, render
from pmitogen.flags.ssh.settings import Finding, Verdict

HONOURED, HARMLESS, EMULATED, REFUSED = Verdict.HONOURED, Verdict.HARMLESS, Verdict.EMULATED, Verdict.REFUSED

# doas has no long options. One-letter names here never match a long option.
TABLE = (
    Option("a", "a", "required", HONOURED, "passed to doas (OpenBSD's authentication style)"),
    Option("C", "C", "required", REFUSED, "checks a configuration and runs no command; remove it"),
    Option("L", "L", "no", REFUSED, "clears authentications and runs no command; remove it"),
    Option("n", "n", "no", EMULATED, "passed without a password; dropped with one, because it forbids the prompt"),
    Option("s", "s", "no", EMULATED, "doas -s takes no command: $SHELL runs the command, as -s would start it"),
    Option("u", "u", "required", HARMLESS, ""),
)
_NAMES = {"a": "style", "C": "config", "L": "clear", "n": "non-interactive", "s": "shell", "u": "user"}


def parse_options(arguments: Sequence[str], origin: str) -> tuple[ParsedOptions, list[str]]:
    """Return the options in *arguments*; the rest is a command. Raises UsageError."""
    return parse(arguments, TABLE, lambda arg: False, "doas", origin), []


def interpret(arguments: Sequence[str], *, user: str | None, password: bool, origin: str) -> Interpretation:
    """Interpret *arguments*. *user*: become_user, None: unknown. *password*: True if a password is set. Raises UsageError."""
    parsed, _ = parse_options(arguments, origin)
    interpretation = Interpretation()
    for given in parsed.given:
        name = _NAMES[given.option.long]
        interpretation.options[name] = True if given.value is None else given.value
        if name == "user":
            check_user(interpretation, given, user, origin)
        elif name == "non-interactive":
            interpretation.noninteractive = True
            interpretation.note(given, EMULATED if password else HONOURED, None if password else "passed to doas", origin=origin)
        else:
            interpretation.note(given, origin=origin)
        if name == "shell":
            interpretation.form = "own-shell"
        if given.option.verdict is HONOURED:
            interpretation.argv += render(given)
    if parsed.rest:
        reason = "a command is not allowed in the flags; remove it"
        interpretation.findings.append(Finding(" ".join(parsed.rest), origin, REFUSED, reason, fatal=True))
    check_repeats(interpretation, parsed, origin)
    return interpretation
