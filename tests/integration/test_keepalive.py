"""Keepalive: a silent peer is detected; a busy one is not disconnected."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from pmitogen.errors import ConnectionLost
from pmitogen.transport.connect import Connection
from pmitogen.transport.sessions import exec_command
from tests.support.links import linked
from tests.support.sshd import Sshd

pytestmark = pytest.mark.needs_sshd
MakeSshd = Callable[..., Sshd]

INTERVAL, COUNT = 1, 2  # seconds, requests


def _time_of_loss(link: Connection, server: Sshd) -> tuple[float, str]:
    """Return the seconds between the silence and its report, and the report."""
    lost = threading.Event()
    reasons: list[str] = []
    link.on_lost(lambda reason: (reasons.append(reason), lost.set()))
    began = time.monotonic()
    server.freeze()
    try:
        assert lost.wait(INTERVAL * (COUNT + 5)), "the silence was not detected"
        return time.monotonic() - began, reasons[0]
    finally:
        server.thaw()


def _assert_in_time(took: float) -> None:
    assert INTERVAL * COUNT * 0.85 <= took <= INTERVAL * (COUNT + 1) + 0.3


def test_a_peer_that_stops_while_idle_is_detected(make_sshd: MakeSshd) -> None:
    server = make_sshd()
    with linked(server, serveraliveinterval=INTERVAL, serveralivecountmax=COUNT) as link:
        time.sleep(1.3)  # past the first request
        took, reasons = _time_of_loss(link, server)
        _assert_in_time(took)
        assert reasons == f"{link.peer}: no answer for 2.8 s"


def test_a_peer_that_stops_during_sending_is_detected(make_sshd: MakeSshd) -> None:
    """The writing thread is blocked by a full socket and has every lock."""
    server = make_sshd()
    with linked(server, serveraliveinterval=INTERVAL, serveralivecountmax=COUNT) as link:
        running = exec_command.Command(link, "cat > /dev/null", stdin=(bytes(1 << 20) for _ in range(1 << 20)))
        time.sleep(0.5)
        took, _ = _time_of_loss(link, server)
        _assert_in_time(took)
        began = time.monotonic()
        with pytest.raises(ConnectionLost, match="no answer for"):
            while running.read(5) is not None:
                pass
        running.close()
        assert time.monotonic() - began < 1


def test_a_peer_that_stops_during_a_key_exchange_is_detected(make_sshd: MakeSshd) -> None:
    server = make_sshd()
    with linked(server, serveraliveinterval=INTERVAL, serveralivecountmax=COUNT) as link:
        server.freeze()
        link._transport.packetizer._trigger_rekey()
        began = time.monotonic()
        with pytest.raises(ConnectionLost):
            exec_command.run(link, "true", timeout=10)
        took = time.monotonic() - began
        server.thaw()
        _assert_in_time(took)


def test_a_slow_command_is_not_ended(make_sshd: MakeSshd) -> None:
    with linked(make_sshd(), serveraliveinterval=INTERVAL, serveralivecountmax=1) as link:
        assert exec_command.run(link, "sleep 4; echo done")[1] == b"done\n"


def test_an_idle_connection_stays_open_without_polling(make_sshd: MakeSshd) -> None:
    server = make_sshd()
    with linked(server, serveraliveinterval=INTERVAL) as link:
        before = link.bytes_sent
        cpu = time.process_time()
        time.sleep(3.5)
        assert time.process_time() - cpu < 0.1
        questions = link.bytes_sent - before
        assert 0 < questions < 1000
        assert link.end_reason is None


def test_serveraliveinterval_0_sends_no_requests(make_sshd: MakeSshd) -> None:
    server = make_sshd()
    with linked(server, serveraliveinterval=0) as link:
        before = link.bytes_sent
        time.sleep(1.5)
        assert link.bytes_sent == before


def test_keepalive_requests_of_the_server_are_answered(make_sshd: MakeSshd) -> None:
    server = make_sshd(config=["ClientAliveInterval 1", "ClientAliveCountMax 1"])
    with linked(server, serveraliveinterval=0) as link:
        channel = link.open_session(5)  # with an open channel, they are channel requests
        link.start_command(channel, "cat", wait=True)
        time.sleep(3.5)
        assert link.end_reason is None
