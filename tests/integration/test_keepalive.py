"""A peer that falls silent is noticed; one that is only busy is not."""

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

INTERVAL, COUNT = 1, 2  # seconds, questions


def _time_of_loss(link: Connection, server: Sshd) -> tuple[float, str]:
    """Seconds from the silence to its report, and the report."""
    lost = threading.Event()
    reasons: list[str] = []
    link.on_lost(lambda reason: (reasons.append(reason), lost.set()))
    began = time.monotonic()
    server.freeze()
    try:
        assert lost.wait(INTERVAL * (COUNT + 5)), "never noticed"
        return time.monotonic() - began, reasons[0]
    finally:
        server.thaw()


def _assert_in_time(took: float) -> None:
    assert INTERVAL * COUNT * 0.85 <= took <= INTERVAL * (COUNT + 1) + 0.3


def test_idle_peer_that_stops(make_sshd: MakeSshd) -> None:
    server = make_sshd()
    with linked(server, serveraliveinterval=INTERVAL, serveralivecountmax=COUNT) as link:
        time.sleep(1.3)  # past the first question
        took, reasons = _time_of_loss(link, server)
        _assert_in_time(took)
        assert reasons == f"{link.peer}: no answer for 2.8 s"


def test_peer_that_stops_while_we_send(make_sshd: MakeSshd) -> None:
    """The writer is stuck in a full socket and holds every lock there is."""
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


def test_peer_that_stops_in_a_key_exchange(make_sshd: MakeSshd) -> None:
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


def test_slow_command_is_not_a_dead_peer(make_sshd: MakeSshd) -> None:
    with linked(make_sshd(), serveraliveinterval=INTERVAL, serveralivecountmax=1) as link:
        assert exec_command.run(link, "sleep 4; echo done")[1] == b"done\n"


def test_questions_keep_an_idle_connection_alive_without_polling(make_sshd: MakeSshd) -> None:
    server = make_sshd()
    with linked(server, serveraliveinterval=INTERVAL) as link:
        before = link.bytes_sent
        cpu = time.process_time()
        time.sleep(3.5)
        assert time.process_time() - cpu < 0.1
        questions = link.bytes_sent - before
        assert 0 < questions < 1000
        assert link.end_reason is None


def test_off(make_sshd: MakeSshd) -> None:
    server = make_sshd()
    with linked(server, serveraliveinterval=0) as link:
        before = link.bytes_sent
        time.sleep(1.5)
        assert link.bytes_sent == before


def test_server_side_questions_are_answered(make_sshd: MakeSshd) -> None:
    server = make_sshd(config=["ClientAliveInterval 1", "ClientAliveCountMax 1"])
    with linked(server, serveraliveinterval=0) as link:
        channel = link.open_session(5)  # they come as requests on a channel where there is one
        link.start_command(channel, "cat", wait=True)
        time.sleep(3.5)
        assert link.end_reason is None
