"""The gate between the hub and an agent: valid frames pass, invalid ones raise ProtocolError, and no other exception occurs."""

from __future__ import annotations

import json
import os
import struct
import zlib
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pmitogen.hub.agent_channel import AgentChannel
from pmitogen.protocol import framing
from pmitogen.protocol.error_kinds import ProtocolError
from pmitogen.protocol.gate import Gate, InterpreterError
from pmitogen.protocol.limits import CHUNK, CREDIT_WINDOW, TARGET_BODY, TARGET_HEADER
from pmitogen.protocol.mitogen_messages import HEADER, ChannelReader

SECONDS = float(os.environ.get("PMITOGEN_FUZZ_SECONDS", "4"))
EXAMPLES = int(15 * SECONDS)
quick = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

Header = dict[str, Any]
HELLO: Header = {
    "op": "hello",
    "account": 0,
    "pid": 9,
    "uid": 0,
    "user": "root",
    "executable": "/usr/bin/python3",
    "home": "/root",
    "home_writable": True,
    "python_version": [3, 12, 1],
}
# Requests that the hub has sent before the agent's first frame: one of each operation, by number.
SENT: list[tuple[Header, int]] = [
    ({"op": "blobs", "codec": "xz"}, 1000),
    ({"op": "run", "id": 1, "account": 0, "manifest": "m"}, 10),
    ({"op": "run", "id": 2, "account": 0, "manifest": "m", "trace": True, "if_python": "/usr/bin/python3"}, 10),
    ({"op": "exec", "id": 3, "account": 0, "argv": ["id"], "tty": True}, 0),
    ({"op": "put", "id": 4, "account": 0, "path": "/x", "more": True}, 0),
    ({"op": "data", "id": 4, "account": 0}, 5000),
    ({"op": "get", "id": 5, "account": 0, "path": "/x"}, 0),
    ({"op": "fs", "action": "mkdtemp", "id": 6, "account": 0, "bases": [], "name": "x"}, 0),
    ({"op": "fs", "action": "home", "id": 7, "account": 0, "path": "~"}, 0),
    ({"op": "fs", "action": "exists", "id": 8, "account": 0, "path": "/"}, 0),
    ({"op": "fs", "action": "remove", "id": 9, "account": 0, "path": "/x"}, 0),
    ({"op": "start-account", "account": 1, "python_version": [], "env": {}, "token": "t"}, 0),
    ({"op": "exec", "id": 10, "account": 1, "argv": ["id"]}, 0),
    ({"op": "fs", "action": "remove", "id": 11, "account": 0, "path": "/x", "no_reply": True}, 0),
    ({"op": "start-account", "account": 2, "python_version": [], "env": {}, "token": "t"}, 0),
    ({"op": "end-account", "account": 2, "notify": True}, 0),
    ({"op": "start-account", "account": 3, "plan": {}, "python_version": [], "env": {}, "token": "t"}, 0),
]


def make_gate() -> Gate:
    gate = Gate()
    for header, size in SENT:
        gate.on_sent(header, size)
    return gate


# Frames in an order that an honest agent may use.
HONEST: list[tuple[Header, int]] = [
    (HELLO, 0),
    ({"op": "codec-unsupported"}, 0),
    ({"op": "secret-request", "account": 3, "step": 0, "kind": "password"}, 0),
    ({"op": "secret-request", "account": 3, "step": 0, "kind": "otp"}, 0),
    ({**HELLO, "account": 3}, 0),
    ({**HELLO, "account": 1, "user": "bob", "python_version": [2, 7, 18]}, 0),
    ({"op": "out", "id": 1, "stream": 2}, CHUNK + 65536),
    ({"op": "error", "id": 2, "kind": "python-mismatch", "msg": ""}, 0),
    ({"op": "out", "id": 3, "stream": 1}, 1),
    ({"op": "exit", "id": 3, "rc": 137, "stdout_size": 3, "signal": 9}, 5),
    ({"op": "credit", "id": 4, "count": 4000}, 0),
    ({"op": "credit", "id": 4, "count": 1000}, 0),
    ({"op": "ok", "id": 4}, 0),
    ({"op": "ok", "id": 5, "mode": 0o4755}, 0),
    ({"op": "ok", "id": 6, "path": "/tmp/\xe9 "}, 0),
    ({"op": "ok", "id": 7, "path": None}, 0),
    ({"op": "ok", "id": 8, "exists": False}, 0),
    ({"op": "error", "id": 9, "kind": "stale", "reason": "account", "msg": "/etc/group", "refused_count": 1}, 0),
    ({"op": "accounts-changed"}, 0),
    ({"op": "deferred-error", "msg": "removing /x: busy"}, 0),
    ({"op": "out", "id": 10, "stream": 1, "account": 1}, 7),
    ({"op": "interpreter-ended", "account": 1}, 0),
    ({"op": "error", "id": 10, "kind": "interpreter-ended", "msg": "ended", "reason": None}, 0),
    ({"op": "interpreter-ended", "account": 2}, 0),
    ({"op": "account-ended", "account": 2}, 0),
    ({"op": "exit", "id": 1, "rc": 0, "stdout_size": 0}, 0),
]


