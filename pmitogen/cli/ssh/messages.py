"""Error messages in ssh's form, for users and for programs that parse them."""

from __future__ import annotations

import os
import socket

import pmitogen.errors as errors
from pmitogen.flags.ssh.option_values import OptionError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.errors import EndCause, HostKeyMismatch, NoCommonAlgorithm, VersionTimeout

USAGE = """\
usage: ssh [-46AaCfGgKkMNnqsTtVvXxYy] [-B bind_interface] [-b bind_address]
           [-c cipher_spec] [-D [bind_address:]port] [-E log_file]
           [-e escape_char] [-F configfile] [-I pkcs11] [-i identity_file]
           [-J destination] [-L address] [-l login_name] [-m mac_spec]
           [-O ctl_cmd] [-o option] [-P tag] [-p port] [-R address]
           [-S ctl_path] [-W host:port] [-w local_tun[:remote_tun]]
           destination [command [argument ...]]
       ssh [-Q query_option]
"""


# ssh's messages for invalid values of flags.
_FLAG_VALUES = {
    "-c": "Unknown cipher type '{}'",
    "destination": "hostname contains invalid characters",
    "user": "remote username contains invalid characters",
    "-D": "Bad dynamic forwarding specification '{}'",
    "-e": "Bad escape character '{}'.",
    "-J": "Invalid -J argument",
    "-L": "Bad local forwarding specification '{}'",
    "-m": "Unknown mac type '{}'",
    "-O": "Invalid multiplex command.",
    "-p": "Bad port '{}'",
    "-R": "Bad remote forwarding specification '{}'",
    "-W": "Bad stdio forwarding specification '{}'",
    "-w": "Bad tun device '{}'",
}

_CHANGED_KEY = "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @"
_REVOKED_KEY = "@       WARNING: REVOKED HOST KEY DETECTED!               @"


class CommandLineProblem(errors.UsageError):
    """A command line that cannot be run, with ssh's own message. *with_usage*: print the usage as well."""

    def __init__(self, problem: str, with_usage: bool = False) -> None:
        super().__init__(problem)
        self.with_usage = with_usage


class SessionProblem(errors.Error):
    """A failure after the login. *last_line*: ssh's message for it."""

    def __init__(self, problem: str, last_line: str) -> None:
        super().__init__(problem)
        self.last_line = last_line


class SessionLost(errors.ConnectionLost):
    """The connection ended, by *cause*."""

    def __init__(self, problem: str, cause: EndCause) -> None:
        super().__init__(problem)
        self.cause = cause


def option_lines(error: OptionError) -> list[str]:
    """Return the lines for an invalid option: ssh's own message if programs parse it, otherwise one in the same form."""
    if error.option == "-F" and error.value is not None:
        return [f"Can't open user config file {error.value}: {_why_unreadable(error.value)}"]
    if error.value is not None and error.option in _FLAG_VALUES:
        return [_FLAG_VALUES[error.option].format(error.value)]
    path, _, line_number = error.origin.rpartition(" line ")
    place, line_number = (path, line_number) if path else ("command-line", "0")
    if error.is_unknown:
        lines = [f"{place}: line {line_number}: Bad configuration option: {error.option.lower()}"]
    elif error.lacks_argument:
        lines = [f'{place} line {line_number}: no argument after keyword "{error.option.lower()}"']
    elif error.option:
        return [f"ssh: {error.message}"]
    else:
        lines = [f"{place} line {line_number}: {error.problem}"]
    return [*lines, f"{path}: terminating, 1 bad configuration options"] if path else lines


def _why_unreadable(path: str) -> str:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        return error.strerror or str(error)
    return "not a file"


def lines_for(error: errors.Error, settings: Settings | None) -> list[str]:
    """Return the lines to print for *error*. The last one is ssh's standard message, if it has one."""
    if isinstance(error, OptionError):
        return option_lines(error)
    if isinstance(error, CommandLineProblem):
        return [error.message] if str(error) else []
    if isinstance(error, SessionProblem):
        return [f"ssh: {error.message}", error.last_line]
    if not isinstance(error, errors.ConnectError) or settings is None:
        return [f"ssh: {error.message}"]
    if error.jump_host:
        return [f"ssh: {error.message}", "Connection closed by UNKNOWN port 65535"]
    place = f"{settings.endpoint}: "
    reason = error.message.removeprefix(place)
    if error.stage == "resolve":
        cause = error.__cause__
        text = cause.strerror if isinstance(cause, OSError) and cause.strerror else reason
        if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
            text = "Name or service not known"  # also for a name that is none
        return [f"ssh: Could not resolve hostname {settings.hostname}: {text}"]
    if error.stage == "tcp":
        return [f"ssh: connect to host {settings.hostname} port {settings.port}: {reason}"]
    if error.stage == "hostkey":
        before, after = _host_key_lines(error)
        return [*before, f"ssh: {error.message}", *after, "Host key verification failed."]
    if isinstance(error, errors.AuthenticationError):
        allowed = ",".join(error.allowed_methods) or "none"
        return [f"ssh: {error.message}", f"{settings.user}@{settings.hostname}: Permission denied ({allowed})."]
    if error.stage == "proxy":
        return [f"ssh: {error.message}", "Connection closed by UNKNOWN port 65535"]
    if isinstance(error, NoCommonAlgorithm):
        place = f"{settings.hostname} port {settings.port}"
        offer = f"no matching {error.family} found. Their offer: {error.offered}"
        return [f"ssh: {error.message}", f"Unable to negotiate with {place}: {offer}"]
    if isinstance(error, VersionTimeout):
        ended = f"Connection to {settings.hostname} port {settings.port} timed out"
        return [f"ssh: {error.message}", "Connection timed out during banner exchange", ended]
    if error.stage == "kex":
        return [f"ssh: {error.message}", f"Connection closed by {settings.hostname} port {settings.port}"]
    return [f"ssh: {error.message}"]


def _host_key_lines(error: errors.ConnectError) -> tuple[list[str], list[str]]:
    """Return the lines of ssh that programs look for, before and after the error's own."""
    if not isinstance(error, HostKeyMismatch):
        return [], []
    title = _REVOKED_KEY if error.is_revoked else _CHANGED_KEY
    frame = "@" * len(title)
    return [frame, title, frame], [] if error.is_revoked else [f"Offending {error.key_type} key in {error.location}"]


def lost(settings: Settings, error: errors.ConnectionLost) -> list[str]:
    """Return the lines for a connection that ended before the command."""
    cause = error.cause if isinstance(error, SessionLost) else EndCause.OTHER
    place = f"{settings.hostname} port {settings.port}"
    last_line = {
        EndCause.CORRUPTED_MAC: f"ssh_dispatch_run_fatal: Connection to {place}: message authentication code incorrect",
        EndCause.INVALID_LENGTH: f"ssh_dispatch_run_fatal: Connection to {place}: Connection corrupted",
        EndCause.SILENCE: f"Timeout, server {settings.hostname} not responding.",
        EndCause.OTHER: f"Connection to {settings.hostname} closed by remote host.",
    }[cause]
    return [f"ssh: {error.message}", last_line]
