"""The last line of ``pmitogen ssh`` about a failure is that of OpenSSH's client, with the same exit status."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.accounts import Account
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.needs_program("ssh")]
OURS = (sys.executable, "-m", "pmitogen", "ssh")


def last_line(program: tuple[str, ...], *argv: str) -> tuple[int, str]:
    done = subprocess.run([*program, *argv], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, start_new_session=True)
    return done.returncode, done.stderr.decode().replace("\r", "").splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "command", "line"),
    [
        (("-s",), "nosuch", "subsystem request failed on channel 0"),
        (("-W", "127.0.0.1:1"), "", "stdio forwarding failed"),
        (("-oExitOnForwardFailure=yes", "-L127.0.0.1:{port}:127.0.0.1:1"), "true", "Could not request local forwarding."),
    ],
)
def test_a_failure_after_the_login(sshd: Sshd, account: Account, options: tuple[str, ...], command: str, line: str) -> None:
    flags = [option.format(port=sshd.port) for option in options]
    argv = [*sshd.ssh_args(), *flags, f"{account.name}@{sshd.host}", *([command] if command else [])]
    assert last_line(OURS, *argv) == last_line(("ssh",), *argv) == (255, line)


def test_a_server_without_a_version() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        argv = ["-F", "none", "-oConnectTimeout=1", "-p", str(port), "127.0.0.1", "true"]
        line = f"Connection to 127.0.0.1 port {port} timed out"
        assert last_line(OURS, *argv) == last_line(("ssh",), *argv) == (255, line)


@contextlib.contextmanager
def relay(port: int, change: Callable[[bytes], bytes]) -> Iterator[int]:
    """Yield a port that leads to *port*. *change* is applied to what the server sends, from one second after the start on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = threading.Event()
        timer = threading.Timer(1.5, began.set)

        def copy(source: socket.socket, sink: socket.socket, from_server: bool) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    if from_server and began.is_set():
                        data = change(data)
                    sink.sendall(data)
            for each in (source, sink):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

        def serve() -> None:
            client = listener.accept()[0]
            with client, socket.create_connection(("127.0.0.1", port)) as server:
                timer.start()
                threads = [threading.Thread(target=copy, args=(client, server, False))]
                threads.append(threading.Thread(target=copy, args=(server, client, True)))
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(20)
        timer.join()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda data: data[:-1] + bytes([data[-1] ^ 1]),
            "ssh_dispatch_run_fatal: Connection to {}: message authentication code incorrect",
        ),
        (lambda data: bytes([data[0] ^ 0x40]) + data[1:], "ssh_dispatch_run_fatal: Connection to {}: Connection corrupted"),
        (lambda data: b"", "Timeout, server 127.0.0.1 not responding."),
    ],
)
def test_a_connection_that_ends(sshd: Sshd, account: Account, change: Callable[[bytes], bytes], text: str) -> None:
    """Its cause is a changed packet, a changed length, or silence."""
    options = ["-caes128-gcm@openssh.com", "-oServerAliveInterval=1", "-oServerAliveCountMax=2"]
    options.append(f"-oHostKeyAlias=[127.0.0.1]:{sshd.port}")
    for program in (OURS, ("ssh",)):
        with relay(sshd.port, change) as port:
            argv = [
                "-p",
                str(port),
                *sshd.ssh_args(),
                *options,
                f"{account.name}@{sshd.host}",
                "while echo more; do sleep 1; done",
            ]
            assert last_line(program, *argv) == (255, text.format(f"127.0.0.1 port {port}")), program
