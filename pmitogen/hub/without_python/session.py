"""The session of one simple command: opened without waiting; it wakes the I/O thread only when that has something to do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from pmitogen.protocol.framing import CHUNK

if TYPE_CHECKING:
    from pmitogen.transport.paramiko_ext.channel import Channel


def _do_nothing(*_: object) -> None:
    pass


class Opening:
    """The answer to the request for a session. It may arrive before the channel is known here.

    :param on_opened: called once, on any thread, when the session is open or refused, or the connection has ended.
    """

    channel: Channel | None = None

    def __init__(self, on_opened: Callable[[Channel], None]) -> None:
        self._on_opened = on_opened
        self.is_answered = False
        self._claim = threading.Lock()  # taken once, without waiting, and not released

    def set(self) -> None:
        """Note that the answer has arrived. Any thread."""
        self.is_answered = True
        self.check()

    def check(self) -> None:
        """Call *on_opened* if the answer has arrived and the channel is known. Any thread but the I/O thread."""
        if self.is_answered and self.channel is not None and self._claim.acquire(blocking=False):
            on_opened, self._on_opened = self._on_opened, _do_nothing
            on_opened(self.channel)


class OutputWatch:
    """The event of a channel's buffers. It has *work* called on the I/O thread by *defer*."""

    def __init__(self, defer: Callable[[Callable[[], None]], object], work: Callable[[], None], channel: Channel) -> None:
        self._defer, self._work, self._channel = defer, work, channel
        self._is_scheduled = False
        self.is_eager = False  # any output needs the work at once

    @property
    def has_ended(self) -> bool:
        """True if no more output and no other status will arrive."""
        channel = self._channel
        return channel.closed or bool(channel.eof_received) and channel.exit_reported

    def set(self) -> None:
        """Note that something has arrived. The transport's thread calls this, also with a buffer's lock held."""
        channel = self._channel
        if self.is_eager or self.has_ended or channel.in_window_size < channel.window - CHUNK:
            self.schedule()

    def schedule(self) -> None:
        """Schedule the work, unless it is scheduled. Any thread."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._defer(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        self._work()

    def stop(self) -> None:
        """Call no callback any more. The transport may hold the channel, and so this watch, until it ends."""
        self._work = _do_nothing

    def clear(self) -> None:
        """Do nothing: every feed of a buffer sets the event again."""
