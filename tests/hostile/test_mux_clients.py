"""Hostile programs at the socket of a shared connection: clients of a master or hub, and masters for a client."""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from pmitogen.cli.ssh.mux.client import MasterUnreachable, MuxClient
from pmitogen.flags.ssh.values.forwards import Forward
from pmitogen.transport.connection import Connection
from pmitogen.transport.keys.wire import encode_string, encode_u32
from pmitogen.transport.mux import listener as listener_module
from pmitogen.transport.mux import messages
from pmitogen.transport.mux.listener import Listener
from pmitogen.transport.mux.messages import MuxError, MuxSocket
from tests.support.accounts import Account
from tests.support.processes import wait_until

DIGEST = "0" * 64
HELLO = encode_u32(messages.HELLO) + encode_u32(messages.VERSION)


class Owner:
    """The owner of a connection in tests that must not start a session."""

    accepts_control = False
    asked: list[str | None]

    def __init__(self) -> None:
        self.asked = []

    @contextlib.contextmanager
    def lend(self, digest: str | None) -> Iterator[tuple[Connection, str]]:
        self.asked.append(digest)
        yield cast("Any", None), DIGEST

    def on_control(self, kind: int) -> None:
        raise AssertionError("a client's order")

    def open_forward(self, kind: int, forward: Forward) -> int | None:
        raise AssertionError("a client's order")

    def close_forward(self, kind: int, forward: Forward) -> None:
        raise AssertionError("a client's order")


@pytest.fixture
def path(short_path: Path) -> Iterator[str]:
    """The path of a listener's socket; checks afterwards that no descriptor and no thread is left."""
    before = len(os.listdir("/proc/self/fd"))
    listener = Listener(str(short_path / "mux"), Owner())
    yield str(short_path / "mux")
    listener.end()
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("ssh mux")])
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def message(*fields: bytes) -> bytes:
    payload = b"".join(fields)
    return encode_u32(len(payload)) + payload


def session(*fields: bytes) -> bytes:
    return message(encode_u32(messages.NEW_SESSION), encode_u32(1), *fields)


STRINGS = [encode_string("dumb"), encode_string("true")]
SESSION = session(encode_string(""), *[encode_u32(0)] * 5, *STRINGS)
BAD = [
    b"\0\0\0\0",
    b"\0\0\0\3abc",
    encode_u32(messages.MAX_MESSAGE + 1),
    b"\xff\xff\xff\xff",
    b"GET / HTTP/1.1\r\n\r\n",
    message(encode_u32(messages.HELLO)),
    message(encode_u32(messages.HELLO), encode_u32(3)),
    message(encode_u32(messages.ALIVE_CHECK), encode_u32(1)),
    message(HELLO, encode_u32(1 << 31)),
    message(HELLO, encode_string("name")),
    message(HELLO, encode_string("name"), encode_u32(50) + b"short"),
    message(HELLO) + b"\0\0\0\0",
    message(HELLO) + message(encode_u32(messages.ALIVE_CHECK)),
    message(HELLO) + session(),
    message(HELLO) + session(encode_string(""), *[encode_u32(0)] * 5, encode_u32(1 << 30)),
    message(HELLO) + SESSION + b"no descriptors",
    message(HELLO) + SESSION,
    message(HELLO)
    + message(encode_u32(messages.NEW_STDIO_FORWARD), encode_u32(1), *[encode_string("h")] * 2, encode_u32(1 << 31)),
    message(HELLO) + message(encode_u32(messages.TERMINATE), encode_u32(1)),
    message(HELLO) + message(encode_u32(messages.STOP_LISTENING), encode_u32(1)),
    message(HELLO) + message(encode_u32(messages.OPEN_FORWARD), encode_u32(1)),
    message(HELLO) + message(encode_u32(messages.CLOSE_FORWARD), encode_u32(1), encode_u32(9)),
]  # fmt: skip


def exchange(path: str, data: bytes, descriptors: list[int] | None = None) -> bytes:
    """Send *data* and end-of-file; return the whole answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        sock.connect(path)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(data)
            if descriptors:
                socket.send_fds(sock, [b"\0"], descriptors)
            sock.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(4096):
                answer += data
        return answer


def assert_alive(path: str) -> None:
    with MuxClient(path, DIGEST) as client:
        assert client.check() == os.getpid() and not client.has_other_options


def test_invalid_messages_of_clients_are_refused(path: str) -> None:
    for data in BAD:
        exchange(path, data)
    for order in (messages.TERMINATE, messages.STOP_LISTENING):
        with MuxClient(path, DIGEST) as client, pytest.raises(MuxError, match="the master refuses: not for clients"):
            client.send_control(order)
    for opening in (True, False):
        with MuxClient(path, DIGEST) as client, pytest.raises(MuxError, match="the master refuses: not for clients"):
            client.change_forward(messages.LOCAL, Forward(None, 1, None, "h", 1, None), opening)
    assert_alive(path)


def test_descriptors_of_clients_are_closed(path: str) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    try:
        for count in (1, 2, 3, 20):
            exchange(path, message(HELLO) + SESSION, [null] * count)
    finally:
        os.close(null)
    assert_alive(path)


@pytest.mark.parametrize("seed", range(3))
def test_random_messages_harm_no_other_client(path: str, seed: int) -> None:
    chosen = random.Random(seed)
    for _ in range(60):
        data = bytearray(message(HELLO) + chosen.choice([SESSION, message(encode_u32(messages.ALIVE_CHECK), encode_u32(1))]))
        for _ in range(chosen.randint(1, 6)):
            data[chosen.randrange(len(data))] = chosen.randrange(256)
        exchange(path, bytes(data[: chosen.randint(1, len(data))]))
    assert_alive(path)


def test_silent_clients_are_disconnected(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are disconnected after a time; other clients are served, up to a limit."""
    monkeypatch.setattr(listener_module, "HELLO_TIMEOUT", 1.0)
    monkeypatch.setattr(listener_module, "MAX_CLIENTS", 8)
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            sock.connect(path)
        begun = time.monotonic()
        while True:
            try:
                assert_alive(path)
                break
            except MuxError:
                assert time.monotonic() < begun + 10
                time.sleep(0.1)


