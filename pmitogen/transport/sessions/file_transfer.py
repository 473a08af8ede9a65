"""Transfer files without Python: by SFTP, or where the server has none, through ``cat`` in a shell.

A file is written under a temporary name beside the target and renamed when it is complete, so an interruption leaves the old
file as it was. Memory use does not depend on the size. The kind of server is determined once per FileTransfer.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import shlex
import threading
from collections.abc import Iterable, Iterator
from typing import IO

import paramiko

from pmitogen.errors import ConnectionLost, RemoteError
from pmitogen.transport.connection import Connection
from pmitogen.transport.keys.wire import DecodeError
from pmitogen.transport.paramiko_ext.channel import Channel
from pmitogen.transport.sessions import exec_command
from pmitogen.transport.sessions.sftp_client import SFTP
from pmitogen.transport.sessions.sftp_packets import NO_SUCH_FILE, PERMISSION_DENIED, SFTPError
from pmitogen.util.peer_text import escape

READ_SIZE = 256 << 10  # bytes of one read from the local file
START_TIMEOUT = 60.0  # seconds for each step of the start of SFTP
REMOVE_TIMEOUT = 10.0  # seconds to remove the part of an interrupted upload


class FileTransfer:
    """File transfer on one connection. Thread-safe; one transfer at a time on its SFTP channel. Close it when done."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._sftp: SFTP | None = None
        self._has_sftp: bool | None = None  # None: not known yet

    def put(self, source: IO[bytes], size: int | None, path: str, mode: int | None = None) -> None:
        """Write *size* bytes of *source* (None: up to its end) to the remote file *path*; *mode* as in chmod.

        Raises RemoteError, ConnectionLost. Blocks.
        """
        with self._lock:
            sftp = self._client()
            if sftp is not None:
                with self._reporting("write", path):
                    _put_by_sftp(sftp, source, size, path, mode)
                return
        self._put_by_cat(source, size, path, mode)

    def fetch(self, path: str, target: IO[bytes]) -> int:
        """Copy the remote file *path* into *target*, and return its size. Raises RemoteError, ConnectionLost. Blocks."""
        with self._lock:
            sftp = self._client()
            if sftp is not None:
                with self._reporting("read", path):
                    return sftp.fetch(path, target)
        return self._fetch_by_cat(path, target)

    def close(self) -> None:
        """Close the SFTP channel. Idempotent."""
        with self._lock:
            self._close_sftp()

    # SFTP -------------------------------------------------------------------------------------------------------------------

    def _client(self) -> SFTP | None:
        if self._has_sftp is None:
            self._sftp = self._start_sftp()
            self._has_sftp = self._sftp is not None
        return self._sftp

    def _start_sftp(self) -> SFTP | None:
        channel: Channel = self._connection.open_session(START_TIMEOUT, exec_command.WINDOW)
        try:
            if self._connection.start_subsystem(channel, "sftp", timeout=START_TIMEOUT):
                channel.settimeout(START_TIMEOUT)
                client = SFTP(channel)
                channel.settimeout(None)
                return client
        except (paramiko.SSHException, EOFError, OSError, SFTPError, DecodeError):
            pass  # some servers accept the request although no sftp-server is installed
        if self._connection.end_reason is not None:
            raise ConnectionLost(f"{self._connection.peer}: {self._connection.end_reason}")
        channel.close()
        return None

    @contextlib.contextmanager
    def _reporting(self, verb: str, path: str) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, paramiko.SSHException, SFTPError, DecodeError) as error:
            if self._connection.end_reason is not None:
                raise ConnectionLost(f"{self._connection.peer}: {self._connection.end_reason}") from None
            if not isinstance(error, SFTPError) or error.code is None:
                self._close_sftp()  # the state of the session is unknown
            reason = getattr(error, "strerror", None) or str(error) or "the server ended SFTP"
            raise RemoteError(f"{self._connection.peer}: cannot {verb} {path}: {reason}", code=_error_name(error)) from None

    def _close_sftp(self) -> None:
        """Close the SFTP channel; the next transfer opens another."""
        if self._sftp is not None:
            self._sftp.close()
        self._sftp = self._has_sftp = None

    # cat --------------------------------------------------------------------------------------------------------------------

    def _put_by_cat(self, source: IO[bytes], size: int | None, path: str, mode: int | None) -> None:
        target, part = _argument(path), _argument(_part_name(path))
        chmod = f" && chmod {mode:o} {part}" if mode is not None else ""
        pieces = _Counted(_pieces(source, size))
        token = secrets.token_hex(8)  # printed when the file is in place: another command that the server forces may succeed too

        def script(first: str, length: int) -> str:
            # A cut looks like an end of input to cat: only a part of the right size is the file.
            whole = f"test $(wc -c < {part}) -eq {length}"
            then = f"{whole} && test ! -d {target} && mv -f {part} {target}"
            return f"if {first}{then}; then echo {token}; else rm -f {part}; exit 1; fi"

        write = f"cat > {part}{chmod}"
        if size is not None:
            last = self._run_for_part(script(f"{write} && ", size), part, pieces)
        else:
            self._check(self._run_for_part(f"{write} || {{ rm -f {part}; exit 1; }}", part, pieces), "write", path)
            last = self._run_for_part(script("", pieces.count), part)
        self._check(last, "write", path, token.encode() in last[1].split())

    def _run_for_part(self, script: str, part: str, stdin: Iterable[bytes] = ()) -> tuple[exec_command.ExitStatus, bytes, bytes]:
        """Run a script that removes *part* itself when it fails. A cancelled one cannot: its shell may have been killed."""
        try:
            return exec_command.run(self._connection, script, stdin=stdin)
        except BaseException:
            with contextlib.suppress(Exception):
                exec_command.run(self._connection, f"rm -f {part}", timeout=REMOVE_TIMEOUT, slot_timeout=REMOVE_TIMEOUT)
            raise

    def _fetch_by_cat(self, path: str, target: IO[bytes]) -> int:
        got = 0
        stderr_end = earlier = b""
        has_begun = False
        token = secrets.token_hex(8)
        mark = f"\n{token}\n".encode()  # output before it is that of start-up files, or of another command that the server forces

        def take(out: bytes, err: bytes) -> None:
            nonlocal got, stderr_end, earlier, has_begun
            stderr_end = (stderr_end + err)[-2048:]
            if not has_begun:
                earlier, has_begun, out = _after(mark, earlier + out)
            target.write(out)
            got += len(out)

        ended, _, _ = exec_command.run(self._connection, f"echo; echo {token}; cat < {_argument(path)}", on_output=take)
        self._check((ended, b"", stderr_end), "read", path, has_begun)
        return got

    def _check(self, result: tuple[exec_command.ExitStatus, bytes, bytes], verb: str, path: str, has_run: bool = True) -> None:
        """Raise RemoteError for a failure. *has_run*: whether the output shows that the shell has run the command."""
        ended, _, err = result
        if ended.code:
            reason = escape(err, keep_end=True) or f"status {ended.code}"
            raise RemoteError(f"{self._connection.peer}: cannot {verb} {path}: {reason}")
        if not has_run:
            raise RemoteError(f"{self._connection.peer}: cannot {verb} {path}: the login shell does not run commands")


