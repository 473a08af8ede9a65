"""Ansible, and your own tools, over SSH without an ``ssh`` program.

As a library: ``pmitogen.connect("user@host")``. In Ansible: ``ansible_connection: pmitogen``. Each name below is loaded when it
is first used, so that ``import pmitogen`` takes almost no time: Ansible does it in every process that it forks.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pmitogen._version import __version__

if TYPE_CHECKING:
    from pmitogen.api import (
        Ask,
        Changes,
        Completed,
        ConnectArguments,
        ConnectOptions,
        DirEntry,
        Forwarding,
        Host,
        Hub,
        Jump,
        JumpCredentials,
        Outcome,
        Process,
        Terminal,
        connect,
    )
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


__all__ = [
    "Ask",
    "AuthenticationError",
    "BecomeError",
    "Changes",
    "Completed",
    "ConnectArguments",
    "ConnectError",
    "ConnectOptions",
    "ConnectionLost",
    "DirEntry",
    "Error",
    "Forwarding",
    "Host",
    "Hub",
    "HubError",
    "Jump",
    "JumpCredentials",
    "Outcome",
    "Process",
    "RemoteError",
    "Terminal",
    "TimeoutExpired",
    "UsageError",
    "__version__",
    "connect",
]

_ERRORS = ("AuthenticationError", "BecomeError", "ConnectError", "ConnectionLost", "Error", "HubError", "RemoteError")
_DEFINED_IN = {name: "pmitogen.api" for name in __all__ if name != "__version__"}
_DEFINED_IN.update(dict.fromkeys((*_ERRORS, "TimeoutExpired", "UsageError"), "pmitogen.errors"))

if not TYPE_CHECKING:  # a type checker would take every misspelt name for one of these

    def __getattr__(name: str) -> Any:
        """Load a public name from its module, once."""
        if name not in _DEFINED_IN:
            raise AttributeError(f"module 'pmitogen' has no attribute {name!r}")
        value = getattr(importlib.import_module(_DEFINED_IN[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
