"""Values of Ansible's as requests to the hub hold them, and back."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

from pmitogen.protocol.framing import to_wire


def plain_value(value: Any) -> Any:
    """*value* in types that go to the hub: Ansible's own may be decrypted, or remember where they are from."""
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    return value if value is None or isinstance(value, (bool, int, float, list)) else str(value)


def command_request(argv: list[str], tty: bool) -> dict[str, Any]:
    """The request for a command. Whoever asks for a terminal says what kind it is, as ssh does."""
    header: dict[str, Any] = {"op": "exec", "argv": [to_wire(word) for word in argv], "tty": tty}
    if tty and os.environ.get("TERM"):
        header["env"] = {"TERM": to_wire(os.environ["TERM"])}
    return header


def split_command(cmd: str) -> list[str]:
    """The three words of ``/bin/sh -c 'text'``, as Ansible builds it; none of any other text, which a shell has to read first."""
    try:
        words = shlex.split(cmd)
    except ValueError:
        return []
    return words if len(words) == 3 and cmd == f"{words[0]} -c {shlex.quote(words[2])}" else []


def wire_env(env: dict[str, str]) -> dict[str, str]:
    """Variables, with names and values as text whose code points are the bytes."""
    return {to_wire(name): to_wire(value) for name, value in env.items()}


def from_wire(text: str) -> bytes:
    """The bytes that such a text stands for."""
    return text.encode("latin-1")
