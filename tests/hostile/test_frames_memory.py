"""A hostile host can neither make the hub use much memory nor delay an honest host for long."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pmitogen.errors import HubError
from pmitogen.hub import client as hub_client
from pmitogen.hub.daemon import start_or_adopt
from pmitogen.protocol.framing import CHUNK, CREDIT_WINDOW
from pmitogen.util.caller import CallerEnvironment
from tests.hostile import hostile_agent
from tests.support import processes
from tests.support.accounts import Account
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]
SECONDS = 1.5  # duration of each attack


class Scene:
    """A hub process with an honest host and hostile hosts."""

    def __init__(self, honest: dict[str, Any], account: Account) -> None:
        self.honest, self._account = honest, account
        self._clients: list[hub_client.Client] = []
        status = self.client(honest)
        status.send({"op": "status", "id": 0})
        self.hub = int(status.receive(30)[0]["pid"])

    def client(self, options: dict[str, Any]) -> hub_client.Client:
        client = start_or_adopt.connect(os.getpid())
        caller = CallerEnvironment.current()
        client.introduce(caller)
        client.open(options, caller)
        self._clients.append(client)
        return client

    def hostile(self, name: str) -> dict[str, Any]:
        program = self._account.write(f"{name}/python", Path(hostile_agent.__file__).read_text(), 0o755)
        self._account.write(f"{name}/misbehaviour", name)
        return {**self.honest, "boot_python": [str(program)]}

    def check_honest(self) -> float:
        """Return the duration of a request of the honest host, in seconds."""
        start, client = time.monotonic(), self.client(self.honest)
        request_id = client.next_id()
        client.send({"op": "exec", "id": request_id, "argv": ["/bin/echo", "still here"]})
        while (answer := client.receive(30))[0].get("id") != request_id:
            pass
        assert (answer[0]["op"], answer[1]) == ("exit", b"still here\n")
        return time.monotonic() - start

    def reset_peak(self) -> None:
        """Reset the value of :meth:`peak`."""
        Path(f"/proc/{self.hub}/clear_refs").write_text("5")

    def peak(self) -> int:
        """Return the hub's largest resident size, in bytes."""
        text = Path(f"/proc/{self.hub}/status").read_text()
        return int(text.partition("VmHWM:")[2].split()[0]) << 10

    def close(self) -> None:
        for client in self._clients:
            client.close()
        hub_client.stop_hubs(everything=True)


@pytest.fixture
def scene(sshd: Sshd, make_account: Callable[..., Account]) -> Iterator[Scene]:
    account = make_account()
    options = {
        "host": sshd.host,
        "port": sshd.port,
        "remote_user": account.name,
        "private_key_file": str(sshd.key.path),
        "timeout": 30,
        "ssh_common_args": f"-F none -o UserKnownHostsFile={sshd.known_hosts} -o GlobalKnownHostsFile=/dev/null",
    }
    made = Scene(options, account)
    made.check_honest()
    yield made
    made.close()


def send_all(client: hub_client.Client, request_id: int) -> None:
    """Send an endless file as an honest client does: as much as the credit allows."""
    credit, piece = CREDIT_WINDOW, bytes(CHUNK)
    with contextlib.suppress(HubError):
        while True:
            while credit > 0:
                client.send({"op": "data", "id": request_id}, piece)
                credit -= len(piece)
            header = client.receive()[0]
            if header["op"] == "error":
                return
            credit += header.get("count", 0)


def read_all(client: hub_client.Client, request_id: int) -> None:
    """Receive output as an honest client does."""
    with contextlib.suppress(HubError):
        while (frame := client.receive())[0]["op"] != "error":
            if frame[0]["op"] == "out":
                client.send({"op": "credit", "id": request_id, "count": len(frame[1])})


EXEC = {"op": "exec", "argv": ["/bin/echo", "never"]}
PUT = {"op": "put", "path": "/x", "mode": 0o600, "more": True}


# The target's misbehaviour, the request, the clients' behaviour, and the number of clients.
ATTACKS = [
    pytest.param("read-nothing-slowly", PUT, send_all, 3),  # the target grants credit, within the window, and does not read
    pytest.param("large-output", EXEC, None, 12),  # the clients do not read
    pytest.param("flood-of-output", EXEC, read_all, 3),
    pytest.param("read-nothing", PUT, send_all, 3, marks=pytest.mark.slow),
    pytest.param("flood-of-output", EXEC, None, 3, marks=pytest.mark.slow),
    pytest.param("flood-of-messages", EXEC, read_all, 3, marks=pytest.mark.slow),
    pytest.param("flood-of-stderr", EXEC, read_all, 3, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "asked", "client_does", "clients"), ATTACKS)
def test_memory_is_bounded_and_others_are_served(
    scene: Scene, name: str, asked: dict[str, Any], client_does: Callable[[hub_client.Client, int], None] | None, clients: int
) -> None:
    options = scene.hostile(name)
    scene.reset_peak()
    before = scene.peak()
    threads = []
    for _ in range(clients):
        client = scene.client(options)
        request_id = client.next_id()
        client.send({**asked, "id": request_id})
        if client_does is not None:
            threads.append(threading.Thread(target=client_does, args=(client, request_id)))
            threads[-1].start()
    processes.wait_until((Path(options["boot_python"][0]).parent / "started").exists, 30)
    until, took = time.monotonic() + SECONDS, []
    while time.monotonic() < until:
        took.append(scene.check_honest())
    grown = scene.peak() - before
    hub_client.stop_hubs(everything=True)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert grown < 32 << 20
    assert sorted(took)[len(took) // 2] < 2, "most of the honest host's requests must be answered without delay"
