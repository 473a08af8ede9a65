"""The client loop, one frame at a time, and the table of errors in both directions."""

from __future__ import annotations

import io
from typing import Any

import pytest

from pmitogen import errors
from pmitogen.protocol.error_kinds import TABLE, error_fields, exception_from
from pmitogen.protocol.exchange import INLINE, Exchange, Output, Result
from pmitogen.protocol.framing import CHUNK, CREDIT_WINDOW
from pmitogen.protocol.operations import ErrorKind

Frame = tuple[dict[str, Any], bytes]


class ScriptedConnection:
    """A hub that answers with *frames*, one by one, and then raises an error."""

    is_paused = False

    def __init__(self, *frames: Frame) -> None:
        self.frames = list(frames)
        self.sent: list[Frame] = []

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        self.sent.append((header, body))

    def receive(self, timeout: float | None = None) -> Frame:
        if not self.frames:
            raise TimeoutError
        return self.frames.pop(0)

    @property
    def ops(self) -> list[str]:
        return [header["op"] for header, _ in self.sent]


EXIT: Frame = ({"op": "exit", "id": 7, "rc": 0, "stdout_size": 0}, b"")
RUN = {"op": "exec", "id": 7}


def test_output_is_acknowledged_after_it_has_been_consumed() -> None:
    connection = ScriptedConnection(({"op": "out", "id": 7, "stream": 2}, b"abc"), EXIT)
    exchange = Exchange(connection, RUN)
    assert exchange.next() == Output(2, b"abc") and connection.ops == ["exec"]
    assert isinstance(exchange.next(), Result)
    assert connection.sent[1] == ({"op": "credit", "id": 7, "count": 3}, b"")


def test_frames_of_other_requests_are_skipped() -> None:
    connection = ScriptedConnection(({"op": "exit", "id": 6, "rc": 1}, b""), ({}, b""), EXIT)
    assert Exchange(connection, RUN).result(lambda *_: None).header["rc"] == 0


def test_a_small_body_is_sent_with_the_request() -> None:
    connection = ScriptedConnection(EXIT)
    Exchange(connection, RUN, b"x" * INLINE).result(lambda *_: None)
    assert connection.sent == [(RUN, b"x" * INLINE)]


@pytest.mark.parametrize("from_file", [False, True])
def test_a_large_body_waits_for_credit(from_file: bool) -> None:
    body = bytes(range(256)) * ((CREDIT_WINDOW + INLINE + 5 * CHUNK) // 256)
    connection = ScriptedConnection()
    exchange = Exchange(connection, RUN, io.BytesIO(body) if from_file else body)
    with pytest.raises(TimeoutError):
        exchange.next(1)
    under_credit = sum(len(piece) for header, piece in connection.sent if header["op"] == "data")
    assert connection.sent[0][0]["more"] and CREDIT_WINDOW <= under_credit < CREDIT_WINDOW + CHUNK
    connection.frames = [({"op": "credit", "id": 7, "count": 2 * CREDIT_WINDOW}, b""), EXIT]
    assert isinstance(exchange.next(), Result)
    assert b"".join(piece for _, piece in connection.sent) == body and connection.ops[-1] == "eof"


def test_a_paused_connection_gets_no_data() -> None:
    connection = ScriptedConnection()
    connection.is_paused = True
    exchange = Exchange(connection, RUN, io.BytesIO(b"x"))
    with pytest.raises(TimeoutError):
        exchange.next(1)
    assert connection.ops == ["exec"]
    connection.is_paused = False
    with pytest.raises(TimeoutError):
        exchange.next(1)
    assert connection.ops == ["exec", "data", "eof"]


def test_a_payload_is_sent_if_the_hub_asks_for_it() -> None:
    connection = ScriptedConnection(({"op": "need", "id": 7, "archive": "name"}, b""), EXIT)
    Exchange(connection, RUN, archive=memoryview(b"zip")).result(lambda *_: None)
    assert connection.sent[1] == ({"op": "archive", "archive": "name"}, b"zip")


def test_a_failing_caller_or_source_cancels_the_request() -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    connection = ScriptedConnection(({"op": "out", "id": 7, "stream": 1}, b"abc"))
    with pytest.raises(OSError, match="disk full"):
        Exchange(connection, RUN).result(fail)
    assert connection.ops == ["exec", "kill"]

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("unreadable")

    connection = ScriptedConnection()
    with pytest.raises(OSError, match="unreadable"):
        Exchange(connection, RUN, Broken()).next()
    assert connection.ops == ["exec", "kill"]


def test_nothing_is_cancelled_after_the_end() -> None:
    connection = ScriptedConnection(({"op": "error", "id": 7, "kind": "auth", "msg": "no"}, b""))
    exchange = Exchange(connection, RUN)
    with pytest.raises(errors.AuthenticationError, match="no"):
        exchange.next()
    exchange.cancel()
    assert connection.ops == ["exec"]


def test_a_secret_is_marked() -> None:
    connection = ScriptedConnection()
    exchange = Exchange(connection, RUN, interactive=True)
    exchange.write(b"pw", is_secret=True)
    exchange.write(b"y" * (CHUNK + 1))
    exchange.end_input()
    assert connection.sent[0][0]["more"] and connection.sent[1] == ({"op": "data", "id": 7, "secret": True}, b"pw")
    assert [len(piece) for _, piece in connection.sent[2:]] == [CHUNK, 1, 0]


INTERNAL = {ErrorKind.STALE, ErrorKind.PYTHON_MISMATCH}  # the hub sends these requests again


def test_every_kind_and_every_public_error_has_a_row() -> None:
    assert {row.kind for row in TABLE} == {None, *ErrorKind} - INTERNAL
    public = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.Error)}
    assert public - {row.exception for row in TABLE} == {errors.Error, errors.HubError, errors.TimeoutExpired}


@pytest.mark.parametrize(
    "error",
    [
        errors.ConnectError("h: no route", "tcp"),
        errors.AuthenticationError("h: no"),
        errors.ConnectionLost("h: gone"),
        errors.BecomeError("h: wrong", "password-wrong"),
        errors.UsageError("h: bad"),
        errors.RemoteError("h: missing"),
        *(row.exception("h: text") for row in TABLE if not row.field),
    ],
    ids=repr,
)
def test_an_error_arrives_as_it_was_raised(error: errors.Error) -> None:
    arrived = exception_from(error_fields(error))
    assert type(arrived) is type(error) and vars(arrived) == vars(error) and arrived.message == error.message


@pytest.mark.parametrize(("reason", "kind"), [("state", "state"), ("tty", "tty"), ("made up", "other"), (None, "other")])
def test_an_unknown_reason_is_replaced_by_other(reason: str | None, kind: str) -> None:
    error = exception_from({"msg": "x", "kind": ErrorKind.BECOME.value, "reason": reason})
    assert isinstance(error, errors.BecomeError) and error.kind == kind


def test_an_unknown_stage_is_replaced_by_the_default() -> None:
    error = exception_from({"msg": "x", "kind": ErrorKind.UNREACHABLE.value, "stage": "made up"})
    assert isinstance(error, errors.ConnectError) and error.stage == "tcp"


def test_an_error_without_a_row_is_sent_as_its_base() -> None:
    class Special(errors.ConnectError):
        pass

    assert error_fields(Special("x", "kex")) == {"kind": "unreachable", "stage": "kex", "msg": "x"}
    assert type(exception_from({"msg": "x", "kind": "of a later version"})) is errors.RemoteError