def test_frames_of_an_honest_agent_pass() -> None:
    gate = make_gate()
    for header, size in HONEST:
        assert gate.admit(json.loads(json.dumps(header)), size, size + 100), header


EXIT: Header = {"op": "exit", "id": 1, "rc": 0, "stdout_size": 0}
# The frame, the size of its body, and a part of the reason.
BREACHES: list[tuple[Header, int, str]] = [
    ({}, 0, "unknown operation None"),
    ({"op": "exec", "id": 1, "argv": ["id"]}, 0, "unknown operation 'exec'"),
    ({"op": "\x1b[2J\n" + "x" * 99}, 0, "unknown operation '\\x1b[2J\\nxxx"),
    ({"op": ["ok"]}, 0, "unknown operation a list of 1"),
    ({"op": {}}, 0, "unknown operation an object of 0"),
    ({"op": None}, 0, "unknown operation None"),
    ({"op": 10**400}, 0, "unknown operation a number of 1329 bits"),
    ({**EXIT, "id": "1"}, 0, "exit with id '1'; expected number"),
    ({**EXIT, "id": True}, 0, "exit with id True"),
    ({**EXIT, "id": 1.0}, 0, "exit with id 1.0"),
    ({**EXIT, "id": [1]}, 0, "exit with id a list of 1"),
    ({**EXIT, "id": 10**30}, 0, "exit with id 1000"),
    ({**EXIT, "id": 99}, 0, "request 99, which is not open"),
    ({**EXIT, "id": 11}, 0, "request 11, which is not open"),
    ({**EXIT, "id": 0}, 0, "exit with id 0"),
    ({**EXIT, "rc": None}, 0, "exit with rc None; expected number from 0 to 255"),
    ({**EXIT, "rc": 256}, 0, "exit with rc 256"),
    ({**EXIT, "rc": -1}, 0, "exit with rc -1"),
    ({**EXIT, "stdout_size": 5}, 4, "exit with stdout_size 5 and a body of 4 bytes"),
    ({**EXIT, "stdout_size": -1}, 4, "exit with stdout_size -1"),
    ({**EXIT, "signal": 0}, 0, "exit with signal 0"),
    ({**EXIT, "timings": [0.1, 0.2]}, 0, "exit with timings without a trace"),
    ({**EXIT, "id": 2, "timings": [1]}, 0, "exit with timings a list of 1; expected list of 2"),
    ({**EXIT, "id": 2, "timings": [1, "2"]}, 0, "exit with timings a list"),
    ({**EXIT, "id": 2, "timings": [1, -2]}, 0, "exit with timings a list"),
    ({**EXIT, "id": 2, "timings": [1, 1e300]}, 0, "exit with timings a list"),
    ({**EXIT, "extra": 1}, 0, "exit with unknown field 'extra'"),
    (EXIT, TARGET_BODY + 1, "exit with a body of"),
    ({**EXIT, "id": 4}, 0, "exit as the answer to a request that ends with ok"),
    ({**EXIT, "id": 10}, 0, "exit of account 0 for a request of account 1"),
    ({"op": "exit", "id": 1, "stdout_size": 0}, 0, "exit without rc"),
    ({"op": "ok", "id": 1}, 0, "ok as the answer to a request that ends with exit"),
    ({"op": "ok", "id": 6}, 0, "ok without path"),
    ({"op": "error", "id": 1, "kind": "stale", "msg": ""}, 0, "error of kind stale without refused_count"),
    (
        {"op": "error", "id": 1, "kind": "interpreter-ended", "msg": "", "refused_count": 1},
        0,
        "error of kind interpreter-ended with refused_count",
    ),
    ({"op": "error", "id": 1, "kind": "stale", "msg": "", "refused_count": -1}, 0, "error with refused_count -1"),
    ({"op": "error", "id": 1, "kind": "stale", "msg": "", "refused_count": "all"}, 0, "error with refused_count 'all'"),
    ({"op": "accounts-changed", "account": 1}, 0, "accounts-changed with unknown field 'account'"),
    ({"op": "ok", "id": 6, "path": None}, 0, "ok with path null"),
    ({"op": "ok", "id": 6, "path": 5}, 0, "ok with path 5"),
    ({"op": "ok", "id": 6, "path": "/" + "x" * 20000}, 0, "ok with path '/xxx"),
    ({"op": "ok", "id": 6, "path": "/\0"}, 0, "ok with path"),
    ({"op": "ok", "id": 6, "path": "/\u20ac"}, 0, "ok with path"),
    ({"op": "ok", "id": 6, "path": "/x", "exists": True}, 0, "ok with exists"),
    ({"op": "ok", "id": 7}, 0, "ok without path"),
    ({"op": "ok", "id": 8, "exists": 1}, 0, "ok with exists 1; expected true or false"),
    ({"op": "ok", "id": 9, "path": "/"}, 0, "ok with path"),
    ({"op": "ok", "id": 5}, 0, "ok without mode"),
    ({"op": "ok", "id": 5, "mode": -1}, 0, "ok with mode -1"),
    ({"op": "ok", "id": 4}, 1, "ok with a body of 1 bytes"),
    ({"op": "error", "id": 1}, 0, "error without msg"),
    ({"op": "error", "id": 1, "msg": ["x"]}, 0, "error with msg a list"),
    ({"op": "error", "id": 1, "msg": "x" * 9000}, 0, "error with msg 'xxx"),
    ({"op": "error", "id": 1, "msg": "x", "kind": "auth"}, 0, "error with kind 'auth'"),
    ({"op": "error", "id": 1, "msg": "x", "kind": "python-mismatch"}, 0, "takes any interpreter"),
    ({"op": "error", "id": 1, "msg": "x", "reason": 5}, 0, "error with reason 5"),
    ({"op": "out", "id": 1, "stream": 3}, 1, "out with stream 3; expected 1 or 2"),
    ({"op": "out", "id": 1, "stream": True}, 1, "out with stream True"),
    ({"op": "out", "id": 1, "stream": 1}, 0, "out with a body of 0 bytes"),
    ({"op": "out", "id": 3, "stream": 2}, 1, "out on stream 2"),
    ({"op": "out", "id": 5, "stream": 2}, 1, "out on stream 2"),
    ({"op": "out", "id": 4, "stream": 1}, 1, "out on stream 1 of a request that has none"),
    ({"op": "out", "id": 6, "stream": 1}, 1, "out on stream 1"),
    ({"op": "credit", "id": 4, "count": 5001}, 0, "credit of 5001 bytes where 5000 are under way"),
    ({"op": "credit", "id": 4, "count": 1 << 50}, 0, "credit with count 1125899906842624"),
    ({"op": "credit", "id": 4, "count": 0}, 0, "credit with count 0"),
    ({"op": "credit", "id": 4, "count": -5}, 0, "credit with count -5"),
    ({"op": "credit", "id": 5, "count": 1}, 0, "credit for a request without data"),
    ({"op": "credit", "id": 1, "count": 11}, 0, "credit of 11 bytes where 10 are"),
    ({"op": "secret-request", "account": 1, "step": 0, "kind": "password"}, 0, "needs no secret now"),
    ({"op": "secret-request", "account": 0, "step": 0, "kind": "password"}, 0, "needs no secret now"),
    ({"op": "secret-request", "account": 3, "step": -1, "kind": "password"}, 0, "secret-request with step -1"),
    ({"op": "secret-request", "account": 3, "step": 0, "kind": "user"}, 0, "secret-request with kind 'user'"),
    ({**HELLO, "account": 9}, 0, "hello of account 9, which does not exist"),
    ({**HELLO, "account": -1}, 0, "hello of account -1, which does not exist"),
    ({**HELLO, "account": None}, 0, "hello with account None"),
    ({**HELLO, "account": {}}, 0, "hello with account an object"),
    ({**HELLO, "home": None}, 0, "hello with home None"),
    ({**HELLO, "python_version": [3, 12]}, 0, "hello with python_version a list of 2"),
    ({**HELLO, "user": "x" * 300}, 0, "hello with user 'xxx"),
    ({"op": "interpreter-ended", "account": 7}, 0, "interpreter-ended of account 7, which does not exist"),
    ({"op": "interpreter-ended"}, 0, "interpreter-ended without account"),
    ({"op": "interpreter-ended", "account": [0]}, 0, "interpreter-ended with account a list"),
    ({"op": "account-ended", "account": 0}, 0, "account-ended of account 0, which the hub did not end"),
    ({"op": "account-ended", "account": 9}, 0, "account-ended of account 9, which does not exist"),
    ({"op": "codec-unsupported", "id": 1}, 0, "codec-unsupported with unknown field 'id'"),
    ({"op": "deferred-error", "msg": "x", "account": 9}, 0, "deferred-error of account 9, which does not exist"),
    ({"op": "bytecode", "bytecode_tag": "x", "bytecode": []}, 0, "unknown operation 'bytecode'"),
]


