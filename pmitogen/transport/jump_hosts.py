"""The bastions of a run: one connection to each, shared by every target behind it.

A hop is told from another by its settings (host, port, user, keys and whatever else would make ssh log in differently) and by the
credentials that it is given. The first that needs one connects; the others wait for that, each as long as its own time allows,
and share its failure too: one attempt at a bastion with a wrong key is enough. A hop that was lost is made anew for the next that
asks.

Tunnels are ``direct-tcpip`` channels (RFC 4254 section 7.2), which sshd does not count against MaxSessions.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.settings import JumpHop, Settings
from pmitogen.transport.auth.credentials import Credentials
from pmitogen.transport.keys.key_file import KeyCache
from pmitogen.transport.sharing import connection_key

if TYPE_CHECKING:
    from pmitogen.transport.connection import Link

Resolver = Callable[[JumpHop, Settings], Settings]
"""What ssh would do for a hop as written, on the way to a destination with those settings: ``flags.ssh.resolve_hop``."""


class JumpHostPool:
    """Connections to bastions, one per distinct hop. Thread-safe; close it with the run that it serves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links: dict[Hashable, concurrent.futures.Future[Link]] = {}
        self._closed = False
        self.key_cache = KeyCache()  # of all connections of the run, to jump hosts and to targets

    def connect(self, settings: Settings, credentials: Credentials, deadline: float, make: Callable[[], Link]) -> Link:
        """The live connection to this hop; *make* makes it if there is none. Raises what *make* raised, or ConnectError."""
        key = connection_key(settings), credentials.identity()
        with self._lock:
            if self._closed:
                raise ConnectError(f"{settings.endpoint}: the run is ending", "proxy")
            future = self._links.get(key)
            ours = future is None or _is_lost(future)
            if ours:
                future = self._links[key] = concurrent.futures.Future()
        assert future is not None
        if ours:
            return self._make(key, future, make)
        try:
            return future.result(max(0.0, deadline - time.monotonic()))
        except concurrent.futures.TimeoutError:
            raise ConnectError(f"{settings.endpoint}: the jump host did not let us in within the timeout", "proxy") from None

    def _make(self, key: Hashable, future: concurrent.futures.Future[Link], make: Callable[[], Link]) -> Link:
        try:
            link = make()
        except BaseException as error:
            with self._lock:
                if self._links.get(key) is future:
                    del self._links[key]
            future.set_exception(error)
            raise
        future.set_result(link)
        with self._lock:
            too_late = self._closed
        if too_late:
            link.close()
        return link

    def links(self) -> list[Link]:
        """The connections that are up."""
        with self._lock:
            futures = list(self._links.values())
        return [future.result() for future in futures if future.done() and not _is_lost(future)]

    def close(self) -> None:
        """Close every connection; later requests fail. Idempotent."""
        with self._lock:
            self._closed = True
            futures, self._links = list(self._links.values()), {}
        self.key_cache.clear()
        for future in futures:
            if future.done() and future.exception() is None:
                future.result().close()


def _is_lost(future: concurrent.futures.Future[Link]) -> bool:
    return future.done() and (future.exception() is not None or future.result().end_reason is not None)
