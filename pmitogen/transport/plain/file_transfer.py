"""Files over bare SSH: by SFTP, or where the server has none, through ``cat`` in a shell.

A file arrives under a name of its own beside the target and is renamed when it is whole, so that a cut in the middle leaves the
old file as it was. Memory is bounded whatever the size. What kind of server it is is found out once per Files.
"""

from __future__ import annotations

import contextlib
import secrets
import shlex
import stat
import threading
from collections.abc import Iterator
from typing import IO, Any

import paramiko

from pmitogen.errors import ConnectionLost, RemoteError
from pmitogen.transport.connection import Link
from pmitogen.transport.paramiko_ext.channel import Channel
from pmitogen.transport.plain import exec_command
from pmitogen.util.peer_text import escape

CHUNK = 32 << 10  # bytes of one SFTP write; what every server takes
IN_FLIGHT = 64  # SFTP reads that wait for their answer: 2 MiB
PIECE = 256 << 10  # bytes of one read from the local file


class Files:
    """File transfer on one connection. Thread-safe; one transfer at a time on its SFTP channel. Close it when done."""

    def __init__(self, link: Link, timeout: float = 60.0) -> None:
        self._link = link
        self._timeout = timeout
        self._lock = threading.Lock()
        self._sftp: paramiko.SFTPClient | None = None
        self._has_sftp: bool | None = None  # None: not known yet

    def put(self, source: IO[bytes], size: int, path: str, mode: int | None = None) -> None:
        """Write *size* bytes of *source* to *path* there; *mode* as in chmod. Raises RemoteError, ConnectionLost. Blocks."""
        with self._lock:
            sftp = self._client()
            if sftp is not None:
                with self._reporting("write", path):
                    _put_by_sftp(sftp, source, size, path, mode)
                return
        self._put_by_cat(source, size, path, mode)

    def fetch(self, path: str, target: IO[bytes]) -> int:
        """Copy the file *path* there into *target*; its size. Raises RemoteError, ConnectionLost. Blocks."""
        with self._lock:
            sftp = self._client()
            if sftp is not None:
                with self._reporting("read", path):
                    return _fetch_by_sftp(sftp, path, target)
        return self._fetch_by_cat(path, target)

    def close(self) -> None:
        """Give up the SFTP channel. Idempotent."""
        with self._lock:
            if self._sftp is not None:
                with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                    self._sftp.close()
                self._sftp = None

    # SFTP -------------------------------------------------------------------------------------------------------------------

    def _client(self) -> paramiko.SFTPClient | None:
        if self._has_sftp is None:
            self._sftp = self._start_sftp()
            self._has_sftp = self._sftp is not None
        return self._sftp

    def _start_sftp(self) -> paramiko.SFTPClient | None:
        channel: Channel = self._link.open_session(self._timeout)
        try:
            if self._link.start_subsystem(channel, "sftp", timeout=self._timeout):
                channel.settimeout(self._timeout)
                client = paramiko.SFTPClient(channel)
                client.logger = channel.logger
                channel.settimeout(None)
                return client
        except (paramiko.SSHException, EOFError, OSError):
            pass  # a server that says yes and then starts nothing (no sftp-server installed) has no SFTP either
        if self._link.lost is not None:
            raise ConnectionLost(f"{self._link.peer}: {self._link.lost}")
        channel.close()
        return None

    @contextlib.contextmanager
    def _reporting(self, verb: str, path: str) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, paramiko.SSHException) as error:
            if self._link.lost is not None:
                raise ConnectionLost(f"{self._link.peer}: {self._link.lost}") from None
            words = getattr(error, "strerror", None) or str(error) or "the server ended SFTP"
            raise RemoteError(f"{self._link.peer}: cannot {verb} {path}: {words}") from None

    # cat --------------------------------------------------------------------------------------------------------------------

    def _put_by_cat(self, source: IO[bytes], size: int, path: str, mode: int | None) -> None:
        target, part = shlex.quote(path), shlex.quote(_part_name(path))
        chmod = f" && chmod {mode:o} {part}" if mode is not None else ""
        # A cut looks like an end of input to cat: only a part of the right size is the file.
        script = (
            f"if cat > {part}{chmod} && test $(wc -c < {part}) -eq {size} && mv -f {part} {target}; then :; "
            f"else rm -f {part}; exit 1; fi"
        )
        self._check(exec_command.run(self._link, script, stdin=_pieces(source, size)), "write", path)

    def _fetch_by_cat(self, path: str, target: IO[bytes]) -> int:
        got = 0
        complaints = b""

        def take(out: bytes, err: bytes) -> None:
            nonlocal got, complaints
            target.write(out)
            got += len(out)
            complaints = (complaints + err)[-2048:]

        ended, _, _ = exec_command.run(self._link, f"cat < {shlex.quote(path)}", on_output=take)
        self._check((ended, b"", complaints), "read", path)
        return got

    def _check(self, result: tuple[exec_command.Exit, bytes, bytes], verb: str, path: str) -> None:
        ended, _, err = result
        if ended.code:
            words = escape(err, keep_end=True) or f"status {ended.code}"
            raise RemoteError(f"{self._link.peer}: cannot {verb} {path}: {words}")


def _put_by_sftp(sftp: paramiko.SFTPClient, source: IO[bytes], size: int, path: str, mode: int | None) -> None:
    part = _part_name(path)
    try:
        with sftp.open(part, "wb") as file:
            if mode is not None:
                file.chmod(mode)
            file.set_pipelined(True)  # answers are looked at as they come, and all of them at the end
            for piece in _pieces(source, size):
                for start in range(0, len(piece), CHUNK):
                    file.write(piece[start : start + CHUNK])
        _rename(sftp, part, path)
    except BaseException:
        with contextlib.suppress(Exception):
            sftp.remove(part)
        raise


def _rename(sftp: paramiko.SFTPClient, part: str, path: str) -> None:
    try:
        sftp.posix_rename(part, path)
    except OSError:
        # A server without OpenSSH's extension: its own rename does not replace.
        with contextlib.suppress(OSError):
            if not stat.S_ISDIR(sftp.stat(path).st_mode or 0):
                sftp.remove(path)
        sftp.rename(part, path)


def _fetch_by_sftp(sftp: paramiko.SFTPClient, path: str, target: IO[bytes]) -> int:
    with sftp.open(path, "rb") as file:
        size = file.stat().st_size or 0
        _mute_prefetch(file)
        file.prefetch(size, max_concurrent_requests=IN_FLIGHT)
        got = 0
        # A file of /proc tells no size, and one that grows tells too little: read on to the end.
        while piece := file.read(CHUNK):
            target.write(piece)
            got += len(piece)
        return got


def _mute_prefetch(file: paramiko.SFTPFile) -> None:
    """Let Paramiko's thread that asks ahead end in silence, where the channel is closed before it has asked for everything.

    The reader takes all to have been asked for when nothing is outstanding, so it may be done before that thread.
    """
    ask = file._prefetch_thread  # type: ignore[attr-defined]

    def quietly(*args: Any) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            ask(*args)

    file._prefetch_thread = quietly  # type: ignore[attr-defined]


def _part_name(path: str) -> str:
    return f"{path}.{secrets.token_hex(4)}.part"


def _pieces(source: IO[bytes], size: int) -> Iterator[bytes]:
    left = size
    while left:
        piece = source.read(min(PIECE, left))
        if not piece:
            raise RemoteError(f"{getattr(source, 'name', 'the source')}: ends {left} bytes early: did it change meanwhile?")
        left -= len(piece)
        yield piece
