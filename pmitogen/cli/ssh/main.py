"""Run ``pmitogen ssh``: from an argument vector to an exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from pmitogen import logging
from pmitogen.cli.ssh import invocation as invocation_module
from pmitogen.cli.ssh import messages, queries
from pmitogen.cli.ssh.invocation import BadOption, Invocation, Query, SessionKind
from pmitogen.cli.ssh.session import FAILED
from pmitogen.errors import ConnectionLost, Error
from pmitogen.util.peer_text import one_line

_HELP = ("-h", "--help")


def run(argv: Sequence[str]) -> int:
    """Run the command; return the exit status: the remote command's, or 255 for an error of the client, as ssh does."""
    if list(argv) in [[flag] for flag in _HELP]:
        sys.stdout.write(messages.USAGE)
        return 0
    invocation: Invocation | None = None
    try:
        invocation = invocation_module.read(argv)
        return _run(invocation)
    except Query as query:
        return _answer(query)
    except BadOption as error:
        if str(error):
            _print([error.message])
        sys.stderr.write(messages.USAGE)
    except ConnectionLost as error:
        _print_unless_quiet(invocation, messages.lost(invocation.settings, error) if invocation else [error.message])
    except Error as error:
        _print_unless_quiet(invocation, messages.lines_for(error, invocation.settings if invocation else None))
    return FAILED


def _answer(query: Query) -> int:
    if query.flag == "V":
        _print([queries.version()])
        return 0
    try:
        print("\n".join(queries.query(query.argument)), flush=True)
    except Error as error:
        _print([error.message])
        return FAILED
    return 0


def _run(invocation: Invocation) -> int:
    if invocation.print_config:
        print("\n".join(queries.config(invocation.resolution)), flush=True)
        return 0
    if invocation.control is not None:
        from pmitogen.cli.ssh.control import run_control

        return run_control(invocation)
    logging.setup("ssh")
    from pmitogen.cli.ssh import forwards, session
    from pmitogen.cli.ssh.login import log_in
    from pmitogen.cli.ssh.signals import SignalThread

    with log_in(invocation) as connection:
        signals = SignalThread()  # before this, Ctrl-C raises KeyboardInterrupt, so that a prompt restores the terminal
        forwards.start(connection, invocation)
        if invocation.local_command is not None:
            subprocess.run([os.environ.get("SHELL") or "/bin/sh", "-c", invocation.local_command], check=False)
        forward = invocation.stdio_forward
        if forward is not None:
            return session.forward_stdio(connection, forward.listen_host or "", forward.listen_port)
        if invocation.kind is SessionKind.NONE:
            return session.wait_for_end(connection, signals)
        return session.Session(connection, invocation, signals).run()


def _print_unless_quiet(invocation: Invocation | None, lines: list[str]) -> None:
    if invocation is None or invocation.settings.loglevel not in ("QUIET", "SILENT"):
        _print(lines)


def _print(lines: list[str]) -> None:
    sys.stdout.flush()
    for line in lines:
        sys.stderr.write(one_line(line) + "\n")
    sys.stderr.flush()
