"""Parse the command line of ``scp``. Source: main() in scp.c of OpenSSH 10.5. No I/O."""

from __future__ import annotations

import dataclasses
import getopt
from collections.abc import Sequence
from urllib.parse import unquote

from pmitogen.errors import UsageError

USAGE = """\
usage: scp [-346ABCOpqRrsTv] [-c cipher] [-D sftp_server_path] [-F ssh_config]
           [-i identity_file] [-J destination] [-l limit] [-o ssh_option]
           [-P port] [-S program] [-X sftp_option] [--resume]
           source ... target
"""
_FLAGS = "12346ABCTdfOpqRrstvD:F:J:P:S:c:i:l:o:X:"
_FOR_SSH = {"-4", "-6", "-C", "-v", "-c", "-F", "-i", "-J", "-o"}
_REFUSED = {
    "-D": "-D: a local SFTP server is not supported; copy with cp",
    "-S": "-S: no ssh program is started; leave -S out",
    "-R": "-R: the copy runs through this machine; leave -R out",
    "-f": "-f: scp's server side is not supported; the server needs SFTP",
    "-t": "-t: scp's server side is not supported; the server needs SFTP",
}


class BadUsage(UsageError):
    """A command line after whose message the usage is printed. An empty message: the usage alone."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A file or directory. *destination*: ``[user@]host`` or ``ssh://...`` for ssh; None: this machine."""

    destination: str | None
    path: str


@dataclasses.dataclass(frozen=True)
class Arguments:
    """A parsed command line. *limit*: in kilobits per second; None: no limit."""

    sources: tuple[Place, ...]
    target: Place
    ssh_options: tuple[str, ...]
    recursive: bool
    preserve: bool
    quiet: bool
    resume: bool
    limit: int | None


def read(argv: Sequence[str]) -> Arguments:
    """Parse *argv*, without the program's name. Raises UsageError, and its subclass BadUsage."""
    try:
        pairs, words = getopt.getopt(list(argv), _FLAGS, ["resume"])
    except getopt.GetoptError as error:
        problem = "requires an argument" if "argument" in error.msg else "unknown option"
        raise BadUsage(f"{problem} -- {error.opt}" if problem != "requires an argument" else error.msg) from None
    given = {flag for flag, _ in pairs}
    for flag, message in _REFUSED.items():
        if flag in given:
            raise UsageError(message)
    if len(words) < 2:
        raise BadUsage("")
    return Arguments(
        sources=tuple(map(place, words[:-1])),
        target=place(words[-1]),
        ssh_options=tuple(ssh_options(pairs, "-B")),
        recursive="-r" in given,
        preserve="-p" in given,
        quiet="-q" in given,
        resume="--resume" in given,
        limit=_limit(dict(pairs).get("-l")),
    )


def ssh_options(pairs: list[tuple[str, str]], batch_flag: str) -> list[str]:
    """Return those options of scp or sftp that are for ssh, as ssh takes them. *batch_flag*: the one that implies BatchMode."""
    options = []
    for flag, value in pairs:
        if flag in _FOR_SSH:
            options += [flag, value] if value else [flag]
        elif flag == "-P":
            options += ["-p", value]
        elif flag == batch_flag:
            options += ["-o", "BatchMode=yes"]
        elif flag == "-q":
            options += ["-q"]
    return options


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 10 or not 0 < int(text) <= 100 << 20:
        raise UsageError(f"-l: invalid limit '{text}'; use kilobits per second, from 1 to 104857600")
    return int(text)


def place(word: str, scheme: str = "scp") -> Place:
    """Parse one source or target: ``[user@]host:path``, ``[user@][address]:path``, ``SCHEME://...`` or a local path."""
    prefix = f"{scheme}://"
    if word.startswith(prefix):
        server, _, path = word[len(prefix) :].partition("/")
        if not server:
            raise UsageError(f"{word}: no host in the URI; use {prefix}[user@]host[:port][/path]")
        return Place(f"ssh://{server}", unquote(path, errors="surrogateescape"))
    end = _colon(word)
    if end is None:
        return Place(None, word)
    user, at, host = word[:end].rpartition("@")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or at and not user:
        raise UsageError(f"{word}: no host or user before the colon; use [user@]host:path, or ./{word} for a local file")
    return Place(f"{user}{at}{host}", word[end + 1 :])


def _colon(word: str) -> int | None:
    """Return the position of the colon between host and path; None for a local path."""
    if word.startswith(":"):
        return None
    bracketed = word.startswith("[")
    for at, character in enumerate(word):
        following = word[at + 1 : at + 2]
        if character == "@" and following == "[":
            bracketed = True
        if character == "]" and following == ":" and bracketed:
            return at + 1
        if character == ":" and not bracketed:
            return at
        if character == "/":
            return None
    return None
