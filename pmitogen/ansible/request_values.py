"""Convert Ansible's values to the form that requests to the hub contain, and back."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pmitogen.ansible import shell as shells
from pmitogen.protocol.framing import to_wire

if TYPE_CHECKING:
    from ansible.plugins.shell import ShellBase

    from pmitogen.protocol.messages_to_client import Answer
    from pmitogen.protocol.requests import ClientRequest


def builtin_value(value: object) -> object:
    """Return *value* in built-in types. Ansible's own types may be decrypted texts, or carry their origin."""
    if value is None or isinstance(value, (bool, int, float, list)):
        return value
    if isinstance(value, str) or not isinstance(value, Mapping):  # the last is slow for a type that it has not met in this worker
        return str(value)
    return {str(key): builtin_value(item) for key, item in value.items()}


def command_request(argv: list[str], tty: bool) -> ClientRequest:
    """Return the request for a command. With *tty* it names the type of terminal, as ssh does."""
    header: ClientRequest = {"op": "exec", "argv": [to_wire(arg) for arg in argv], "tty": tty}
    if tty and os.environ.get("TERM"):
        header["env"] = {"TERM": to_wire(os.environ["TERM"])}
    return header


def operation_request(operation: shells.ShellOperation, shell: ShellBase) -> ClientRequest:
    """Return the request for an operation on files. *shell*: the shell plugin, whose options name temporary directories."""
    if isinstance(operation, shells.MakeTemp):
        bases = [to_wire(base) for base in ([operation.base] if operation.base is not None else _temp_bases(shell))]
        return {
            "op": "fs",
            "action": "mkdtemp",
            "bases": bases,
            "name": to_wire(operation.name),
            "ack_early": True,
            "label": "temporary directory",
        }
    if isinstance(operation, shells.AddMode):
        paths = [to_wire(path) for path in operation.paths]
        return {"op": "fs", "action": "chmod", "paths": paths, "add": operation.bits, "ack_early": True, "label": "permissions"}
    assert isinstance(operation, shells.PathOperation)
    path = to_wire(operation.path)
    if isinstance(operation, shells.Remove):
        return {"op": "fs", "action": "remove", "path": path, "ack_early": True, "label": f"removing {operation.path}"}
    return {"op": "fs", "action": "exists", "path": path}


def split_command(cmd: str) -> list[str]:
    """Return the three arguments of ``/bin/sh -c 'text'``, as Ansible builds it; [] for any other text, which needs a shell."""
    try:
        argv = shlex.split(cmd)
    except ValueError:
        return []
    return argv if len(argv) == 3 and cmd == f"{argv[0]} -c {shlex.quote(argv[2])}" else []


def wire_env(env: dict[str, str]) -> dict[str, str]:
    """Return variables with their names and values as text whose code points are the bytes."""
    return {to_wire(name): to_wire(value) for name, value in env.items()}


def signal_message(header: ClientRequest, answer: Answer) -> bytes:
    """Return the shell's message about a module that a signal killed ("Killed"), as over ssh."""
    signum = answer.get("signal")
    if header["op"] != "run" or signum is None or signum in (signal.SIGINT, signal.SIGPIPE):
        return b""
    try:
        return f"{signal.strsignal(signum) or signum}\n".encode()
    except ValueError:
        return b""


def _temp_bases(shell: ShellBase) -> list[str]:
    """Return the base directories for temporary directories of a become task's account: its own first, then the system's."""
    return [str(shell.get_option("remote_tmp") or "~/.ansible/tmp"), *map(str, shell.get_option("system_tmpdirs") or ())]
