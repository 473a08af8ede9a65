"""The agent, started as on a target, under every installed target Python, with the test as its hub.

The test encodes and decodes messages with Mitogen's own code, and the agent with its own.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mitogen.core
import pytest

from pmitogen.hub import bootstrap
from pmitogen.protocol.framing import PREFIX, FrameReader, encode_frame, new_compressor
from tests.support import processes, programs

pytestmark = pytest.mark.usefixtures("still_accounts")  # a runner refuses requests after another run has changed accounts

NUMBER = 7
UNPACKED, PACKED = 2000, 2001  # handles
Frame = tuple[dict[str, Any], bytes]


class Hub:
    """The other end of the channel. *complains*: the agent is expected to write to its stderr."""

    complains = False

    def __init__(self, python: str) -> None:
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(20)
        bundle, token = bootstrap.bundle(), bootstrap.new_token()
        args = [python, "-c", bootstrap.stage0(), token, str(len(bundle)), python, str(NUMBER)]
        self.process = subprocess.Popen(args, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE)
        theirs.close()
        self.sock.sendall(bundle)
        self._unpack = zlib.decompressobj()
        self._reader = FrameReader()
        self._ready: list[Frame] = []
        self._buf = b""
        marker = bootstrap.ready_marker(token) + b"\n"
        while len(self._buf) < len(marker):
            self._buf += self.sock.recv(len(marker) - len(self._buf))
        assert self._buf == marker
        self._buf = b""

    @staticmethod
    def message(header: dict[str, Any], body: bytes = b"", **options: Any) -> bytes:
        settings = {
            "dst_id": NUMBER,
            "src_id": 0,
            "auth_id": 0,
            "handle": UNPACKED,
            "data": encode_frame(header, body),
            **options,
        }
        return bytes(mitogen.core.Message(**settings).pack())

    def send(self, header: dict[str, Any], body: bytes = b"", **options: Any) -> None:
        self.sock.sendall(self.message(header, body, **options))

    def receive(self) -> Frame:
        while not self._ready:
            self._take(self.sock.recv(1 << 18))
        return self._ready.pop(0)

    def _take(self, data: bytes) -> None:
        assert data, "the agent has ended"
        self._buf += data
        size = mitogen.core.Message.HEADER_LEN
        while len(self._buf) >= size:
            kind, to, source, authority, handle, reply, length = struct.unpack(mitogen.core.Message.HEADER_FMT, self._buf[:size])
            if len(self._buf) < size + length:
                return
            assert (kind, to, source, authority, reply) == (mitogen.core.Message.HEADER_MAGIC, 0, NUMBER, NUMBER, 0)
            body, self._buf = self._buf[size : size + length], self._buf[size + length :]
            assert handle in (2002, 2003)
            self._ready += self._reader.feed(self._unpack.decompress(body) if handle == 2003 else body)

    def ask(self, header: dict[str, Any], body: bytes = b"", **options: Any) -> Frame:
        self.send(header, body, **options)
        return self.receive()

    def exists(self, request_id: int, path: str, **options: Any) -> Frame:
        return self.ask({"op": "fs", "action": "exists", "id": request_id, "path": path}, **options)

    def end(self) -> tuple[int, bytes]:
        """Close the connection; return the exit status of the first of the two processes, and the stderr of both."""
        family = [member.pid for member in processes.descendants(self.process.pid)]
        self.sock.close()
        _, output = self.process.communicate(timeout=10)
        assert processes.wait_gone(self.process.pid, *family) == []
        return self.process.returncode, output


PYTHONS = programs.target_pythons() or {"this": sys.executable}


@pytest.fixture(params=PYTHONS)
def hub(request: pytest.FixtureRequest) -> Iterator[Hub]:
    made = Hub(PYTHONS[request.param])
    hello, _ = made.receive()
    assert hello["op"] == "hello" and hello["account"] == 0 and hello["executable"] == PYTHONS[request.param]
    yield made
    code, output = made.end()
    assert code == 0 and (output != b"") == made.complains


only_newest = pytest.mark.parametrize("hub", list(PYTHONS)[-1:], indirect=True)


def test_messages_have_the_format_of_mitogen(hub: Hub) -> None:
    whole = hub.message({"op": "fs", "action": "exists", "id": 1, "path": "/"})
    for start in range(0, len(whole), 7):  # in pieces of unsuitable size
        hub.sock.sendall(whole[start : start + 7])
    assert hub.receive()[0] == {"op": "ok", "id": 1, "exists": True}
    packed = new_compressor()
    both = [
        encode_frame({"op": "fs", "action": "exists", "id": request_id, "path": path})
        for request_id, path in ((2, "/none"), (3, "/"))
    ]
    for frame in both:  # one stream
        data = packed.compress(frame) + packed.flush(zlib.Z_SYNC_FLUSH)
        hub.send({}, handle=PACKED, data=data)
    assert [hub.receive()[0]["exists"] for _ in both] == [False, True]


def test_messages_for_another_context_or_handle_are_ignored(hub: Hub) -> None:
    for options in ({"dst_id": NUMBER + 1}, {"handle": 105}, {"handle": 2002}):
        hub.send({"op": "fs", "action": "exists", "id": 1, "path": "/"}, **options)
    assert hub.exists(2, "/")[0]["id"] == 2


def test_a_long_body_passes_in_both_directions_without_a_deadlock(hub: Hub, tmp_path: Path) -> None:
    body = os.urandom(3 << 20)
    hub.send({"op": "exec", "id": 1, "argv": ["cat"], "tty": False}, body)
    processes.wait_until(lambda: len(hub.sock.recv(1 << 20, socket.MSG_PEEK)) > 100_000)  # now the agent has to wait for the test
    assert hub.sock.getblocking()
    got = b""
    while True:
        header, data = hub.receive()
        if header["op"] == "exit":
            break
        if header["op"] == "out":
            hub.send({"op": "credit", "id": 1, "count": len(data)})
            got += data
    assert header["rc"] == 0 and got + data[: header["stdout_size"]] == body


@only_newest
@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"HTTP/1.1 400 Bad Request and its header", "no message"),
        (struct.pack(">hLLLLLL", 0x4D49, NUMBER, 0, 0, UNPACKED, 0, 1 << 30), "longer than any message of the hub"),
    ],
)
def test_an_invalid_message_ends_the_connection_to_the_hub(hub: Hub, sent: bytes, why: str) -> None:
    hub.sock.sendall(sent)
    assert hub.sock.recv(100) == b"", why


@pytest.mark.parametrize(
    "args", [b"\xff" * 9, encode_frame({}), encode_frame({"op": "hello", "python_version": 3}) + b"\xff" * 9]
)
def test_a_runner_that_sends_nonsense_ends_alone(hub: Hub, tmp_path: Path, args: bytes) -> None:
    """The process of another account may send anything."""
    program = tmp_path / "python"
    (tmp_path / "words").write_bytes(args)
    program.write_text(f'#!/bin/sh\necho "PMITOGEN-$3 ready"\nhead -c 10 >/dev/null\ncat {tmp_path}/words\nexec cat >/dev/null\n')
    program.chmod(0o755)
    hub.send({"op": "start-account", "account": 1, "python": [str(program)], "token": "abc"})
    hub.send({"op": "fs", "action": "exists", "id": 5, "account": 1, "path": "/"})
    answers = [hub.receive()[0]]
    while answers[-1]["op"] != "error":
        answers.append(hub.receive()[0])
    assert answers[-1]["id"] == 5 and "interpreter of this account" in answers[-1]["msg"]
    assert hub.exists(6, "/")[0]["id"] == 6


FORGED = (
    b'{"op":"interpreter-ended","account":0}',
    b'{"op":"account-ended","account":0}',
    b'{"op":"codec-unsupported"}',
    b'{"op":"out","id":77,"stream":1}',
    b'{"op":"credit","id":77,"count":1073741824}',
    b'{"op":"exit","id":77,"rc":0,"stdout_size":0}',
    b'{"op":"exit","id":77.0,"rc":0,"stdout_size":0}',
    b'{"op":"exit","id":[],"rc":0,"stdout_size":0}',
    b'{"op":"bytecode","bytecode_tag":"x","bytecode":[]}',
    b'{"op":"hello","uid":NaN}',
    b'{"op":"hello","uid":1e999}',
    b'{"op":"hello","uid":1' + b"0" * 60000 + b"}",
    b'{"op":"hello","uid":{}}',
    b'{"op":"hello","uid":[[]]}',
    b'{"op":"hello","uid":[' + b"1e15," * 12000 + b"1]}",
    b'{"op":"hello","uid":' + b"[" * 60000,
)


@pytest.mark.parametrize("hub", [next(iter(PYTHONS)), list(PYTHONS)[-1]], indirect=True)
def test_a_runner_may_answer_only_its_own_requests(hub: Hub, tmp_path: Path) -> None:
    """Otherwise a process of another account could forge results of the login account's or root's tasks."""
    hub.send({"op": "exec", "id": 77, "argv": ["/bin/sh", "-c", "read word; echo real; exit 3"], "tty": False, "more": True})
    for index, header in enumerate(FORGED, 1):
        args = tmp_path / f"words{index}"
        args.write_bytes(PREFIX.pack(len(header), 0) + header)
        program = tmp_path / f"python{index}"
        program.write_text(f'#!/bin/sh\necho "PMITOGEN-$3 ready"\nhead -c 10 >/dev/null\ncat {args}\nexec cat >/dev/null\n')
        program.chmod(0o755)
        hub.send({"op": "start-account", "account": index, "python": [str(program)], "token": "abc"})
        hub.send({"op": "fs", "action": "exists", "id": 100 + index, "account": index, "path": "/"})
        answers = [hub.receive()[0], hub.receive()[0]]
        assert answers[0] == {"op": "interpreter-ended", "account": index}, header[:50]
        assert answers[1]["id"] == 100 + index and "broke the protocol" in answers[1]["msg"], header[:50]
    hub.send({"op": "data", "id": 77}, b"go\n")
    answer, body = hub.receive()
    assert (answer["op"], answer["id"], answer["rc"], body) == ("exit", 77, 3, b"real\n")


def test_frames_of_a_runner_get_the_number_of_its_account(hub: Hub, tmp_path: Path) -> None:
    output = [
        {"op": "hello", "account": 0, "user": "somebody", "uid": 9},
        {"op": "deferred-error", "msg": "x"},
        {"op": "deferred-error", "account": 0, "msg": "y"},
    ]
    (tmp_path / "words").write_bytes(b"".join(map(encode_frame, output)))
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\necho "PMITOGEN-$3 ready"\nhead -c 10 >/dev/null\ncat {tmp_path}/words\nexec cat >/dev/null\n')
    program.chmod(0o755)
    hub.send({"op": "start-account", "account": 1, "python": [str(program)], "token": "abc"})
    assert [hub.receive()[0] for _ in output] == [{**header, "account": 1} for header in output]


@only_newest
def test_an_invalid_interpreter_is_named(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "noisy").write_text("#!/bin/sh\necho not today\n")
    (tmp_path / "noisy").chmod(0o755)
    for request_id, name, text in ((1, "none", "none: no such interpreter"), (2, "noisy", "not today")):
        hub.send({"op": "start-account", "account": request_id, "python": [str(tmp_path / name)], "token": "abc"})
        answer, _ = hub.ask({"op": "fs", "action": "exists", "id": request_id, "account": request_id, "path": "/"})
        assert answer["op"] == "error" and answer["kind"] == "python" and text in answer["msg"], answer


@only_newest
def test_an_internal_error_fails_only_its_request(hub: Hub) -> None:
    hub.complains = True
    hub.send({"op": "start-account", "account": 1, "python": 5, "token": "abc"})
    for request_id in (1, 2):
        answer, _ = hub.ask({"op": "fs", "action": "exists", "id": request_id, "account": 1, "path": "/"})
        assert answer["op"] == "error" and answer["id"] == request_id and "internal error: TypeError" in answer["msg"]
    hub.send({"op": "run", "id": 3, "manifest": "m"})  # waits for the named files
    answer, _ = hub.ask({"op": "blobs", "codec": "zlib"}, zlib.compress(b'[["m", 8]]\nno JSON!'))
    assert answer["op"] == "error" and answer["id"] == 3
    assert hub.exists(4, "/")[0]["exists"] is True
