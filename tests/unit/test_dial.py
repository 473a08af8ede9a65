"""Opening a socket: order of addresses, deadlines, socket options and messages; over loopback."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport import dial
from pmitogen.transport.dial import Address
from tests.support.session import repository

PLAIN = Settings("h", "127.0.0.1", "bob")


@contextlib.contextmanager
def listening(address: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as server:
        server.bind((address, 0))
        server.listen()
        yield server


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """A port of 127.0.0.1 that answers no SYN, because its queue is full."""
    with socket.socket() as server, contextlib.ExitStack() as callers:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            caller = callers.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(server.getsockname())
        yield server.getsockname()[1]


def closed_port() -> int:
    with listening() as server:
        return int(server.getsockname()[1])


def at(port: int, host: str = "127.0.0.1") -> Address:
    return socket.AF_INET, (host, port)


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


def connected(settings: Settings, addresses: list[Address], timeout: float = 5.0) -> socket.socket:
    return dial.dial(settings, addresses, timeout, soon(20))[0]


def test_a_refused_address_is_followed_by_the_next_at_once() -> None:
    with listening() as server:
        began = time.monotonic()
        with connected(PLAIN, [at(closed_port()), at(server.getsockname()[1])]) as sock:
            assert sock.getpeername() == server.getsockname()
        assert time.monotonic() - began < dial.CONNECTION_ATTEMPT_DELAY


def test_a_silent_address_delays_the_next_by_the_attempt_delay_only() -> None:
    with silent() as port, listening() as server:
        began = time.monotonic()
        with connected(PLAIN, [at(port), at(server.getsockname()[1])]) as sock:
            assert sock.getpeername() == server.getsockname()
        assert dial.CONNECTION_ATTEMPT_DELAY <= time.monotonic() - began < dial.CONNECTION_ATTEMPT_DELAY + 0.5


def test_an_unroutable_address_is_followed_by_the_next() -> None:
    with listening() as server:
        unreachable: Address = (socket.AF_INET, ("255.255.255.255", 9))
        with connected(PLAIN, [unreachable, at(server.getsockname()[1])]):
            pass


def refusal(settings: Settings, addresses: list[Address], limit: float = 5.0) -> str:
    with pytest.raises(ConnectError) as caught:
        connected(settings, addresses, limit)
    assert caught.value.stage == "tcp"
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_silent_address_ends_at_the_deadline() -> None:
    with silent() as port:
        began = time.monotonic()
        output = refusal(PLAIN, [at(port)], 0.6)
        assert 0.5 < time.monotonic() - began < 1.0
    assert "bob@127.0.0.1 port 22: no answer (127.0.0.1)" in output and "ansible_ssh_timeout" in output


def test_each_address_has_the_whole_timeout() -> None:
    """As with ssh. The attempts run in parallel, so the second ends a little after the first."""
    with silent() as port, silent() as other:
        began = time.monotonic()
        refusal(PLAIN, [at(port), at(other)], 0.6)
        assert 0.6 + dial.CONNECTION_ATTEMPT_DELAY - 0.1 < time.monotonic() - began < 1.4


def test_the_duration_of_the_successful_attempt_is_recorded() -> None:
    with silent() as port, listening() as server:
        before = time.monotonic()
        sock, began = dial.dial(PLAIN, [at(port), at(server.getsockname()[1])], 5, soon())
        sock.close()
        assert dial.CONNECTION_ATTEMPT_DELAY <= began - before < dial.CONNECTION_ATTEMPT_DELAY + 0.5


def test_the_deadline_ends_all_attempts() -> None:
    with silent() as port:
        began = time.monotonic()
        with pytest.raises(ConnectError, match="no answer"):
            dial.dial(PLAIN, [at(port)], 5, soon(0.3))
        assert time.monotonic() - began < 0.8


def test_a_refusal_is_reported() -> None:
    assert "Connection refused (127.0.0.1); is sshd running there" in refusal(PLAIN, [at(closed_port())])


def test_each_address_is_reported_with_its_reason() -> None:
    output = refusal(PLAIN, [(socket.AF_INET, ("255.255.255.255", 9)), at(closed_port())])
    assert "255.255.255.255: " in output and "127.0.0.1: Connection refused" in output


def test_connectionattempts_repeats_the_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "RETRY_PAUSE", 0.2)
    began = time.monotonic()
    refusal(PLAIN._replace(connectionattempts=3), [at(closed_port())])
    assert 0.4 <= time.monotonic() - began < 1.0


def test_socket_options_are_set() -> None:
    with listening() as server:
        settings = PLAIN._replace(ipqos=(0x48, 0x20))
        with connected(settings, [at(server.getsockname()[1])]) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0x20
        with connected(PLAIN._replace(tcpkeepalive=False), [at(server.getsockname()[1])]) as sock:
            assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_bindaddress_and_bindinterface_are_honoured() -> None:
    with listening() as server:
        for settings in (PLAIN._replace(bindaddress="127.0.0.9"),):
            with connected(settings, [at(server.getsockname()[1])]) as sock:
                assert sock.getsockname()[0] == "127.0.0.9"
        with connected(PLAIN._replace(bindinterface="lo"), [at(server.getsockname()[1])]) as sock:
            bound = sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0")
            assert bound == b"lo" or sock.getsockname()[0] == dial._interface_address(socket.AF_INET, "lo")[0]
    assert dial._interface_address(socket.AF_INET, "lo")[0] == "127.0.0.1"
    assert "No such device" in refusal(PLAIN._replace(bindinterface="nosuch0"), [at(closed_port())])


def test_addressfamily_limits_the_addresses() -> None:
    def families(name: str) -> set[int]:
        return {family for family, _ in dial.resolve(PLAIN._replace(hostname="localhost", addressfamily=name))}

    assert families("inet") == {socket.AF_INET}
    with pytest.raises(ConnectError, match="cannot resolve the IPv6 name 127.0.0.1"):
        dial.resolve(PLAIN._replace(addressfamily="inet6"))


USED_UP = """
import os, resource
from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport import dial; from pmitogen.util import limits as openfiles
dial.resolve(Settings("h", "localhost", "bob"))
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
held = []
try:
    while True:
        held.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
