"""The agent's event loop: pmitogen/target/agent/event_loop.py. test_target_agent.py runs it under each target Python."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from pmitogen.target.agent.event_loop import Loop, Peer


class ConnectedPeer:
    """A connection of the loop, its other end, and the received data."""

    def __init__(self, loop: Loop) -> None:
        self.peer, ours = socket.socketpair()
        self.peer.settimeout(10)
        self.received: list[bytes] = []
        self.end_count = 0
        fd = os.dup(ours.fileno())
        ours.close()
        self.connection = Peer(loop, fd, fd, self.received.append, self._on_end)

    def _on_end(self) -> None:
        self.end_count += 1


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def connected(loop: Loop) -> Iterator[ConnectedPeer]:
    made = ConnectedPeer(loop)
    yield made
    made.connection.close()
    made.peer.close()


def test_data_is_received_and_the_end_is_reported_once(loop: Loop, connected: ConnectedPeer) -> None:
    connected.peer.sendall(b"one")
    loop.run_once()
    connected.peer.close()
    loop.run_once()
    connected.connection.close()
    assert connected.received == [b"one"] and connected.end_count == 1 and loop.peers == []


def test_pending_data_is_sent_in_order(loop: Loop, connected: ConnectedPeer) -> None:
    sent = [bytes([index]) * 300_000 for index in range(5)]
    for piece in sent:
        connected.connection.write(piece)
    assert connected.connection.has_pending()
    got = b""
    while len(got) < 1_500_000:
        loop.call_later(0.01, lambda: None)  # the other end may have to read more before there is room
        loop.run_once()
        got += connected.peer.recv(1 << 20)
    assert got == b"".join(sent) and not connected.connection.has_pending()


def test_a_closed_peer_ends_the_connection_but_not_during_a_write(loop: Loop, connected: ConnectedPeer) -> None:
    connected.peer.close()
    connected.connection.write(b"x" * 100)
    connected.connection.write(b"y" * 100)
    assert connected.end_count == 0
    loop.run_once()
    assert connected.end_count == 1
    connected.connection.write(b"z")  # no effect on a closed connection


def test_timers_and_deferred_calls_run_in_order(loop: Loop, connected: ConnectedPeer) -> None:
    done: list[str] = []
    loop.call_later(0.05, lambda: done.append("late"))
    loop.call_later(0.01, lambda: done.append("early"))
    loop.defer(lambda: loop.defer(lambda: done.append("second")))
    loop.defer(lambda: done.append("first"))
    while len(done) < 4:
        loop.run_once()
    assert done == ["first", "second", "early", "late"]


def test_a_connection_may_close_another_in_the_same_turn(loop: Loop) -> None:
    first, second = ConnectedPeer(loop), ConnectedPeer(loop)
    for one, other in ((first, second), (second, first)):
        one.connection.on_data = lambda data, other=other: other.connection.close()
        one.peer.sendall(b"end the other")
    loop.run_once()
    assert first.end_count + second.end_count == 1
    for one in (first, second):
        one.connection.close()
        one.peer.close()


def test_borrowed_descriptors_stay_open_and_one_may_be_added_later(loop: Loop) -> None:
    received: list[bytes] = []
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    connection = Peer(loop, in_read, None, received.append, lambda: received.append(b""), borrowed=True)
    os.write(in_write, b"before")
    loop.run_once()
    connection.out_fd = out_write
    connection.write(b"answer")
    assert os.read(out_read, 10) == b"answer"
    connection.close()
    assert received == [b"before", b""]
    for fd in (in_read, in_write, out_read, out_write):
        os.close(fd)  # fails if the connection has closed it


def test_an_exception_ends_only_its_connection(loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    bad, good = ConnectedPeer(loop), ConnectedPeer(loop)
    bad.connection.on_data = lambda data: data.nothing
    for one in (bad, good):
        one.peer.sendall(b"words")
    loop.run_once()
    assert (bad.end_count, good.end_count, good.received) == (1, 0, [b"words"])
    assert "AttributeError" in capsys.readouterr().err
    for one in (bad, good):
        one.connection.close()
        one.peer.close()
