"""Run ``pmitogen ssh``: from an argument vector to an exit status."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pmitogen import logging
from pmitogen.cli.ssh import background, messages, notices, queries
from pmitogen.cli.ssh import invocation as invocation_module
from pmitogen.cli.ssh.invocation import BadOption, Invocation, Query, SessionKind
from pmitogen.cli.ssh.messages import CommandLineProblem
from pmitogen.cli.ssh.session import FAILED
from pmitogen.errors import ConnectionLost, Error
from pmitogen.flags.ssh.option_values import OptionError
from pmitogen.util.caller import CallerEnvironment

if TYPE_CHECKING:
    from pmitogen.cli.ssh.forwards import OpenForwardings
    from pmitogen.cli.ssh.signals import SignalThread
    from pmitogen.transport.connection import Connection

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
    except OptionError as error:
        _print(messages.option_lines(error))
        if error.option == "destination" and error.value is None:
            sys.stderr.write(messages.USAGE)
    except CommandLineProblem as error:
        _print([error.message])
        if error.with_usage:
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
    if invocation.settings.logfile is not None:
        from pmitogen.transport import log_file

        try:
            log_file.open_file(invocation.settings.logfile, CallerEnvironment.current()).close()
        except OSError as error:
            _print([f"Couldn't open logfile {invocation.settings.logfile}: {error.strerror}"])
            return 1
    from pmitogen.cli.ssh import control

    shared = control.run_shared(invocation)
    if shared is not None:
        return shared
    becomes_master = control.becomes_master(invocation)
    if becomes_master and invocation.settings.controlpersist and invocation.kind is not SessionKind.NONE:
        shared = control.run_persistent(invocation, _serve)
        if shared is not None:
            return shared
        becomes_master = False
    detach: Callable[[], None] = _stay
    if invocation.in_background:
        child = background.fork()
        if child is None:
            return 0
        detach = functools.partial(child.detach, 0)
    logging.setup("ssh")
    from pmitogen.cli.ssh import session

    with (
        _connected(invocation) as (connection, signals, forwardings),
        control.serving(connection, invocation, forwardings) if becomes_master else contextlib.nullcontext() as master,
    ):
        forward = invocation.stdio_forward
        if forward is not None:
            detach()
            return session.forward_stdio(connection, forward.listen_host or "", forward.listen_port)
        if invocation.kind is SessionKind.NONE:
            detach()
            return session.wait_for_end(connection, signals, master)
        return session.Session(connection, invocation, signals, detach).run()


def _stay() -> None:
    """Stay in the foreground."""


@contextlib.contextmanager
def _connected(invocation: Invocation) -> Iterator[tuple[Connection, SignalThread, OpenForwardings]]:
    """Connect, start the forwardings and run the local command."""
    from pmitogen.cli.ssh import forwards
    from pmitogen.cli.ssh.login import log_in
    from pmitogen.cli.ssh.signals import SignalThread

    with log_in(invocation) as connection:
        signals = SignalThread()  # before this, Ctrl-C raises KeyboardInterrupt, so that a prompt restores the terminal
        forwardings = forwards.start(connection, invocation)
        if invocation.local_command is not None:
            subprocess.run([os.environ.get("SHELL") or "/bin/sh", "-c", invocation.local_command], check=False)
        yield connection, signals, forwardings


def _serve(invocation: Invocation, detach: Callable[[], None]) -> None:
    """Serve as a master until the connection has not been used for the time of ControlPersist."""
    logging.setup("ssh")
    from pmitogen.cli.ssh.mux.master import Master
    from pmitogen.cli.ssh.signals import ENDING_SIGNALS

    with _connected(invocation) as (connection, signals, forwardings):
        path = invocation.settings.controlpath or ""
        try:
            master = Master(connection, invocation.settings, path, forwardings)
        except OSError as error:  # such as another master that came first
            _print([f"ControlSocket {path}: {error.strerror or error}, disabling multiplexing"])
            detach()
            return

        def on_signal(signum: int) -> None:
            if signum in ENDING_SIGNALS:
                master.stop_listening()
                connection.close()
                os._exit(FAILED)
            master.on_resize()

        signals.on_signal = on_signal
        detach()
        seconds = invocation.settings.controlpersist
        master.wait_until_idle(seconds if seconds > 0 else None)
        master.stop_listening()


def _print_unless_quiet(invocation: Invocation | None, lines: list[str]) -> None:
    if invocation is None or invocation.settings.loglevel not in ("QUIET", "SILENT"):
        notices.write(lines, invocation.settings if invocation else None)


def _print(lines: list[str]) -> None:
    notices.write(lines, None)
