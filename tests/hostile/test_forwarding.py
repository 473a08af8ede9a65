"""Hostile programs on the server that use a forwarded port, and invalid host names."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from pmitogen.cli.ssh.main import run
from pmitogen.errors import ConnectError
from pmitogen.transport.forwarding.address import TCPAddress
from pmitogen.transport.forwarding.local import LocalForwarding
from pmitogen.transport.forwarding.remote import RemoteForwarding
from tests.support.links import linked
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_sshd]
NAMES = [b"a..b", b"x" * 255, b"\xff\xfe", b"\0", b"", b"." * 200, b"a" * 64 + b".c", b"xn--\xff", b"\x1b[2J", b"a\nb"]
REFUSED_5, REFUSED_4 = b"\x05\0\x05\x01\0\x01" + bytes(6), b"\0\x5b" + bytes(6)


@pytest.fixture
def thread_errors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Collect the exceptions of threads, which Python would print on the user's terminal."""
    errors: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: errors.append(args.exc_value))
    yield errors
    assert not errors


def ask(address: object, request: bytes) -> bytes:
    """Return the whole answer of the forwarding to *request*."""
    assert isinstance(address, TCPAddress)
    with socket.create_connection(("127.0.0.1", address.port), 10) as client:
        client.settimeout(10)
        client.sendall(request)
        answer = b""
        while data := client.recv(4096):
            answer += data
        return answer


@pytest.mark.parametrize("kind", [LocalForwarding, RemoteForwarding])
def test_socks_requests_for_invalid_names_are_refused(
    sshd: Sshd, thread_errors: list[object], kind: type[LocalForwarding | RemoteForwarding]
) -> None:
    with linked(sshd) as link, kind(link, TCPAddress("127.0.0.1", 0), None) as forwarding:
        for name in NAMES:
            request = b"\x05\x01\0\x05\x01\0\x03" + bytes([len(name)]) + name + b"\0\x09"
            assert ask(forwarding.address, request) == REFUSED_5, name
            if b"\0" not in name:
                assert ask(forwarding.address, b"\x04\x01\0\x09\0\0\0\x01\0" + name + b"\0") == REFUSED_4, name


def test_an_invalid_name_to_listen_on_is_refused(sshd: Sshd) -> None:
    with linked(sshd) as link, pytest.raises(ConnectError, match="cannot listen on a..b port 1: "):
        LocalForwarding(link, TCPAddress("a..b", 1), None)


@pytest.mark.parametrize("name", ["a..b", "\udcff", "nosuch.invalid"])
def test_an_invalid_name_to_connect_to_is_reported(sshd: Sshd, capfd: pytest.CaptureFixture[str], name: str) -> None:
    args = [*sshd.ssh_args(), "-o", f"BindAddress={name}", "-o", "BatchMode=yes", "root@127.0.0.1", "true"]
    assert run(args) == 255
    error = capfd.readouterr().err
    assert len(error.splitlines()) == 1 and "BindAddress " in error and "Unknown error" not in error, error
