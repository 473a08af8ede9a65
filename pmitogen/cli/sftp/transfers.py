"""Copy the files that match a pattern, for ``get`` and ``put`` of an SFTP session."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable

from pmitogen.cli.transfer import patterns
from pmitogen.cli.transfer.copying import Copier, CopyOptions
from pmitogen.cli.transfer.files import FileError, Files, base_name, is_existing_directory, join
from pmitogen.cli.transfer.local_files import LocalFiles
from pmitogen.cli.transfer.progress import Progress
from pmitogen.cli.transfer.remote_files import RemoteFiles


class Transfers:
    """Copies in both directions. *say*: prints a line that -q suppresses. *show*: prints a line. *report*: prints a failure."""

    def __init__(
        self, remote: RemoteFiles, say: Callable[[str], None], show: Callable[[str], None], report: Callable[[str], None]
    ) -> None:
        self._remote = remote
        self._local = LocalFiles()
        self._say = say
        self._print = show
        self._report = report
        self.progress: type[Progress] = Progress

    def get(self, source: str, target: str | None, options: CopyOptions) -> bool:
        """Copy the remote files that match *source* to this machine. Returns False if any of them failed."""
        try:
            paths = patterns.expand(self._remote, source)
            for each in paths:
                self._remote.stat(each)
        except FileError:
            self._report(f'File "{source}" not found.')
            return False
        return self._copy(self._remote, paths, self._local, target, options, "Fetching")

    def put(self, source: str, target: str | None, options: CopyOptions) -> bool:
        """Copy the local files that match *source* to the server. Returns False if any of them failed."""
        paths = [patterns.unescape(source)]
        if patterns.is_pattern(source) and not os.path.lexists(paths[0]):
            # glob has no backslashes: a literal character is written in brackets.
            paths = sorted(glob.glob(_for_glob(source)))
        if not paths or not os.path.lexists(paths[0]):
            self._report(f"stat {patterns.unescape(source)}: No such file or directory")
            return False
        return self._copy(self._local, paths, self._remote, target, options, "Uploading")

    def _copy(self, source: Files, paths: list[str], target: Files, path: str | None, options: CopyOptions, verb: str) -> bool:
        directory = path or ""
        is_directory = path is None or is_existing_directory(target, path)
        if len(paths) > 1 and not is_directory:
            self._report(f'Multiple paths match, but destination "{path}" is not a directory')
            return False
        copier = Copier(source, target, options, self._report, self.progress, enter=lambda path: self._enter(source, path, paths))
        ok = True
        for each in paths:
            name = base_name(each)
            to = join(directory, name) if is_directory and name else directory or "."
            self._say(f"{verb} {each} to {to}")
            ok &= copier.copy(each, to)
        return ok

    def _enter(self, source: Files, directory: str, arguments: list[str]) -> None:
        """Print the name of a directory that is copied, as sftp does: with a slash for a local argument."""
        verb = "Retrieving" if source.is_remote else "Entering"
        self._print(f"{verb} {directory}{'/' if directory in arguments and not source.is_remote else ''}")


def _for_glob(pattern: str) -> str:
    quoted, characters = "", iter(pattern)
    for character in characters:
        quoted += glob.escape(next(characters, "")) if character == "\\" else character
    return quoted