@pytest.mark.parametrize(("header", "size", "text"), BREACHES)
def test_each_protocol_violation_is_named(header: Header, size: int, text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        make_gate().admit(json.loads(json.dumps(header)), size, size + 100)
    assert text in str(caught.value) and not isinstance(caught.value, InterpreterError)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


# Frames that may be sent only once.
ONLY_ONCE: list[tuple[Header, int]] = [
    (HELLO, 0),
    ({"op": "codec-unsupported"}, 0),
    ({"op": "secret-request", "account": 3, "step": 0, "kind": "password"}, 0),
    (EXIT, 0),
    ({"op": "error", "id": 6, "msg": "x"}, 0),
    ({"op": "deferred-error", "msg": "x"}, 0),
    ({"op": "interpreter-ended", "account": 1}, 0),
    ({"op": "account-ended", "account": 2}, 0),
    ({"op": "credit", "id": 4, "count": 3000}, 0),
]


@pytest.mark.parametrize(("header", "size"), ONLY_ONCE)
def test_a_frame_that_is_allowed_once_is_refused_the_second_time(header: Header, size: int) -> None:
    gate = make_gate()
    assert gate.admit(dict(header), size, size + 100)
    with pytest.raises(ProtocolError):
        gate.admit(dict(header), size, size + 100)


def test_output_stays_in_the_window() -> None:
    gate = make_gate()
    out = {"op": "out", "id": 1, "stream": 1}
    for _ in range(3):
        for _ in range(CREDIT_WINDOW // CHUNK):
            gate.admit(dict(out), CHUNK, CHUNK + 100)
        gate.on_sent({"op": "credit", "id": 1, "account": 0, "count": CREDIT_WINDOW}, 0)
    with pytest.raises(ProtocolError, match="the window is"):
        for _ in range(2 * CREDIT_WINDOW // CHUNK):
            gate.admit(dict(out), CHUNK, CHUNK + 100)


def test_credit_and_data_of_a_client_are_limited_by_the_windows() -> None:
    gate = make_gate()
    gate.admit({"op": "out", "id": 1, "stream": 1}, 100, 200)
    with pytest.raises(ProtocolError, match="credit of 101"):
        gate.on_sent({"op": "credit", "id": 1, "account": 0, "count": 101}, 0)
    with pytest.raises(ProtocolError, match="the window is"):
        for _ in range(2 * CREDIT_WINDOW // CHUNK):
            gate.on_sent({"op": "data", "id": 4, "account": 0}, CHUNK)


BY_ANOTHER_ACCOUNT: list[Header] = [
    {**EXIT, "account": 1},
    {**EXIT, "id": 10, "rc": 300, "account": 1},
    {**EXIT, "id": 99, "account": 1},
    {"op": "deferred-error", "msg": "x", "account": 1},
    {"op": "credit", "id": 10, "count": 1, "account": 1},
    {**HELLO, "account": 1, "home": None},
]


@pytest.mark.parametrize("header", BY_ANOTHER_ACCOUNT)
def test_a_violation_by_another_account_ends_only_that_account(header: Header) -> None:
    gate = make_gate()
    with pytest.raises(InterpreterError) as caught:
        gate.admit(dict(header), 0, 100)
    assert caught.value.account == 1
    assert not gate.admit({**EXIT, "id": 10, "account": 1}, 0, 100), "frames that it sent before its end are ignored"
    assert gate.admit(dict(EXIT), 0, 100)
    assert gate.admit({"op": "interpreter-ended", "account": 1}, 0, 100)
    error = {"op": "error", "id": 10, "kind": "interpreter-ended", "msg": "ended"}
    assert not gate.admit(dict(error), 0, 100), "the hub has already answered the request"
    with pytest.raises(ProtocolError, match="not open"):
        gate.admit(error, 0, 100)
    with pytest.raises(ProtocolError, match="which does not exist"):
        gate.admit({**EXIT, "id": 10, "account": 1}, 0, 100)


def test_the_number_of_ignored_frames_is_bounded() -> None:
    gate = make_gate()
    with pytest.raises(ProtocolError, match="account 2 must not end"):
        for _ in range(CREDIT_WINDOW // 100):
            assert not gate.admit({"op": "out", "id": 1, "stream": 1, "account": 2}, 0, 1000)


# Invalid frame headers.
TEXTS = {
    "": "not JSON",
    "abc": "not JSON",
    "[]": "not a JSON object",
    "5": "not a JSON object",
    '{"op": NaN}': "NaN",
    '{"op": -Infinity}': "NaN",
    '{"op": "codec-unsupported", "op": "codec-unsupported"}': "the same name twice",
    '{"op": {"a": 1, "a": 2}}': "the same name twice",
    '{"op": "codec-unsupported"} x': "not JSON",
    '{"op": "l\u00e4ck"}': "not ASCII",
    '{"op": ' + "[" * 60000: "nested too deeply",
    '{"op": ' + "1" * 60000 + "}": "",
    '{"op": "' + "x" * TARGET_HEADER + '"}': "a frame of",
    '{"op": 1e999}': "unknown operation inf",
}


def make_wire() -> AgentChannel:
    wire = AgentChannel(Mock(), Mock())
    wire.booting = Mock()
    for header, size in SENT:
        wire.send(header, bytes(size))
    return wire


def frame_of(head: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">II", len(head), len(body)) + head + body


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("text", TEXTS)
def test_an_invalid_header_is_named(text: str, packed: bool) -> None:
    data = frame_of(text.encode())
    with pytest.raises(ProtocolError) as caught:
        make_wire().read(_packed(data) if packed else data, packed)
    assert packed or TEXTS[text] in str(caught.value)


def _packed(data: bytes) -> bytes:
    pack = framing.new_compressor()
    return pack.compress(data) + pack.flush(zlib.Z_SYNC_FLUSH)


UNSUPPORTED = b'{"op": "codec-unsupported"}'
MESSAGES = {
    "empty": b"",
    "half a prefix": b"\0\0\0",
    "half a header": frame_of(UNSUPPORTED)[:-1],
    "two frames": frame_of(UNSUPPORTED) * 2,
    "more than a frame": frame_of(UNSUPPORTED) + b"x",
    "a large header": struct.pack(">II", TARGET_HEADER + 1, 0) + bytes(TARGET_HEADER + 1),
    "a large body": struct.pack(">II", 2, TARGET_BODY + 1) + b"{}" + bytes(TARGET_BODY + 1),
    "negative": struct.pack(">ii", -1, -1),
}
STREAMS = {
    "not zlib": b"this is not zlib at all",
    "bomb": zlib.compress(bytes(64 << 20), 9),
    "many frames": zlib.compress(frame_of(b"{}") * 419_000, 9),
    "ended": zlib.compress(frame_of(UNSUPPORTED)),
    "unfinished": _packed(frame_of(UNSUPPORTED))[:12],
    "dictionary": b"\x78\xbb\x12\x34\x56\x78" + b"\0" * 20,
}


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("packed", [False, True])
def test_a_message_with_more_or_less_than_one_frame_is_refused(name: str, packed: bool) -> None:
    data = MESSAGES[name]
    with pytest.raises(ProtocolError):
        make_wire().read(_packed(data) if packed else data, packed)


@pytest.mark.parametrize("name", STREAMS)
def test_a_compressed_message_is_bounded(name: str) -> None:
    with pytest.raises(ProtocolError):
        make_wire().read(STREAMS[name], True)


# Properties

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([1 << 50, -1, 255, 256, "", "/", "root", "interpreter-ended", "become"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = sorted({name for header, _ in [*HONEST, *SENT] for name in header} | {"timings", "exists", "mode", "junk"})
KNOWN = st.sampled_from([header for header, _ in HONEST])


@st.composite
def headers(draw: st.DrawFn) -> Header:
    """An honest header with some of its fields replaced, removed or added."""
    header = dict(draw(KNOWN))
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=3)):
        if draw(st.booleans()):
            header[name] = draw(JSON | st.integers(0, 12))
        else:
            header.pop(name, None)
    return header


@quick
@given(st.lists(st.tuples(headers(), st.integers(0, TARGET_BODY + 5)), max_size=8))
def test_any_frame_passes_or_is_a_protocol_error(output: list[tuple[Header, int]]) -> None:
    gate = make_gate()
    for header, size in output:
        try:
            assert gate.admit(header, size, size + 100) in (True, False)
        except InterpreterError as exc:
            assert exc.account in (1, 2, 3)
        except ProtocolError as exc:
            assert str(exc).isprintable() and len(str(exc)) < 300


@quick
@given(st.binary(max_size=200) | st.builds(frame_of, st.binary(max_size=60)) | headers().map(framing.encode_frame), st.booleans())
def test_any_message_passes_or_is_a_protocol_error(data: bytes, packed: bool) -> None:
    for sent in {data, _packed(data)}:
        try:
            make_wire().read(sent, packed)
        except ProtocolError as exc:
            assert str(exc).isprintable() and len(str(exc)) < 300


AGENT = 3
GOOD = st.builds(
    lambda handle, data: HEADER.pack(0x4D49, 0, AGENT, AGENT, handle, 0, len(data)) + data,
    st.sampled_from([2002, 2003]),
    st.binary(min_size=1, max_size=50),
)


@quick
@given(st.lists(GOOD, max_size=6), st.lists(st.integers(1, 40), max_size=20), st.binary(max_size=60))
def test_messages_are_the_same_however_they_arrive(sent: list[bytes], cuts: list[int], rest: bytes) -> None:
    reader, data, got = ChannelReader(AGENT), b"".join(sent) + rest, []
    try:
        for size in [*cuts, len(data)]:
            reader.feed(data[:size])
            data = data[size:]
            while (message := reader.next()) is not None:
                got.append(message.data)
    except ProtocolError as exc:
        assert str(exc).isprintable() and len(str(exc)) < 300
    assert got[: len(sent)] == [each[HEADER.size :] for each in sent]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ((0x4D50, 0, AGENT, AGENT, 2002, 0, 5), "not a Mitogen message"),
        ((0x4D49, 1, AGENT, AGENT, 2002, 0, 5), "for context 1"),
        ((0x4D49, 0, 4, AGENT, 2002, 0, 5), "in the name of context 4"),
        ((0x4D49, 0, AGENT, 0, 2002, 0, 5), "in the name of context 0"),
        ((0x4D49, 0, AGENT, AGENT, 101, 0, 5), "on handle 101"),
        ((0x4D49, 0, AGENT, AGENT, 2000, 0, 5), "on handle 2000"),
        ((0x4D49, 0, AGENT, AGENT, 2002, 1, 5), "wants a reply on handle 1"),
        ((0x4D49, 0, AGENT, AGENT, 2002, 0, 0), "of 0 bytes"),
        ((0x4D49, 0, AGENT, AGENT, 2002, 0, 0xFFFFFFF0), "of 4294967280 bytes"),
    ],
)
def test_a_header_is_checked_before_its_data_is_waited_for(fields: tuple[int, ...], text: str) -> None:
    reader = ChannelReader(AGENT)
    reader.feed(HEADER.pack(*fields))
    with pytest.raises(ProtocolError, match=text):
        reader.next()
