"""Parse one ``ssh`` command line: the destination's settings and the kind of session.

Source: main() and ssh_session2() in ssh.c of OpenSSH 10.5.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

from pmitogen.cli.identity_warnings import warn_of_inaccessible
from pmitogen.cli.ssh.messages import CommandLineProblem
from pmitogen.errors import UsageError
from pmitogen.flags.ssh.build_settings import build_settings, exits_on_failure
from pmitogen.flags.ssh.command_line_flags import FLAGS
from pmitogen.flags.ssh.forwardings import forwardings
from pmitogen.flags.ssh.report import in_commands
from pmitogen.flags.ssh.resolve_keywords import Resolution, resolve_keywords
from pmitogen.flags.ssh.settings import Finding, Settings
from pmitogen.flags.ssh.values.forwards import Forward, Forwardings, read_forward

_CARRIED_OUT = {keyword.lower() for keyword in in_commands.KEYWORDS}
_UNKNOWN = "Z"  # flags that ssh has since OpenSSH 10.5; earlier ones say that they do not know it


class BadOption(UsageError):
    """An unknown flag, a flag without its argument, or no destination (no message): the caller prints the usage after it."""


class Query(Exception):
    """A flag that queries the client itself and ends the parsing: -V, or -Q with its argument."""

    def __init__(self, flag: str, argument: str = "") -> None:
        super().__init__(flag)
        self.flag = flag
        self.argument = argument


class SessionKind(enum.Enum):
    """The purpose of the connection."""

    SHELL = "shell"
    COMMAND = "command"
    SUBSYSTEM = "subsystem"
    STDIO_FORWARD = "stdio forward"  # -W
    NONE = "none"  # -N


class TTYRequest(enum.Enum):
    """The setting of RequestTTY, ``-t`` and ``-T``: whether to request a terminal."""

    NO = "no"
    IF_LOCAL = "if local"  # if standard input is a terminal
    FORCE = "force"


@dataclasses.dataclass(frozen=True)
class Invocation:
    """A resolved command line. *argument*: the command, or the name of the subsystem; "" for other kinds."""

    resolution: Resolution
    settings: Settings
    kind: SessionKind
    argument: str
    tty: TTYRequest
    stdin_null: bool
    in_background: bool  # -f
    master: str  # ControlMaster: true, false, ask, auto or autoask
    escape_char: str | None  # None: no escapes
    forwardings: Forwardings
    stdio_forward: Forward | None  # -W
    local_command: str | None
    control: str | None  # -O
    print_config: bool  # -G
    exit_on_forward_failure: bool


def read(argv: Sequence[str]) -> Invocation:
    """Resolve *argv*, the command line without the program's name. Raises UsageError, its subclass BadOption, Query.

    Prints ssh's warnings about the files of ``-i``.
    """
    _check_flags(argv)
    resolution = resolve_keywords(argv)
    warn_of_inaccessible(value or "" for letter, value in resolution.line.flags if letter == "i")
    settings = build_settings(resolution)
    _refuse_unsupported(settings)
    options, line = resolution.options, resolution.line
    kind, argument = _session(resolution)
    flags = dict(line.flags)
    in_background = bool(options.get("forkafterauthentication"))
    if in_background and kind is SessionKind.SHELL:
        raise CommandLineProblem("Cannot fork into background without a command to execute.")
    return Invocation(
        resolution=resolution,
        settings=settings,
        kind=kind,
        argument=argument,
        tty=_tty(resolution, kind),
        stdin_null=bool(options.get("stdinnull")) or in_background,
        in_background=in_background,
        master=options.get("controlmaster", "false"),
        escape_char=options.get("escapechar", "~") or None,
        forwardings=forwardings(resolution, explicit_only=False),
        stdio_forward=_stdio_forward(resolution),
        local_command=_local_command(resolution),
        control=flags.get("O"),
        print_config="G" in flags,
        exit_on_forward_failure=exits_on_failure(resolution),
    )


def _check_flags(argv: Sequence[str]) -> None:
    """Find unknown flags, missing arguments and queries before anything else is read, as getopt does."""
    at, destination_seen = 0, False
    while at < len(argv):
        argument = argv[at]
        if len(argument) < 2 or not argument.startswith("-"):
            if destination_seen:
                return
            destination_seen = True
        elif argument == "--":
            if at + 1 == len(argv) and not destination_seen:
                raise BadOption("")
            return
        else:
            at += _check_cluster(argument, argv[at + 1] if at + 1 < len(argv) else None)
        at += 1
    if not destination_seen:
        raise BadOption("")


def _check_cluster(cluster: str, following: str | None) -> int:
    """Check a cluster such as ``-vp``; return 1 if *following* is the argument of its last flag, else 0."""
    for position, letter in enumerate(cluster[1:], 1):
        flag = FLAGS.get(letter)
        if flag is None or letter in _UNKNOWN:
            raise BadOption(f"unknown option -- {letter}")
        if letter == "V":
            raise Query("V")
        if flag.argument:
            attached = cluster[position + 1 :]
            if not attached and following is None:
                raise BadOption(f"option requires an argument -- {letter}")
            if letter == "Q":
                raise Query("Q", attached or following or "")
            return 0 if attached else 1
    return 0


def _refuse_unsupported(settings: Settings) -> None:
    for finding in settings.report:
        if finding.fatal and not _is_honoured(finding):
            raise UsageError(f"{finding.origin}: {finding.option}: {finding.reason}")


def _is_honoured(finding: Finding) -> bool:
    option = finding.option
    return option == "command" or option[1:] in in_commands.FLAGS or option.lower() in _CARRIED_OUT


def _session(resolution: Resolution) -> tuple[SessionKind, str]:
    line = resolution.line
    typed = " ".join(line.command)
    configured = resolution.text("remotecommand")
    session_type = resolution.options.get("sessiontype", "default")
    if line.stdio is not None:
        return SessionKind.STDIO_FORWARD, ""
    if session_type == "none":  # a command is ignored, as by ssh
        return SessionKind.NONE, ""
    if typed and configured is not None:
        raise CommandLineProblem("Cannot execute command-line and remote command.")
    if session_type == "subsystem":
        if not typed:
            raise CommandLineProblem("You must specify a subsystem to invoke.", with_usage=True)
        return SessionKind.SUBSYSTEM, typed
    if typed:
        return SessionKind.COMMAND, typed
    if configured is not None:
        return SessionKind.COMMAND, resolution.expanded("RemoteCommand", configured, home=False, dollar=False)
    return SessionKind.SHELL, ""


def _tty(resolution: Resolution, kind: SessionKind) -> TTYRequest:
    wanted = resolution.options.get("requesttty", "auto")
    if wanted == "force":
        return TTYRequest.FORCE
    if wanted == "true" or (wanted == "auto" and kind is SessionKind.SHELL):
        return TTYRequest.IF_LOCAL
    return TTYRequest.NO


def _stdio_forward(resolution: Resolution) -> Forward | None:
    if resolution.line.stdio is None:
        return None
    return read_forward(resolution.line.stdio, resolution.local.environ, dynamic=True)


def _local_command(resolution: Resolution) -> str | None:
    command = resolution.text("localcommand")
    if command is None or not resolution.options.get("permitlocalcommand"):
        return None
    return resolution.expanded("LocalCommand", command, home=False, dollar=False)