def _after(mark: bytes, data: bytes) -> tuple[bytes, bool, bytes]:
    """Return what to search for *mark* with the next data, whether *data* has it, and the data after it."""
    _, found, rest = data.partition(mark)
    return (b"", True, rest) if found else (data[-len(mark) :], False, b"")


def _error_name(error: Exception) -> str:
    """Return the name of the errno for a status of SFTP; empty if there is none."""
    if isinstance(error, SFTPError):
        return {NO_SUCH_FILE: "ENOENT", PERMISSION_DENIED: "EACCES"}.get(error.code or 0, "")
    return errno.errorcode.get(getattr(error, "errno", None) or 0, "")


class _Counted:
    """An iterator over pieces that counts their bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.count = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self.count += len(piece)
            yield piece


def _put_by_sftp(sftp: SFTP, source: IO[bytes], size: int | None, path: str, mode: int | None) -> None:
    part = _part_name(path)
    try:
        sftp.put(_pieces(source, size), part, mode)
        sftp.replace(part, path)
    except BaseException:
        with contextlib.suppress(Exception):
            sftp.remove(part)
        raise


def _argument(path: str) -> str:
    """Quote *path* for a shell, so that no program takes it for an option."""
    return shlex.quote(f"./{path}" if path.startswith("-") else path)


def _part_name(path: str) -> str:
    return f"{path}.{secrets.token_hex(4)}.part"


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
