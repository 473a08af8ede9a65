"""SFTP sessions for the commands: one login for each server."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import paramiko

from pmitogen.cli.ssh import invocation as invocation_module
from pmitogen.cli.ssh.invocation import Invocation
from pmitogen.cli.ssh.login import log_in
from pmitogen.cli.transfer.remote_files import RemoteFiles
from pmitogen.errors import ConnectError
from pmitogen.transport.connection import Connection
from pmitogen.transport.sessions.exec_command import WINDOW
from pmitogen.transport.sessions.sftp_client import SFTP
from pmitogen.transport.sessions.sftp_packets import SFTPError

START_TIMEOUT = 60.0  # seconds for the server to start SFTP
# What scp and sftp pass to ssh before the user's options.
_FIXED = (
    "-x",
    "-oForwardAgent=no",
    "-oPermitLocalCommand=no",
    "-oClearAllForwardings=yes",
    "-oRemoteCommand=none",
    "-oRequestTTY=no",
)


class Servers:
    """The servers of one command; in a ``with`` block, at whose end all connections are closed.

    *options*: ssh's options for each of them. *invocation*: that of the last server, for messages.
    """

    def __init__(self, options: Sequence[str], subsystem: str = "sftp") -> None:
        self._options = [*_FIXED, *options]
        self._subsystem = subsystem
        self._open: dict[str, RemoteFiles] = {}
        self._connections = contextlib.ExitStack()
        self.invocation: Invocation | None = None

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        self._connections.close()

    def files(self, destination: str) -> RemoteFiles:
        """Return the files of *destination*, ``[user@]host`` or ``ssh://[user@]host[:port]``. Raises pmitogen's errors."""
        remote = self._open.get(destination)
        if remote is None:
            self.invocation = None
            self.invocation = invocation_module.read([*self._options, "-s", "--", destination, self._subsystem])
            connection = self._connections.enter_context(log_in(self.invocation))
            remote = self._open[destination] = RemoteFiles(self._start(connection), connection.peer)
        return remote

    def _start(self, connection: Connection) -> SFTP:
        channel = connection.open_session(START_TIMEOUT, WINDOW)
        reason = f"the server has no subsystem {self._subsystem}"
        try:
            if connection.start_subsystem(channel, self._subsystem, timeout=START_TIMEOUT):
                channel.settimeout(START_TIMEOUT)
                sftp = SFTP(channel)
                channel.settimeout(None)
                return sftp
        except SFTPError as error:
            reason = str(error)
        except (paramiko.SSHException, EOFError, OSError):
            reason = "the server ended SFTP"  # such as one whose sftp-server is not installed
        raise ConnectError(f"{connection.peer}: {reason}", "exec")
