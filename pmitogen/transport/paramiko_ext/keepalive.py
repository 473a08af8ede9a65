"""Noticing that the peer has gone, without a word from it.

A TCP connection to a machine that lost its power, or to a process that was stopped, stays "established" for hours. OpenSSH
asks: after ServerAliveInterval seconds in which nothing at all came from the server it sends a request that any server must
answer, and after ServerAliveCountMax such questions without a word it gives up (ssh_config(5)). Anything that arrives
counts as a sign of life. This file is that clock and nothing else: it sends nothing and reads no time of its own, so it is
tested with plain numbers.

Missing upstream: ``Transport.set_keepalive`` sends a request that asks for no answer and watches for none, so it keeps a
NAT entry alive and never notices a dead peer. If Paramiko gains a counting keepalive, this file can go.
"""

from __future__ import annotations

import enum

DEFAULT_INTERVAL = 15  # seconds; OpenSSH's own default is 0, which leaves a dead peer unnoticed for ever
# The last question is given most of an interval to be answered, so a peer that falls silent at any moment is reported between
# (nearly) interval x count and one interval later.
LAST_REPLY_FRACTION = 0.8  # of an interval


class KeepaliveAction(enum.Enum):
    """What the silence so far asks for."""

    WAIT = "wait"
    SEND_REQUEST = "ask"
    GIVE_UP = "dead"


class KeepaliveTimer:
    """How long the peer has been silent, and what to do about it. Times are ``time.monotonic()`` seconds; not thread-safe.

    *interval* 0 means: never ask, never give up.
    """

    def __init__(self, interval: float, count: int, now: float) -> None:
        self.interval = interval
        self.count = max(1, count)
        self.last_activity = now
        self._requests_sent = 0

    def activity(self, now: float) -> None:
        """Something arrived."""
        self.last_activity = now
        self._requests_sent = 0

    def next_action(self, now: float) -> KeepaliveAction:
        """What to do now. Each question that is due is reported once."""
        if not self.interval:
            return KeepaliveAction.WAIT
        if self.expired(now):
            return KeepaliveAction.GIVE_UP
        due = min(int((now - self.last_activity) / self.interval), self.count)
        if due > self._requests_sent:
            self._requests_sent = due
            return KeepaliveAction.SEND_REQUEST
        return KeepaliveAction.WAIT

    def expired(self, now: float) -> bool:
        """Whether the silence has lasted too long. Changes nothing, so any thread may ask."""
        return bool(self.interval) and now - self.last_activity >= self.limit

    def seconds_until_action(self, now: float) -> float | None:
        """Seconds until :meth:`next_action` may say something new; None: never."""
        if not self.interval:
            return None
        at = self._requests_sent + 1 if self._requests_sent < self.count else self.count + LAST_REPLY_FRACTION
        return max(0.0, self.last_activity + at * self.interval - now)

    @property
    def limit(self) -> float:
        """Seconds of silence after which the peer counts as dead."""
        return self.interval * (self.count + LAST_REPLY_FRACTION)
