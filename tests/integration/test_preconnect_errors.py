"""A connection that the hub makes ahead for a worker's request: if it fails, the request gets its error, and no other is made."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from pmitogen.hub import client as hub_client
from pmitogen.hub.daemon import start_or_adopt
from pmitogen.util.caller import CallerEnvironment

RUN = {"op": "run", "id": 2, "archive": "x", "module": "a.b", "generation": "loader", "profile": "legacy", "nofile": 0, "env": {}}


class Refuser:
    """A port that answers each connection with something other than SSH, once it is allowed to."""

    def __init__(self) -> None:
        self.connections = 0
        self.may_answer = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self.may_answer.wait(20)
                sock.sendall(b"HTTP/1.0 400 Busy\r\n\r\n")
                sock.close()

    def close(self) -> None:
        self.may_answer.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def refuser() -> Iterator[Refuser]:
    made = Refuser()
    yield made
    made.close()


@pytest.fixture
def client() -> Iterator[hub_client.Client]:
    """A worker's connection to a hub that serves this process."""
    made = start_or_adopt.connect(os.getpid())
    yield made
    made.close()
    other = start_or_adopt.connect(os.getpid())
    other.send({"op": "status", "id": 1})
    pid = other.receive(20)[0]["pid"]
    other.close()
    hub_client.stop_hubs(pid)


def _fail(client: hub_client.Client, refuser: Refuser) -> None:
    """Have the connection fail, and wait until the hub has noticed."""
    refuser.may_answer.set()
    until = time.monotonic() + 20
    for number in itertools.count(100):
        client.send({"op": "status", "id": number})
        if client.receive(20)[0]["hosts"] == 0 and refuser.connections:
            return
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("fails", ["before the request", "while its archive is awaited", "after the archive"])
def test_its_failure_is_the_answer_to_the_request(fails: str, client: hub_client.Client, refuser: Refuser) -> None:
    client.open({"host": "127.0.0.1", "port": refuser.port, "reconnection_retries": 0}, CallerEnvironment.current())
    client.send({"op": "preconnect", "id": 1})
    if fails == "before the request":
        _fail(client, refuser)
        client.send(RUN)
    else:
        client.send(RUN)
        assert client.receive(20)[0] == {"op": "need", "id": 2, "archive": "x"}
        if fails == "while its archive is awaited":
            _fail(client, refuser)
        client.send({"op": "archive", "archive": "x"}, b"UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==")
        refuser.may_answer.set()
    answer = client.receive(20)[0]
    assert (answer["op"], answer["id"]) == ("error", 2) and "closed the connection" in answer["msg"]
    assert refuser.connections == 1
