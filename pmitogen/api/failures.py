"""The exception that an error frame stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pmitogen.errors import AuthenticationError, BecomeError, ConnectError, ConnectionLost, Error, RemoteError, UsageError


def error_of(frame: Mapping[str, Any], who: str) -> Error:
    """The exception for the error *frame* of a request to *who*."""
    kind, message = frame.get("kind"), str(frame["msg"])
    if kind == "auth":
        return AuthenticationError(message)
    if kind == "usage":
        return UsageError(message)
    if kind == "become":
        return BecomeError(message, str(frame.get("why") or "other"))
    if kind in ("python", "nopython"):
        return ConnectError(message, "python")
    if kind == "connect":
        return ConnectError(message, str(frame.get("stage") or "tcp"))
    if kind in ("unreachable", "gone", "wrap"):
        stage = frame.get("stage")
        return ConnectError(message, str(stage)) if stage else ConnectionLost(message)
    return RemoteError(f"{who}: {message}")
