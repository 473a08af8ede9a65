"""SFTP sessions for the commands: for each server one, on a shared connection, after a login, or by a program of this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import sys
from collections.abc import Sequence

import paramiko

from pmitogen.cli.ssh import control
from pmitogen.cli.ssh import invocation as invocation_module
from pmitogen.cli.ssh.invocation import Invocation
from pmitogen.cli.ssh.login import log_in
from pmitogen.cli.ssh.messages import CommandLineProblem
from pmitogen.cli.transfer import local_programs
from pmitogen.cli.transfer.remote_files import RemoteFiles
from pmitogen.errors import ConnectError
from pmitogen.transport.connection import Connection
from pmitogen.transport.sessions.exec_command import WINDOW
from pmitogen.transport.sessions.sftp_client import SFTP
from pmitogen.transport.sessions.sftp_packets import SFTPError
from pmitogen.transport.sessions.sftp_session import ByteStream
from pmitogen.util.peer_text import escape_lines

MAX_STDERR = 4096  # bytes of a server's errors that are printed if SFTP does not start
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


@dataclasses.dataclass(frozen=True)
class Route:
    """How to reach the SFTP servers.

    *server*: the name of the subsystem, or the command of an SFTP server if it has a slash (``sftp -s``).
    *ssh_program*: the program to run in place of ``pmitogen ssh`` (``-S``); None: none.
    *local_server*: the command line of an SFTP server of this machine (``-D``); None: none.
    """

    server: str = "sftp"
    ssh_program: str | None = None
    local_server: tuple[str, ...] | None = None


SUBSYSTEM = Route()


class Servers:
    """The servers of one command; in a ``with`` block, at whose end all connections are closed.

    *options*: ssh's options for each of them. *invocation*: that of the last server, for messages.
    """

    def __init__(self, options: Sequence[str], route: Route = SUBSYSTEM) -> None:
        self._options = [*_FIXED, *options]
        self._route = route
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
            remote = self._open[destination] = self._connect(destination)
        return remote

    def _connect(self, destination: str) -> RemoteFiles:
        route = self._route
        is_subsystem = "/" not in route.server
        command = ["-s", route.server] if is_subsystem else [route.server]
        if route.local_server is not None or route.ssh_program is not None:
            argv = route.local_server or local_programs.ssh_argv(route.ssh_program or "", self._options, destination, command)
            stream = self._connections.enter_context(local_programs.running(argv))
            return RemoteFiles(_session(stream, argv[0]), argv[0])
        *flags, words = command
        self.invocation = invocation_module.read([*self._options, *flags, "--", destination, words])
        shared = control.open_shared(self.invocation)
        if shared is not None:
            endpoint = self.invocation.settings.endpoint
            stream, client = shared
            self._connections.enter_context(client)
            return RemoteFiles(_session(self._connections.enter_context(stream), endpoint), endpoint)
        connection = self._connections.enter_context(log_in(self.invocation))
        return RemoteFiles(_start(connection, words, is_subsystem), connection.peer)


def _session(stream: socket.socket, server: str) -> SFTP:
    """Begin SFTP on *stream*, the streams of a process that reports its own errors."""
    try:
        return SFTP(stream)
    except SFTPError as error:
        raise CommandLineProblem(f"{server}: {error}") from None
    except (EOFError, OSError):
        raise CommandLineProblem("") from None


def _start(connection: Connection, server: str, is_subsystem: bool) -> SFTP:
    channel = connection.open_session(START_TIMEOUT, WINDOW)
    reason = f"the server has no subsystem {server}"
    try:
        if is_subsystem:
            started = connection.start_subsystem(channel, server, timeout=START_TIMEOUT)
        else:
            connection.start_command(channel, server, wait=False)
            started = True
        if started:
            return _limited(channel)
    except SFTPError as error:
        reason = str(error)
    except (paramiko.SSHException, EOFError, OSError):
        reason = _ENDED
        for line in escape_lines(channel.drain_stderr(MAX_STDERR)[0]):
            sys.stderr.write(line + "\n")
    raise ConnectError(f"{connection.peer}: {reason}", "exec")


def _limited(channel: ByteStream) -> SFTP:
    channel.settimeout(START_TIMEOUT)
    sftp = SFTP(channel)
    channel.settimeout(None)
    return sftp
