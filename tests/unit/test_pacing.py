"""Turns at a server's door, and the pauses before another try."""

from __future__ import annotations

import threading
import time

import pytest

from pmitogen.errors import ConnectError
from pmitogen.transport import pacing


def test_no_more_than_so_many_at_once() -> None:
    inside = 0
    most = 0
    lock = threading.Lock()

    def log_in() -> None:
        nonlocal inside, most
        with pacing.turn("server", "here", time.monotonic() + 10):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.02)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=log_in) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == pacing.AT_ONCE
    assert not pacing._doors


def test_other_servers_do_not_wait_and_the_deadline_holds() -> None:
    soon = time.monotonic() + 0.2
    turns = [pacing.turn("busy", "here", soon) for _ in range(pacing.AT_ONCE)]
    for turn in turns:
        turn.__enter__()
    with pacing.turn("idle", "here", soon):
        pass
    with pytest.raises(ConnectError, match="^here: no turn to log in"), pacing.turn("busy", "here", soon):
        pass
    for turn in turns:
        turn.__exit__(None, None, None)
    assert not pacing._doors


def test_tries_end(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(pacing.time, "sleep", slept.append)
    attempt = 1
    while pacing.pause_before_retry(attempt, pacing.TurnedAway(sure=False), time.monotonic() + 100):
        attempt += 1
    assert attempt == pacing.TRIES
    assert all(0.5 * pacing.FIRST_PAUSE <= pause <= 1.5 * pacing.LONGEST_PAUSE for pause in slept)
    assert pacing.pause_before_retry(50, pacing.TurnedAway(sure=True), time.monotonic() + 100)
    assert not pacing.pause_before_retry(1, pacing.TurnedAway(sure=True), time.monotonic())
