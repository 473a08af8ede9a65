"""Failures as they are sent: one table of error kinds and exceptions, read in both directions.

The hub turns an exception into the fields of an ``error`` frame (:func:`error_fields`); a client turns the frame into an
exception again (:func:`exception_from`). Callers decide by the exception's type and attributes, never by its message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypedDict, get_args

from pmitogen.errors import (
    AuthenticationError,
    BecomeError,
    BecomeKind,
    ConnectError,
    ConnectionLost,
    ConnectStage,
    Error,
    RemoteError,
    UsageError,
)
from pmitogen.protocol.operations import ErrorKind


class ProtocolError(Exception):
    """A peer sent something that the protocol does not allow. The connection to it must be closed.

    The text describes the mistake in one line that is safe to show.
    """


class OptionsError(UsageError):
    """The options of a connection cannot be honoured. No connection was attempted."""


class InterpreterUnavailable(ConnectError):
    """The interpreter that a request needs is missing in its account, or does not start."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "python")


class NoPythonError(ConnectError):
    """The host has no usable Python."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "python")


class WrapperNeeded(ConnectError):
    """The hub cannot enter the account, so the become plugin has to wrap the command."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "python")


class InterpreterEnded(ConnectionLost):
    """The interpreter that served a request has ended before the request did."""


class ErrorFields(TypedDict, total=False):
    """The fields of an ``error`` frame that say what failed; ``msg`` is always there."""

    kind: ErrorKind
    msg: str
    stage: str  # ConnectError.stage
    jump_host: str  # ConnectError.jump_host
    reason: str  # BecomeError.kind
    origin: str  # UsageError.origin, with which msg begins unless it is empty
    errno: str  # RemoteError.code


class ErrorType(NamedTuple):
    """One kind of failure. *attribute* of the exception is *field* of the frame.

    *values*: those that the field may have; empty: any text. *default* is used for another one, and where a frame lacks it.
    """

    kind: ErrorKind | None
    exception: Callable[..., Error]
    attribute: str = ""
    field: str = ""
    default: str = ""
    values: tuple[str, ...] = ()


TABLE = (
    ErrorType(ErrorKind.AUTH, AuthenticationError),
    ErrorType(ErrorKind.USAGE, UsageError, "origin", "origin"),
    ErrorType(ErrorKind.OPTIONS, OptionsError, "origin", "origin"),
    ErrorType(ErrorKind.UNREACHABLE, ConnectError, "stage", "stage", "tcp", get_args(ConnectStage)),
    ErrorType(ErrorKind.LOST, ConnectionLost),
    ErrorType(ErrorKind.BECOME, BecomeError, "kind", "reason", "other", get_args(BecomeKind)),
    ErrorType(ErrorKind.PYTHON, InterpreterUnavailable),
    ErrorType(ErrorKind.NO_PYTHON, NoPythonError),
    ErrorType(ErrorKind.WRAP, WrapperNeeded),
    ErrorType(ErrorKind.INTERPRETER_ENDED, InterpreterEnded),
    ErrorType(None, RemoteError),
)
_BY_KIND: Mapping[object, ErrorType] = {row.kind: row for row in TABLE}
_BY_EXCEPTION = {row.exception: row for row in TABLE}


def error_fields(error: Error) -> ErrorFields:
    """Return the fields of *error* in a frame. A subclass that has no row of its own is sent as its nearest base.

    :raises KeyError: if neither the class nor a base of it is in the table (HubError, for example, is never sent).
    """
    row = next(_BY_EXCEPTION[base] for base in type(error).__mro__ if base in _BY_EXCEPTION or base is Error)
    fields: dict[str, Any] = {"msg": error.message}
    if row.kind is not None:
        fields["kind"] = row.kind.value
    if row.field:
        fields[row.field] = getattr(error, row.attribute)
    if isinstance(error, RemoteError) and error.code:
        fields["errno"] = error.code
    if isinstance(error, ConnectError) and error.jump_host:
        fields["jump_host"] = error.jump_host
    return fields  # type: ignore[return-value]


def exception_from(fields: Mapping[str, object]) -> Error:
    """Return the exception for an ``error`` frame: the inverse of :func:`error_fields`. An unknown kind gives a RemoteError."""
    row = _BY_KIND.get(fields.get("kind"), _BY_KIND[None])
    message = str(fields["msg"])
    if row.kind is None:
        return RemoteError(message, code=str(fields.get("errno") or ""))
    error = _exception(row, message, str(fields.get(row.field) or row.default))
    if isinstance(error, ConnectError):
        error.jump_host = str(fields.get("jump_host") or "")
    return error


def _exception(row: ErrorType, message: str, value: str) -> Error:
    if not row.field:
        return row.exception(message)
    if row.values and value not in row.values:
        value = row.default
    if row.field == "origin" and value:
        message = message[len(value) + len(": ") :]  # the exception adds it again
    return row.exception(message, value)
