"""A target that has turned: whatever it sends, nothing is served, executed, forwarded or brought down, and other hosts go on.

The agent of one host is replaced on the target: its "interpreter" boots as ours does, then speaks Mitogen on its own, with all
that Mitogen's protocol knows. Beside it, a good host works through the same hub.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pmitogen.hub.host import State
from pmitogen.hub.registry import Contexts
from pmitogen.hub.requests import Request
from tests.support.accounts import Account
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

# The fake interpreter: argv is -c LOADER TOKEN SIZE PATH CONTEXT. It reads the bundle, then sends the file "attack" byte for byte
# (with our context's number and the other host's put in where it says so), and writes down whatever comes.
FAKE = """#!/usr/bin/python3
import os, sys, time
token, size, me = sys.argv[3], int(sys.argv[4]), int(sys.argv[6])
os.write(1, ("PMITOGEN-%s ready\\n" % token).encode())
got = b""
while len(got) < size:
    got += os.read(0, 1 << 16)
here = os.path.dirname(os.path.abspath(__file__))
extra = got[size:]
names = dict((name, __import__(name)) for name in ("struct", "zlib", "json", "pickle"))
attack = eval(open(here + "/attack").read(), dict(names, me=me))
fd = os.open(here + "/received", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
os.write(fd, extra)
for data in attack:
    try:
        while data:
            data = data[os.write(1, data):]
    except OSError:
        break
    time.sleep(0.02)
while True:
    data = os.read(0, 1 << 16)
    if not data:
        break
    os.write(fd, data)
"""
# dst, src, auth, handle, reply_to, data -> a Mitogen message
MESSAGE = (
    "(lambda dst, src, auth, handle, reply, data:"
    " struct.pack('>hLLLLLL', 0x4d49, dst, src, auth, handle, reply, len(data)) + data)"
)
FRAME = "(lambda head, body=b'': struct.pack('>II', len(json.dumps(head)), len(body)) + json.dumps(head).encode() + body)"


class Asker:
    """Takes a request's frames."""

    def __init__(self) -> None:
        self.frames: queue.SimpleQueue[tuple[dict[str, Any], bytes]] = queue.SimpleQueue()

    def answer(self, header: dict[str, Any], body: bytes) -> None:
        self.frames.put((header, body))

    def final(self, timeout: float = 15) -> tuple[dict[str, Any], bytes]:
        while True:
            header, body = self.frames.get(timeout=timeout)
            if header["op"] in ("exit", "ok", "error"):
                return header, body


class Scene:
    """A hub in this process, a good host, and one that attacks."""

    def __init__(self, contexts: Contexts, good: dict[str, Any], bad: dict[str, Any], folder: Path) -> None:
        self.contexts, self.good, self.bad, self.folder = contexts, good, bad, folder

    def ask(self, options: dict[str, Any], command: str) -> Asker:
        asker = Asker()
        header = {"op": "exec", "argv": ["/bin/sh", "-c", command]}
        self.contexts.defer(lambda: self.contexts.host(options).submit(Request(asker, 1, header, b"")))
        return asker

    def attack(self, text: str) -> Asker:
        """Let the bad host connect and send *text*'s messages; a request waits there all the while."""
        (self.folder / "attack").write_text(text)
        return self.ask(self.bad, "echo never")

    def state_of(self, options: dict[str, Any]) -> State:
        found: queue.SimpleQueue[State] = queue.SimpleQueue()
        self.contexts.defer(lambda: found.put(self.contexts.host(options).state))
        return found.get(timeout=10)

    def check_good(self) -> None:
        header, body = self.ask(self.good, "echo still here").final()
        assert (header["op"], body) == ("exit", b"still here\n")

    def received(self) -> bytes:
        path = self.folder / "received"
        return path.read_bytes() if path.exists() else b""


@pytest.fixture
def scene(sshd: Sshd, make_account: Callable[..., Account]) -> Iterator[Scene]:
    account = make_account()
    base = {
        "host": sshd.host,
        "port": sshd.port,
        "remote_user": account.name,
        "private_key_file": str(sshd.key.path),
        "timeout": 15,
        "ssh_common_args": f"-F none -o UserKnownHostsFile={sshd.known_hosts} -o GlobalKnownHostsFile=/dev/null",
    }
    fake = account.write("bad/python", FAKE, 0o755)
    contexts = Contexts()
    made = Scene(contexts, base, {**base, "boot_python": [str(fake)]}, fake.parent)
    made.check_good()
    yield made
    contexts.close()


def messages(*items: str) -> str:
    return f"[(lambda m, f: [{', '.join(items)}])({MESSAGE}, {FRAME})][0]"


CALL = "pickle.dumps(('xx', 'os', None, 'system', ('touch {marker}',), {{}}))"
# What must leave the connection as it is, and have no effect.
IGNORED = {
    "call-function": "m(0, me, me, 101, 1, " + CALL + ")",
    "call-service": "m(0, me, me, 110, 1, " + CALL + ")",
    "get-module": "m(0, me, me, 100, 1, b'os')",
    "forward-log": "m(0, me, me, 102, 0, b'root\\x0040\\x00a message of theirs')",
    "add-route": "m(0, me, me, 103, 0, b'1:evil')",
    "del-route": "m(0, me, me, 104, 0, b'1')",
    "allocate-id": "m(0, me, me, 105, 1, b'')",
    "shutdown": "m(0, me, me, 106, 0, b'')",
    "load-module": "m(0, me, me, 107, 0, pickle.dumps(('os', None, None, None, ())))",
    "forward-module": "m(0, me, me, 108, 0, b'1\\0os')",
    "detaching": "m(0, me, me, 109, 0, b'')",
    "to-the-other-host": "m(1, me, me, 2000, 0, f({{'op': 'exec', 'id': 1, 'argv': ['touch', '{marker}']}}))",
    "to-nobody": "m(77, me, me, 2000, 0, b'hello')",
    "forged-source": "m(0, 1, me, 2002, 0, f({{'op': 'exit', 'id': {victim}, 'rc': 0, 'n': 6}}, b'forged'))",
    "forged-source-hub": "m(0, 0, 0, 2002, 0, f({{'op': 'exit', 'id': {victim}, 'rc': 0, 'n': 6}}, b'forged'))",
    "forged-authority": "m(0, me, 0, 101, 1, " + CALL + ")",
    "dead-message": "m(0, me, me, 999, 0, b'')",
    "others-request": "m(0, me, me, 2002, 0, f({{'op': 'exit', 'id': {victim}, 'rc': 0, 'n': 6}}, b'forged'))",
    "unknown-op": "m(0, me, me, 2002, 0, f({{'op': 'exec', 'id': 3, 'argv': ['touch', '{marker}']}}))",
    "hello-of-no-account": "m(0, me, me, 2002, 0, f({{'op': 'hello', 'acct': 99, 'home': '/', 'user': 'x', 'exe': 'x'}}))",
    "answers-nobody": "m(0, me, me, 2002, 0, f({{'op': 'ok', 'id': 123456789}}))",
}
# What breaks the framing: the connection is closed, with one line.
CLOSED = {
    "not-mitogen": "b'GET / HTTP/1.0\\r\\n\\r\\n' * 10",
    "oversized": "struct.pack('>hLLLLLL', 0x4d49, 0, me, me, 2002, 0, 0xfffffff0)",
    "oversized-frame": "m(0, me, me, 2002, 0, struct.pack('>II', 10, 0xf0000000) + b'{{}}')",
    "not-json": "m(0, me, me, 2002, 0, struct.pack('>II', 3, 0) + b'abc')",
    "not-an-object": "m(0, me, me, 2002, 0, struct.pack('>II', 2, 0) + b'[]')",
    "bad-zlib": "m(0, me, me, 2003, 0, b'this is not zlib at all')",
    "zip-bomb": "m(0, me, me, 2003, 0, zlib.compress(bytes(400 << 20), 9))",
    "wrong-types": "m(0, me, me, 2002, 0, f({{'op': 'hello', 'acct': 0, 'home': None}}))",
    "id-is-a-list": "m(0, me, me, 2002, 0, f({{'op': 'ok', 'id': [1]}}))",
    "account-is-a-dict": "m(0, me, me, 2002, 0, f({{'op': 'gone', 'acct': {{}}}}))",
    "op-is-a-list": "m(0, me, me, 2002, 0, f({{'op': []}}))",
    "deep-json": "m(0, me, me, 2002, 0, struct.pack('>II', 200000, 0) + b'[' * 200000)",
}


def victim_of(scene: Scene) -> tuple[Asker, int]:
    """A request under way at the good host, and its number on the wire."""
    asker = scene.ask(scene.good, "sleep 1.5; echo mine")
    found: queue.SimpleQueue[int] = queue.SimpleQueue()
    time.sleep(0.2)
    scene.contexts.defer(lambda: found.put(max(scene.contexts.host(scene.good)._open)))
    return asker, found.get(timeout=10)


@pytest.mark.parametrize("names", [tuple(IGNORED)], ids=["all"])
def test_what_mitogen_would_serve_is_not_served(scene: Scene, names: tuple[str, ...], short_path: Path, capfd: Any) -> None:
    """One after the other on one connection, so the last ones also show that it still stands."""
    asker, victim = victim_of(scene)
    marker = short_path / "marker"
    short_path.chmod(0o777)
    words = [IGNORED[name].format(marker=marker, victim=victim) for name in names]
    words.append(
        "m(0, me, me, 2002, 0, f({'op': 'hello', 'acct': 0, 'home': '/', 'user': 'x', 'exe': '/x', 'python': [3, 9, 9]}))"
    )
    waiting = scene.attack(messages(*words))
    header, body = asker.final()
    assert (header["op"], body) == ("exit", b"mine\n"), "the other host's request got its own answer"
    until = time.monotonic() + 10
    while scene.state_of(scene.bad) is not State.UP:
        assert time.monotonic() < until, "the last message did not arrive"
        time.sleep(0.05)
    scene.check_good()
    assert not marker.exists()
    assert waiting.frames.empty(), "nothing answered the request that waits there"
    assert len(scene.received()) < 1000, "no module went there"


@pytest.mark.parametrize("name", CLOSED)
def test_what_breaks_the_protocol_ends_the_connection(scene: Scene, name: str) -> None:
    before = peak()
    waiting = scene.attack(messages(CLOSED[name].format()))
    header, _ = waiting.final()
    assert header["op"] == "error" and header["kind"] == "unreachable"
    assert "\n" not in header["msg"] and scene.bad["host"] in header["msg"]
    scene.check_good()
    assert peak() - before < 200 << 10, "memory is bounded"


def peak() -> int:
    """This process's largest resident size so far, in KiB."""
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0])


def test_a_flood_without_end_is_bounded(scene: Scene) -> None:
    """A host that sends for ever what nobody asked for slows nobody else down for long, and is not hoarded."""
    before = peak()
    scene.attack(messages("m(0, me, me, 2002, 0, f({'op': 'out', 'id': 7, 's': 1}, bytes(1 << 20)))") + " * 200")
    for _ in range(5):
        scene.check_good()
    assert peak() - before < 200 << 10


def test_a_silent_host_keeps_only_its_own_waiting(scene: Scene) -> None:
    waiting = scene.attack(
        messages("m(0, me, me, 2002, 0, f({'op': 'hello', 'acct': 0, 'home': '/', 'user': 'x', 'exe': '/x'}))")
    )
    scene.check_good()
    scene.check_good()
    assert waiting.frames.empty()
