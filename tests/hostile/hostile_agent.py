#!/usr/bin/python3
"""A hostile agent or runner: starts as an honest interpreter does, then misbehaves.

It replaces the target's Python. The file ``misbehaviour`` beside it has the name of its misbehaviour, from ``AGENT`` or
``RUNNER``. It creates the file ``started`` before, and writes all data that it receives afterwards to ``received``. Standard
library only.
"""

import json
import os
import struct
import sys
import time
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
HEADER = struct.Struct(">hLLLLLL")
TO_HUB_UNPACKED, TO_HUB_PACKED = 2002, 2003


def frame(header, body=b""):
    head = header if isinstance(header, bytes) else json.dumps(header).encode("ascii")
    return struct.pack(">II", len(head), len(body)) + head + body


def read_exactly(size):
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            sys.exit(0)
        data += piece
    return data


def write(data):
    while data:
        data = data[os.write(1, data) :]


COMPRESSION = (6, zlib.DEFLATED, 13, 6)  # as in protocol/framing.py, which cannot be imported here


def whole_stream(data):
    """A zlib stream with its end."""
    pack = zlib.compressobj(*COMPRESSION)
    return pack.compress(data) + pack.flush()


class Agent:
    """Exchanges messages with the hub, as the Mitogen context number *me*."""

    def __init__(self, me):
        self.me = me
        self._unpack, self._pack = zlib.decompressobj(), zlib.compressobj(*COMPRESSION)
        self._buffer = b""

    def message(self, data, to=0, source=None, authority=None, handle=TO_HUB_UNPACKED, reply=0, kind=0x4D49):
        source, authority = self.me if source is None else source, self.me if authority is None else authority
        write(HEADER.pack(kind, to, source, authority, handle, reply, len(data)) + data)

    def say(self, header, body=b""):
        self.message(frame(header, body))

    def packed(self, data):
        self.message(self._pack.compress(data) + self._pack.flush(zlib.Z_SYNC_FLUSH), handle=TO_HUB_PACKED)

    def hello(self, **fields):
        hello = {
            "op": "hello",
            "account": 0,
            "pid": 1,
            "uid": 0,
            "user": "x",
            "executable": "/x",
            "home": "/",
            "home_writable": True,
        }
        self.say(dict(hello, python_version=[3, 9, 9], **fields))

    def receive(self):
        """Return the next frame from the hub."""
        while True:
            if len(self._buffer) >= 8:
                head, body = struct.unpack(">II", self._buffer[:8])
                if len(self._buffer) >= 8 + head + body:
                    found = json.loads(self._buffer[8 : 8 + head].decode("ascii"))
                    self._buffer = self._buffer[8 + head + body :]
                    return found
            fields = HEADER.unpack(read_exactly(HEADER.size))
            data = read_exactly(fields[6])
            self._buffer += self._unpack.decompress(data) if fields[4] == 2001 else data

    def request(self, op, action=None):
        """Wait for the hub's request of this operation; return its number."""
        while True:
            header = self.receive()
            if header["op"] == op and header.get("action") == action:
                return header["id"]


def pickled_call(marker):
    import pickle

    return pickle.dumps(("xx", "os", None, "system", ("touch " + marker,), {}))


def say(*headers):
    return lambda agent: [agent.say(header) for header in headers]


def answer(op, header, action=None, body=b""):
    """Answer the request *op* with *header*."""
    return lambda agent: agent.say(dict(header, id=agent.request(op, action)), body)


def message(data=b"x", **fields):
    return lambda agent: agent.message(data, **fields)


MARKER = os.path.join(HERE, "marker")
TOUCH = {"op": "exec", "id": 1, "argv": ["touch", MARKER]}
FORGED = {"op": "exit", "id": 1, "rc": 0, "stdout_size": 6}

