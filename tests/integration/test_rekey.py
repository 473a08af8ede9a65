"""Rekeying under traffic, by volume and by time: no data is lost, and no pause is long.

``PMITOGEN_REKEY_SECONDS=300`` sets the duration of the first test; the default is a few seconds.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pmitogen.errors import ConnectionLost
from pmitogen.transport.auth.credentials import Credentials
from pmitogen.transport.connect import Connection
from pmitogen.transport.sessions import exec_command
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.links import link_to, linked, settings_for
from tests.support.sshd import Sshd

pytestmark = pytest.mark.needs_sshd
MakeSshd = Callable[..., Sshd]

SECONDS = float(os.environ.get("PMITOGEN_REKEY_SECONDS", "4"))
LONGEST_PAUSE = 2.0  # seconds
MEBIBYTE = 1 << 20
BLOCK = 64 << 10


class _Pipe:
    """Sends random blocks through a remote ``cat``, checks every byte that comes back, and records the longest pause."""

    def __init__(self, link: Connection, seconds: float) -> None:
        self.sent = hashlib.sha256()
        self.got = hashlib.sha256()
        self.count = 0
        self.longest_pause = 0.0
        self._until = time.monotonic() + seconds
        self._running = exec_command.Command(link, "cat", stdin=self._blocks())
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _blocks(self) -> Iterator[bytes]:
        while time.monotonic() < self._until:
            block = os.urandom(BLOCK)
            self.sent.update(block)
            yield block

    def _read(self) -> None:
        last = time.monotonic()
        with self._running:
            while (piece := self._running.read(30)) is not None:
                now = time.monotonic()
                self.longest_pause = max(self.longest_pause, now - last)
                last = now
                self.got.update(piece[0])
                self.count += len(piece[0])
            assert self._running.wait().status == 0

    def finish(self) -> None:
        self.thread.join(SECONDS + 30)
        assert not self.thread.is_alive()
        assert self.sent.digest() == self.got.digest()
        assert self.longest_pause < LONGEST_PAUSE


@pytest.mark.timeout(int(SECONDS) + 100)
@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "aes128-ctr", "chacha20-poly1305@openssh.com"])
def test_traffic_in_both_directions_passes_during_rekeying(make_sshd: MakeSshd, cipher: str) -> None:
    server = make_sshd(config=["ClientAliveInterval 1", "ClientAliveCountMax 2"], log_level="DEBUG1")
    with linked(server, ciphers=(cipher,), rekeylimit=(MEBIBYTE, 0), serveraliveinterval=1) as link:
        pipes = [_Pipe(link, SECONDS) for _ in range(2)]
        until = time.monotonic() + SECONDS
        runs = 0
        while time.monotonic() < until:
            assert exec_command.run(link, "echo short", timeout=20)[1] == b"short\n"
            runs += 1
        for pipe in pipes:
            pipe.finish()
        assert runs > 3
        megabytes = sum(pipe.count for pipe in pipes) / MEBIBYTE
        rekeys = server.log().count("SSH2_MSG_NEWKEYS received") - 1
        assert rekeys >= min(10, megabytes / 4), (rekeys, megabytes)
        assert link.end_reason is None


def test_short_channels_work_during_rekeying(make_sshd: MakeSshd) -> None:
    """The transport thread's own closes and replies coincide with a key exchange, which Paramiko does not handle."""
    server = make_sshd(config=["ClientAliveInterval 1", "MaxSessions 100"])
    with linked(server, rekeylimit=(64 << 10, 0)) as link:
        began = time.monotonic()
        for _ in range(25):
            assert len(exec_command.run(link, "head -c 100000 /dev/zero")[1]) == 100_000
        assert time.monotonic() - began < 20
        assert link.end_reason is None


def test_commands_of_the_library_work_during_rekeying(make_sshd: MakeSshd, account: Account) -> None:
    """Their messages are sent without a wait, unless new keys are due."""
    server = make_sshd(log_level="DEBUG1", config=["MaxSessions 100"])
    args = [*server.ssh_args(), "-o", "RekeyLimit=16K"]
    with connect(server, account, ssh_args=args) as host:

        def work(number: int) -> list[bytes]:
            return [host.run(f"echo {number} {each}; head -c {each * 100} /dev/zero").stdout for each in range(40)]

        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            for number, found in enumerate(threads.map(work, range(4))):
                assert found == [b"%d %d\n" % (number, each) + bytes(each * 100) for each in range(40)]
    assert server.log().count("SSH2_MSG_NEWKEYS received") > 2  # the answers are compressed


