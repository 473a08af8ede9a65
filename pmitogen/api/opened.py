"""Open files of a host, read or written from start to end."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import IO, Any, cast

from pmitogen.api import arguments, commands, transfers
from pmitogen.api.account import Account
from pmitogen.api.arguments import AnyPath
from pmitogen.api.exchange import Exchange
from pmitogen.api.waiting import Blocking, finish
from pmitogen.errors import UsageError

RUNTIME = Blocking()
BUFFER = 1 << 17  # bytes
MODES = ("r", "rt", "w", "wt", "rb", "wb")


def mode_of(mode: str) -> str:
    """Return the mode without its "t". Raises TypeError, UsageError."""
    if not isinstance(mode, str):
        arguments.wrong("open: mode", "str", mode)
    if mode not in MODES:
        raise UsageError(f"open: mode: {mode!r}: use one of {', '.join(MODES)}")
    return mode.removesuffix("t")


class ReadRaw(io.RawIOBase):
    """A remote file opened for reading, unbuffered."""

    def __init__(self, request: Exchange) -> None:
        self._request = request

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        request = self._request
        finish(request.until(lambda: request.has_output(0), RUNTIME))
        data = request.take(0, len(buffer))
        if not data and request.final is not None:
            request.result()
        buffer[: len(data)] = data
        return len(data)

    def give_up(self) -> None:
        """Cancel the transfer."""
        self._request.kill()

    def close(self) -> None:
        if not self.closed:
            self._request.kill()
        super().close()


class WriteRaw(io.RawIOBase):
    """A remote file opened for writing, unbuffered; it appears when closed."""

    def __init__(self, account: Account, request: Exchange) -> None:
        self._account, self._request = account, request

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        if not finish(self._request.send(piece, RUNTIME)):
            self._request.result()
        return len(piece)

    def give_up(self) -> None:
        """Cancel the transfer; an existing file stays unchanged."""
        self._request.kill()

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        self._request.end_input()
        finish(self._account.finish(RUNTIME, self._request, None))
        self._request.result()


class _File:
    """Mixin of the files below: the end of their ``with`` block, and a warning about a file that is not closed."""

    remote: ReadRaw | WriteRaw

    def __exit__(self, kind: object, *_: object) -> None:
        stream = cast("IO[Any]", self)
        if kind is None:
            try:
                stream.close()
            except BaseException:
                self.remote.give_up()
                raise
            return
        self.remote.give_up()
        with contextlib.suppress(Exception):
            stream.close()

    def __del__(self) -> None:
        if not self.remote.closed:
            self.__exit__(ResourceWarning)
            warnings.warn(f"unclosed file of a host: {self!r}", ResourceWarning, source=self, stacklevel=2)


class _TextFile(_File, io.TextIOWrapper):
    """A file of text."""


class _BinaryReader(_File, io.BufferedReader):
    """A file of bytes that is read."""


class _BinaryWriter(_File, io.BufferedWriter):
    """A file of bytes that is written."""


def open_file(account: Account, path: AnyPath, mode: str, encoding: str, permissions: int) -> IO[Any]:
    """Open a file of the host. Raises TypeError, UsageError."""
    is_text = not mode.endswith("b")
    if is_text:
        commands.text_encoding(True, encoding, "strict", "open")
    remote: ReadRaw | WriteRaw  # made last: io closes an object whose __init__ has failed
    if mode.startswith("r"):
        remote = ReadRaw(Exchange(account, transfers.get_header(path, "open")))
    else:
        header = transfers.put_header(path, permissions, "open", "permissions")
        remote = WriteRaw(account, Exchange(account, header, feeds=True))
    stream: Any
    if is_text:
        buffer: Any = io.BufferedReader(remote, BUFFER) if isinstance(remote, ReadRaw) else io.BufferedWriter(remote, BUFFER)
        stream = _TextFile(buffer, encoding)
    elif isinstance(remote, ReadRaw):
        stream = _BinaryReader(remote, BUFFER)
    else:
        stream = _BinaryWriter(remote, BUFFER)
    stream.remote = remote
    return cast("IO[Any]", stream)
