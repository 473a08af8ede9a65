"""Files of a host that are open here, read or written from start to end."""

from __future__ import annotations

import io
from typing import Any

from pmitogen.api import transfers
from pmitogen.api.account import Account
from pmitogen.api.arguments import AnyPath
from pmitogen.api.exchange import Exchange
from pmitogen.api.waiting import Blocking, finish

STYLE = Blocking()


class ReadRaw(io.RawIOBase):
    """A file that is read."""

    def __init__(self, account: Account, path: AnyPath) -> None:
        self._request = Exchange(account, transfers.get_header(path))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        request = self._request
        finish(request.until(lambda: request.has_output(0), STYLE))
        data = request.take(0, len(buffer))
        if not data and request.final is not None:
            request.result()
        buffer[: len(data)] = data
        return len(data)

    def give_up(self) -> None:
        """Read no more."""
        self._request.kill()

    def close(self) -> None:
        if not self.closed:
            self._request.kill()
        super().close()


class WriteRaw(io.RawIOBase):
    """A file that is written. It appears when this is closed."""

    def __init__(self, account: Account, path: AnyPath, mode: int) -> None:
        self._account = account
        self._request = Exchange(account, transfers.put_header(path, mode), feeds=True)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        if not finish(self._request.send(piece, STYLE)):
            self._request.result()
        return len(piece)

    def give_up(self) -> None:
        """Leave what was there before as it was."""
        self._request.kill()

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        self._request.end_input()
        finish(self._account.finish(STYLE, self._request, None))
        self._request.result()
