"""ChannelTimeout closes a channel without data, leaves an active one open, and the next request reconnects."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

import pmitogen
from pmitogen.errors import ConnectionLost, Error
from pmitogen.transport.sessions import exec_command
from tests.support import processes
from tests.support.accounts import Account
from tests.support.links import linked
from tests.support.sshd import Sshd

pytestmark = pytest.mark.needs_sshd
MakeSshd = Callable[..., Sshd]


def test_a_silent_session_is_closed(sshd: Sshd) -> None:
    with linked(sshd, channeltimeout=1) as link:
        began = time.monotonic()
        with exec_command.Command(link, "cat", stdin=None) as silent:
            with pytest.raises(ConnectionLost, match="closed after 1 seconds without data .ChannelTimeout session=1"):
                silent.read(15)
            assert 0.9 < time.monotonic() - began < 5
            assert link.end_reason is None
            assert exec_command.run(link, "echo again")[1] == b"again\n"  # the connection itself stays open, as in ssh


def test_a_command_closed_by_channeltimeout_is_lost_despite_an_exit_status(sshd: Sshd) -> None:
    """A command whose input ends with the channel may exit with status 0, although it was cut short."""
    with linked(sshd, channeltimeout=1) as link, exec_command.Command(link, "cat; exit 0", stdin=None) as silent:
        assert silent._channel.status_event.wait(10)
        deadline = time.monotonic() + 5
        while silent._channel.exit_status < 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert silent._channel.exit_status == 0
        with pytest.raises(ConnectionLost, match="ChannelTimeout"):
            silent.read(5)


def test_data_in_either_direction_keeps_a_channel_open(sshd: Sshd) -> None:
    """Keepalive requests do not count; output on either stream and input do."""
    with linked(sshd, channeltimeout=2, serveraliveinterval=1) as link:
        output = exec_command.run(link, "for i in 1 2; do sleep 0.7; echo $i; sleep 0.7; echo x >&2; done")
        assert output[1] == b"1\n2\n"
        with exec_command.Command(link, "cat > /dev/null; echo end", stdin=None) as running:
            for _ in range(5):
                time.sleep(0.5)
                running.send(b"x")
            running.end_input()
            assert running.read(5) == (b"end\n", b"")
        with pytest.raises(ConnectionLost, match="ChannelTimeout"), exec_command.Command(link, "cat", stdin=None) as silent:
            silent.read(15)


@pytest.mark.slow
def test_the_global_timeout_counts_data_of_all_channels(sshd: Sshd) -> None:
    with linked(sshd, channeltimeout_global=2) as link, exec_command.Command(link, "cat", stdin=None) as silent:
        assert exec_command.run(link, "for i in 1 2 3 4; do sleep 0.7; echo $i; done")[1] == b"1\n2\n3\n4\n"
        with pytest.raises(ConnectionLost, match="ChannelTimeout global=2"):
            silent.read(10)


def test_without_channeltimeout_no_timer_runs(sshd: Sshd) -> None:
    with linked(sshd) as link:
        assert link._transport.packetizer.next_timer is None


@pytest.mark.needs_root
def test_the_next_request_reconnects(make_sshd: MakeSshd, account: Account) -> None:
    server = make_sshd()
    args = [*server.ssh_args(), "-o", "ChannelTimeout=session=2"]
    with pmitogen.connect(f"{account.name}@{server.host}", ssh_args=args, timeout=30) as host:
        host.ping()  # the channel of Python is then always open
        assert host.run("echo one").stdout == b"one\n"
        server.wait_log("Disconnected from user|Connection closed by", timeout=15)
        assert host.run("echo two").stdout == b"two\n"
        assert len(server.accepted()) == 2
        # A pending request is also cut off, because its channel carries no data either.
        with pytest.raises(Error, match="ChannelTimeout session=2"):
            host.run("sleep 20")
        assert host.run("echo three").stdout == b"three\n"


@pytest.mark.needs_root
@pytest.mark.parametrize("sessions", [10, 1])
@pytest.mark.parametrize("who", ["login", "root"])
def test_a_host_that_is_closed_after_a_timeout_leaves_no_command(
    make_sshd: MakeSshd, account: Account, who: str, sessions: int
) -> None:
    """Its processes are killed by another session or connection, and the first connection must wait for that."""
    name, sshd = account.name if who == "login" else "root", make_sshd(config=[f"MaxSessions {sessions}"])
    args = [*sshd.ssh_args(), "-o", "ChannelTimeout=session=1"]
    with pmitogen.connect(f"{name}@{sshd.host}", ssh_args=args, timeout=30) as host:
        with pytest.raises(Error, match="ChannelTimeout session=1"):
            host.run("sleep 48.4713")
    processes.wait_until(lambda: not any("48.4713" in process.command for process in processes.all_processes()), 3)