# name -> misbehaviour. Each violates the protocol and must end this host.
BREACHES = {
    # Mitogen's own services
    "call-function": lambda agent: agent.message(pickled_call(MARKER), handle=101, reply=1),
    "call-service": lambda agent: agent.message(pickled_call(MARKER), handle=110, reply=1),
    "get-module": message(b"os", handle=100, reply=1),
    "forward-log": message(b"root\x0040\x00text", handle=102),
    "add-route": message(b"1:evil", handle=103),
    "del-route": message(b"1", handle=104),
    "allocate-id": message(handle=105, reply=1),
    "shutdown": message(handle=106),
    "load-module": message(handle=107),
    "forward-module": message(b"1\x00os", handle=108),
    "detaching": message(handle=109),
    # Headers of messages
    "to-the-other-host": lambda agent: agent.message(frame(TOUCH), to=1, handle=2000),
    "to-nobody": message(to=77),
    "forged-source": lambda agent: agent.message(frame(FORGED), source=1),
    "forged-hub": lambda agent: agent.message(frame(FORGED), source=0, authority=0),
    "forged-authority": lambda agent: agent.message(pickled_call(MARKER), authority=0, handle=101),
    "wants-a-reply": lambda agent: agent.message(frame({"op": "codec-unsupported"}), reply=5),
    "dead": message(b"", handle=999),
    "empty": message(b""),
    "no-mitogen": lambda agent: write(b"GET / HTTP/1.0\r\n\r\n" * 10),
    "other-kind": message(kind=0x4D50),
    "oversized": lambda agent: write(HEADER.pack(0x4D49, 0, agent.me, agent.me, TO_HUB_UNPACKED, 0, 0xFFFFFFF0)),
    # Frames
    "oversized-frame": message(struct.pack(">II", 10, 0xF0000000) + b"{}"),
    "two-frames": message(frame({"op": "codec-unsupported"}) * 2),
    "not-json": message(frame(b"abc")),
    "not-an-object": message(frame(b"[]")),
    "deep-json": message(frame(b"[" * 60000)),
    "huge-number": message(frame(b'{"op": ' + b"1" * 60000 + b"}")),
    "not-a-number": message(frame(b'{"op": "exit", "id": NaN}')),
    "name-twice": message(frame(b'{"op": "codec-unsupported", "op": "interpreter-ended"}')),
    "not-ascii": message(frame(b'{"op": "l\xe4ck"}')),
    "bad-zlib": message(b"this is not zlib at all", handle=TO_HUB_PACKED),
    "zip-bomb": lambda agent: agent.packed(bytes(64 << 20)),
    "many-frames": lambda agent: agent.packed(frame({}) * 419000),
    "end-of-zlib": message(whole_stream(frame({"op": "codec-unsupported"})), handle=TO_HUB_PACKED),
    # Operations
    "no-op": say({}),
    "op-is-a-list": say({"op": []}),
    "request-to-the-hub": say(TOUCH),
    "answers-nobody": say({"op": "ok", "id": 123456789}),
    "codec-unsupported-twice": say({"op": "codec-unsupported"}, {"op": "codec-unsupported"}),
    "end-of-unknown-account": say({"op": "interpreter-ended", "account": 99}),
    "account-ended-unasked": say({"op": "account-ended", "account": 0}),
    "deferred-error-unasked": say({"op": "deferred-error", "msg": "\x1b[2J"}),
    "bytecode": say({"op": "bytecode", "bytecode_tag": "x", "bytecode": []}),
    "hello-without-home": lambda agent: agent.hello(home=None),
    "hello-of-nobody": lambda agent: agent.hello(account=99),
    "hello-twice": lambda agent: [agent.hello(), agent.hello()],
    "id-is-a-list": say({"op": "ok", "id": [1]}),
    "account-is-an-object": say({"op": "interpreter-ended", "account": {}}),
    # Answers; the hub delays some of them for a moment
    "become-without-msg": answer("exec", {"op": "error", "rc": 137, "kind": "become"}),
    "mkdtemp-without-path": answer("fs", {"op": "ok", "rc": 137}, "mkdtemp"),
    "mkdtemp-without-path-2": answer("fs", {"op": "ok"}, "mkdtemp"),
    "exit-with-short-timings": answer("exec", {"op": "exit", "rc": 137, "stdout_size": 0, "timings": [1]}),
    "exit-with-large-stdout-size": answer("exec", {"op": "exit", "rc": 0, "stdout_size": 99}),
    "exit-with-a-text": answer("exec", {"op": "exit", "rc": "0", "stdout_size": 0}),
    "exit-for-a-file": answer("put", {"op": "exit", "rc": 0, "stdout_size": 0}),
    "killed-twice": lambda agent: (
        [agent.say({"op": "exit", "rc": 137, "stdout_size": 0, "id": agent.request("exec")})]
        + [agent.say({"op": "exit", "rc": 137, "stdout_size": 0, "id": request_id}) for request_id in range(1, 400)]
    ),
    "endless-mismatch": answer("exec", {"op": "error", "kind": "python-mismatch", "msg": ""}),
    "credit-for-nothing": answer("exec", {"op": "credit", "count": 1 << 20}),
    "large-credit": answer("put", {"op": "credit", "count": 1 << 50}),
    "out-of-a-file-sent": answer("put", {"op": "out", "stream": 1}, body=b"x"),
    "out-without-end": lambda agent: out_without_end(agent, 1 << 17),
}


