"""Limits of concurrent logins to a server, and delays before retries."""

from __future__ import annotations

import threading
import time

import pytest

from pmitogen.errors import ConnectError
from pmitogen.transport import connect_limits


def test_concurrent_logins_are_limited() -> None:
    inside = 0
    most = 0
    lock = threading.Lock()

    def log_in() -> None:
        nonlocal inside, most
        with connect_limits.slot("server", "here", time.monotonic() + 10):
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
    assert most == connect_limits.MAX_CONCURRENT
    assert not connect_limits._slots


def test_other_servers_do_not_wait_and_the_deadline_is_kept() -> None:
    soon = time.monotonic() + 0.2
    turns = [connect_limits.slot("busy", "here", soon) for _ in range(connect_limits.MAX_CONCURRENT)]
    for turn in turns:
        turn.__enter__()
    with connect_limits.slot("idle", "here", soon):
        pass
    with pytest.raises(ConnectError, match="^here: no free login slot"), connect_limits.slot("busy", "here", soon):
        pass
    for turn in turns:
        turn.__exit__(None, None, None)
    assert not connect_limits._slots


def test_retries_end(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(connect_limits.time, "sleep", slept.append)
    attempt = 1
    while connect_limits.pause_before_retry(
        attempt, connect_limits.ConnectionRejected(is_overload=False), time.monotonic() + 100
    ):
        attempt += 1
    assert attempt == connect_limits.MAX_ATTEMPTS
    assert all(0.5 * connect_limits.FIRST_PAUSE <= pause <= 1.5 * connect_limits.MAX_PAUSE for pause in slept)
    assert connect_limits.pause_before_retry(50, connect_limits.ConnectionRejected(is_overload=True), time.monotonic() + 100)
    assert not connect_limits.pause_before_retry(1, connect_limits.ConnectionRejected(is_overload=True), time.monotonic())
