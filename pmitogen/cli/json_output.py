"""JSON output that all commands have in common. docs/json.md describes the output of each command."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from pmitogen.cli.errors import exit_code, from_os_error
from pmitogen.errors import (
    AuthenticationError,
    BecomeError,
    ConnectError,
    ConnectionLost,
    Error,
    HubError,
    RemoteError,
    TimeoutExpired,
    UsageError,
)

# The kinds of docs/json.md: they stay the same, while those of protocol/error_kinds.py may change with the protocol's version.
# A subclass stands before its base.
_KINDS = (
    (AuthenticationError, "auth"),
    (ConnectError, "connect"),
    (ConnectionLost, "lost"),
    (BecomeError, "become"),
    (RemoteError, "remote"),
    (TimeoutExpired, "timeout"),
    (HubError, "hub"),
    (UsageError, "usage"),
    (Error, "other"),
)


def print_json(value: object) -> None:
    """Print *value* on stdout, at once."""
    print(json.dumps(value, indent=2), flush=True)


def error_object(error: Error) -> dict[str, str | None]:
    """Return the object for ``error``: its kind, the stage of the login, the jump host that failed, and the message."""
    kind = next(kind for base, kind in _KINDS if isinstance(error, base))
    stage, jump_host = (error.stage, error.jump_host or None) if isinstance(error, ConnectError) else (None, None)
    return {"kind": kind, "stage": stage, "jump_host": jump_host, "message": error.message}


@contextlib.contextmanager
def errors_as_json(enabled: bool, fields: dict[str, Any] | None = None) -> Iterator[None]:
    """Print an error as JSON if *enabled*, and raise it again. A wrong command line (exit code 2) prints no JSON.

    *fields*: further keys, as they are at the time of the error.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except (Error, OSError) as raised:
        error = raised if isinstance(raised, Error) else from_os_error(raised)
        if enabled and exit_code(error) == 1:
            print_json({**(fields or {}), "error": error_object(error)})
        raise
