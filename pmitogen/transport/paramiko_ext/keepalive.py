"""Decide when to send a keepalive request and when to give up a silent connection.

A TCP connection to a machine that lost power, or to a stopped process, stays "established" for hours. OpenSSH sends a request
that every server must answer after ServerAliveInterval seconds without data, and gives up after ServerAliveCountMax requests
without a reply (ssh_config(5)). Each whole packet of the server counts as activity. This module sends nothing and reads no clock.

Missing upstream: ``Transport.set_keepalive`` sends a request without a reply and waits for none, so it never notices a dead
server. This module can go when Paramiko counts unanswered keepalives.
"""

from __future__ import annotations

import enum

DEFAULT_INTERVAL = 15  # seconds; with OpenSSH's own default, 0, a dead peer is never noticed
# The time to wait for the reply to the last request, as a fraction of the interval. So a silent server is reported between
# interval x count and interval x (count + 1) seconds after its last data.
LAST_REPLY_FRACTION = 0.8


class KeepaliveAction(enum.Enum):
    """The action that is due after a time of silence."""

    WAIT = "wait"
    SEND_REQUEST = "send request"
    GIVE_UP = "give up"


class KeepaliveTimer:
    """Measures how long the server has been silent. Times are ``time.monotonic()`` seconds. Not thread-safe.

    *interval*: seconds without data before a request; 0: send none and never give up. *count*: unanswered requests allowed.
    """

    def __init__(self, interval: float, count: int, now: float) -> None:
        self.interval = interval
        self.count = max(1, count)
        self.last_activity = now
        self._requests_sent = 0

    def activity(self, now: float) -> None:
        """Record that a packet arrived."""
        self.last_activity = now
        self._requests_sent = 0

    def next_action(self, now: float) -> KeepaliveAction:
        """Return the action that is due now. Each request that is due is returned once."""
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
        """Return True if the silence has lasted too long. Changes nothing; any thread may call it."""
        return bool(self.interval) and now - self.last_activity >= self.limit

    def seconds_until_action(self, now: float) -> float | None:
        """Return the seconds until the result of :meth:`next_action` may change; None: never."""
        if not self.interval:
            return None
        at = self._requests_sent + 1 if self._requests_sent < self.count else self.count + LAST_REPLY_FRACTION
        return max(0.0, self.last_activity + at * self.interval - now)

    @property
    def limit(self) -> float:
        """Seconds of silence after which the peer counts as dead."""
        return self.interval * (self.count + LAST_REPLY_FRACTION)
