"""The timer of ChannelTimeout, with given times."""

from __future__ import annotations

import dataclasses

import pytest

from pmitogen.transport.paramiko_ext.idle_timeout import IdleTimeouts


@dataclasses.dataclass(frozen=True)
class Channel:
    kind: str
    last_used: float


OLD, NEW, TUNNEL = Channel("session", 10), Channel("session", 14), Channel("direct-tcpip", 5)


@pytest.mark.parametrize(
    ("limits", "now", "due", "again"),
    [
        ((5, 0), 14.9, [], 15),
        ((5, 0), 15, [OLD], 19),
        ((5, 0), 30, [OLD, NEW], 35),
        ((0, 5), 18.9, [], 19),  # traffic on any channel counts for all
        ((0, 5), 19, [OLD, NEW, TUNNEL], 24),
        ((5, 30), 15, [OLD], 19),
        ((30, 5), 19, [OLD, NEW, TUNNEL], 24),
        ((100, 3), 15, [], 17),
    ],
)
def test_idle_channels_are_closed_at_their_time(limits: tuple[int, int], now: float, due: list[Channel], again: float) -> None:
    found, why, look = IdleTimeouts(*limits).expired_channels([OLD, NEW, TUNNEL], now)
    assert (found, look) == (due, again)
    if found:
        assert ("global" in why) == (TUNNEL in found)


def test_without_a_channel_the_next_check_is_before_one_could_expire() -> None:
    assert IdleTimeouts(5, 0).expired_channels([], 100)[2] == 105
    assert IdleTimeouts(0, 7).expired_channels([], 100)[2] == 107
