"""Invalid frames from a client of the hub are refused with a one-line reason; other clients are served."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pmitogen.ansible.hub_session import HUB_OPTIONS
from pmitogen.hub import client as hub_client
from pmitogen.hub.daemon import socket_paths, start_or_adopt
from pmitogen.protocol import framing, hello, messages_from_client
from pmitogen.protocol.error_kinds import ProtocolError
from pmitogen.util.caller import CallerEnvironment

CALLER = CallerEnvironment.current()
BEGIN = [
    {"op": "hello", **hello.identity()},
    {"op": "caller", **CALLER.message()},
    {"op": "open", "options": {"host": "127.0.0.1", "port": 1}, "caller": CALLER.digest, "pid": os.getpid()},
]
SECRET = "swordfish"
RUN = {"op": "run", "id": 1, "archive": "x", "module": "a.b", "generation": "loader", "profile": "legacy", "nofile": 0, "env": {}}
EXEC = {"op": "exec", "id": 1, "argv": ["/bin/true"], "tty": False}
MESSAGES: list[dict[str, Any]] = [
    *BEGIN,
    {"op": "preconnect", "id": 1, "python": ["python3"]},
    RUN,
    {**RUN, "in_turn": True},
    EXEC,
    {**EXEC, "become": {"method": "sudo", "user": "x", "password": SECRET, "timeout": 1.0, "wraps": True}},
    {"op": "put", "id": 1, "path": "/x", "mode": 0o600, "size": 3},
    {"op": "get", "id": 1, "path": "/x"},
    {"op": "fs", "action": "home", "id": 1, "path": "~"},
    {"op": "fs", "action": "exists", "id": 1, "path": "/x"},
    {"op": "fs", "action": "remove", "id": 1, "path": "/x", "ack_early": True},
    {"op": "fs", "action": "chmod", "id": 1, "paths": ["/x"], "add": 1},
    {"op": "fs", "action": "mkdtemp", "id": 1, "bases": ["~"], "name": "x"},
    {"op": "data", "id": 1, "secret": True},
    {"op": "eof", "id": 1},
    {"op": "credit", "id": 1, "count": 1},
    {"op": "kill", "id": 1},
    {"op": "archive", "archive": "x"},
    {"op": "reset", "id": 1},
    {"op": "trace", "spans": [["x", 1.0, 2.0]]},
    {"op": "adopt", "id": 1, "run": 1, "path": "/x", "settings": {"log": ""}},
    {"op": "status", "id": 1},
    {"op": "stop", "id": 1, "standby_only": True},
]
VALUES = (None, True, -1, 1 << 200, 0.5, 1e300, float("nan"), "\udcff", "\x1b[2J" + SECRET, [[]], [SECRET, 1], {}, {SECRET: []})


def invalid_messages() -> Iterator[dict[str, Any]]:
    """Yield each message with each field replaced by each value, and without it, if the table of messages refuses that."""
    for message in MESSAGES:
        fields = [(name, None) for name in message] + [("options", name) for name in message.get("options", ())]
        fields += [("become", name) for name in message.get("become", ())]
        for (name, inner), value in itertools.product(fields, (*VALUES, ...)):
            changed = {**message, **({name: dict(message[name])} if inner else {})}
            place, key = (changed[name], inner) if inner else (changed, name)
            if value is ...:
                del place[key]
            else:
                place[key] = value
            try:
                messages_from_client.TABLE.check(changed, 0)
            except ProtocolError as exc:
                assert SECRET not in str(exc) or name in ("op", "action") or "unknown field" in str(exc)
                yield changed


def exchange(path: str, *frames: bytes) -> list[dict[str, Any]]:
    """Send frames to the hub; return its answers until it closes the connection or has answered ``status``."""
    reader, answers = framing.FrameReader(), []
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(path)
        sock.sendall(b"".join(frames))
        while data := sock.recv(1 << 16):
            answers += [header for header, _ in reader.feed(data)]
            if answers and "pid" in answers[-1]:
                return answers
    return answers


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of a hub that serves this process."""
    monkeypatch.setenv("PMITOGEN_LOG_FILE", str(tmp_path / "log"))
    monkeypatch.setenv("PMITOGEN_LOG", "warning")
    return tmp_path / "log"