def out_without_end(agent, size):
    request_id = agent.request("exec")
    while True:
        agent.say({"op": "out", "id": request_id, "stream": 1}, bytes(size))


# name -> an attack on the hub as a whole, which violates no rule at first.
def flood_of_messages(agent):
    """Tiny messages; the first one that is read ends the host."""
    agent.hello()
    write(HEADER.pack(0x4D49, 0, agent.me, agent.me, TO_HUB_UNPACKED, 0, 0) * 100000)


def flood_of_output(agent):
    """As much output as the window allows, in the smallest pieces, repeated."""
    agent.hello()
    request_id = agent.request("exec")
    while True:
        for _ in range(1000):
            agent.packed(frame({"op": "out", "id": request_id, "stream": 1}, b"x"))
        time.sleep(0.001)


def read_nothing(agent):
    """Grant credit for all data that was sent, but stop reading."""
    agent.hello()
    request_id = agent.request("put")
    sent = 0
    while True:
        header = agent.receive()
        if header["op"] == "data":
            sent += 1 << 17
            if sent >= 1 << 20:
                break
    while True:
        agent.say({"op": "credit", "id": request_id, "count": 1 << 17})
        time.sleep(0.001)


"""The same, but grant no more credit than the estimated amount of sent data."""


def read_nothing_slowly(agent):
    """The same, but never more credit than what was sent, as far as can be guessed."""
    agent.hello()
    request_id = agent.request("put")
    for _ in range(8):
        agent.receive()
    while True:
        agent.say({"op": "credit", "id": request_id, "count": 1 << 16})
        time.sleep(0.0005)


def large_output(agent):
    """As much output as the window allows, in large pieces, for every request."""
    agent.hello()
    while True:
        request_id = agent.request("exec")
        for _ in range(40):
            agent.say({"op": "out", "id": request_id, "stream": 1}, bytes(1 << 17))


def flood_of_stderr(agent):
    agent.hello()
    while True:
        os.write(2, b"x" * 65536)


def silent(agent):
    agent.hello()


NUISANCES = {
    "flood-of-messages": flood_of_messages,
    "flood-of-output": flood_of_output,
    "flood-of-stderr": flood_of_stderr,
    "large-output": large_output,
    "read-nothing": read_nothing,
    "read-nothing-slowly": read_nothing_slowly,
    "silent": silent,
}


