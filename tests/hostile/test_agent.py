"""A hostile program on the target uses the forwarded agent: it gets signatures, and nothing else of the agent."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pmitogen.errors import AuthenticationError, ConnectionLost
from pmitogen.transport.connection import Connection
from pmitogen.transport.forwarding import agent_forwarding as forwarding
from pmitogen.transport.keys.ssh_agent_client import AgentError, SessionBinding, SSHAgentClient
from pmitogen.transport.sessions import exec_command
from tests.integration._login import ssh_agent, wait_for_agent
from tests.support.keys import KeyFile
from tests.support.links import link_to, linked, settings_for
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_sshd, pytest.mark.needs_program("ssh-agent", "ssh-add")]
MakeKey = Callable[..., KeyFile]

# Sends its arguments (hex of a message, without length) to the forwarded agent, and prints the type of each answer.
CLIENT = """
import os, socket, struct, sys
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ["SSH_AUTH_SOCK"])
def take(n):
    data = b""
    while len(data) < n:
        piece = s.recv(n - len(data))
        if not piece:
            sys.exit("closed")
        data += piece
    return data
for word in sys.argv[1:]:
    message = bytes.fromhex(word)
    s.sendall(struct.pack(">I", len(message)) + message)
    (size,) = struct.unpack(">I", take(4))
    print(take(size)[0])
"""


def text(value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack(">I", len(raw)) + raw


def ask_on_target(link: Connection, *messages: bytes) -> list[int]:
    """Return the types of the forwarded agent's answers to these messages, on one connection."""
    text = " ".join(message.hex() for message in messages)
    ended, out, err = exec_command.run(link, f"{sys.executable} -c '{CLIENT}' {text}", timeout=20)
    assert ended.code == 0, err
    return [int(line) for line in out.split()]


class Recorder:
    """An agent that records every message and answers each with success."""

    def __init__(self, path: Path, bind: int = 6) -> None:
        self.path, self.bind = str(path), bind
        self.messages: list[bytes] = []
        self.most = self.connections = 0
        self._lock = threading.Lock()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.path)
        self._server.listen(64)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self.connections += 1
            self.most = max(self.most, self.connections)
        with connection, contextlib.suppress(OSError, struct.error):
            while True:
                (size,) = struct.unpack(">I", connection.recv(4, socket.MSG_WAITALL))
                message = connection.recv(size, socket.MSG_WAITALL)
                self.messages.append(message)
                bind = b"session-bind" in message[:40]
                connection.sendall(text(bytes([self.bind if bind else 6])))
        with self._lock:
            self.connections -= 1


