"""A listener on loopback that ends with all its connections and threads."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any


class ThreadedListener:
    """Listens on a free port of 127.0.0.1. What is appended to :attr:`opened` is closed by :meth:`stop`."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.opened: list[Any] = []
        self._threads: list[threading.Thread] = []

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self.opened:
            each.close()
        for thread in self._threads:
            thread.join(5)

    def spawn(self, work: Callable[..., None], *args: Any) -> None:
        """Call *work* on a thread that :meth:`stop` waits for."""
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def connections(self) -> Iterator[socket.socket]:
        """Yield each connection, until :meth:`stop`."""
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            yield sock
