"""Parse the command line of ``sftp``. Source: main() in sftp.c of OpenSSH 10.5. No I/O."""

from __future__ import annotations

import dataclasses
import getopt
import shlex
from collections.abc import Sequence

from pmitogen.cli.cp.command_line import (
    BadUsage,
    FatalUsage,
    Place,
    check_values,
    getopt_message,
    is_number,
    place,
    ssh_options,
    ssh_program,
)
from pmitogen.cli.transfer.servers import Route

USAGE = """\
usage: sftp [-46AaCfNpqrv] [-B buffer_size] [-b batchfile] [-c cipher]
          [-D sftp_server_command] [-F ssh_config] [-i identity_file]
          [-J destination] [-l limit] [-o ssh_option] [-P port]
          [-R num_requests] [-S program] [-s subsystem | sftp_server]
          [-X sftp_option] destination
"""
_FLAGS = "1246AafCNpqrvhB:b:c:D:F:i:J:l:o:P:R:S:s:X:"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """A parsed command line. *batch*: the file of commands, "-" for standard input; None: interactive."""

    place: Place
    target: str | None  # where to copy the file of the destination
    ssh_options: tuple[str, ...]
    route: Route
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
    if [flag for flag, _ in pairs].count("-b") > 1:
        raise FatalUsage("Batch file already specified.")
    for flag, name in (("-B", "buffer size"), ("-R", "number of requests")):
        if flag in given and not is_number(given[flag]):
            raise FatalUsage(f'Invalid {name} "{given[flag]}"')
    local_server = _local_server(given["-D"]) if "-D" in given else None
    if "-h" in given or (local_server is None and not 1 <= len(operands) <= 2):
        raise BadUsage("")
    if local_server is not None:  # as in sftp, the operands are ignored
        where, operands = Place(local_server[0], ""), []
    else:
        if not operands[0]:
            raise BadUsage("Missing hostname")
        where = place(operands[0], "sftp")
        if where.destination is None:
            where = Place(_without_brackets(operands[0]), "")
    return Arguments(
        place=where,
        target=operands[1] if len(operands) == 2 else None,
        ssh_options=tuple(ssh_options(pairs, "-b")),
        route=Route(given.get("-s", "sftp"), ssh_program(given), local_server),
        batch=given.get("-b"),
        quiet="-q" in given or ("-b" in given and "-N" not in given),
        recursive="-r" in given,
        preserve="-p" in given,
        resume="-a" in given,
        sync="-f" in given,
    )


def _local_server(text: str) -> tuple[str, ...]:
    """Split the command line of -D. Raises UsageError."""
    try:
        argv = tuple(shlex.split(text))
    except ValueError:
        argv = ()
    if not argv:
        raise FatalUsage(f'Invalid -D argument "{text}"')
    return argv


def _without_brackets(destination: str) -> str:
    """Return ``[user@]host`` for ``[user@][host]``, in which Ansible gives every host."""
    user, at, host = destination.rpartition("@")
    return f"{user}{at}{host[1:-1]}" if host.startswith("[") and host.endswith("]") else destination
