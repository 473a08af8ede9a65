"""The agent's event loop: pmitogen/target/agent/event_loop.py. In the agent, under each target Python: test_target_agent.py."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from pmitogen.target.agent.event_loop import Loop, Peer


class Ends:
    """A line and its peer, and what the line was told."""

    def __init__(self, loop: Loop) -> None:
        self.peer, ours = socket.socketpair()
        self.peer.settimeout(10)
        self.heard: list[bytes] = []
        self.ends = 0
        fd = os.dup(ours.fileno())
        ours.close()
        self.line = Peer(loop, fd, fd, self.heard.append, self._on_end)

    def _on_end(self) -> None:
        self.ends += 1


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def ends(loop: Loop) -> Iterator[Ends]:
    made = Ends(loop)
    yield made
    made.line.close()
    made.peer.close()


def test_what_is_said_is_heard_and_the_end_is_told_once(loop: Loop, ends: Ends) -> None:
    ends.peer.sendall(b"one")
    loop.run_once()
    ends.peer.close()
    loop.run_once()
    ends.line.close()
    assert ends.heard == [b"one"] and ends.ends == 1 and loop.peers == []


def test_what_waits_is_sent_in_its_order(loop: Loop, ends: Ends) -> None:
    sent = [bytes([index]) * 300_000 for index in range(5)]
    for piece in sent:
        ends.line.write(piece)
    assert ends.line.has_pending()
    got = b""
    while len(got) < 1_500_000:
        loop.call_later(0.01, lambda: None)  # the peer may have to take more before there is room
        loop.run_once()
        got += ends.peer.recv(1 << 20)
    assert got == b"".join(sent) and not ends.line.has_pending()


def test_a_peer_that_is_gone_ends_the_line_but_not_in_the_middle_of_a_write(loop: Loop, ends: Ends) -> None:
    ends.peer.close()
    ends.line.write(b"x" * 100)
    ends.line.write(b"y" * 100)
    assert ends.ends == 0
    loop.run_once()
    assert ends.ends == 1
    ends.line.write(b"z")  # nobody is there: nothing happens


def test_time_passes_in_order_and_work_may_make_more(loop: Loop, ends: Ends) -> None:
    done: list[str] = []
    loop.call_later(0.05, lambda: done.append("late"))
    loop.call_later(0.01, lambda: done.append("early"))
    loop.defer(lambda: loop.defer(lambda: done.append("second")))
    loop.defer(lambda: done.append("first"))
    while len(done) < 4:
        loop.run_once()
    assert done == ["first", "second", "early", "late"]


def test_a_line_may_be_ended_by_another_of_the_same_turn(loop: Loop) -> None:
    first, second = Ends(loop), Ends(loop)
    for one, other in ((first, second), (second, first)):
        one.line.on_data = lambda data, other=other: other.line.close()
        one.peer.sendall(b"end the other")
    loop.run_once()
    assert first.ends + second.ends == 1
    for one in (first, second):
        one.line.close()
        one.peer.close()


def test_borrowed_descriptors_stay_open_and_one_may_come_later(loop: Loop) -> None:
    heard: list[bytes] = []
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    line = Peer(loop, in_read, None, heard.append, lambda: heard.append(b""), borrowed=True)
    os.write(in_write, b"before")
    loop.run_once()
    line.out_fd = out_write
    line.write(b"answer")
    assert os.read(out_read, 10) == b"answer"
    line.close()
    assert heard == [b"before", b""]
    for fd in (in_read, in_write, out_read, out_write):
        os.close(fd)  # fails if the line did


def test_a_fault_ends_the_line_that_it_is_about(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    bad, good = Ends(loop), Ends(loop)
    bad.line.on_data = lambda data: data.nothing
    for one in (bad, good):
        one.peer.sendall(b"words")
    loop.run_once()
    assert (bad.ends, good.ends, good.heard) == (1, 0, [b"words"])
    assert "AttributeError" in capsys.readouterr().err
    for one in (bad, good):
        one.line.close()
        one.peer.close()