@pytest.fixture
def path(log: Path) -> Iterator[str]:
    """The socket of that hub."""
    client = start_or_adopt.connect(os.getpid())
    client.send({"op": "status", "id": 1})
    assert client.receive(20)[0]["op"] == "ok"
    yield socket_paths.run_socket(os.getpid())
    client.send({"op": "status", "id": 2})
    pid = client.receive(20)[0]["pid"]
    client.close()
    hub_client.stop_hubs(pid)


def encoded(*headers: dict[str, Any]) -> bytes:
    return b"".join(map(framing.encode_frame, headers))


def test_each_invalid_field_is_reported_in_one_line(path: str, log: Path) -> None:
    tried = 0
    for message in invalid_messages():
        begin = [] if message.get("op") == "hello" else BEGIN
        answers = exchange(path, encoded(*begin, message))
        assert answers and answers[-1]["op"] == "refused", message
        output = answers[-1]["msg"]
        assert "protocol error: the client sent" in output or "a program that does not say" in output, (message, output)
        assert output.isprintable() and len(output) < 400
        tried += 1
    assert tried > 400
    assert "internal error" not in log.read_text() and "Traceback" not in log.read_text()
    assert exchange(path, encoded(*BEGIN, {"op": "status", "id": 1}))[-1]["op"] == "ok", "others are still served"


def raw(header: bytes) -> bytes:
    return framing.PREFIX.pack(len(header), 0) + header


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        (encoded(EXEC), "does not say its version"),
        (encoded(*BEGIN[:2], EXEC), "exec before open"),
        (encoded(*BEGIN[:2], {"op": "preconnect", "id": 1}), "preconnect before open"),
        (encoded(*BEGIN, EXEC, EXEC), "exec with id 1, which is in use"),
        (encoded(*BEGIN, {**RUN, "in_turn": True, "more": True}), "in_turn with more"),
        (encoded(*BEGIN, {"op": "interpreter-ended"}), "unknown operation 'interpreter-ended'"),
        (encoded(*BEGIN, {"op": ["run"]}), "unknown operation a list of 1"),
        (encoded(*BEGIN, {"op": "fs", "action": "link", "id": 1}), "unknown operation 'fs' 'link'"),
        (encoded(*BEGIN, {"op": "fs home", "id": 1}), "unknown operation 'fs home'"),
        (
            encoded(*BEGIN, {**EXEC, "become": {"method": "sudo", "password": [SECRET]}}),
            "exec with become.password a list of 1; ",
        ),
        (encoded(*BEGIN, {**EXEC, "become": {"user": "x"}}), "exec without become.method"),
        (encoded(*BEGIN, {**RUN, "manifest": "x"}), "run with unknown field 'manifest'"),
        (
            encoded(*BEGIN) + framing.encode_frame(EXEC, bytes(messages_from_client.INLINE + 1)),
            "exec with a body of 524289 bytes",
        ),
        (encoded(*BEGIN) + raw(b'{"op":"exec","id":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "frame header is not JSON"),
        (encoded(*BEGIN) + raw(b'{"op":"exec","id":' + b"9" * 100_000 + b"}"), "frame header is not JSON"),
        (encoded(*BEGIN) + raw(b"[]"), "frame header is not an object"),
    ],
)
def test_a_protocol_error_of_a_client_is_named(path: str, log: Path, frames: bytes, text: str) -> None:
    answers = exchange(path, frames)
    assert answers[-1]["op"] == "refused" and text in answers[-1]["msg"] and SECRET not in answers[-1]["msg"]
    assert "Traceback" not in log.read_text() and SECRET not in log.read_text()
    assert exchange(path, encoded(*BEGIN, {"op": "status", "id": 1}))[-1]["op"] == "ok", "others are still served"


def test_each_option_that_the_plugin_sends_is_in_the_table() -> None:
    assert set(HUB_OPTIONS) == set(messages_from_client.Options.__annotations__)
    for message in MESSAGES:
        messages_from_client.TABLE.check(message, 0)