@pytest.fixture
def recorder(short_path: Path) -> Iterator[Callable[..., Recorder]]:
    made: list[Recorder] = []

    def make(**options: Any) -> Recorder:
        made.append(Recorder(short_path / f"agent{len(made)}", **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@contextlib.contextmanager
def forwarded(server: Sshd, path: str) -> Iterator[Connection]:
    """A connection that forwards the agent at *path*, and does not use it for its own login."""
    with linked(server, forwardagent=True, forwardagent_socket=path) as link:
        yield link


KEY = text("ssh-ed25519") + text(b"\1" * 32)
HARMFUL = {
    "add": bytes([17]) + text("ssh-ed25519") + text(b"\1" * 32) + text(b"\2" * 64) + text("evil"),
    "add constrained": bytes([25]) + text("ssh-ed25519") + text(b"\1" * 32) + text(b"\2" * 64) + text("evil") + b"\2",
    "add hardware key with provider": bytes([25]) + text("sk-ssh-ed25519@openssh.com") + text(b"\1" * 32)
    + b"\xff" + text("sk-provider@openssh.com") + text("/tmp/evil.so"),
    "remove": bytes([18]) + text(KEY),
    "remove all": bytes([19]),
    "remove all of protocol 1": bytes([9]),
    "list of protocol 1": bytes([1]),
    "add of protocol 1": bytes([7]),
    "add provider": bytes([20]) + text("/tmp/evil.so") + text(""),
    "add provider constrained": bytes([26]) + text("/tmp/evil.so") + text("") + b"\2",
    "remove provider": bytes([21]) + text("/tmp/evil.so") + text(""),
    "lock": bytes([22]) + text("password"),
    "unlock": bytes([23]) + text("password"),
    "unknown extension": bytes([27]) + text("evil@example.com"),
    "extension with a name like a good one": bytes([27]) + text("query\0"),
    "extension in capitals": bytes([27]) + text("QUERY"),
    "extension without a name": bytes([27]),
    "extension cut short": bytes([27]) + b"\0\0\0\5que",
    "extension whose name is no text": bytes([27]) + text(b"\xff\xfe"),
    "reply": bytes([14]) + text(""),
    "success": bytes([6]),
    "unknown 0": bytes([0]),
    "unknown 255": bytes([255]),
    "unknown 10": bytes([10]) + b"x" * 1000,
}  # fmt: skip
HARMLESS = {
    "list": bytes([11]),
    "sign": bytes([13]) + text(KEY) + text("data") + b"\0\0\0\0",
    "query": bytes([27]) + text("query"),
    "bind": bytes([27]) + text("session-bind@openssh.com") + text(KEY) + text("id") + text("signature") + b"\0",
}


def test_only_permitted_requests_reach_the_agent(sshd: Sshd, recorder: Callable[..., Recorder]) -> None:
    agent = recorder()
    with forwarded(sshd, agent.path) as link:
        assert ask_on_target(link, *HARMFUL.values()) == [5] * len(HARMFUL)
        assert len(agent.messages) == 1  # pmitogen's own binding
        assert ask_on_target(link, *HARMLESS.values()) == [6] * len(HARMLESS)
        assert agent.messages[2:] == list(HARMLESS.values())


def test_each_agent_connection_begins_with_a_binding_for_forwarding(sshd: Sshd, recorder: Callable[..., Recorder]) -> None:
    agent = recorder()
    with forwarded(sshd, agent.path) as link:
        ask_on_target(link, HARMLESS["list"])
        binding = link._transport.session_binding()
    bind, listed = agent.messages
    assert bind == bytes([27]) + text("session-bind@openssh.com") + b"".join(map(text, binding)) + b"\1"
    assert listed == HARMLESS["list"]
    assert binding.host_key == base64.b64decode(sshd.host_keys[0].public.split()[1])


@pytest.mark.parametrize(("answer", "usable"), [(6, True), (5, True), (28, False), (99, False)])
def test_an_agent_that_refuses_the_binding_is_not_forwarded(
    sshd: Sshd, recorder: Callable[..., Recorder], answer: int, usable: bool
) -> None:
    """Old agents do not know the message (5): then only the filter protects them."""
    agent = recorder(bind=answer)
    with forwarded(sshd, agent.path) as link:
        text = f"{sys.executable} -c '{CLIENT}' {HARMLESS['list'].hex()}"
        assert (exec_command.run(link, text, timeout=10)[0].code == 0) is usable
    assert (HARMLESS["list"] in agent.messages) is usable


@pytest.mark.parametrize("size", [0, (256 << 10) + 1, 1 << 31, (1 << 32) - 1])
def test_an_invalid_message_size_ends_its_channel_only(sshd: Sshd, recorder: Callable[..., Recorder], size: int) -> None:
    agent = recorder()
    code = "import os, socket; s = socket.socket(socket.AF_UNIX); s.connect(os.environ['SSH_AUTH_SOCK']);"
    code += f"s.sendall(({size}).to_bytes(4, 'big')); print(s.recv(9))"
    with forwarded(sshd, agent.path) as link:
        assert exec_command.run(link, f'{sys.executable} -c "{code}"', timeout=10)[1] == b"b''\n"
        assert ask_on_target(link, HARMLESS["list"]) == [6]
    assert [message[0] for message in agent.messages] == [27, 27, 11]


def test_large_requests_and_answers_pass(sshd: Sshd, recorder: Callable[..., Recorder]) -> None:
    agent = recorder()
    request = bytes([13]) + text(KEY) + text(b"x" * ((256 << 10) - 100)) + b"\0\0\0\0"
    script = CLIENT.replace("sys.argv[1:]", "sys.stdin.read().split()")
    with forwarded(sshd, agent.path) as link:
        assert exec_command.run(link, f"{sys.executable} -c '{script}'", stdin=request.hex().encode())[1] == b"6\n"
    assert agent.messages[-1] == request


MANY = """
import os, socket, struct, sys, time
held = []
for number in range(400):
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.environ["SSH_AUTH_SOCK"])
    held.append(s)
alive = 0
for s in held:
    try:
        s.sendall(bytes.fromhex("000000010b"))
        alive += s.recv(5) == bytes.fromhex("0000000106")
    except OSError:
        pass
print(alive)
"""


def test_agent_channels_are_bounded_and_become_free_again(sshd: Sshd, recorder: Callable[..., Recorder]) -> None:
    agent = recorder()
    with forwarded(sshd, agent.path) as link, linked(sshd) as honest:
        before = threading.active_count()
        most = 0
        ended = threading.Event()

        def watch() -> None:
            nonlocal most
            while not ended.wait(0.01):
                most = max(most, threading.active_count() - len(agent._threads))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            alive = int(exec_command.run(link, f"{sys.executable} -c '{MANY}'", timeout=30)[1])
            assert exec_command.run(honest, "echo in")[1] == b"in\n"
        finally:
            ended.set()
            watcher.join()
        assert 1 <= alive <= forwarding.MAX_CHANNELS and agent.most <= forwarding.MAX_CHANNELS
        assert most <= before + forwarding.MAX_CHANNELS + 3
        deadline = time.monotonic() + 5
        while agent.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ask_on_target(link, HARMLESS["list"]) == [6]


REQUEST_LOOP = """
import os, socket, sys, time
until = time.monotonic() + 1
opened = asked = 0
while time.monotonic() < until:
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.environ["SSH_AUTH_SOCK"])
    try:
        for _ in range(int(sys.argv[1])):
            if time.monotonic() > until:
                break
            s.sendall(bytes.fromhex("000000010b"))
            assert s.recv(5) == bytes.fromhex("0000000106")
            asked += 1
        opened += 1
    except (OSError, AssertionError):
        pass
    s.close()
print(opened, asked)
"""


@pytest.mark.parametrize("requests", [1, 1000])
def test_the_rate_of_agent_requests_is_bounded(
    sshd: Sshd, recorder: Callable[..., Recorder], requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("OPENS_PER_SECOND", 20), ("MAX_OPENS_AT_ONCE", 40)):
        monkeypatch.setattr(forwarding, name, value)
        monkeypatch.setattr(forwarding, name.replace("OPENS", "REQUESTS"), value)
    agent = recorder()
    began = time.monotonic()
    with forwarded(sshd, agent.path) as link, contextlib.suppress(ConnectionLost):  # a client that goes on is cut off
        exec_command.run(link, f"{sys.executable} -c '{REQUEST_LOOP}' {requests}", timeout=20)
    most = 40 + 20 * (time.monotonic() - began)
    assert 20 < sum(message[0] == 11 for message in agent.messages) <= most


@pytest.mark.parametrize("end", ["closed", "lost"])
def test_the_end_of_the_connection_ends_a_pending_agent_request(
    make_sshd: Callable[..., Sshd], short_path: Path, end: str
) -> None:
    """The agent does not answer; no thread continues to wait for it."""
    sshd = make_sshd()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(short_path / "silent"))
    server.listen()
    with server, forwarded(sshd, str(short_path / "silent")) as link:
        runner = threading.Thread(target=_ignoring_errors, args=(lambda: exec_command.run(link, "ssh-add -l", timeout=20),))
        runner.start()
        connection, _ = server.accept()
        with connection:
            assert connection.recv(4)
            link.close() if end == "closed" else sshd.kill_sessions()
            runner.join(5)
            deadline = time.monotonic() + 5
            while any(thread.name == "agent forwarding" for thread in threading.enumerate()):
                assert time.monotonic() < deadline
                time.sleep(0.01)


def _ignoring_errors(work: Callable[[], Any]) -> None:
    with contextlib.suppress(Exception):
        work()


# -- the real ssh-agent


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a shared library that creates a file when it is loaded, and the path of that file."""
    directory = tmp_path_factory.mktemp("library")
    source, built, mark = directory / "evil.c", directory / "evil.so", directory / "loaded"
    source.write_text(
        "#include <fcntl.h>\nint C_GetFunctionList(void *list) { return 1; }\n"  # ssh-pkcs11-helper looks for this function first
        f'__attribute__((constructor)) void f(void) {{ open("{mark}", O_CREAT | O_WRONLY, 0600); }}\n'
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", built, source], check=True, timeout=60)
    return built, mark


@contextlib.contextmanager
def agent_that_may_load(directory: Path, library: Path) -> Iterator[str]:
    path = str(directory / "agent")
    args = ["ssh-agent", "-D", "-a", path, "-P", str(library)]
    process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_agent(path)
        yield path
    finally:
        process.terminate()
        process.wait()


@pytest.mark.needs_program("cc")
@pytest.mark.parametrize("protection", ["both", "binding alone", "filter alone"])
def test_no_provider_is_loaded_for_the_target(
    sshd: Sshd, short_path: Path, library: tuple[Path, Path], protection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, mark = library
    mark.unlink(missing_ok=True)
    if protection == "binding alone":
        monkeypatch.setattr(forwarding, "refusal_reason", lambda _message: None)
    if protection == "filter alone":
        monkeypatch.setattr(SSHAgentClient, "bind", lambda *_words, **_named: True)
    load = ["ssh-add", "-s", str(built)]
    with agent_that_may_load(short_path, built) as path, forwarded(sshd, path) as link:
        assert (
            exec_command.run(link, f"SSH_ASKPASS=/bin/true SSH_ASKPASS_REQUIRE=force {' '.join(load)}", timeout=20)[0].code != 0
        )
        assert not mark.exists()
        environment = {**os.environ, "SSH_AUTH_SOCK": path, "SSH_ASKPASS": "/bin/true", "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(load, env=environment, stdin=subprocess.DEVNULL, timeout=20, capture_output=True)
        assert mark.exists()  # here the agent loads it: before, it refused because of the request's origin


def test_ssh_add_on_the_target_can_only_list_and_sign(sshd: Sshd, make_key: MakeKey, short_path: Path) -> None:
    """It cannot add, remove or lock anything."""
    key, other = make_key(), make_key()
    with ssh_agent(short_path, key) as path, forwarded(sshd, path) as link:
        assert exec_command.run(link, "ssh-add -L")[1].decode().startswith(key.public)
        assert exec_command.run(link, f"ssh-add -T {key}.pub")[0].code == 0
        for text in (f"-q {other}", "-D", f"-d {key}.pub", "-x", "-X", f"-q -t 5 {other}", "-e /tmp/evil.so"):
            command = f"SSH_ASKPASS=/bin/true SSH_ASKPASS_REQUIRE=force ssh-add {text}"
            assert exec_command.run(link, command, timeout=20)[0].code != 0, text
        assert exec_command.run(link, "ssh-add -L")[1].decode().strip().split()[1] == key.public.split()[1]


# -- invalid bindings


def test_a_binding_that_the_agent_rejects_is_an_error(make_key: MakeKey, short_path: Path) -> None:
    with (
        ssh_agent(short_path, make_key()) as path,
        SSHAgentClient(path) as agent,
        pytest.raises(AgentError, match="refused to be bound"),
    ):
        agent.bind(SessionBinding(KEY, b"id" * 16, text("ssh-ed25519") + text(b"\3" * 64)), forwarding=False)


def test_an_agent_that_refuses_the_binding_is_not_used_to_log_in(sshd: Sshd, recorder: Callable[..., Recorder]) -> None:
    agent = recorder(bind=28)
    with pytest.raises(AuthenticationError, match="refused to be bound to this connection"):
        link_to(settings_for(sshd, identityfile=(), identityagent=agent.path))
    assert [message[0] for message in agent.messages] == [27]


def test_an_agent_without_bindings_is_used_to_log_in(sshd: Sshd, recorder: Callable[..., Recorder]) -> None:
    agent = recorder(bind=5)
    with pytest.raises(AuthenticationError, match="cannot list the keys"):
        link_to(settings_for(sshd, identityfile=(), identityagent=agent.path))
    assert [message[0] for message in agent.messages] == [27, 27, 11]
