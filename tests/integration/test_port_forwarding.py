"""Forwarded ports and sockets, and SOCKS, through a real sshd, with curl as an independent client."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pmitogen.errors import ConnectError
from pmitogen.transport.forwarding.address import TCPAddress, UnixPath
from pmitogen.transport.forwarding.local import LocalForwarding
from pmitogen.transport.forwarding.remote import RemoteForwarding
from tests.support.links import linked
from tests.support.processes import wait_until
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_sshd]
BODY = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture
def web() -> Iterator[TCPAddress]:
    """Run a web server on this machine whose every page is BODY."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the library's name
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield TCPAddress("127.0.0.1", server.server_address[1])
        server.shutdown()
        thread.join()


def fetch(*curl: str) -> bytes:
    """Return a page that curl fetched."""
    return subprocess.run(["curl", "-sgS", "--max-time", "20", *curl], capture_output=True, timeout=30, check=True).stdout


def url(address: object) -> list[str]:
    """Return curl's arguments for a forwarded address."""
    if isinstance(address, UnixPath):
        return ["--unix-socket", address.path, "http://page/"]
    assert isinstance(address, TCPAddress)
    return [f"http://{address.host}:{address.port}/"]


@pytest.mark.needs_program("curl")
def test_local_ports_and_sockets_are_forwarded(sshd: Sshd, web: TCPAddress, short_path: Path) -> None:
    with linked(sshd) as link:
        for listen in (TCPAddress("127.0.0.1", 0), UnixPath(str(short_path / "s"))):
            with LocalForwarding(link, listen, web) as forwarding:
                assert fetch(*url(forwarding.address)) == BODY
                assert fetch(*url(forwarding.address)) == BODY
        assert not (short_path / "s").exists(), "the socket is removed with its forwarding"


@pytest.mark.needs_program("curl")
@pytest.mark.parametrize("option", ["--socks4", "--socks4a", "--socks5", "--socks5-hostname"])
def test_socks_clients_are_forwarded(sshd: Sshd, web: TCPAddress, option: str) -> None:
    with linked(sshd) as link, LocalForwarding(link, TCPAddress("127.0.0.1", 0), None) as forwarding:
        assert isinstance(forwarding.address, TCPAddress)
        assert fetch(option, f"127.0.0.1:{forwarding.address.port}", f"http://localhost:{web.port}/") == BODY


@pytest.mark.needs_program("curl")
def test_remote_ports_and_sockets_are_forwarded(sshd: Sshd, web: TCPAddress, short_path: Path) -> None:
    with linked(sshd) as link:
        with RemoteForwarding(link, TCPAddress("127.0.0.1", 0), web) as forwarding:
            assert isinstance(forwarding.address, TCPAddress) and forwarding.address.port
            assert fetch(*url(forwarding.address)) == BODY
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", forwarding.address.port), 5)
        with RemoteForwarding(link, UnixPath(str(short_path / "r")), web) as by_path:
            assert fetch(*url(by_path.address)) == BODY


@pytest.mark.needs_program("curl")
def test_remote_socks_clients_are_forwarded(sshd: Sshd, web: TCPAddress) -> None:
    with linked(sshd) as link, RemoteForwarding(link, TCPAddress("127.0.0.1", 0), None) as forwarding:
        assert isinstance(forwarding.address, TCPAddress)
        assert fetch("--socks5", f"127.0.0.1:{forwarding.address.port}", f"http://127.0.0.1:{web.port}/") == BODY


def test_a_half_close_passes_in_both_directions(sshd: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, linked(sshd) as link:
        target = TCPAddress(*server.getsockname())
        with LocalForwarding(link, TCPAddress("127.0.0.1", 0), target) as forwarding:
            assert isinstance(forwarding.address, TCPAddress)
            with socket.create_connection(forwarding.address, 5) as client:
                far = server.accept()[0]
                with far:
                    client.sendall(b"question")
                    client.shutdown(socket.SHUT_WR)
                    far.settimeout(10)
                    received = b"".join(iter(lambda: far.recv(100), b""))
                    far.sendall(received[::-1])
                client.settimeout(10)
                assert b"".join(iter(lambda: client.recv(100), b"")) == b"noitseuq"


def test_failures_name_the_address(sshd: Sshd, web: TCPAddress, make_sshd: Callable[..., Sshd]) -> None:
    with linked(sshd) as link:
        with pytest.raises(ConnectError, match=f"cannot listen on 127.0.0.1 port {web.port}: Address already in use"):
            LocalForwarding(link, web, web)
        with pytest.raises(ConnectError, match=f"remote port forwarding failed for listen 127.0.0.1 port {web.port}"):
            RemoteForwarding(link, web, web)
    with linked(make_sshd(config=["AllowTcpForwarding no"])) as link:
        with pytest.raises(ConnectError, match=f"the server cannot connect to 127.0.0.1 port {web.port}: open failed"):
            link.open_stream(web, None, time.monotonic() + 10)


def test_an_unreachable_target_ends_only_its_connection(sshd: Sshd, web: TCPAddress) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        dead = TCPAddress(*unused.getsockname())
    with linked(sshd) as link, LocalForwarding(link, TCPAddress("127.0.0.1", 0), dead) as forwarding:
        assert isinstance(forwarding.address, TCPAddress)
        with socket.create_connection(forwarding.address, 5) as client:
            client.settimeout(10)
            assert client.recv(1) == b""
        assert link.end_reason is None


def test_the_end_of_the_connection_ends_its_forwardings(sshd: Sshd, web: TCPAddress, short_path: Path) -> None:
    with linked(sshd) as link:
        LocalForwarding(link, UnixPath(str(short_path / "s")), web)
    assert not (short_path / "s").exists()


@pytest.mark.needs_program("curl")
def test_the_command_line_forwards(sshd: Sshd, web: TCPAddress, short_path: Path) -> None:
    local, remote = short_path / "l", short_path / "r"
    argv = [sys.executable, "-m", "pmitogen", "ssh", *sshd.ssh_args(), "-N"]
    argv += ["-L", f"{local}:127.0.0.1:{web.port}", "-R", f"{remote}:127.0.0.1:{web.port}", sshd.host]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as client:
        try:
            wait_until(lambda: local.exists() and remote.exists())
            assert fetch(*url(UnixPath(str(local)))) == fetch(*url(UnixPath(str(remote)))) == BODY
        finally:
            client.terminate()
            assert client.wait(20) == 255
    assert not local.exists()


def test_w_forwards_stdin_and_stdout(sshd: Sshd, web: TCPAddress) -> None:
    argv = [sys.executable, "-m", "pmitogen", "ssh", *sshd.ssh_args(), "-W", f"127.0.0.1:{web.port}", sshd.host]
    done = subprocess.run(argv, input=b"GET / HTTP/1.0\r\n\r\n", capture_output=True, timeout=30)
    assert done.returncode == 0 and done.stdout.endswith(BODY)
