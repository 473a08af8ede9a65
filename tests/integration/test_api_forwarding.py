"""Forwarded ports and sockets of the library."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import pmitogen
from pmitogen import aio
from pmitogen.api import Host
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


@pytest.fixture
def host(sshd: Sshd, account: Account) -> Iterator[Host]:
    with connect(sshd, account) as made:
        yield made


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets, in capitals."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.sendall(client.recv(100).upper())

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def ask(where: tuple[str, int] | str, first: bytes = b"", skip: int = 0) -> bytes:
    with socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET) as sock:
        sock.settimeout(10)
        sock.connect(where)
        if first:
            sock.sendall(first)
            while skip > 0:
                skip -= len(sock.recv(skip))
        sock.sendall(b"hello")
        return sock.recv(100)


def test_a_local_port_and_socket(host: Host, echo: int, short_path: Path) -> None:
    with host.forward_local(echo) as forwarding:
        assert ask(forwarding.address) == b"HELLO"
        address = forwarding.address
    with pytest.raises(OSError, match="refused"):
        ask(address)
    with host.forward_local(("localhost", echo), short_path / "s") as forwarding:
        assert forwarding.address == str(short_path / "s") and ask(forwarding.address) == b"HELLO"
    assert not (short_path / "s").exists()


def test_a_remote_port(host: Host, echo: int) -> None:
    with host.forward_remote(echo) as forwarding:
        code = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); s.sendall(b'hello'); "
        code += "print(s.recv(9))"
        python = str(host.info()["exe"])
        assert b"HELLO" in host.run([python, "-c", code, str(forwarding.port)], check=True).stdout


def test_socks(host: Host, echo: int) -> None:
    with host.forward_socks() as forwarding:
        request = b"\x04\x01" + echo.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + b"\0"
        assert ask(forwarding.address, request, 8) == b"HELLO"


def test_what_cannot_be_forwarded(host: Host, echo: int) -> None:
    for wrong in (True, 1.5, ("a",), ("a", "b"), None):
        with pytest.raises(TypeError):
            host.forward_local(wrong)  # type: ignore[arg-type]
    with pytest.raises(pmitogen.UsageError):
        host.forward_local(70000)
    with pytest.raises(pmitogen.ConnectError, match="cannot listen"):
        host.forward_local(echo, echo)


def test_with_asyncio(sshd: Sshd, account: Account, echo: int) -> None:
    async def work() -> None:
        async with aio.connect(f"{account.name}@{sshd.host}", ssh_args=sshd.ssh_args(), timeout=30) as host:
            async with await host.forward_local(echo) as forwarding:
                reader, writer = await asyncio.open_connection("127.0.0.1", forwarding.port)
                writer.write(b"hello")
                assert await reader.read(100) == b"HELLO"
                writer.close()
                await writer.wait_closed()

    asyncio.run(work())
