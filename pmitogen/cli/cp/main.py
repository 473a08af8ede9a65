"""Run ``pmitogen cp``: from an argument vector to an exit status, with scp's messages.

Each file is written under a temporary name beside its destination and renamed when it is complete. ``--resume`` leaves the
temporary file of an interrupted copy, and continues it if the source is unchanged.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from pmitogen import logging
from pmitogen.cli.cp import command_line
from pmitogen.cli.cp.command_line import Arguments, BadUsage, FatalUsage, InvalidURI, Place
from pmitogen.cli.ssh import messages
from pmitogen.cli.transfer import patterns
from pmitogen.cli.transfer.copying import Copier, CopyOptions
from pmitogen.cli.transfer.files import FileError, Files, base_name, is_existing_directory, join
from pmitogen.cli.transfer.local_files import LocalFiles
from pmitogen.cli.transfer.progress import Progress, TerminalProgress, limited
from pmitogen.cli.transfer.remote_files import RemoteFiles
from pmitogen.cli.transfer.servers import Route, Servers
from pmitogen.errors import Error, UsageError
from pmitogen.util.peer_text import one_line

FAILED, CONNECTION_FAILED = 1, 255


def run(argv: Sequence[str]) -> int:
    """Run the command; return the exit status: 0, 1 if a copy failed, 255 if a connection failed."""
    if list(argv) in (["-h"], ["--help"]):
        sys.stdout.write(command_line.USAGE)
        return 0
    try:
        arguments = command_line.read(argv)
    except BadUsage as error:
        if str(error):
            _print(error.message)
        sys.stderr.write(command_line.USAGE)
        return FAILED
    except UsageError as error:
        _write(error.message) if isinstance(error, InvalidURI) else _print(error.message)
        return CONNECTION_FAILED if isinstance(error, FatalUsage) else FAILED
    logging.setup("cp")
    end_by_signals()
    local_server = None if arguments.local_server is None else (arguments.local_server,)
    with Servers(arguments.ssh_options, Route("sftp", arguments.ssh_program, local_server)) as servers:
        try:
            return _Copies(arguments, servers).run()
        except Error as error:
            if not arguments.quiet:
                for line in messages.lines_for(error, servers.invocation.settings if servers.invocation else None):
                    _write(line)
            _print("Connection closed")
            return CONNECTION_FAILED


class _Copies:
    """The copies of one command line."""

    def __init__(self, arguments: Arguments, servers: Servers) -> None:
        self._arguments = arguments
        self._servers = servers
        self._local = LocalFiles()
        self._pace = limited(arguments.limit) if arguments.limit else iter

    def run(self) -> int:
        target = self._arguments.target
        files = self._files(target)
        path = self._expanded(files, target.path)
        is_directory = is_existing_directory(files, path)
        several = len(self._arguments.sources) > 1
        if several and not is_directory:
            is_directory = self._make_directory(files, path)
            if not is_directory:
                return CONNECTION_FAILED if files.is_remote else FAILED  # as scp
        status = 0
        for source in self._arguments.sources:
            if source.destination is None and not self._exists(source.path):
                return CONNECTION_FAILED if files.is_remote else FAILED  # as scp
            if not self._copy(source, files, path, is_directory):
                status = FAILED
        return status

    def _files(self, place: Place) -> Files:
        return self._local if place.destination is None else self._servers.files(place.destination)

    @staticmethod
    def _expanded(files: Files, path: str) -> str:
        return files.expand(path) if isinstance(files, RemoteFiles) else path

    def _exists(self, path: str) -> bool:
        try:
            self._local.stat(path)
        except FileError as error:
            _print(f'stat local "{path}": {error}')
            return False
        return True

    @staticmethod
    def _make_directory(files: Files, path: str) -> bool:
        try:
            if not files.is_remote:
                files.stat(path)
                raise FileError("Not a directory")
            files.make_directory(path, 0o777)
        except FileError as error:
            _write(f'scp: remote mkdir "{path}": {error}' if files.is_remote else f"{path}: {error}")
            return False
        return True

    def _copy(self, source: Place, target: Files, path: str, is_directory: bool) -> bool:
        files = self._files(source)
        try:
            sources = self._matches(files, source.path)
        except FileError as error:
            _print(f"{source.path}: {error}")
            return False
        if len(sources) > 1 and not is_directory:
            if _exists(target, path):
                _print(f'Multiple files match pattern, but destination "{path}" is not a directory')
                return False
            try:
                target.make_directory(path, 0o777)
            except FileError as error:
                _print(f"mkdir {path}: {error}")
                return False
            is_directory = True
        options = CopyOptions(self._arguments.recursive, self._arguments.preserve, self._arguments.resume)
        copier = Copier(files, target, options, _print, self._progress(), self._pace)
        ok = True
        for each in sources:
            ok &= copier.copy(each, join(path, base_name(each)) if is_directory and base_name(each) else path)
        return ok

    def _matches(self, files: Files, path: str) -> list[str]:
        if not isinstance(files, RemoteFiles):
            return [path]
        matches = patterns.expand(files, files.expand(path, patterns.escape_pattern))
        for each in matches:
            files.stat(each)
        return matches

    def _progress(self) -> type[Progress]:
        return Progress if self._arguments.quiet or not sys.stdout.isatty() else TerminalProgress


def _exists(files: Files, path: str) -> bool:
    try:
        files.stat(path)
    except FileError:
        return False
    return True


def end_by_signals() -> None:
    """Let SIGTERM and SIGHUP end the program as Ctrl-C does, so that temporary files are removed. Main thread."""

    def end(signum: int, _frame: object) -> None:
        raise SystemExit(128 + signum)

    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:  # ignored under nohup
            signal.signal(signum, end)


def _print(line: str) -> None:
    _write(f"scp: {line}")


def _write(line: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(one_line(line) + "\n")
    sys.stderr.flush()