CONNECT = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1]); print(len(s.recv(9)))"


@pytest.mark.needs_root
def test_clients_of_another_account_are_refused(path: str, account: Account) -> None:
    def connect() -> str:
        done = account.run("/usr/bin/python3", "-c", CONNECT, path)
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    assert "Permission" in connect()
    os.chmod(path, 0o666)
    assert connect() == "0"
    assert_alive(path)


SERVE = """
import os, socket, sys
os.setuid(int(sys.argv[2]))
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
s.listen()
while True:
    c, _ = s.accept()
    try:
        c.sendall(bytes.fromhex(sys.argv[3]))
        c.shutdown(socket.SHUT_WR)
        c.recv(4096)
    except OSError:
        pass
    c.close()
"""


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (message(HELLO), "another user"),
        (b"", "the connection ended"),
        (b"SSH-2.0-x\r\n", "invalid message length"),
        (message(encode_u32(messages.HELLO), encode_u32(99)), "unsupported protocol version"),
        (message(HELLO, encode_u32(1 << 31)), "."),
    ],
)
def test_invalid_masters_are_refused(data: bytes, problem: str, short_path: Path, account: Account) -> None:
    (short_path / "directory").mkdir()
    os.chmod(short_path / "directory", 0o777)
    path = str(short_path / "directory/mux")
    uid = account.uid if problem == "another user" else os.getuid()
    server = subprocess.Popen([sys.executable, "-c", SERVE, path, str(uid), data.hex()])
    try:
        wait_until(lambda: os.path.exists(path))
        time.sleep(0.2)
        with pytest.raises((MuxError, MasterUnreachable), match=problem):
            MuxClient(path, DIGEST)
    finally:
        server.kill()
        server.wait()


def _run_with_master(path: Path, serve: Callable[[socket.socket], None]) -> subprocess.CompletedProcess[str]:
    """Run ``pmitogen ssh`` with a master at *path*, whose only client *serve* handles."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        thread = threading.Thread(target=lambda: serve(server.accept()[0]))
        thread.start()
        command = [sys.executable, "-m", "pmitogen", "ssh", "-F", "none", "-S", str(path), "-p", "1", "127.0.0.1", "true"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        thread.join(30)
    return done


def test_a_master_that_ends_before_it_confirms_the_command_is_an_error(short_path: Path) -> None:
    """The command may already run, so it is not started again."""
    alive = message(encode_u32(messages.ALIVE), encode_u32(0), encode_u32(os.getpid()))

    def serve(client: socket.socket) -> None:
        with client:
            client.sendall(message(HELLO) + alive)
            time.sleep(2)  # for the client's request

    done = _run_with_master(short_path / "mux", serve)
    assert done.returncode == 255 and not done.stdout
    assert done.stderr.count("\n") == 1 and "not known whether the command has started" in done.stderr


def test_output_that_a_master_writes_after_the_exit_status_is_read(short_path: Path) -> None:
    """OpenSSH's master sends the status as soon as it arrives: a client that ends then loses the rest of the output."""
    alive = message(encode_u32(messages.ALIVE), encode_u32(0), encode_u32(os.getpid()))
    opened = message(encode_u32(messages.SESSION_OPENED), encode_u32(0), encode_u32(7))

    def serve(sock: socket.socket) -> None:
        sock.sendall(message(HELLO) + alive)
        with MuxSocket(sock) as client:
            client.settimeout(20)
            for _ in range(3):  # hello, check, session
                client.receive()
            _, stdout, _ = descriptors = [client.receive_descriptor() for _ in range(3)]
            sock.sendall(opened + message(encode_u32(messages.EXIT), encode_u32(7), encode_u32(3)))
            ended, _, _ = select.select([client], [], [], 1)
            os.write(stdout, b"left early" if ended else b"late output")
            for descriptor in descriptors:
                os.close(descriptor)

    done = _run_with_master(short_path / "mux", serve)
    assert (done.returncode, done.stdout, done.stderr) == (3, "late output", "")
