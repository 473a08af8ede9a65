"""Copying one file to or from a host, in pieces, in constant memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import IO, TYPE_CHECKING, Any

from pmitogen.api import arguments
from pmitogen.api.account import Account
from pmitogen.api.exchange import Exchange
from pmitogen.api.waiting import Runtime
from pmitogen.hub.without_python import simple_commands
from pmitogen.protocol.framing import CHUNK
from pmitogen.util.atomic_file import atomic_write

if TYPE_CHECKING:
    from pmitogen.protocol.messages_to_client import Answer
    from pmitogen.protocol.requests import RequestHeader

Progress = Callable[[int, "int | None"], object]
"""Called with the bytes copied so far, and how many there are (None: unknown)."""
Source = str | bytes | os.PathLike[str] | IO[bytes]


def put_header(path: arguments.AnyPath, mode: int, call: str = "put", mode_name: str = "mode") -> RequestHeader:
    """Return the request to write a file. *call*, *mode_name*: for messages. Raises TypeError, UsageError."""
    header: RequestHeader = {
        "op": "put",
        "path": arguments.wire_path(path, f"{call}: path"),
        "label": arguments.display_text(path),
    }
    header["mode"] = arguments.integer(mode, f"{call}: {mode_name}", 0, 0o7777)
    return header


def get_header(path: arguments.AnyPath, call: str = "get") -> RequestHeader:
    """Return the request to read a file. *call*: for messages. Raises TypeError, UsageError."""
    return {"op": "get", "path": arguments.wire_path(path, f"{call}: path"), "label": arguments.display_text(path)}


async def put(
    account: Account, runtime: Runtime, source: Any, path: arguments.AnyPath, mode: int, progress: Progress | None = None
) -> None:
    """Copy *source*, bytes, a path or an open file, to *path* on the host."""
    header = put_header(path, mode)
    arguments.function(progress, "put: progress")
    if isinstance(source, (str, os.PathLike)):
        with await runtime.blocking(open, source, "rb") as stream:
            header["size"] = os.fstat(stream.fileno()).st_size
            await _send(account, runtime, header, stream, progress)
        return
    if source is None or isinstance(source, int):  # as the input of a command it would be empty, but this replaces a file
        arguments.wrong("put: source", "bytes, a path or an open file", source)
    data = arguments.source(source, "put: source")
    if isinstance(data, bytes) and len(data) <= CHUNK:
        await account.exchange(runtime, header, data)
        if progress is not None:
            await runtime.finished(progress(len(data), len(data)))
        return
    if isinstance(data, bytes):
        import io

        header["size"] = len(data)
        data = io.BytesIO(data)
    await _send(account, runtime, header, data, progress)


async def _send(account: Account, runtime: Runtime, header: RequestHeader, stream: IO[Any], progress: Progress | None) -> None:
    request = Exchange(account, header, feeds=True)
    sent, size = 0, header.get("size")
    try:
        while request.final is None:
            piece = await runtime.blocking(arguments.read_piece, stream, CHUNK)
            if not piece:
                request.end_input()
                break
            await request.send(piece, runtime)
            sent += len(piece)
            if progress is not None:
                await runtime.finished(progress(sent, size))
    except BaseException:
        request.kill()
        raise
    await account.finish(runtime, request, None)
    request.result()


async def get(
    account: Account, runtime: Runtime, path: arguments.AnyPath, target: Any = None, progress: Progress | None = None
) -> bytes:
    """Copy *path* from the host to *target*, a path or an open file; without one, return it."""
    header = get_header(path)
    if account.become is None and simple_commands.text_of(header) is not None:
        header["simple"] = True
    arguments.function(progress, "get: progress")
    if target is None:
        parts: list[bytes] = []
        await receive(account, runtime, header, parts.append, progress)
        return b"".join(parts)
    if isinstance(target, (str, bytes, os.PathLike)):
        with atomic_write(os.fsdecode(target)) as stream:
            await receive(account, runtime, header, stream.write, progress)
        return b""
    if isinstance(target, int) or not arguments.is_stream(target, "write"):
        arguments.wrong("get: target", "a path, an open file or None", target)
    await receive(account, runtime, header, lambda data: _write_all(target, data), progress)
    return b""


def _write_all(stream: Any, data: bytes) -> None:
    """Write to the caller's stream, which may take less at a time, as an unbuffered file may. Raises TypeError."""
    rest: Any = data
    while len(rest):
        written: object = stream.write(rest)
        if isinstance(written, Coroutine):
            written.close()
            raise TypeError("get: target: its write() returned a coroutine; use a file of the blocking kind, or Host.open")
        if not isinstance(written, int):  # None, as of many functions: it has taken all
            return
        if written <= 0:
            raise BlockingIOError("get: target: the stream is non-blocking and takes no data")
        rest = memoryview(rest)[written:]


async def receive(
    account: Account, runtime: Runtime, header: RequestHeader, write: Callable[[bytes], object], progress: Progress | None
) -> Answer:
    """Read a file, piece by piece, to *write*. Returns the final frame."""
    request = Exchange(account, header)
    received = 0
    try:
        ended = False
        while not ended:
            await request.until(request.has_any_output, runtime)
            ended = request.final is not None
            data = request.take(0)
            if data:
                await runtime.blocking(write, data)
                received += len(data)
                if progress is not None:
                    await runtime.finished(progress(received, None))
    except BaseException:
        request.kill()
        raise
    return request.result()
