"""Limits on the rate of events."""

from __future__ import annotations

from pmitogen.util.token_bucket import TokenBucket


def test_a_caller_waits_for_a_token() -> None:
    bucket = TokenBucket(rate=2, burst=3, now=10)
    assert [bucket.take(10) for _ in range(5)] == [0, 0, 0, 0.5, 1.0]
    assert bucket.take(11.5) == 0 and bucket.take(11.5) == 0.5
    assert [bucket.take(100) for _ in range(4)] == [0, 0, 0, 0.5]


def test_an_event_without_a_token_is_refused() -> None:
    bucket = TokenBucket(rate=2, burst=3, now=10)
    assert [bucket.allows(10) for _ in range(9)] == [True] * 3 + [False] * 6
    assert not bucket.allows(10.4) and bucket.allows(10.5) and not bucket.allows(10.5)
