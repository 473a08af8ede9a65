"""``pmitogen manual``: the manual page in the format of man(7), generated from the parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pmitogen
from pmitogen.cli.completion import Command, commands

EXIT = "0: it succeeded. 1: it failed. 2: the command line is wrong. pmitogen ssh: the remote exit code, or 255."
ENVIRONMENT = (
    ("PMITOGEN_LOG", "log on stderr: error, warning, info, debug or trace"),
    ("PMITOGEN_LOG_FILE", "log to this file"),
    ("PMITOGEN_TRACE", "write the timeline of a run to this file; see the command trace"),
    ("NO_COLOR", "print no colour; without it, colour is used on terminals only"),
)


def run(options: argparse.Namespace) -> int:
    """Print the page."""
    print("\n".join(page()))
    return 0


def page() -> Iterator[str]:
    """Yield the lines of the page. They depend on nothing but the version, so that the page can be reproduced."""
    yield f'.TH PMITOGEN 1 "" "pmitogen {pmitogen.__version__}" "User Commands"'
    yield from (".SH NAME", r"pmitogen \- Ansible, and your own tools, over SSH without an ssh program")
    yield from (".SH SYNOPSIS", ".B pmitogen", r".I COMMAND\fR [\fIARGUMENT\fR ...]")
    yield ".SH COMMANDS"
    for command in commands():
        yield from _command(command)
    yield from (".SH EXIT STATUS", _escape(EXIT), ".SH ENVIRONMENT")
    for name, text in ENVIRONMENT:
        yield from (".TP", rf"\fB{name}\fR", _escape(text))
    yield from (".SH SEE ALSO", r"ssh(1), ssh_config(5), ssh\-keyscan(1), ansible\-playbook(1)")


def _command(command: Command) -> Iterator[str]:
    yield from (".SS " + _escape(command.name), _escape(command.help[0].upper() + command.help[1:] + "."))
    if command.usage:
        yield from (".PP", ".nf", *(_escape(line, fill=False) for line in command.usage.splitlines()), ".fi")
    for shown, text in arguments(command):
        yield from (".TP", rf"\fB{_escape(shown)}\fR", _escape(text))


def arguments(command: Command) -> Iterator[tuple[str, str]]:
    """Yield each option and argument of a command, as it is typed, with its description."""
    for action in command.parser.arguments:
        if "--help" in action.option_strings or action.help is None:
            continue
        value = f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.metavar or ""
        shown = " ".join(filter(None, (", ".join(action.option_strings), str(value) if action.nargs != 0 else "")))
        yield shown, action.help.replace("%(default)s", str(action.default))


def _escape(text: str, *, fill: bool = True) -> str:
    """Return *text* for troff: a hyphen that can be copied, and no line that begins with a request. *fill*: as one line."""
    shown = (" ".join(text.split()) if fill else text.expandtabs()).replace("\\", r"\e").replace("-", r"\-")
    return r"\&" + shown if shown[:1] in (".", "'") else shown
