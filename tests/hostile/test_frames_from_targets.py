"""Targets that violate the protocol: each ends alone with a one-line reason, and requests of an honest host go on.

The Python of a hostile host, or of one of its accounts, is tests/hostile/hostile_agent.py.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pmitogen.hub.host.states import State
from pmitogen.hub.registry import HostRegistry
from pmitogen.hub.requests import Request
from tests.hostile import hostile_agent
from tests.support import processes
from tests.support.accounts import Account
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]
PROGRAM = Path(hostile_agent.__file__)
Frame = tuple[dict[str, Any], bytes]


class RequestClient:
    """Receives the frames of a request, and grants *credit* for its output."""

    def __init__(self, scene: Scene, options: dict[str, Any], header: dict[str, Any], credit: bool = False) -> None:
        self._credit = credit
        self._frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._scene = scene
        self._request = Request(self, 1, header, b"")
        scene.registry.defer(self._submit, options)

    def _submit(self, options: dict[str, Any]) -> None:
        self._host = self._scene.registry.host(options)
        self._host.guard.run(self._host.submit, self._request)

    def follow(self, header: dict[str, Any], body: bytes = b"") -> None:
        self._scene.registry.defer(lambda: self._host.follow(self._request, header, body))

    def answer(self, header: dict[str, Any], body: bytes) -> None:
        if header["op"] == "out" and self._credit:
            self._host.follow(self._request, {"op": "credit", "count": len(body)}, b"")
        self._frames.put((header, body))

    def next(self, timeout: float = 20) -> Frame:
        return self._frames.get(timeout=timeout)

    def final(self, timeout: float = 20) -> Frame:
        while True:
            header, body = self.next(timeout)
            if header["op"] in ("exit", "ok", "error"):
                return header, body

    @property
    def is_waiting(self) -> bool:
        return self._frames.empty()


class Scene:
    """A hub in this process, an honest host, and hostile hosts."""

    def __init__(self, registry: HostRegistry, honest: dict[str, Any], account: Account) -> None:
        self.registry, self.honest, self._account = registry, honest, account

    def ask(self, options: dict[str, Any], **header: Any) -> RequestClient:
        return RequestClient(self, options, {"chain": 0, **header})

    def run(self, options: dict[str, Any], command: str, **more: Any) -> RequestClient:
        return self.ask(options, op="exec", argv=["/bin/sh", "-c", command], **more)

    def run_by_python(self, command: str) -> RequestClient:
        """Start a request of the honest host with open input, once the Python of the login account runs."""
        client = self.run(self.honest, command, more=True)
        processes.wait_until(lambda: self.state_of(self.honest) is State.UP, 30)
        return client

    def install(self, name: str) -> Path:
        """Install the hostile agent with this misbehaviour as the account's Python; return its path."""
        program = self._account.write(f"{name}/python", PROGRAM.read_text(), 0o755)
        self._account.write(f"{name}/misbehaviour", name)
        return program

    def hostile(self, name: str) -> dict[str, Any]:
        """Return the options of a host with this misbehaviour."""
        return {**self.honest, "boot_python": [str(self.install(name))]}

    def attack(self, name: str) -> list[RequestClient]:
        """Send requests of each kind to a host with this misbehaviour."""
        options = self.hostile(name)
        return [
            self.run(options, "echo never"),
            self.ask(options, op="fs", action="mkdtemp", bases=["/tmp"], name="x"),
            self.ask(options, op="put", path="/x", mode=0o600, more=True),
        ]

    def state_of(self, options: dict[str, Any]) -> State:
        found: queue.SimpleQueue[State] = queue.SimpleQueue()
        self.registry.defer(lambda: found.put(self.registry.host(options).state))
        return found.get(timeout=10)

    def check_honest(self) -> float:
        """Return the duration of a request of the honest host, in seconds."""
        start = time.monotonic()
        header, body = self.run(self.honest, "echo still here").final()
        assert (header["op"], body) == ("exit", b"still here\n")
        return time.monotonic() - start


