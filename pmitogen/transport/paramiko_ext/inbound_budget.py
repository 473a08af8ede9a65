"""Limits for the processor time and the useless messages of one server.

One thread per connection handles the server's messages, and all threads of the process share one interpreter. A server that
sends a flood of tiny or useless messages would slow every other connection. So

- a thread that has used more processor time than its share, and more than the data that it delivered accounts for, sleeps;
  then TCP slows the server down;
- messages that no honest server sends in numbers (SSH_MSG_IGNORE, unknown types, data for closed channels ...) are counted, and
  a flood of them ends the connection.

The budget and the counter read no clock and sleep nowhere, so they are tested with numbers alone.
"""

from __future__ import annotations

import time

from paramiko.ssh_exception import SSHException

PROCESSOR_SHARE = 0.2  # of one processor, for work that is not accounted for by data
MAX_BURST = 0.5  # seconds of processor time that may be used ahead: a login, a rekey with a group of 8192 bits
DATA_PER_SECOND = 10 << 20  # bytes of channel data that account for one second of processor time; the slowest honest case
MAX_SLEEP = 0.25  # seconds at once
MAX_USELESS = 5000  # messages at once
USELESS_SIZE = 4096  # bytes that count as one more message
USELESS_PER_SECOND = 20.0  # messages


class ProcessorBudget:
    """Budget of processor time for the thread of one connection."""

    def __init__(self, now: float, used: float) -> None:
        self._now, self._used = now, used
        self._credit = MAX_BURST
        self._data = 0

    def deliver(self, nbytes: int) -> None:
        """Account for *nbytes* of channel data that arrived within its window."""
        self._data += nbytes

    def throttle(self, now: float, used: float) -> float:
        """Return for how many seconds the thread should sleep now.

        :param now: ``time.monotonic()`` seconds.
        :param used: seconds of processor time that the thread has used since its start.
        """
        earned = (now - self._now) * PROCESSOR_SHARE + self._data / DATA_PER_SECOND
        self._credit = min(MAX_BURST, self._credit + earned - (used - self._used))
        self._now, self._used, self._data = now, used, 0
        return min(MAX_SLEEP, -self._credit / PROCESSOR_SHARE) if self._credit < 0 else 0.0


class UselessMessages:
    """Counter of useless messages."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._left = float(MAX_USELESS)

    def count(self, kind: str, now: float, size: int = 0) -> None:
        """Count one. Raises SSHException when there are too many; *kind*: for the message.

        :param now: ``time.monotonic()`` seconds.
        :param size: bytes of the message.
        """
        self._left = min(MAX_USELESS, self._left + (now - self._now) * USELESS_PER_SECOND) - 1 - size / USELESS_SIZE
        self._now = now
        if self._left < 0:
            raise SSHException(f"the server sends too many useless messages ({kind})")


class ReadingTime:
    """The processor time that reading from one server has taken, on whatever thread, and its budget. A base of the packetizer."""

    budget: ProcessorBudget | None = None  # from the first read on
    _used = 0.0  # seconds, on all threads
    _thread_used = 0.0  # of these, what the thread that reads now had used when they were counted last
    is_throttled = False  # reading has to pause

    def enter_thread(self) -> None:
        """Note that the calling thread reads from now on."""
        self._thread_used = time.thread_time()

    def spend(self, seconds: float) -> None:
        """Account for processor time of reading."""
        self._used += seconds

    def account(self, now: float) -> float:
        """Account for the processor time of this thread, and return as :meth:`pause`."""
        used = time.thread_time()
        self.spend(used - self._thread_used)
        self._thread_used = used
        return self.pause(now)

    def pause(self, now: float) -> float:
        """Return for how many seconds reading has to pause."""
        if self.budget is None:
            self.budget = ProcessorBudget(now, self._used)
        sleep = self.budget.throttle(now, self._used)
        self.is_throttled = bool(sleep)
        return sleep

    def deliver(self, nbytes: int) -> None:
        """Account for channel data that arrived within its window. Transport thread."""
        if self.budget is not None:
            self.budget.deliver(nbytes)
