"""Parse the command line of ``sftp``. Source: main() in sftp.c of OpenSSH 10.5. No I/O."""

from __future__ import annotations

import dataclasses
import getopt
from collections.abc import Sequence

from pmitogen.cli.cp.command_line import (
    BadUsage,
    FatalUsage,
    Place,
    check_values,
    getopt_message,
    is_number,
    place,
    refuse,
    ssh_options,
)
from pmitogen.errors import UsageError

USAGE = """\
usage: sftp [-46AaCfNpqrv] [-B buffer_size] [-b batchfile] [-c cipher]
          [-D sftp_server_command] [-F ssh_config] [-i identity_file]
          [-J destination] [-l limit] [-o ssh_option] [-P port]
          [-R num_requests] [-S program] [-s subsystem | sftp_server]
          [-X sftp_option] destination
"""
_FLAGS = "1246AafCNpqrvhB:b:c:D:F:i:J:l:o:P:R:S:s:X:"
_REFUSED = {
    "-D": "-D: a local SFTP server is not supported",
    "-S": "-S: no ssh program is started; leave -S out",
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """A parsed command line. *batch*: the file of commands, "-" for standard input; None: interactive."""

    place: Place
    target: str | None  # where to copy the file of the destination
    ssh_options: tuple[str, ...]
    subsystem: str
    batch: str | None
    quiet: bool
    recursive: bool
    preserve: bool
    resume: bool
    sync: bool


def read(argv: Sequence[str]) -> Arguments:
    """Parse *argv*, without the program's name. Raises UsageError, and its subclass BadUsage."""
    try:
        pairs, operands = getopt.gnu_getopt(list(argv), _FLAGS)
    except getopt.GetoptError as error:
        raise BadUsage(getopt_message(error)) from None
    check_values(pairs, 'Bad port "{}"')
    given = dict(pairs)
    for flag, name in (("-B", "buffer size"), ("-R", "number of requests")):
        if flag in given and not is_number(given[flag]):
            raise FatalUsage(f'Invalid {name} "{given[flag]}"')
    refuse(pairs, _REFUSED)
    subsystem = given.get("-s", "sftp")
    if "/" in subsystem:
        raise UsageError("-s: the path of a server is not supported; use the name of a subsystem")
    if not 1 <= len(operands) <= 2 or "-h" in given:
        raise BadUsage("")
    destination = place(operands[0], "sftp")
    return Arguments(
        place=destination if destination.destination is not None else Place(_without_brackets(operands[0]), ""),
        target=operands[1] if len(operands) == 2 else None,
        ssh_options=tuple(ssh_options(pairs, "-b")),
        subsystem=subsystem,
        batch=given.get("-b"),
        quiet="-q" in given or ("-b" in given and "-N" not in given),
        recursive="-r" in given,
        preserve="-p" in given,
        resume="-a" in given,
        sync="-f" in given,
    )


def _without_brackets(destination: str) -> str:
    """Return ``[user@]host`` for ``[user@][host]``, in which Ansible gives every host."""
    user, at, host = destination.rpartition("@")
    return f"{user}{at}{host[1:-1]}" if host.startswith("[") and host.endswith("]") else destination
