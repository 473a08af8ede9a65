"""Convert Ansible's values to the form that requests to the hub contain, and back."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

from pmitogen.protocol.framing import to_wire


def plain_value(value: Any) -> Any:
    """Return *value* in plain types. Ansible's own types may be decrypted texts, or carry their origin."""
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    return value if value is None or isinstance(value, (bool, int, float, list)) else str(value)


def command_request(argv: list[str], tty: bool) -> dict[str, Any]:
    """Return the request for a command. With *tty* it names the type of terminal, as ssh does."""
    header: dict[str, Any] = {"op": "exec", "argv": [to_wire(word) for word in argv], "tty": tty}
    if tty and os.environ.get("TERM"):
        header["env"] = {"TERM": to_wire(os.environ["TERM"])}
    return header


def split_command(cmd: str) -> list[str]:
    """Return the three arguments of ``/bin/sh -c 'text'``, as Ansible builds it; [] for any other text, which needs a shell."""
    try:
        words = shlex.split(cmd)
    except ValueError:
        return []
    return words if len(words) == 3 and cmd == f"{words[0]} -c {shlex.quote(words[2])}" else []


def wire_env(env: dict[str, str]) -> dict[str, str]:
    """Return variables with their names and values as text whose code points are the bytes."""
    return {to_wire(name): to_wire(value) for name, value in env.items()}


def from_wire(text: str) -> bytes:
    """Return the bytes of such a text."""
    return text.encode("latin-1")
