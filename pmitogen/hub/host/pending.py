"""The requests of one host that have no final answer yet. I/O thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pmitogen.hub.host.accounts import Account
from pmitogen.hub.requests import Request

if TYPE_CHECKING:
    from pmitogen.protocol.messages_to_client import Transfer


class PendingRequests:
    """Requests that wait for the connection, and requests under way."""

    def __init__(self) -> None:
        self._waiting: list[Request] = []
        self._open: dict[int, Request] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._open)

    @property
    def waiting_size(self) -> int:
        """Bytes of the requests that wait."""
        return sum(request.size for request in self._waiting)

    @property
    def waiting(self) -> tuple[Request, ...]:
        """The requests that wait, in their order."""
        return tuple(self._waiting)

    @property
    def under_way(self) -> tuple[Request, ...]:
        """The requests under way."""
        return tuple(self._open.values())

    def transfers(self, host: str) -> list[Transfer]:
        """Describe the transfers of files under way; *host* is its name."""
        found = (request.describe_transfer() for request in self._open.values())
        return [{"host": host, **transfer} for transfer in found if transfer]

    def has_waiting(self, chain: int) -> bool:
        """Return True if a request of *chain* waits."""
        return any(request.header.get("chain") == chain for request in self._waiting)

    def wait(self, request: Request) -> None:
        """Queue *request* behind the others."""
        self._open.pop(request.request_id, None)
        self._waiting.append(request)

    def stop_waiting(self, request: Request) -> None:
        """Discard *request* if it waits."""
        self._waiting = [other for other in self._waiting if other is not request]

    def take_waiting(self) -> list[Request]:
        """Remove and return the requests that wait."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def open(self, request: Request) -> None:
        """Note that *request* is under way."""
        self._open[request.request_id] = request

    def get(self, request_id: int) -> Request | None:
        """Return the request under way with this number, or None."""
        return self._open.get(request_id)

    def close(self, request: Request) -> bool:
        """Remove *request* from those under way. Returns whether it was among them."""
        return self._open.pop(request.request_id, None) is not None

    def take_open(self, condition: Callable[[Request], bool] = lambda request: True) -> list[Request]:
        """Remove and return the requests under way that *condition* holds for."""
        taken = [request for request in self._open.values() if condition(request)]
        for request in taken:
            del self._open[request.request_id]
        return taken

    def take_of(self, account: Account) -> list[Request]:
        """Remove and return the requests under way in *account*."""
        return self.take_open(lambda request: request.account is account)

    def take_all(self) -> list[Request]:
        """Remove and return all requests."""
        return self.take_waiting() + self.take_open()
