"""Transfer files without Python: by SFTP, or where the server has none, through ``cat`` in a shell.

A file is written under a temporary name beside the target and renamed when it is complete, so an interruption leaves the old
file as it was; the new one has its mode. A link or a device is written itself, as with Python. Memory use does not depend on the
size. The kind of server is determined once per FileTransfer.
"""

from __future__ import annotations

import contextlib
import posixpath
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from typing import IO

from pmitogen.errors import RemoteError
from pmitogen.transport.connection import Connection
from pmitogen.transport.sessions import sftp_errors
from pmitogen.transport.sessions.cat_transfer import REMOVE_TIMEOUT, CatTransfer
from pmitogen.transport.sessions.sftp_channel import CHANNEL_ERRORS, SFTPChannel, open_sftp
from pmitogen.transport.sessions.sftp_client import REWRITE, SFTP
from pmitogen.transport.sessions.sftp_packets import FAILURE, NO_SUCH_FILE, SFTPError
from pmitogen.transport.sessions.transfer_errors import FIFO, transfer_error

READ_SIZE = 256 << 10  # bytes of one read from the local file
START_TIMEOUT = 60.0  # seconds for each step of the start of SFTP


class FileTransfer:
    """File transfer on one connection. Thread-safe; one transfer at a time on its SFTP channel. Close it when done."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._sftp: SFTPChannel | None = None
        self._has_sftp: bool | None = None  # None: not known yet
        self._cat = CatTransfer(connection)

    def put(
        self,
        source: IO[bytes],
        size: int | None,
        path: str,
        mode: int | None = None,
        label: str = "",
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Write *size* bytes of *source* (None: up to its end) to the remote file *path*; *mode* as in chmod.

        *label*: what messages begin with, instead of *path*. *is_cancelled*: asked while the source cannot be read yet.
        Raises RemoteError, ConnectionLost, and what the source raises. Blocks.
        """
        part = _part_name(path)
        with self._lock:
            sftp = self._client()
            if sftp is not None:
                with self._reporting(sftp, label or path):
                    self._put_by_sftp(sftp, _pieces(source, size), path, part, mode, label or path)
                return
        self._cat.put(_pieces(source, size), size, path, part, mode, label or path, is_cancelled)

    def fetch(self, path: str, target: IO[bytes], label: str = "") -> int:
        """Copy the remote file *path* into *target*, and return its size. Raises RemoteError, ConnectionLost. Blocks."""
        with self._lock:
            sftp = self._client()
            if sftp is not None:
                with self._reporting(sftp, label or path):
                    return _fetch_by_sftp(sftp.sftp, path, target, label or path)
        return self._cat.fetch(path, target, label or path)

    def close(self) -> None:
        """Close the SFTP channel. Idempotent."""
        with self._lock:
            self._close_sftp()

    def _client(self) -> SFTPChannel | None:
        if self._has_sftp is None:
            self._sftp = open_sftp(self._connection, START_TIMEOUT)
            self._has_sftp = self._sftp is not None
        return self._sftp

    @contextlib.contextmanager
    def _reporting(self, sftp: SFTPChannel, label: str) -> Iterator[None]:
        """Raise RemoteError or ConnectionLost for an error of the session, and close that unless it can be used again."""
        is_usable = False
        try:
            with sftp.losses():
                yield
            is_usable = True
        except SFTPError as error:
            is_usable = error.code is not None
            raise transfer_error(label, "", sftp_errors.reason(error)) from None
        except CHANNEL_ERRORS as error:
            raise transfer_error(label, "", str(error) or "the server ended SFTP") from None
        except RemoteError:
            is_usable = True
            raise
        finally:
            if not is_usable:
                self._close_sftp()  # the state of the session is unknown

    def _close_sftp(self) -> None:
        """Close the SFTP channel; the next transfer opens another."""
        if self._sftp is not None:
            self._sftp.close()
        self._sftp = self._has_sftp = None

    def _put_by_sftp(
        self, sftp: SFTPChannel, pieces: Iterator[bytes], path: str, part: str, mode: int | None, label: str
    ) -> None:
        with _named(sftp.sftp, path, label):
            current, in_place = _state_of_target(sftp.sftp, path, label)
        if in_place:
            with _named(sftp.sftp, path, label, part), sftp.sftp.open(path, REWRITE) as file:
                file.write_pieces(pieces)
            return
        try:
            with _named(sftp.sftp, path, label, part):
                sftp.sftp.put(pieces, part, mode if current is None else current)
                sftp.sftp.replace(part, path)
        except BaseException:
            self._remove(sftp.sftp, part)
            raise

    def _remove(self, sftp: SFTP, part: str) -> None:
        """Remove the part of an interrupted upload; by another channel if this one has ended."""
        try:
            sftp.set_timeout(REMOVE_TIMEOUT)
            sftp.remove(part)
            sftp.set_timeout(None)
        except Exception as error:
            if isinstance(error, SFTPError) and error.code is not None:
                return
            with contextlib.suppress(Exception):
                other = open_sftp(self._connection, REMOVE_TIMEOUT, REMOVE_TIMEOUT)
                if other is not None:
                    with contextlib.closing(other):
                        other.sftp.remove(part)


