"""The turns of the I/O loop are shared among hosts: counted in turns, and timed by a clock of the test."""

from __future__ import annotations

import pytest

from pmitogen.hub.fair_shares import HOST_BYTES, HOST_MESSAGES, HOST_SECONDS, TURN_SECONDS, Share, Turns


class Clock:
    """Stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Host:
    """Handles messages as a stream does: as many as its share of the turn allows."""

    def __init__(self, turns: Turns, clock: Clock, messages: int, size: int = 1, seconds: float = 0.0) -> None:
        self._clock, self._size, self._seconds = clock, size, seconds
        self.left, self.handled = messages, 0
        self.finished_at: float | None = None
        self.share = Share(turns, self.work)

    def work(self) -> None:
        while self.left and not self.share.put_off_if_used_up():
            self.left -= 1
            self.handled += 1
            self._clock.now += self._seconds
            self.share.use(self._size, self._seconds)
        if not self.left:
            self.finished_at = self._clock.now


ENDLESS = 10**9


@pytest.mark.parametrize(
    ("size", "seconds", "most"),
    [(1, 0.0, HOST_MESSAGES), (HOST_BYTES // 4, 0.0, 4), (1, HOST_SECONDS / 2, 2), (10 * HOST_BYTES, 1.0, 1)],
)
def test_a_host_has_its_share_of_a_turn(size: int, seconds: float, most: int) -> None:
    """The share is limited by count, size and time; one message is always allowed."""
    turns, clock = Turns(Clock()), Clock()
    host = Host(turns, clock, ENDLESS, size, seconds)
    turns.begin()
    host.work()
    host.work()  # more data has arrived in the same turn
    assert host.handled == most
    for turn in range(2, 6):
        assert turns.begin(), "the host must wait for the next turn"
        assert host.handled == turn * most


def test_a_host_without_further_messages_does_not_wait() -> None:
    turns = Turns(Clock())
    host = Host(turns, Clock(), HOST_MESSAGES + 1)
    turns.begin()
    host.work()
    assert (host.handled, host.left) == (HOST_MESSAGES, 1)
    assert not turns.begin()
    assert (host.handled, host.left) == (HOST_MESSAGES + 1, 0)


@pytest.mark.parametrize("count", [1, 40])
def test_an_honest_host_waits_briefly_for_any_number_of_flooding_hosts(count: int) -> None:
    """They have endless messages of a millisecond each. The messages of the honest host are handled in the same, short turn."""
    clock = Clock()
    turns = Turns(clock)
    hostile = [Host(turns, clock, ENDLESS, seconds=0.001) for _ in range(count)]
    turns.begin()
    for host in hostile:
        host.work()
    for _ in range(50):
        began = clock.now
        turns.begin()
        honest = Host(turns, clock, 3)
        honest.work()
        assert honest.finished_at is not None and honest.finished_at - began <= TURN_SECONDS + HOST_SECONDS + 0.001
    handled = sorted(host.handled for host in hostile)
    assert handled[0] > 0 and handled[-1] - handled[0] <= 2 * HOST_SECONDS / 0.001, "the flooding hosts must have equal shares"


def test_a_waiting_host_is_scheduled_once() -> None:
    turns = Turns(Clock())
    calls: list[int] = []
    share = Share(turns, lambda: calls.append(turns.turn))
    turns.begin()
    share.put_off()
    share.put_off()
    assert not turns.begin() and calls == [2]
