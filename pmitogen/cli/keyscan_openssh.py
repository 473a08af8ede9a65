"""``ssh-keyscan`` of ``pmitogen setup --shims``: ``pmitogen keyscan``, with ssh-keyscan's messages and status for wrong usage."""

from __future__ import annotations

import getopt
import sys
from collections.abc import Callable, Sequence

from pmitogen.cli import keyscan
from pmitogen.cli.errors import CommandLineError
from pmitogen.flags.ssh.lexer import ConfigValueError
from pmitogen.flags.ssh.values import numbers
from pmitogen.util.peer_text import one_line

USAGE = """\
usage: ssh-keyscan [-46Hqv] [-f file] [-p port] [-T timeout] [-t type]
                   [host | addrlist namelist]
"""
FAILED, FATAL = 1, 255
_UNSUPPORTED = {"-c": "certificates are not printed", "-D": "SSHFP records are not printed", "-O": "there are no options"}


class _WrongUsage(Exception):
    def __init__(self, message: str, status: int = FAILED, with_usage: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.with_usage = with_usage


def run(argv: Sequence[str]) -> int:
    """Run the command; return the exit status: 0, 1 if no host has sent a key, 255 if a file or a key type is wrong."""
    try:
        answered, _ = keyscan.scan(keyscan.parser().parse(_arguments(argv)))
        return 0 if answered else FAILED
    except _WrongUsage as error:
        message, status, with_usage = str(error), error.status, error.with_usage
    except CommandLineError as error:
        message, status, with_usage = error.problem, FAILED, False
    sys.stderr.write((one_line(message) + "\n" if message else "") + (USAGE if with_usage else ""))
    return status


def _arguments(argv: Sequence[str]) -> list[str]:
    """Check *argv*, and return it as ``pmitogen keyscan`` takes it. Raises _WrongUsage."""
    try:
        pairs, hosts = getopt.getopt(list(argv), "46cDHqvO:p:T:t:f:")
    except getopt.GetoptError as error:
        form = "option requires an argument" if "argument" in error.msg else "unknown option"
        raise _WrongUsage(f"{form} -- {error.opt}", with_usage=True) from None
    for flag, value in pairs:
        _check_option(flag, value)
    if not hosts and not any(flag == "-f" for flag, _ in pairs):
        raise _WrongUsage("", with_usage=True)
    options = [argument for flag, value in pairs if flag != "-v" for argument in ((flag, value) if value else (flag,))]
    return [*options, "--", *hosts]


def _check_option(flag: str, value: str) -> None:
    if flag in _UNSUPPORTED:
        raise _WrongUsage(f"{flag}: not supported: {_UNSUPPORTED[flag]}", FATAL)
    if flag == "-p" and not _is_valid(numbers.port, value):
        raise _WrongUsage(f"Bad port '{value}'")
    if flag == "-T" and not _is_valid(numbers.seconds, value):
        raise _WrongUsage(f"Bad timeout '{value}'", with_usage=True)
    for name in value.split(",") if flag == "-t" else ():
        if name not in keyscan.TYPES and not any(name in names for names in keyscan.TYPES.values()):
            raise _WrongUsage(f'Unknown key type "{name}"', FATAL)
    if flag == "-f" and value != "-":
        try:
            open(value, "rb").close()
        except OSError as error:
            raise _WrongUsage(f"ssh-keyscan: {value}: {error.strerror}", FATAL) from None


def _is_valid(check: Callable[[str], int], text: str) -> bool:
    """Return whether *text* is a number that is not zero."""
    try:
        return bool(check(text))
    except ConfigValueError:
        return False
