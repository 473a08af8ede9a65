"""Forwarded ports and sockets of the library."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pmitogen
from pmitogen import aio
from pmitogen.api import Host
from tests.support import processes
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.sshd import Sshd, free_port

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


@pytest.fixture
def host(sshd: Sshd, account: Account) -> Iterator[Host]:
    with connect(sshd, account) as made:
        yield made


@pytest.fixture
def echo() -> Iterator[int]:
    """Run a server that sends data back in capitals; yield its port."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(self.request.recv(100).upper())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
    thread.join(5)


def socks_request(port: int) -> bytes:
    """A request of SOCKS 4 for a port of the loopback address. Its answer has 8 bytes."""
    return b"\x04\x01" + port.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + b"\0"


def connected(where: tuple[str, int] | str, first: bytes = b"", skip: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
    sock.settimeout(10)
    try:
        sock.connect(where)
        if first:
            sock.sendall(first)
            while skip > 0:
                skip -= len(sock.recv(skip))
    except OSError:
        sock.close()
        raise
    return sock


def answer(sock: socket.socket) -> bytes:
    with sock:
        sock.sendall(b"hello")
        return sock.recv(100)


def ask(where: tuple[str, int] | str, first: bytes = b"", skip: int = 0) -> bytes:
    return answer(connected(where, first, skip))


def test_local_ports_and_sockets_are_forwarded(host: Host, echo: int, short_path: Path) -> None:
    with host.forward_local(echo) as forwarding:
        assert ask(forwarding.address) == b"HELLO"
        address = forwarding.address
    with pytest.raises(OSError, match="refused"):
        ask(address)
    with host.forward_local(("localhost", echo), short_path / "s") as forwarding:
        assert forwarding.address == str(short_path / "s") and ask(forwarding.address) == b"HELLO"
    assert not (short_path / "s").exists()


def test_a_remote_port_is_forwarded(host: Host, echo: int) -> None:
    with host.forward_remote(echo) as forwarding:
        code = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); s.sendall(b'hello'); "
        code += "print(s.recv(9))"
        python = str(host.info()["exe"])
        assert b"HELLO" in host.run([python, "-c", code, str(forwarding.port)], check=True).stdout


def test_a_socks_client_is_forwarded(host: Host, echo: int) -> None:
    with host.forward_socks() as forwarding:
        assert ask(forwarding.address, socks_request(echo), 8) == b"HELLO"


