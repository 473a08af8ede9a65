"""Files of an SFTP server."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator

import paramiko

from pmitogen.cli.transfer.files import FileError, WriteOptions, Writer, join, part_name
from pmitogen.errors import ConnectionLost
from pmitogen.transport.sessions import sftp_packets as packets
from pmitogen.transport.sessions.sftp_client import CREATE, REWRITE, SFTP, UPDATE
from pmitogen.transport.sessions.sftp_file import RemoteFile
from pmitogen.transport.sessions.sftp_packets import Attributes, Entry, SFTPError
from pmitogen.util.atomic_file import PRESERVED_MODE_BITS

CLEANUP_TIMEOUT = 5.0  # seconds for removing a part after a failure
# The texts of OpenSSH's client, whatever the server writes.
_REASONS = {
    packets.NO_SUCH_FILE: "No such file or directory",
    packets.PERMISSION_DENIED: "Permission denied",
    packets.FAILURE: "Failure",
    packets.UNSUPPORTED: "Operation unsupported",
}


class RemoteFiles:
    """See :class:`pmitogen.cli.transfer.files.Files`. *server*: its name, for messages."""

    is_remote = True

    def __init__(self, sftp: SFTP, server: str) -> None:
        self.sftp = sftp
        self._server = server

    def stat(self, path: str) -> Attributes:
        with self.translate_errors():
            return self.sftp.stat(path)

    def entries(self, path: str) -> list[Entry]:
        with self.translate_errors():
            return [entry for piece in self.sftp.list_directory(path) for entry in piece]

    def make_directory(self, path: str, mode: int) -> None:
        with self.translate_errors():
            self.sftp.mkdir(path, mode)

    def set_attributes(self, path: str, attributes: Attributes) -> None:
        with self.translate_errors():
            self.sftp.set_attributes(path, attributes)

    def expand(self, path: str, quote: Callable[[str], str] = str) -> str:
        """Return *path* as scp takes it: ``~`` and ``~user`` at its start are home directories.

        The server is asked for the directory of ``~user`` alone, so that the name of the file stays the one that the user typed.
        *quote* is applied to its answer: where *path* is a pattern, the answer must not become part of it.
        """
        if path in ("", "~"):
            return "."
        if path.startswith("~/"):
            return path[2:].lstrip("/") or "."
        if path.startswith("~"):
            account, _, rest = path.partition("/")
            with self.translate_errors():
                home = quote(self.sftp.expand_path(account))
            return join(home, rest.lstrip("/")) if rest else home
        return path

    @contextlib.contextmanager
    def reading(self, path: str) -> Iterator[_Reader]:
        with self.translate_errors(), self.sftp.open(path) as file:
            yield _Reader(self, file)

    @contextlib.contextmanager
    def writing(self, path: str, options: WriteOptions) -> Iterator[Writer]:
        old = self._existing(path)
        if old is not None and not old.is_file:
            if old.is_directory:
                raise FileError("Is a directory")
            with self._in_place(path, UPDATE, options) as writer:
                yield writer
            return
        real = path
        if old is not None:
            with self.translate_errors():
                real = self.sftp.realpath(path)  # a link is followed, as by scp
            if old.mode is not None:
                options = options._replace(mode=options.mode & old.mode)  # readable by no further user
        directory = real.rpartition("/")[0] or ("/" if real.startswith("/") else "")
        if options.part_key is not None and self._is_shared(directory):
            options = options._replace(part_key=None)  # another user may have created a part of that name
        part = join(directory, _part_of(real, options))
        opened = self._open_replacement(part, old, options)
        if opened is None:
            with self._in_place(path, REWRITE, options) as writer:
                yield writer
            return
        file, offset = opened
        try:
            with self.translate_errors(), file:
                yield _Writer(self, file, offset)
                if options.sync:
                    file.sync()
                if old is not None and old.mode is not None:
                    file.set_attributes(Attributes(mode=old.mode & PRESERVED_MODE_BITS))
            with self.translate_errors():
                self.sftp.replace(part, real)
        except BaseException:
            if options.part_key is None:
                self._remove_quickly(part)
            raise

    def _open_replacement(self, part: str, old: Attributes | None, options: WriteOptions) -> tuple[RemoteFile, int] | None:
        """Open the part with the owner of the file that it replaces; None: write the file in place."""
        try:
            file, offset = self._open_part(part, options)
        except FileError as error:
            if old is None or error.is_denied:  # the directory is not writable, or the message should name the file itself
                return None
            raise
        if old is None or self._take_owner(file, old):
            return file, offset
        file.abandon()
        self._remove_quickly(part)
        return None

    def _take_owner(self, file: RemoteFile, old: Attributes) -> bool:
        """Give *file* the owner of *old*. Returns False if that is not allowed."""
        with self.translate_errors():
            new = file.attributes()
        if old.uid is None or (old.uid, old.gid) == (new.uid, new.gid):
            return True
        try:
            with self.translate_errors():
                file.set_attributes(Attributes(uid=old.uid, gid=old.gid))
        except FileError:
            return False
        return True

    @contextlib.contextmanager
    def _in_place(self, path: str, flags: int, options: WriteOptions) -> Iterator[_Writer]:
        with self.translate_errors(), self.sftp.open(path, flags, options.mode) as file:
            yield _Writer(self, file, 0)
            if options.sync:
                file.sync()

    def _existing(self, path: str) -> Attributes | None:
        try:
            return self.stat(path)
        except FileError:
            return None

    def _is_shared(self, directory: str) -> bool:
        """Return whether other users may make files in *directory*."""
        attributes = self._existing(directory or ".")
        return attributes is None or attributes.mode is None or bool(attributes.mode & 0o022)

    def _open_part(self, part: str, options: WriteOptions) -> tuple[RemoteFile, int]:
        """Open the part, and return where to continue. Raises FileError."""
        with self.translate_errors():
            if options.part_key is not None:
                try:
                    attributes = self.sftp.lstat(part)
                except SFTPError as error:
                    if error.code is None:
                        raise
                else:
                    if attributes.is_file and attributes.size is not None and attributes.size <= options.size:
                        return self.sftp.open(part, UPDATE), attributes.size
                    self.sftp.remove(part)
            return self.sftp.open(part, CREATE, options.mode), 0

    def _remove_quickly(self, part: str) -> None:
        """Remove *part*, if the server answers soon."""
        self.sftp.set_timeout(CLEANUP_TIMEOUT)
        with contextlib.suppress(SFTPError, OSError, EOFError, paramiko.SSHException):
            self.sftp.remove(part)
        self.sftp.set_timeout(None)

    @contextlib.contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raise the session's errors as FileError or ConnectionLost."""
        try:
            yield
        except SFTPError as error:
            if error.code is None:
                raise ConnectionLost(f"{self._server}: {error}") from None
            reason = _REASONS.get(error.code, str(error))
            raise FileError(reason, error.code == packets.NO_SUCH_FILE, error.code == packets.PERMISSION_DENIED) from None
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise ConnectionLost(f"{self._server}: {error or 'the connection is closed'}") from None


class _Reader:
    def __init__(self, files: RemoteFiles, file: RemoteFile) -> None:
        self._files = files
        self._file = file
        with files.translate_errors():
            self.attributes = file.attributes()

    def pieces(self, offset: int) -> Generator[bytes, None, None]:
        with self._files.translate_errors():
            yield from self._file.read_pieces(offset)


class _Writer:
    def __init__(self, files: RemoteFiles, file: RemoteFile, offset: int) -> None:
        self._files = files
        self._file = file
        self.offset = offset

    def write(self, pieces: Iterable[bytes]) -> None:
        with self._files.translate_errors():
            self._file.write_pieces(pieces, self.offset)


def _part_of(path: str, options: WriteOptions) -> str:
    return part_name(path.rpartition("/")[2], options.part_key or secrets.token_hex(8))