class RunnerEnd:
    """Exchanges frames with an honest agent, as the interpreter of another account."""

    def say(self, header, body=b""):
        write(frame(header, body))

    def request(self, op):
        while True:
            head, body = struct.unpack(">II", read_exactly(8))
            header = json.loads(read_exactly(head).decode("ascii"))
            read_exactly(body)
            if header["op"] == op:
                return header["id"]

    def hello(self):
        hello = {"op": "hello", "pid": 1, "uid": 0, "user": "bob", "executable": "/x", "home": "/", "home_writable": True}
        self.say(dict(hello, python_version=[3, 9, 9]))


def flood(runner, data, times=1 << 30):
    runner.hello()
    for _ in range(times):
        write(data)


# Attacks by the interpreter of another account: each must end this interpreter only.
RUNNER = {
    "empty-frames": lambda runner: flood(runner, frame({}) * 1000),
    "no-frames": lambda runner: write(b"GET / HTTP/1.0\r\n\r\n" * 100),
    "large-header": lambda runner: write(struct.pack(">II", 1 << 20, 0) + bytes(1 << 20)),
    "large-body": lambda runner: write(struct.pack(">II", 2, 0x7FFFFFFF) + b"{}"),
    "deep-json": lambda runner: write(frame(b"[" * 60000)),
    "hello-twice": lambda runner: [runner.hello(), runner.hello()],
    "hello-without-home": lambda runner: runner.say({"op": "hello"}),
    "hello-of-root": lambda runner: runner.say({"op": "hello", "account": 0, "home": 5}),
    "deferred-error-unasked": lambda runner: flood(runner, frame({"op": "deferred-error", "msg": "x"})),
    "interpreter-ended": lambda runner: [runner.hello(), runner.say({"op": "interpreter-ended", "account": 0})],
    "bytecode": lambda runner: [runner.hello(), runner.say({"op": "bytecode", "bytecode_tag": "x", "bytecode": []})],
    "blobs": lambda runner: [runner.hello(), runner.say({"op": "blobs", "blobs": []})],
    "answers-others": lambda runner: (
        [runner.hello()]
        + [runner.say({"op": "exit", "id": request_id, "rc": 0, "stdout_size": 0}) for request_id in range(1, 400)]
    ),
    "id-is-true": lambda runner: [runner.hello(), runner.say({"op": "exit", "id": True, "rc": 0, "stdout_size": 0})],
    "id-is-a-list": lambda runner: [runner.hello(), runner.say({"op": "exit", "id": [], "rc": 0, "stdout_size": 0})],
    "exit-with-a-large-rc": lambda runner: [
        runner.hello(),
        runner.say({"op": "exit", "id": runner.request("exec"), "rc": 1000, "stdout_size": 0}),
    ],
    "exit-without-rc": lambda runner: [runner.hello(), runner.say({"op": "exit", "id": runner.request("exec")})],
    "killed-without-rest": lambda runner: [runner.hello(), runner.say({"op": "ok", "id": runner.request("exec"), "rc": 137})],
    "large-credit": lambda runner: [
        runner.hello(),
        runner.say({"op": "credit", "id": runner.request("exec"), "count": 1 << 50}),
    ],
    "out-without-end": lambda runner: endless_output(runner),
}


def endless_output(runner):
    runner.hello()
    request_id = runner.request("exec")
    while True:
        runner.say({"op": "out", "id": request_id, "stream": 1}, bytes(1 << 17))


def main():
    token, size = sys.argv[3], int(sys.argv[4])
    os.write(1, ("PMITOGEN-%s ready\n" % token).encode())
    with open(HERE + "/misbehaviour") as stream:
        name = stream.read()
    read_exactly(size or int(read_exactly(10)))
    with open(HERE + "/started", "w"):
        pass
    try:
        if size:
            {**BREACHES, **NUISANCES}[name](Agent(int(sys.argv[6])))
        else:
            RUNNER[name](RunnerEnd())
    except OSError:
        pass
    fd = os.open(HERE + "/received", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    data = True
    while data:
        data = os.read(0, 1 << 16)
        os.write(fd, data)


if __name__ == "__main__":
    main()
