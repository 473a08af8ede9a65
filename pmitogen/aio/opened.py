"""Open files of a host, for tasks, read or written from start to end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from pmitogen.aio.process import InputStream, OutputStream
from pmitogen.aio.waiting import Suspending
from pmitogen.api import transfers
from pmitogen.api.account import Account
from pmitogen.api.arguments import AnyPath
from pmitogen.api.exchange import Exchange
from pmitogen.api.waiting import Runtime

RUNTIME = Suspending()


class Transfer:
    """The contents of a remote file, with the interface of a process's streams."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    async def read(self, stream: int, size: int, runtime: Runtime) -> bytes:
        """Return some bytes of the file; empty at its end. Raises the host's error."""
        request = self.exchange
        await request.until(lambda: request.has_output(stream), runtime)
        data = request.take(stream, size)
        if not data and request.final is not None:
            request.result()
        return data

    async def write(self, data: bytes, runtime: Runtime) -> None:
        """Send some bytes of the file. Raises the host's error."""
        if not await self.exchange.send(data, runtime):
            self.exchange.result()


@contextlib.asynccontextmanager
async def reading(account: Account, path: AnyPath, encoding: tuple[str, str] | None) -> AsyncIterator[OutputStream[Any]]:
    """Open a file for reading."""
    request = Exchange(account, transfers.get_header(path, "open"))
    try:
        yield OutputStream(Transfer(request), 0, encoding)
    finally:
        request.kill()


@contextlib.asynccontextmanager
async def writing(
    account: Account, path: AnyPath, encoding: tuple[str, str] | None, permissions: int
) -> AsyncIterator[InputStream[Any]]:
    """Open a file that is written. It appears when the block is left."""
    header = transfers.put_header(path, permissions, "open", "permissions")
    request = Exchange(account, header, feeds=True)
    try:
        yield InputStream(Transfer(request), encoding)
    except BaseException:
        request.kill()
        raise
    request.end_input()
    await account.finish(RUNTIME, request, None)
    request.result()
