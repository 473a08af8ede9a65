"""The timer that detects a silent peer, with given times."""

from __future__ import annotations

import pytest

from pmitogen.transport.paramiko_ext.keepalive import LAST_REPLY_FRACTION, KeepaliveAction, KeepaliveTimer


def test_one_request_is_sent_in_each_interval_until_the_limit() -> None:
    silence = KeepaliveTimer(10, 3, now=0)
    output = {at: silence.next_action(at) for at in range(40)}
    assert [at for at, verdict in output.items() if verdict is KeepaliveAction.SEND_REQUEST] == [10, 20, 30]
    assert [at for at, verdict in output.items() if verdict is KeepaliveAction.GIVE_UP] == [38, 39]


def test_received_data_restarts_the_interval() -> None:
    silence = KeepaliveTimer(10, 1, now=0)
    assert silence.next_action(17) is KeepaliveAction.SEND_REQUEST
    silence.activity(17.5)
    assert silence.next_action(20) is KeepaliveAction.WAIT
    assert silence.next_action(27.5) is KeepaliveAction.SEND_REQUEST
    assert silence.next_action(17.5 + 10 * (1 + LAST_REPLY_FRACTION)) is KeepaliveAction.GIVE_UP


def test_interval_zero_turns_keepalive_off() -> None:
    silence = KeepaliveTimer(0, 3, now=0)
    assert silence.next_action(1e9) is KeepaliveAction.WAIT
    assert silence.seconds_until_action(5) is None
    assert not silence.expired(1e9)


@pytest.mark.parametrize("silent_since", [0.0, 0.3, 0.99])
def test_silence_is_reported_after_count_to_count_plus_one_intervals(silent_since: float) -> None:
    """The peer answered at 0 and became silent at some moment before the next request."""
    silence = KeepaliveTimer(1, 3, now=0)
    reported = silence.limit - silent_since
    assert 3 - 0.2 - 1e-9 <= reported <= 4


def test_the_next_check_is_exactly_when_an_action_is_due() -> None:
    silence = KeepaliveTimer(10, 2, now=100)
    now, seen = 100.0, []
    while (verdict := silence.next_action(now)) is not KeepaliveAction.GIVE_UP:
        seen.append((now, verdict))
        wait = silence.seconds_until_action(now)
        assert wait is not None and wait > 0
        now += wait
    assert seen == [(100, KeepaliveAction.WAIT), (110, KeepaliveAction.SEND_REQUEST), (120, KeepaliveAction.SEND_REQUEST)]
    assert now == pytest.approx(128)
