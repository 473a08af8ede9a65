"""SFTP sessions for the commands: one login for each server."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

import paramiko

from pmitogen.cli.ssh import control
from pmitogen.cli.ssh import invocation as invocation_module
from pmitogen.cli.ssh.invocation import Invocation
from pmitogen.cli.ssh.login import log_in
from pmitogen.cli.transfer.remote_files import RemoteFiles
from pmitogen.errors import ConnectError
from pmitogen.transport.paramiko_ext.channel import Channel
from pmitogen.transport.sessions.exec_command import WINDOW
from pmitogen.transport.sessions.sftp_client import SFTP
from pmitogen.transport.sessions.sftp_packets import SFTPError

START_TIMEOUT = 60.0  # seconds for the server to start SFTP
_ENDED = "the server ended SFTP"  # such as one whose sftp-server is not installed
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
            remote = self._open[destination] = self._shared(self.invocation) or self._own(self.invocation)
        return remote

    def _shared(self, invocation: Invocation) -> RemoteFiles | None:
        """Use the connection of a master or a hub; return None if there is none."""
        shared = control.open_shared(invocation)
        if shared is None:
            return None
        stream, client = shared
        self._connections.enter_context(client)
        self._connections.enter_context(stream)
        peer = invocation.settings.endpoint
        return RemoteFiles(self._start(stream, peer), peer)

    def _own(self, invocation: Invocation) -> RemoteFiles:
        connection = self._connections.enter_context(log_in(invocation))
        peer = connection.peer
        channel = connection.open_session(START_TIMEOUT, WINDOW)
        try:
            started = connection.start_subsystem(channel, self._subsystem, timeout=START_TIMEOUT)
        except (paramiko.SSHException, EOFError, OSError):
            raise ConnectError(f"{peer}: {_ENDED}", "exec") from None
        if not started:
            raise ConnectError(f"{peer}: the server has no subsystem {self._subsystem}", "exec")
        return RemoteFiles(self._start(channel, peer), peer)

    @staticmethod
    def _start(stream: Channel | socket.socket, peer: str) -> SFTP:
        try:
            stream.settimeout(START_TIMEOUT)
            sftp = SFTP(stream)
            stream.settimeout(None)
            return sftp
        except SFTPError as error:
            reason = str(error)
        except (paramiko.SSHException, EOFError, OSError):
            reason = _ENDED
        raise ConnectError(f"{peer}: {reason}", "exec")
