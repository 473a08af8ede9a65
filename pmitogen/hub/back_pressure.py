"""Back-pressure of one host: limits for data to a host that does not read, or from one whose clients do not read.

- Too much data waits for the host: the hub stops reading from the clients that send it, until the host has read most of it.
- Too much output waits for clients: the hub stops reading the host's channel, so that the SSH window makes the host wait.

I/O thread.
"""

from __future__ import annotations

from collections.abc import Callable

from pmitogen.hub.requests import AnswerReceiver

HIGH = 6 << 20  # bytes that wait for a host when its clients are paused
LOW = 1 << 20  # ... and when they are resumed
OUTPUT_HIGH = 8 << 20  # bytes of output under way to clients when the host's channel is paused
OUTPUT_LOW = 4 << 20


class BackPressure:
    """Clients that are paused because too much data waits for their host. *waiting* returns the bytes."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._waiting = waiting
        self._paused: list[AnswerReceiver] = []

    def check(self, client: AnswerReceiver | None) -> None:
        """Pause *client*, which has sent something, if too much waits."""
        if client is not None and client not in self._paused and self._waiting() > HIGH:
            self._paused.append(client)
            client.pause()

    def release(self) -> None:
        """Resume the clients if little data waits."""
        if self._paused and self._waiting() <= LOW:
            self.release_all()

    def release_all(self) -> None:
        """Resume the clients."""
        paused, self._paused = self._paused, []
        for client in paused:
            client.resume()