try:
    dial.resolve(Settings("h", "localhost", "bob"))
except ConnectError as error:
    assert (error.message, error.stage) == (openfiles.EXHAUSTED_MESSAGE, "local"), error.message
else:
    raise AssertionError("it could be resolved")
"""


def test_exhausted_descriptors_are_not_reported_as_an_unknown_name() -> None:
    """The resolver cannot open a file."""
    done = subprocess.run([sys.executable, "-c", USED_UP], cwd=repository, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_name_is_reported() -> None:
    with pytest.raises(ConnectError, match="cannot resolve the name no-such-host.invalid") as caught:
        dial.resolve(PLAIN._replace(hostname="no-such-host.invalid"))
    assert caught.value.stage == "resolve"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("127.0.0.1:2718", "to use port 2718, use -p 2718 (ansible_port) and the host 127.0.0.1"),
        ("no-such-host.invalid:22", "to use port 22, use -p 22 (ansible_port) and the host no-such-host.invalid"),
        ("[::1]:22", "to use port 22, use -p 22 (ansible_port) and the host ::1"),
        ("::1:g", "check the spelling, or set ansible_host (HostName) to an address"),
        ("no-such-host.invalid:", "check the spelling, or set ansible_host (HostName) to an address"),
    ],
)
def test_a_port_after_the_name_gets_advice(name: str, advice: str) -> None:
    with pytest.raises(ConnectError) as caught:
        dial.resolve(PLAIN._replace(hostname=name))
    assert caught.value.message.endswith(f"; {advice}")


def test_address_families_alternate() -> None:
    four = [at(1), at(2), at(3)]
    six: list[Address] = [(socket.AF_INET6, ("::1", 1))]
    assert dial._alternate([*four, *six]) == [four[0], six[0], four[1], four[2]]