def _state_of_target(sftp: SFTP, path: str, label: str) -> tuple[int | None, bool]:
    """Return the mode of an existing regular file, and whether *path* must be written in place: a link, or a device."""
    state = sftp_errors.given(sftp.lstat, path)
    if state is None:
        return None, False
    final = sftp_errors.given(sftp.stat, path) if state.is_link else state
    if final is not None and final.is_directory:
        raise transfer_error(label, "EISDIR")
    if final is not None and stat.S_ISFIFO(final.mode or 0):  # its opening would wait for a reader
        raise transfer_error(label, "ENXIO")
    if state.is_file:
        return None if state.mode is None else stat.S_IMODE(state.mode), False
    return None, True


def _fetch_by_sftp(sftp: SFTP, path: str, target: IO[bytes], label: str) -> int:
    with _named(sftp, path, label):
        mode = sftp.stat(path).mode or 0
        if stat.S_ISDIR(mode):
            raise transfer_error(label, "EISDIR")
        if stat.S_ISFIFO(mode):  # its opening would wait for a writer
            raise transfer_error(label, "EINVAL", FIFO)
        return sftp.fetch(path, target)


@contextlib.contextmanager
def _named(sftp: SFTP, path: str, label: str, part: str = "") -> Iterator[None]:
    """Raise RemoteError with a code where the reason of a refusal can be found out. *part*: of an upload."""
    try:
        yield
    except SFTPError as error:
        if error.code is None:
            raise
        state = sftp_errors.given(sftp.stat, path) if part and error.code in (FAILURE, NO_SUCH_FILE) else None
        is_directory = state is not None and state.is_directory
        name = "EISDIR" if is_directory else sftp_errors.error_name(sftp, error, path, grows=bool(part))
        if not name:
            raise
        raise transfer_error(label, name) from None


def _part_name(path: str) -> str:
    """Return the name of a file beside *path*."""
    directory, name = posixpath.split(path)
    suffix = f".{secrets.token_hex(4)}.part"
    if len(name.encode("utf-8", "surrogateescape")) + len(suffix) > sftp_errors.MAX_NAME:
        name = name[:50]  # at most 200 bytes
    return posixpath.join(directory, name + suffix)


def _pieces(source: IO[bytes], size: int | None) -> Iterator[bytes]:
    left = size
    while left != 0:
        piece = source.read(READ_SIZE if left is None else min(READ_SIZE, left))
        if not piece:
            if left is None:
                return
            raise RemoteError(f"{getattr(source, 'name', 'the source')}: file truncated: {left} bytes are missing")
        if left is not None:
            left -= len(piece)
        yield piece
