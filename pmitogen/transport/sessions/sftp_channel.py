"""The channel of an SFTP session: its start, and the end of one that fails."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import paramiko

from pmitogen.errors import ConnectionLost
from pmitogen.transport.connection import Connection
from pmitogen.transport.keys.wire import DecodeError
from pmitogen.transport.paramiko_ext.channel import Channel
from pmitogen.transport.sessions import exec_command
from pmitogen.transport.sessions.sftp_client import SFTP
from pmitogen.transport.sessions.sftp_packets import SFTPError

CHANNEL_ERRORS = (OSError, EOFError, paramiko.SSHException, DecodeError)


class SFTPChannel:
    """A channel with an SFTP session. One thread at a time. Close it."""

    def __init__(self, connection: Connection, channel: Channel, sftp: SFTP) -> None:
        self._connection, self._channel, self.sftp = connection, channel, sftp

    def close(self) -> None:
        """Close the channel. Idempotent; raises nothing."""
        self._channel.close()

    @contextlib.contextmanager
    def losses(self) -> Iterator[None]:
        """Raise ConnectionLost for the errors of a channel that ended with the connection, or by ChannelTimeout."""
        with _losses(self._connection, self._channel):
            yield


def open_sftp(connection: Connection, timeout: float, slot_timeout: float = math.inf) -> SFTPChannel | None:
    """Start SFTP; None: the server has none. *timeout*: seconds for each step. Raises ConnectError, ConnectionLost. Blocks.

    *slot_timeout*: as of :meth:`Connection.open_session`.
    """
    channel = connection.open_session(timeout, exec_command.WINDOW, slot_timeout)
    try:
        with _losses(connection, channel):
            if connection.start_subsystem(channel, "sftp", timeout=timeout):
                channel.settimeout(timeout)
                sftp = SFTP(channel)
                channel.settimeout(None)
                return SFTPChannel(connection, channel, sftp)
    except (*CHANNEL_ERRORS, SFTPError):
        pass  # some servers accept the request although no sftp-server is installed
    except BaseException:
        channel.close()
        raise
    channel.close()
    return None


@contextlib.contextmanager
def _losses(connection: Connection, channel: Channel) -> Iterator[None]:
    try:
        yield
    except CHANNEL_ERRORS:
        reason = connection.end_reason_after_failure() or channel.timeout_reason
        if reason is None:
            raise
        raise ConnectionLost(f"{connection.peer}: {reason}") from None
