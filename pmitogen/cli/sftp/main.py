"""Run ``pmitogen sftp``: from an argument vector to an exit status, with sftp's messages."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

from pmitogen import logging
from pmitogen.cli.cp.command_line import BadUsage, FatalUsage
from pmitogen.cli.cp.main import end_by_signals
from pmitogen.cli.sftp import command_line, copy_commands, directories, shell
from pmitogen.cli.sftp.command_line import Arguments
from pmitogen.cli.sftp.session import CommandError, Session, print_error
from pmitogen.cli.ssh import messages
from pmitogen.cli.transfer import patterns
from pmitogen.cli.transfer.copying import CopyOptions
from pmitogen.cli.transfer.files import is_existing_directory
from pmitogen.cli.transfer.remote_files import RemoteFiles
from pmitogen.cli.transfer.servers import Servers
from pmitogen.errors import Error, UsageError

FAILED, CONNECTION_FAILED = 1, 255
PROMPT = "sftp> "


def run(argv: Sequence[str]) -> int:
    """Run the command; return the exit status: 0, 1 if a command of a batch failed, 255 if the connection failed."""
    if list(argv) in (["-h"], ["--help"]):
        sys.stdout.write(command_line.USAGE)
        return 0
    try:
        arguments = command_line.read(argv)
    except BadUsage as error:
        if str(error):
            print_error(error.message)
        sys.stderr.write(command_line.USAGE)
        return FAILED
    except UsageError as error:
        print_error(error.message)
        return CONNECTION_FAILED if isinstance(error, FatalUsage) else FAILED
    logging.setup("sftp")
    end_by_signals()
    with Servers(arguments.ssh_options, arguments.route) as servers:
        try:
            batch = _open_batch(arguments.batch)
            destination = arguments.place.destination or arguments.place.path
            files = servers.files(destination)
            if not arguments.quiet:
                is_local = arguments.route.local_server is not None
                print_error(f"Attached to {destination}." if is_local else f"Connected to {destination.rpartition('@')[2]}.")
            return _session(files, arguments, batch)
        except OSError as error:
            print_error(f"{error.strerror} ({error.filename}).")
            return CONNECTION_FAILED
        except Error as error:
            for line in messages.lines_for(error, servers.invocation.settings if servers.invocation else None):
                print_error(line)
            print_error("Connection closed")
            return CONNECTION_FAILED


def _open_batch(path: str | None) -> TextIO | None:
    if path is None:
        return None
    return sys.stdin if path == "-" else open(path, encoding="utf-8", errors="surrogateescape")  # the process ends with it


def _session(files: RemoteFiles, arguments: Arguments, batch: TextIO | None) -> int:
    options = CopyOptions(arguments.recursive, arguments.preserve, arguments.resume, arguments.sync)
    session = Session(files, options, arguments.quiet)
    path = files.expand(arguments.place.path) if arguments.place.path else ""
    try:
        if path and (arguments.target is not None or not is_existing_directory(files, session.pattern(path))):
            copy_commands.get(session, "", path, None if arguments.target is None else patterns.escape_pattern(arguments.target))
            return 0
        if path:
            directories.cd(session, "", path)
    except CommandError as error:
        if str(error):
            print_error(str(error))
        return FAILED
    return _commands(session, batch)


def _commands(session: Session, batch: TextIO | None) -> int:
    for line in _lines(batch):
        ok = shell.run(session, line)
        sys.stdout.flush()
        if not ok and batch is not None:
            return FAILED
        if session.ended:
            break
    return 0


def _lines(batch: TextIO | None) -> Iterator[str]:
    """Yield the commands. They are echoed, except those that begin with ``@`` and those that are typed at a terminal."""
    if batch is None and sys.stdin.isatty():
        yield from _typed()
        return
    for line in sys.stdin if batch is None else batch:
        if not line.lstrip(" \t-").startswith("@"):
            sys.stdout.write(f"{PROMPT}{line.rstrip()}\n")
            sys.stdout.flush()
        yield line.rstrip("\n")


def _typed() -> Iterator[str]:
    try:
        import readline  # noqa: F401  # input() edits lines with it
    except ImportError:
        pass  # a Python without it
    while True:
        try:
            yield input(PROMPT)
        except EOFError:
            sys.stdout.write("\n")
            return