def test_the_server_may_start_rekeying(make_sshd: MakeSshd) -> None:
    server = make_sshd(config=["RekeyLimit 1M"], log_level="DEBUG1")
    with linked(server) as link:
        pipe = _Pipe(link, 2)
        pipe.finish()
        assert server.log().count("SSH2_MSG_NEWKEYS received") > 2


def test_both_ends_may_start_rekeying_at_once(make_sshd: MakeSshd) -> None:
    with linked(make_sshd(config=["RekeyLimit 1M"]), rekeylimit=(MEBIBYTE, 0)) as link:
        _Pipe(link, 2).finish()
        assert link.end_reason is None


def test_no_new_keys_before_the_login(make_sshd: MakeSshd, account: Account) -> None:
    """sshd takes no request for them there: neither a small limit nor a user who takes time for a password ends the login."""
    server = make_sshd(log_level="DEBUG1")

    def slowly(_prompt: str, _echo: bool) -> str | None:
        time.sleep(1.5)
        return account.password

    settings = settings_for(server, user=account.name, identityfile=(), rekeylimit=(16, 1))
    link = link_to(settings, Credentials(prompt=slowly))
    assert len(exec_command.run(link, "head -c 100000 /dev/zero")[1]) == 100_000
    link.close()
    assert server.log().count("SSH2_MSG_NEWKEYS received") > 2


def test_an_idle_connection_is_rekeyed_by_time(make_sshd: MakeSshd) -> None:
    server = make_sshd(log_level="DEBUG1")
    with linked(server, rekeylimit=(0, 1)) as link:
        time.sleep(2.5)
        assert server.log().count("SSH2_MSG_NEWKEYS received") >= 3
        assert exec_command.run(link, "echo alive")[1] == b"alive\n"


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"])
def test_rekeying_works_with_compression(make_sshd: MakeSshd, cipher: str) -> None:
    server = make_sshd(config=[f"Ciphers {cipher}"], log_level="DEBUG1")
    with linked(server, rekeylimit=(MEBIBYTE, 0), compression=True) as link:
        assert link.describe()["cipher"] == cipher and link.describe()["compression"] == "zlib@openssh.com"
        _Pipe(link, 1).finish()
        assert server.log().count("SSH2_MSG_NEWKEYS received") > 1


@pytest.mark.parametrize("strict", [True, False])
def test_rekeying_may_change_the_cipher(make_sshd: MakeSshd, strict: bool) -> None:
    """Sequence numbers continue, or start again with a strict key exchange, whatever the next cipher is."""
    with linked(make_sshd(), ciphers=("aes128-gcm@openssh.com",), connecttimeout=5) as link:
        transport = link._transport
        assert transport.agreed_on_strict_kex
        for name in ("chacha20-poly1305@openssh.com", "aes128-ctr", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"):
            transport.get_security_options().ciphers = (name,)
            transport.packetizer._trigger_rekey()
            transport._start_rekey()
            assert exec_command.run(link, f"echo {name}", timeout=20)[1] == f"{name}\n".encode()
            assert link.describe()["cipher"] == name


def test_a_rekey_that_does_not_end_ends_the_connection(make_sshd: MakeSshd) -> None:
    """Otherwise callers would wait forever for their answers: Paramiko only fails the sender, and goes on."""
    server = make_sshd()
    with linked(server) as link:
        running = exec_command.Command(link, "cat", stdin=None)
        running.send(b"up")
        assert running.read(20) == (b"up", b"")
        link._transport.clear_to_send_timeout = 0.5
        server.freeze()
        link._transport.packetizer._trigger_rekey()
        link._transport._start_rekey()
        running.send(b"lost")
        with pytest.raises(ConnectionLost, match="no new keys within 0.5 s"):
            running.read(20)
        running.close()
        server.thaw()


def test_another_host_key_during_rekeying_ends_the_connection(sshd: Sshd) -> None:
    with linked(sshd) as link:
        link._transport._shown_host_key = b"another"
        link._transport.packetizer._trigger_rekey()
        with pytest.raises(ConnectionLost, match="host key changed during rekeying"):
            exec_command.run(link, "sleep 1")
            exec_command.run(link, "true")
