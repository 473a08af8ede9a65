"""Connections without a thread of their own: they work, end and are replaced as others, and delay none."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from paramiko.message import Message

import pmitogen
from pmitogen.transport.paramiko_ext import shared_reader
from pmitogen.transport.paramiko_ext.transport import ClientTransport
from tests.support import processes
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


def transport_threads() -> list[str]:
    """The threads that handle messages of connections, without the shared one."""
    return [each.name for each in threading.enumerate() if each.name.startswith(("ssh ", "pmitogen transport"))]


def shared() -> int:
    return len(shared_reader._reader._connections)


@pytest.fixture
def five(sshd: Sshd, account: Account) -> Iterator[list[pmitogen.Host]]:
    with pmitogen.Hub() as hub:
        # A different option for each makes five connections to one server.
        yield [connect(sshd, account, hub, ssh_args=[*sshd.ssh_args(), f"-oServerAliveInterval={300 + i}"]) for i in range(5)]


def test_connections_have_no_thread_while_nothing_happens(five: list[pmitogen.Host]) -> None:
    processes.wait_until(lambda: not transport_threads(), 5)
    assert shared() == 5 and [each.name for each in threading.enumerate()].count("pmitogen read") == 1
    for host in five:
        assert host.run("echo x").stdout == b"x\n"
        host.ping()
        assert host.run("cat", stdin=bytes(50_000)).stdout == bytes(50_000)
    processes.wait_until(lambda: not transport_threads() and shared() == 5, 5)


def test_a_login_needs_the_thread_of_its_caller_only(sshd: Sshd, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    begin = ClientTransport._begin
    monkeypatch.setattr(ClientTransport, "_begin", lambda self: seen.append(threading.current_thread().name) or begin(self))
    monkeypatch.setattr(ClientTransport, "start", lambda self: pytest.fail("a thread was started"))
    with connect(sshd, account) as host:
        assert host.run("echo x").stdout == b"x\n"
    assert len(seen) == 1 and seen[0].startswith("pmitogen host")


def test_a_transfer_has_a_thread_and_leaves_it(five: list[pmitogen.Host]) -> None:
    seen = set()
    five[0].run("head -c 30000000 /dev/zero", on_output=lambda *_: seen.update(transport_threads()), capture=False)
    assert seen
    processes.wait_until(lambda: not transport_threads() and shared() == 5, 5)
    assert five[0].run("echo x").stdout == b"x\n"


def test_a_server_that_stops_reading_delays_no_other(make_sshd: Callable[..., Sshd], sshd: Sshd, account: Account) -> None:
    """Its requests want answers, which nobody takes."""
    slow = make_sshd()
    with pmitogen.Hub() as hub:
        host, other = connect(slow, account, hub), connect(sshd, account, hub)
        assert host.run("echo x").stdout == b"x\n"
        threads = [threading.Thread(target=_fail_quietly, args=(host, number)) for number in range(4)]
        slow.freeze()
        try:
            for each in threads:
                each.start()
            time.sleep(0.3)
            began = time.monotonic()
            for _ in range(20):
                assert other.run("echo y").stdout == b"y\n"
            assert time.monotonic() - began < 15
        finally:
            slow.thaw()
        for each in threads:
            each.join(60)


def _fail_quietly(host: pmitogen.Host, number: int) -> None:
    with contextlib.suppress(pmitogen.Error):
        host.run("wc -c", stdin=bytes(8_000_000 + number))


def test_the_end_of_a_connection_is_noticed(make_sshd: Callable[..., Sshd], account: Account) -> None:
    server = make_sshd()
    with connect(server, account) as host:
        processes.wait_until(lambda: not transport_threads(), 5)
        server.kill_sessions()
        processes.wait_until(lambda: shared() == 0, 5)
        assert host.run("echo again").stdout == b"again\n" and server.connections() == 2


def test_a_forked_child_leaves_the_connections_of_its_parent(five: list[pmitogen.Host]) -> None:
    processes.wait_until(lambda: not transport_threads(), 5)
    child = os.fork()
    if not child:
        code = 1
        with contextlib.suppress(BaseException):
            shared_reader._reader._open()  # another selector than the parent's
            code = 0 if not shared_reader._reader._connections else 2
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    for host in five:
        assert host.run("echo x").stdout == b"x\n"


def test_new_keys_are_exchanged_on_a_thread(sshd: Sshd, account: Account) -> None:
    with connect(sshd, account, ssh_args=[*sshd.ssh_args(), "-oRekeyLimit=1M"]) as host:
        for _ in range(40):
            assert len(host.run("head -c 100000 /dev/zero").stdout) == 100_000
        assert host.run("echo x").stdout == b"x\n"
        processes.wait_until(lambda: not transport_threads() and shared() == 1, 5)


def test_a_dead_server_is_noticed_without_a_thread(make_sshd: Callable[..., Sshd], account: Account) -> None:
    server = make_sshd()
    with connect(server, account, ssh_args=[*server.ssh_args(), "-oServerAliveInterval=1", "-oServerAliveCountMax=2"]) as host:
        processes.wait_until(lambda: not transport_threads(), 5)
        server.freeze()
        try:
            processes.wait_until(lambda: shared() == 0 and not transport_threads(), 15)
        finally:
            server.thaw()
        assert host.run("echo again").stdout == b"again\n"


def test_input_does_not_overtake_its_command(sshd: Sshd, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request could not be sent at once, and the thread that is to send it is late: sshd would discard the input."""
    try_send, late = ClientTransport.try_send, []

    def refuse_here(transport: ClientTransport, *messages: Message) -> bool:
        return not transport.handles_messages_here and try_send(transport, *messages)

    def continue_late(transport: ClientTransport) -> bool:
        late.append(transport)
        time.sleep(0.3)
        transport.send_deferred()
        return True

    with connect(sshd, account) as host:
        monkeypatch.setattr(ClientTransport, "try_send", refuse_here)
        monkeypatch.setattr(ClientTransport, "_continue_sending", continue_late)
        assert host.run("cat", stdin="text").stdout == b"text" and late


def test_the_processor_time_of_each_thread_counts(sshd: Sshd, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends in bursts has a thread for each, which leaves without another read."""
    try_send, handled = ClientTransport.try_send, []

    def refuse_here(transport: ClientTransport, *messages: Message) -> bool:
        return not transport.handles_messages_here and try_send(transport, *messages)

    def work(transport: ClientTransport) -> bool:
        began, used = time.thread_time(), transport.packetizer._used
        while time.thread_time() < began + 0.2:
            pass
        handled.append((transport, used))
        transport.send_deferred()
        return True

    with connect(sshd, account) as host:
        monkeypatch.setattr(ClientTransport, "try_send", refuse_here)
        monkeypatch.setattr(ClientTransport, "_continue_sending", work)
        assert host.run("cat", stdin="text").stdout == b"text"
        transport, used = handled[0]
        processes.wait_until(lambda: not transport_threads() and shared() == 1, 5)
        assert transport.packetizer._used > used + 0.2
