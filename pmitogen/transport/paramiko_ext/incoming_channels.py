"""Channels that the server opens. Only requested kinds are accepted: for the agent, or for a forwarded port.

Upstream asks a ``ServerInterface`` or a handler per kind, without a limit of how many, and with windows of any size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from paramiko.common import (
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    cMSG_CHANNEL_OPEN_SUCCESS,
)
from paramiko.message import Message

from pmitogen.transport.keys.wire import PacketReader
from pmitogen.transport.paramiko_ext.channel import Channel

if TYPE_CHECKING:
    from pmitogen.transport.paramiko_ext.server_messages import ServerMessages

    _Base = ServerMessages
else:
    _Base = object

MAX_PACKET = 32 << 10  # bytes; what OpenSSH takes and sends
Serve = Callable[[Channel], None]


class NotInvited(Exception):
    """The server opened a channel for a port or socket of which no forwarding was requested."""


class ChannelAcceptor(Protocol):
    """Accepts the channels of one kind. Both methods are called on the transport's thread and must not block."""

    window: int  # bytes that the server may send on a channel before the client grants more

    def admit(self, reader: PacketReader) -> Serve | None:
        """Read the fields of this kind; return the function that serves the channel, or None if there are too many.

        Raises DecodeError, and NotInvited.
        """


class IncomingChannels(_Base):
    """Mixin for a ``paramiko.Transport`` subclass; list it first."""

    channel_acceptors: dict[bytes, ChannelAcceptor]
    _new_channel: Callable[[str, int], Channel]

    def _parse_channel_open(self, m: Message) -> None:
        reader = PacketReader(m.asbytes())
        kind, remote_channel, window, packet = reader.string(), reader.u32(), reader.u32(), reader.u32()
        acceptor = self.channel_acceptors.get(kind)
        if acceptor is None:
            self._refuse_channel(remote_channel, OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED, "not invited")
            return
        try:
            serve = acceptor.admit(reader)
        except NotInvited:
            self._refuse_channel(remote_channel, OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED, "not invited")
            return
        if serve is None:
            self._refuse_channel(remote_channel, OPEN_FAILED_RESOURCE_SHORTAGE, "too many")
            return
        with self.lock:
            channel = self._new_channel(kind.decode("ascii"), acceptor.window)
            channel._set_remote_channel(remote_channel, window, packet)
        message = Message()
        message.add_byte(cMSG_CHANNEL_OPEN_SUCCESS)
        message.add_int(remote_channel)
        message.add_int(channel.chanid)
        message.add_int(acceptor.window)
        message.add_int(MAX_PACKET)
        self._send_user_message(message)  # type: ignore[attr-defined]
        serve(channel)
