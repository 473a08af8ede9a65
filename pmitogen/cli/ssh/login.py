"""Log in for one command: prompts, warnings and the server's banner on the terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from pmitogen.cli.prompt import confirm_as_ssh, find_asker
from pmitogen.cli.ssh import debug_log, notices
from pmitogen.cli.ssh.invocation import Invocation
from pmitogen.cli.ssh.messages import SessionLost
from pmitogen.cli.ssh.session import is_talkative
from pmitogen.errors import ConnectionLost
from pmitogen.transport.auth.credentials import Credentials
from pmitogen.transport.auth.report import missing_identities
from pmitogen.transport.connect import connect
from pmitogen.transport.connection import Connection
from pmitogen.transport.jump_host_pool import JumpHostPool
from pmitogen.transport.login_limits import LOGIN_TIMEOUT
from pmitogen.util.peer_text import escape_text


@contextlib.contextmanager
def log_in(invocation: Invocation) -> Iterator[Connection]:
    """Connect, and close the connection after the body. Raises ConnectError, AuthenticationError."""
    settings = invocation.settings
    debug_log.enable(settings.loglevel, settings.logfile is not None)
    debug_log.debug(f"Connecting to {settings.hostname} port {settings.port}.")
    ask = None if settings.batchmode else find_asker()
    hops = JumpHostPool()
    try:
        connection = connect(
            settings,
            Credentials(prompt=ask),
            jump_hosts=hops,
            deadline=time.monotonic() + LOGIN_TIMEOUT,
            confirm=confirm_as_ssh(ask) if ask else None,
            warn=lambda warning: notices.write([f"Warning: {warning.text}"], settings),
            on_banner=_print_banner if is_talkative(settings.loglevel) else None,
            retry_rejected=False,  # as ssh, which a user or a script starts again
        )
        try:
            debug_log.debug_attempts(connection)
            if is_talkative(settings.loglevel):
                notices.write(missing_identities(connection.auth_report.attempts), settings)
            try:
                yield connection
            except ConnectionLost as error:
                raise SessionLost(error.message, connection.end_cause) from None
        finally:
            connection.close()
    finally:
        hops.close()


def _print_banner(text: bytes) -> None:
    """Print a server's text on standard error, with -E as well, as ssh does."""
    sys.stdout.flush()
    shown = escape_text(text)
    with contextlib.suppress(OSError):  # standard error is closed
        sys.stderr.write(shown if shown.endswith("\n") or not shown else f"{shown}\n")
        sys.stderr.flush()
