"""Rate limit: a burst of events at once, and then a number of events per second."""

from __future__ import annotations


class TokenBucket:
    """Not thread-safe. *rate*: per second; *burst*: how many at once; *now*: ``time.monotonic()`` seconds."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._now = float(burst), now

    def take(self, now: float) -> float:
        """Count one more, and return the seconds until it is within the limit; 0: it is."""
        self._refill(now)
        self._left -= 1
        return max(0.0, -self._left / self._rate)

    def allows(self, now: float) -> bool:
        """Return whether one more event is within the limit, and count it if so."""
        self._refill(now)
        allowed = self._left >= 1
        self._left -= allowed
        return allowed

    def _refill(self, now: float) -> None:
        self._left = min(self._burst, self._left + (now - self._now) * self._rate)
        self._now = now
