"""Command lines and terminals of requests that are served without Python, as the account's login shell and sshd take them."""

from __future__ import annotations

import shlex
import signal
from typing import TYPE_CHECKING

from pmitogen.hub.without_python import simple_commands
from pmitogen.protocol.framing import from_wire
from pmitogen.protocol.operations import Fs

if TYPE_CHECKING:
    from pmitogen.protocol.requests import RequestHeader
    from pmitogen.transport.sessions import exec_command

MAX_LINE = 64 << 10  # bytes; Linux allows 128 KiB for one argument


def signal_name(signum: int) -> str:
    """Return the name of a signal in SSH."""
    try:
        return signal.Signals(signum).name.removeprefix("SIG")
    except ValueError:
        return str(signum)


def command_line(argv: list[str], header: RequestHeader) -> str:
    """Return the command line for the account's shell, with directory and variables."""
    variables = [f"{text(name)}={text(value)}" for name, value in (header.get("env") or {}).items()]
    line = shlex.join([*(["env", *variables] if variables else []), *argv])
    return f"cd {shlex.quote(text(header['cwd']))} && {line}" if header.get("cwd") else line


def telling_line(token: str, header: RequestHeader) -> str | None:
    """Return the line for a login shell that can run ``/bin/sh``: the command first tells its process (process_line.py).

    None if that could change what the command does: its name is an option of ``exec``, or the line becomes too long.
    """
    argv = header["argv"]
    variables = [f"{name}={value}" for name, value in (header.get("env") or {}).items()]
    if argv[0].startswith("-") and not variables:
        return None
    command = shlex.join([*(["env", *variables] if variables else []), *argv])
    line = simple_commands.telling_line(token, command, header.get("cwd"))
    return line if len(line) <= MAX_LINE else None


def terminal(header: RequestHeader) -> exec_command.Terminal:
    """Return the terminal that ssh would request when Ansible runs it: no size, default modes, and Ansible's TERM."""
    from pmitogen.transport.sessions import exec_command

    term = (header.get("env") or {}).get("TERM")
    lines, columns = header.get("terminal_size") or (0, 0)
    return exec_command.Terminal(text(term) if term else "", columns, lines, modes=())


def shell_command(header: RequestHeader) -> str:
    """Return the shell command for a small file operation."""
    action = header["action"]
    if action == Fs.MKDTEMP:
        base, name = shell_path(header["bases"][0]), shlex.quote(text(header["name"]))
        return f"umask 77 && mkdir -p {base} && mkdir {base}/{name} && cd {base}/{name} && pwd"
    if action == Fs.CHMOD:
        return "chmod u+rwx " + " ".join(shell_path(path) for path in header["paths"])
    if action == Fs.REMOVE:
        return f"rm -rf {shell_path(header['path'])}"
    if action == Fs.EXISTS:
        return f"test -e {shell_path(header['path'])}"
    if action == Fs.HOME:
        return f"echo {shell_path(header['path'])}"
    raise ValueError(f"not an operation for a shell: {action}")


def text(wire_text: str) -> str:
    return str(from_wire(wire_text).decode("utf-8", "surrogateescape"))


def shell_path(wire_text: str) -> str:
    """Quote a path for a shell, except for a leading ~user."""
    path = text(wire_text)
    head, slash, rest = path.partition("/")
    if head.startswith("~") and head[1:].replace("-", "").replace("_", "").replace(".", "").isalnum() or head == "~":
        return head + slash + (shlex.quote(rest) if rest else "")
    return shlex.quote(path)
