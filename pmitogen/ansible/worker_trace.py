"""The timeline of one worker (PMITOGEN_TRACE). Imported only when it is needed."""

from __future__ import annotations

import contextlib
import time

from pmitogen.errors import HubError
from pmitogen.hub import client as hub


class WorkerTrace:
    """Records how this worker spent its time, for the timeline (PMITOGEN_TRACE)."""

    def __init__(self) -> None:
        self.labels: dict[str, str] = {}  # host and task, as the timeline shows them
        self._last = time.time()
        self._spans: list[tuple[str, float, float]] = []

    def mark(self, name: str) -> None:
        """Record the time since the last mark as *name* (empty: it is recorded elsewhere)."""
        now = time.time()
        if name:
            self._spans.append((name, self._last, now))
        self._last = now

    def send(self, client: hub.Client) -> None:
        """Send the timeline to the hub at the end of this worker."""
        self.mark("result")
        with contextlib.suppress(HubError):
            client.send({"op": "trace", "spans": self._spans, **self.labels})
        self._spans = []