@pytest.fixture
def scene(sshd: Sshd, make_account: Callable[..., Account]) -> Iterator[Scene]:
    account = make_account()
    honest = {
        "host": sshd.host,
        "port": sshd.port,
        "remote_user": account.name,
        "private_key_file": str(sshd.key.path),
        "timeout": 30,
        "ssh_common_args": f"-F none -o UserKnownHostsFile={sshd.known_hosts} -o GlobalKnownHostsFile=/dev/null",
    }
    registry = HostRegistry()
    made = Scene(registry, honest, account)
    made.check_honest()
    yield made
    registry.close()


def peak() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) << 10


# Part of make test; tests/hostile/test_frames_gate.py has the others, and --all runs them here.
SOME = (
    "call-function",
    "to-the-other-host",
    "forged-source",
    "no-mitogen",
    "oversized",
    "deep-json",
    "zip-bomb",
    "many-frames",
    "request-to-the-hub",
    "become-without-msg",
    "mkdtemp-without-path",
    "exit-with-a-short-t",
    "killed-twice",
    "endless-mismatch",
    "large-credit",
    "out-without-end",
)


@pytest.mark.parametrize(
    "names", [SOME, pytest.param(tuple(hostile_agent.BREACHES), marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_a_protocol_violation_ends_only_its_host(scene: Scene, names: tuple[str, ...], caplog: Any) -> None:
    """All violations at once: none is served or harms another host, and each ends with a one-line reason."""
    mine = scene.run(scene.honest, "read word; echo mine", more=True)
    before = peak()
    asked = {name: scene.attack(name) for name in names}
    for name, clients in asked.items():
        for client in clients:
            header, _ = client.final(60)
            assert (header["op"], header["kind"]) == ("error", "lost"), name
            assert "protocol error: the target sent " in header["msg"], (name, header["msg"])
            assert header["msg"].isprintable() and scene.honest["host"] in header["msg"] and len(header["msg"]) < 400
        scene.check_honest()
    assert peak() - before < 32 << 20
    mine.follow({"op": "eof"})
    header, body = mine.final()
    assert (header["op"], body) == ("exit", b"mine\n"), "the honest host's request must get its own answer"
    assert not [name for name in names if (scene.install(name).parent / "marker").exists()]
    assert "Traceback" not in caplog.text and "crashed" not in caplog.text


def test_a_silent_host_delays_only_its_own_requests(scene: Scene) -> None:
    options = scene.hostile("silent")
    waiting = scene.run(options, "echo never")
    processes.wait_until(lambda: scene.state_of(options) is State.UP)
    scene.check_honest()
    assert waiting.is_waiting


# In the next tests, a second interpreter plays the part of another account's. If another test changed accounts meanwhile, a new
# session would start in which it would be the login account's, and the host would end with it.


@pytest.mark.usefixtures("still_accounts")
def test_a_violation_by_another_account_ends_only_that_account(scene: Scene) -> None:
    """The login account's interpreter on the same host is not affected."""
    mine = scene.run_by_python("read word; echo mine")
    asked = {name: scene.run(scene.honest, "echo never", python=[str(scene.install(name))]) for name in hostile_agent.RUNNER}
    for name, client in asked.items():
        header, _ = client.final(60)
        assert header["op"] == "error" and header["kind"] in ("interpreter-ended", "python", "become"), (name, header)
        assert header["msg"].isprintable() and "interpreter of" in header["msg"], (name, header)
    mine.follow({"op": "eof"})
    header, body = mine.final()
    assert (header["op"], body) == ("exit", b"mine\n"), header
    scene.check_honest()
    assert scene.state_of(scene.honest) is State.UP


@pytest.mark.usefixtures("still_accounts")
@pytest.mark.parametrize("name", ["out-without-end", pytest.param("deferred-error-unasked", marks=pytest.mark.slow)])
def test_frames_of_another_account_are_ignored_until_it_has_ended(name: str, scene: Scene) -> None:
    """While the hub is busy, the account fills the buffers of the channel and the agent."""
    mine = scene.run_by_python("read word; echo mine")
    program = scene.install(name)
    client = scene.run(scene.honest, "echo never", python=[str(program)])
    processes.wait_until((program.parent / "started").exists, 20)
    scene.registry.defer(time.sleep, 2)
    header, _ = client.final(60)
    assert header["op"] == "error" and "protocol error: the interpreter of account" in header["msg"], header
    mine.follow({"op": "eof"})
    assert mine.final()[1] == b"mine\n"
    scene.check_honest()
    assert scene.state_of(scene.honest) is State.UP
