"""Close channels that are idle for too long (ChannelTimeout).

As in ssh, only a channel's own data counts, in either direction; keepalive requests do not. So a running command without
output is closed as well: that is the option's purpose. Missing upstream: Paramiko has no such timer; ``Channel.settimeout``
limits one call. This file reads no clock and closes nothing, so it is tested with numbers alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class WatchedChannel(Protocol):
    """The part of a channel that IdleTimeouts reads. *last_used*: ``time.monotonic()`` seconds."""

    kind: str
    last_used: float


AnyWatched = TypeVar("AnyWatched", bound=WatchedChannel)


class IdleTimeouts:
    """ChannelTimeout's two limits in seconds, for each *session* and for *all_channels* together; 0: no limit."""

    def __init__(self, session: float, all_channels: float) -> None:
        self._session = session
        self._all = all_channels

    def expired_channels(self, channels: Iterable[AnyWatched], now: float) -> tuple[list[AnyWatched], str, float]:
        """Return the channels to close *now*, the reason, and the time of the next check."""
        open_channels = list(channels)
        limits = [limit for limit in (self._session, self._all) if limit]
        ends = [now + min(limits)]  # of a channel that may be opened meanwhile
        if self._all and open_channels:
            end = max(channel.last_used for channel in open_channels) + self._all
            if end <= now:
                return open_channels, _reason("global", self._all), now + min(limits)
            ends.append(end)
        due = []
        for channel in open_channels:
            if self._session and channel.kind == "session":
                end = channel.last_used + self._session
                due += [channel] if end <= now else []
                ends += [end] if end > now else []
        return due, _reason("session", self._session), min(ends)


def _reason(kind: str, seconds: float) -> str:
    return f"closed after {seconds:g} seconds without data (ChannelTimeout {kind}={seconds:g})"
