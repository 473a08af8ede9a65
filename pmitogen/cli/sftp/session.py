"""State of an SFTP session, and functions that several of its commands use."""

from __future__ import annotations

import sys
from collections.abc import Callable

from pmitogen.cli.sftp.transfers import Transfers
from pmitogen.cli.transfer import patterns
from pmitogen.cli.transfer.copying import CopyOptions
from pmitogen.cli.transfer.files import FileError, join
from pmitogen.cli.transfer.progress import Progress, TerminalProgress
from pmitogen.cli.transfer.remote_files import RemoteFiles
from pmitogen.util.peer_text import one_line


class CommandError(Exception):
    """A command failed. The text is for the user; empty if it has been printed already."""


class Session:
    """An SFTP session. *options*: of every copy. *quiet*: print neither progress nor actions.

    *cwd*: the remote directory. One thread; methods raise ConnectionLost if the server is gone.
    """

    def __init__(self, files: RemoteFiles, options: CopyOptions, quiet: bool) -> None:
        self.files = files
        self.sftp = files.sftp
        self.options = options
        self._quiet = quiet
        self.transfers = Transfers(files, self.say, self.print, print_error)
        self._shows_progress = quiet
        self.toggle_progress()
        self.ended = False
        with files.translate_errors():
            self.cwd = self.sftp.realpath(".")

    def toggle_progress(self) -> bool:
        """Switch the display of progress on or off. Returns whether it is on now."""
        self._shows_progress = not self._shows_progress
        self.transfers.progress = TerminalProgress if self._shows_progress and sys.stdout.isatty() else Progress
        return self._shows_progress

    def path(self, typed: str) -> str:
        """Return the remote path that *typed* names."""
        path = patterns.unescape(typed)
        return path if path.startswith("/") else join(self.cwd, path) if path else self.cwd

    def pattern(self, typed: str) -> str:
        """Return the pattern *typed* with the remote directory before it."""
        return typed if typed.startswith("/") else join(patterns.escape_pattern(self.cwd), typed)

    def change(self, label: str, action: Callable[[], None]) -> None:
        """Run *action*. Raises CommandError, which begins with *label*."""
        try:
            with self.files.translate_errors():
                action()
        except FileError as error:
            raise CommandError(f"{label}: {error}") from None

    def change_each(self, typed: str, label: str, action: Callable[[str], None], verb: str) -> None:
        """Run *action* for each remote file that matches *typed*. Raises CommandError if it fails for one.

        *label*: begins the message of a failure; its "{}" is the path.
        """
        try:
            matches = patterns.expand(self.files, self.pattern(typed))
        except FileError as error:
            raise CommandError(f"{label.format(self.path(typed))}: {error}") from None
        failed = False
        for path in matches:
            self.say(f"{verb} {path}")
            try:
                self.change(label.format(path), lambda path=path: action(path))  # type: ignore[misc]
            except CommandError as error:
                print_error(str(error))
                failed = True
        if failed:
            raise CommandError("")

    def say(self, line: str) -> None:
        """Print a line that ``-q`` suppresses."""
        if not self._quiet:
            self.print(line)

    @staticmethod
    def print(line: str) -> None:
        """Print a line."""
        sys.stdout.write(one_line(line) + "\n")


def print_error(line: str) -> None:
    """Print a line on standard error."""
    sys.stdout.flush()
    sys.stderr.write(one_line(line) + "\n")
    sys.stderr.flush()