@pytest.mark.parametrize("kind", ["local", "remote"])
@pytest.mark.parametrize("client_state", ["waiting", "closed", "writing"])
def test_closing_a_forwarding_ends_connections_whose_target_says_nothing(kind: str, client_state: str, host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(10)
        port = silent.getsockname()[1]
        forwarding = host.forward_local(port) if kind == "local" else host.forward_remote(port)
        client = connected(forwarding.address)
        client.sendall(b"x")
        target = silent.accept()[0]
        target.settimeout(10)
        assert target.recv(1) == b"x"
        if client_state == "closed":
            client.close()
            assert target.recv(1) == b""  # it may still answer: a half-closed connection looks the same
        elif client_state == "writing":
            client.settimeout(0.5)
            with contextlib.suppress(OSError):
                while True:
                    client.sendall(bytes(1 << 16))
        forwarding.close()
        if client_state == "waiting":
            assert target.recv(1) == client.recv(1) == b""
        deadline = time.monotonic() + 5
        while (left := [each for each in threading.enumerate() if "forwarding" in each.name]) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not left
        client.close()
        target.close()


def test_invalid_forwardings_are_refused(host: Host, echo: int) -> None:
    for wrong in (True, 1.5, ("a",), ("a", "b"), None):
        with pytest.raises(TypeError):
            host.forward_local(wrong)  # type: ignore[arg-type]
    with pytest.raises(pmitogen.UsageError):
        host.forward_local(70000)
    with pytest.raises(pmitogen.ConnectError, match="cannot listen"):
        host.forward_local(echo, echo)


@pytest.mark.parametrize("by", ["ssh_args", "settings", "file"])
def test_forwardings_in_options_last_as_long_as_the_connection(
    by: str, sshd: Sshd, account: Account, echo: int, short_path: Path
) -> None:
    os.chmod(short_path, 0o777)
    there, here, proxy = str(short_path / "there"), str(short_path / "here"), free_port(["127.0.0.1", "::1"])
    values = {
        "LocalForward": f"{here} localhost:{echo}",
        "RemoteForward": f"{there} 127.0.0.1:{echo}",
        "DynamicForward": f"{proxy}",
    }
    args, options = sshd.ssh_args(), pmitogen.ConnectOptions()
    if by == "ssh_args":
        args += ["-L", f"{here}:localhost:{echo}", "-R", f"{there}:127.0.0.1:{echo}", "-D", f"{proxy}"]
    elif by == "settings":
        options = pmitogen.ConnectOptions(settings=values)
        report = {line["option"]: line["verdict"] for line in options.explain("h")["report"]}
        assert {report[name] for name in values} == {"honoured"}
    else:
        (short_path / "config").write_text("".join(f"{name} {value}\n" for name, value in values.items()))
        args = ["-F", str(short_path / "config"), *args[2:]] if args[0] == "-F" else [*args, "-F", str(short_path / "config")]
    request = b"\x04\x01" + echo.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + b"\0"
    with pmitogen.Hub() as hub, connect(sshd, account, hub, ssh_args=args, options=options) as host:
        for _ in range(2):
            host.run("true")
            assert ask(here) == ask(there) == ask(("127.0.0.1", proxy), request, 8) == b"HELLO"
            host.close()
            processes.wait_until(lambda: not os.path.exists(here))
            with pytest.raises(OSError, match="refused|reset"):  # reset: it came while the listener was being closed
                ask(("127.0.0.1", proxy))
            if os.path.exists(there):  # sshd does not remove it
                os.unlink(there)


@pytest.mark.parametrize("permitted", ["127.0.0.1:{}", "none"])
def test_permitremoteopen_limits_a_dynamic_remote_forwarding(sshd: Sshd, account: Account, echo: int, permitted: str) -> None:
    """As with the command ssh: -R PORT lets programs on the server choose local addresses; PermitRemoteOpen limits these."""
    port = free_port(["127.0.0.1"])
    args = [*sshd.ssh_args(), "-R", f"127.0.0.1:{port}", "-o", f"PermitRemoteOpen={permitted.format(echo)}"]
    request = b"\x04\x01" + echo.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + b"\0"
    with connect(sshd, account, ssh_args=args) as host, socket.create_connection(("127.0.0.1", port), 10) as sock:
        host.run("true")
        sock.sendall(request)
        answer = sock.recv(8)
    assert (answer[1:2] == b"\x5a") is (permitted != "none")


def test_a_failing_forwarding_in_options_is_an_error(sshd: Sshd, account: Account, echo: int) -> None:
    taken = f"127.0.0.1:{echo}"
    for args, message in (
        (["-L", f"{taken}:localhost:1"], f"cannot listen on 127.0.0.1 port {echo}"),
        (["-D", taken], f"cannot listen on 127.0.0.1 port {echo}"),
        (["-R", "/nonexistent/socket:localhost:1"], "failed for listen /nonexistent/socket"),
    ):
        with pytest.raises(pmitogen.ConnectError, match=message):
            connect(sshd, account, ssh_args=[*sshd.ssh_args(), *args])
    with pytest.raises(pmitogen.UsageError, match="invalid forwarding specification"):
        connect(sshd, account, ssh_args=[*sshd.ssh_args(), "-L", "x"])


def test_forwardings_in_the_users_own_file_are_ignored(sshd: Sshd, account: Account, echo: int, home: Path) -> None:
    (home / ".ssh").mkdir(mode=0o700)
    (home / ".ssh/config").write_text(f"LocalForward {echo} localhost:1\n")
    args = [word for word in sshd.ssh_args() if word not in ("-F", "none", "/dev/null")]
    with connect(sshd, account, ssh_args=args) as host:
        assert host.run("true").ok


def test_the_asyncio_library_forwards_ports(sshd: Sshd, account: Account, echo: int) -> None:
    async def work() -> None:
        async with aio.connect(f"{account.name}@{sshd.host}", ssh_args=sshd.ssh_args(), timeout=30) as host:
            async with await host.forward_local(echo) as forwarding:
                reader, writer = await asyncio.open_connection("127.0.0.1", forwarding.port)
                writer.write(b"hello")
                assert await reader.read(100) == b"HELLO"
                writer.close()
                await writer.wait_closed()

    asyncio.run(work())


@pytest.mark.parametrize("kind", ["-L", "-D", "-R"])
def test_a_further_connection_takes_over_the_forwardings(
    kind: str, echo: int, make_sshd: Callable[..., Sshd], account: Account
) -> None:
    """The server allows one session, and the first connection is busy with a command."""
    server, port = make_sshd(config=["MaxSessions 1"]), free_port(["127.0.0.1"])
    where = ("127.0.0.1", port), *((socks_request(echo), 8) if kind == "-D" else ())
    target = "" if kind == "-D" else f":127.0.0.1:{echo}"
    with connect(server, account, ssh_args=[*server.ssh_args(), kind, f"{port}{target}"]) as host:
        first = threading.Thread(target=host.run, args=("sleep 4.4911",))
        first.start()
        processes.wait_until(lambda: any("4.4911" in process.command for process in account.processes()), 10)
        old = connected(*where)
        assert host.run("echo second").stdout == b"second\n" and first.is_alive() and server.connections() == 2
        assert ask(*where) == b"HELLO" and answer(old) == b"HELLO"
        first.join()
        assert host.run("echo third").stdout == b"third\n" and ask(*where) == b"HELLO"
