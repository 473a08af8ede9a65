"""The clock that notices a silent peer, with plain numbers."""

from __future__ import annotations

import pytest

from pmitogen.transport.paramiko_ext.keepalive import PATIENCE, Silence, Verdict


def test_asks_once_each_interval_then_gives_up() -> None:
    silence = Silence(10, 3, now=0)
    said = {at: silence.judge(at) for at in range(40)}
    assert [at for at, verdict in said.items() if verdict is Verdict.ASK] == [10, 20, 30]
    assert [at for at, verdict in said.items() if verdict is Verdict.DEAD] == [38, 39]


def test_anything_heard_begins_anew() -> None:
    silence = Silence(10, 1, now=0)
    assert silence.judge(17) is Verdict.ASK
    silence.heard(17.5)
    assert silence.judge(20) is Verdict.WAIT
    assert silence.judge(27.5) is Verdict.ASK
    assert silence.judge(17.5 + 10 * (1 + PATIENCE)) is Verdict.DEAD


def test_zero_is_off() -> None:
    silence = Silence(0, 3, now=0)
    assert silence.judge(1e9) is Verdict.WAIT
    assert silence.next_look(5) is None
    assert not silence.over(1e9)


@pytest.mark.parametrize("fell_silent_at", [0.0, 0.3, 0.99])
def test_reported_between_count_and_one_interval_more(fell_silent_at: float) -> None:
    """The peer answered at 0 and fell silent at some moment before the next question."""
    silence = Silence(1, 3, now=0)
    reported = silence.limit - fell_silent_at
    assert 3 - 0.2 - 1e-9 <= reported <= 4


def test_looks_exactly_when_there_is_something_to_see() -> None:
    silence = Silence(10, 2, now=100)
    now, seen = 100.0, []
    while (verdict := silence.judge(now)) is not Verdict.DEAD:
        seen.append((now, verdict))
        wait = silence.next_look(now)
        assert wait is not None and wait > 0
        now += wait
    assert seen == [(100, Verdict.WAIT), (110, Verdict.ASK), (120, Verdict.ASK)]
    assert now == pytest.approx(128)
