"""Parse the command line of ``scp``. Source: main() in scp.c of OpenSSH 10.5. No I/O."""

from __future__ import annotations

import dataclasses
import getopt
import re
import shlex
from collections.abc import Sequence
from urllib.parse import unquote

from pmitogen.errors import UsageError
from pmitogen.flags.ssh.lexer import ConfigValueError
from pmitogen.flags.ssh.values import numbers

USAGE = """\
usage: scp [-346ABCOpqRrsTv] [-c cipher] [-D sftp_server_path] [-F ssh_config]
           [-i identity_file] [-J destination] [-l limit] [-o ssh_option]
           [-P port] [-S program] [-X sftp_option] [--resume]
           source ... target
"""
_FLAGS = "12346ABCTdfOpqRrstvD:F:J:P:S:c:i:l:o:X:"
_FOR_SSH = {"-4", "-6", "-C", "-v"}
_FOR_SSH_WITH_VALUE = {"-c", "-F", "-i", "-J", "-o"}
MAX_LIMIT = 100 << 20  # kilobits per second
_NUMBER = re.compile("[0-9]{1,10}")
_SIZE = re.compile(r"(?=.*[1-9])[0-9]{1,10}[kKmM]?")
_REFUSED = {
    "-R": "-R: the copy runs through this machine; leave -R out",
    "-f": "-f: scp's server side is not supported; the server needs SFTP",
    "-t": "-t: scp's server side is not supported; the server needs SFTP",
}


class BadUsage(UsageError):
    """An invalid command line; the usage is printed after the message. An empty message: the usage alone."""


class FatalUsage(UsageError):
    """An invalid command line; the exit status is 255."""


class InvalidURI(UsageError):
    """An invalid URI as source or target. The program's name is not printed before the message."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A file or directory. *destination*: ``[user@]host`` or ``ssh://...`` for ssh; None: this machine."""

    destination: str | None
    path: str


@dataclasses.dataclass(frozen=True)
class Arguments:
    """A parsed command line. *limit*: in kilobits per second; None: no limit.

    *ssh_program*: of -S. *local_server*: of -D.
    """

    sources: tuple[Place, ...]
    target: Place
    ssh_options: tuple[str, ...]
    recursive: bool
    preserve: bool
    quiet: bool
    resume: bool
    limit: int | None
    ssh_program: str | None
    local_server: str | None


def read(argv: Sequence[str]) -> Arguments:
    """Parse *argv*, without the program's name. Raises UsageError, and its subclass BadUsage."""
    try:
        pairs, operands = getopt.getopt(list(argv), _FLAGS, ["resume"])
    except getopt.GetoptError as error:
        raise BadUsage(getopt_message(error)) from None
    check_values(pairs, 'bad port "{}"')
    given = {flag for flag, _ in pairs}
    for flag, message in _REFUSED.items():
        if flag in given:
            raise UsageError(message)
    if len(operands) < 2:
        raise BadUsage("")
    places = [place(each) for each in operands]
    if "-O" in given:
        places = [_unquoted(each) for each in places]
    return Arguments(
        sources=tuple(places[:-1]),
        target=places[-1],
        ssh_options=tuple(ssh_options(pairs, "-B")),
        recursive="-r" in given,
        preserve="-p" in given,
        quiet="-q" in given,
        resume="--resume" in given,
        limit=int(dict(pairs)["-l"]) if "-l" in given else None,
        ssh_program=ssh_program(dict(pairs)),
        local_server=dict(pairs).get("-D"),
    )


def ssh_program(flags: dict[str, str]) -> str | None:
    """Return the program of ``-S``; None for ``ssh``, which is the default of scp and sftp: then this process logs in itself."""
    return flags["-S"] if flags.get("-S", "ssh") != "ssh" else None


def ssh_options(pairs: list[tuple[str, str]], batch_flag: str) -> list[str]:
    """Return those options of scp or sftp that are for ssh, as ssh takes them. *batch_flag*: the one that implies BatchMode."""
    options = []
    for flag, value in pairs:
        if flag in _FOR_SSH:
            options += [flag]
        elif flag in _FOR_SSH_WITH_VALUE:
            options += [flag, value]
        elif flag == "-P":
            options += ["-p", value]
        elif flag == batch_flag:
            options += ["-o", "BatchMode=yes"]
        elif flag == "-q":
            options += ["-q"]
    return options


def _unquoted(place: Place) -> Place:
    """Return *place* as the old protocol (-O) takes it: there, the server's shell reads the path, so callers quote it for one."""
    try:
        parts = [] if place.destination is None else shlex.split(place.path)
    except ValueError:  # an open quote
        return place
    return dataclasses.replace(place, path=parts[0]) if len(parts) == 1 else place


def getopt_message(error: getopt.GetoptError) -> str:
    """Return the C library's message for an error of getopt."""
    return f"{'option requires an argument' if 'argument' in error.msg else 'unknown option'} -- {error.opt}"


def check_values(pairs: list[tuple[str, str]], bad_port: str) -> None:
    """Check the values of ``-P``, ``-X`` and ``-l``. *bad_port*: the message for a port. Raises FatalUsage, BadUsage."""
    for flag, value in pairs:
        if flag == "-P":
            try:
                numbers.port(value)
            except ConfigValueError:
                raise FatalUsage(bad_port.format(value)) from None
        elif flag == "-X":
            _check_tuning(value)
        elif flag == "-l" and not (is_number(value) and int(value) <= MAX_LIMIT):
            raise BadUsage("")


def _check_tuning(value: str) -> None:
    """Check the value of ``-X``, which has no effect. Raises FatalUsage."""
    name, _, number = value.partition("=")
    if name == "buffer":
        if not _SIZE.fullmatch(number):
            raise FatalUsage(f'Invalid buffer size "{number}": Invalid argument')
    elif name != "nrequests":
        raise FatalUsage("Invalid -X option")
    elif not is_number(number):
        raise FatalUsage(f'Invalid number of requests "{number}": {"too small" if number.strip("0") == "" else "invalid"}')


def is_number(text: str) -> bool:
    """Return whether *text* is a number of 1 to 10 digits, and not zero."""
    return _NUMBER.fullmatch(text) is not None and int(text) > 0


def place(argument: str, scheme: str = "scp") -> Place:
    """Parse one source or target: ``[user@]host:path``, ``[user@][address]:path``, ``SCHEME://...`` or a local path."""
    prefix = f"{scheme}://"
    if argument.startswith(prefix):
        server, _, path = argument[len(prefix) :].partition("/")
        try:
            numbers.ssh_uri(f"ssh://{server}")
        except ConfigValueError:
            raise InvalidURI(f"{argument}: invalid uri") from None
        return Place(f"ssh://{server}", unquote(path, errors="surrogateescape"))
    end = _colon(argument)
    if end is None:
        return Place(None, argument)
    user, at, host = argument[:end].rpartition("@")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or at and not user:
        raise FatalUsage(f"{argument}: no host or user before the colon; use [user@]host:path, or ./{argument} for a local file")
    return Place(f"{user}{at}{host}", argument[end + 1 :])


def _colon(argument: str) -> int | None:
    """Return the position of the colon between host and path; None for a local path."""
    if argument.startswith(":"):
        return None
    bracketed = argument.startswith("[")
    for at, character in enumerate(argument):
        following = argument[at + 1 : at + 2]
        if character == "@" and following == "[":
            bracketed = True
        if character == "]" and following == ":" and bracketed:
            return at + 1
        if character == ":" and not bracketed:
            return at
        if character == "/":
            return None
    return None
