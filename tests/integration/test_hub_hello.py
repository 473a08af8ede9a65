"""The first frame of a client: a hub serves its own version only, but clients of any version can list and stop it."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from pmitogen.errors import HubError
from pmitogen.hub import client as hub_client
from pmitogen.hub.daemon import socket_paths, start_or_adopt
from pmitogen.protocol import framing, hello
from pmitogen.util.caller import CallerEnvironment

SAME = {"op": "hello", **hello.identity()}
CALLER = CallerEnvironment.current()
TELL = {"op": "caller", **CALLER.message()}
OPEN = {"op": "open", "options": {"host": "127.0.0.1"}, "caller": CALLER.digest}


def exchange(*headers: dict[str, Any]) -> list[dict[str, Any]]:
    """Send frames to the hub; return its answers until it closes the connection or has answered ``status``."""
    reader, answers = framing.FrameReader(), []
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(socket_paths.run_socket(os.getpid()))
        sock.sendall(b"".join(framing.encode_frame(header) for header in headers))
        while data := sock.recv(1 << 16):
            answers += [header for header, _ in reader.feed(data)]
            if answers and "pid" in answers[-1]:
                return answers
    return [*answers, {"op": "closed"}]


@pytest.fixture
def hub() -> Iterator[hub_client.Client]:
    client = start_or_adopt.connect(os.getpid())
    client.send({"op": "status", "id": 1})
    assert client.receive(20)[0]["op"] == "ok"
    yield client
    client.close()
    hub_client.stop_hubs(everything=True)


@pytest.mark.parametrize(
    ("first", "text"),
    [
        ({**SAME, "version": 99}, "(protocol 99, "),
        ({**SAME, "pmitogen": "0.0.1"}, "this is pmitogen 0.0.1 "),
        ({**SAME, "root": "/elsewhere"}, ", /elsewhere)"),
        ({**SAME, "python": "3.99.0"}, "Python 3.99.0"),
        ({**SAME, "pmitogen": "\x1b[2J\n" + "x" * 9999}, "pmitogen \\033[2J xxx"),
        ({**SAME, "pmitogen": {"a": []}}, "pmitogen {'a': []}"),
        ({"op": "hello"}, "a program that does not say its version"),
        (None, "a program that does not say its version"),
    ],
)
def test_another_version_is_refused(hub: hub_client.Client, first: dict[str, Any] | None, text: str) -> None:
    first_frames = [first] if first else []
    answers = exchange(*first_frames, OPEN, {"op": "adopt", "id": 1, "run": 1, "path": "/nonexistent"})
    assert [answer["op"] for answer in answers] == ["refused", "closed"]
    message = answers[0]["msg"]
    assert text in message and re.search(r"end that hub with 'pmitogen hubs --stop \d+'$", message)
    assert message.isprintable() and len(message) < 1000
    assert exchange(SAME, TELL, OPEN, {"op": "status", "id": 1})[0]["op"] == "ok", "other clients are still served"


@pytest.mark.parametrize("first", [[], [{**SAME, "version": 99}]])
def test_a_client_of_any_version_may_list_and_stop_a_hub(hub: hub_client.Client, first: list[dict[str, Any]]) -> None:
    (answer,) = exchange(*first, {"op": "status", "id": 1})
    assert (answer["op"], answer["id"]) == ("ok", 1)
    assert exchange(*first, {"op": "stop", "id": 2})[-1] == {"op": "closed"}
    with pytest.raises(HubError):
        hub.receive(20)


def test_the_client_raises_the_reason_of_the_hub(hub: hub_client.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hello, "identity", lambda: {**SAME, "version": 99})
    client = start_or_adopt.connect(os.getpid())
    client.send(OPEN)
    with pytest.raises(HubError, match=r"^the hub with pid \d+ is pmitogen .* this is pmitogen .*protocol 99"):
        client.receive(20)
    client.close()


def test_a_version_differs_if_any_field_of_the_hello_differs() -> None:
    assert hello.difference(json.loads(json.dumps(hello.identity()))) is None
    for name in hello.identity():
        assert hello.difference({key: value for key, value in hello.identity().items() if key != name})


def test_an_unknown_caller_is_requested_once(hub: hub_client.Client) -> None:
    """Later requests wait until it is known."""
    answers = exchange(SAME, OPEN, {"op": "reset", "id": 7}, TELL, {"op": "status", "id": 1})
    assert [answer["op"] for answer in answers] == ["need", "ok", "ok"] and answers[0]["caller"] == CALLER.digest
    assert [answer["op"] for answer in exchange(SAME, OPEN, {"op": "reset", "id": 7}, {"op": "status", "id": 1})] == ["ok", "ok"]
    other = CallerEnvironment({"A": "1"}, "/tmp")
    client = start_or_adopt.connect(os.getpid())
    client.open({"host": "127.0.0.1"}, other)
    client.send({"op": "reset", "id": 3})
    assert client.receive(20)[0] == {"op": "ok", "id": 3}
    client.close()


@pytest.mark.parametrize(
    "caller",
    [
        {"op": "caller", **CallerEnvironment({"A": "1"}).message()},
        {**TELL, "directory": "relative"},
        {**TELL, "environ": ["A"]},
        {**TELL, "environ": {"A": 1}},
        {**TELL, "umask": "022"},
        {"op": "caller"},
    ],
)
def test_a_caller_with_another_digest_is_refused(hub: hub_client.Client, caller: dict[str, Any]) -> None:
    unknown = {**OPEN, "caller": "of nobody"}
    answers = exchange(SAME, unknown, caller, {"op": "reset", "id": 1})
    assert [answer["op"] for answer in answers] == ["need", "refused", "closed"]
    assert exchange(SAME, {"op": "status", "id": 1})[0]["op"] == "ok", "other clients are still served"
