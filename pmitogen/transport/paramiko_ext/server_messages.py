"""Handlers of a server's messages outside of channels. Each is checked and bounded, and most have no effect.

Upstream reads zeros past the end of a short message. It loops as often as a number in a message says, up to four thousand million
times, and answers or logs without a limit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import paramiko
from paramiko.common import cMSG_CHANNEL_OPEN_FAILURE, cMSG_REQUEST_FAILURE, cMSG_UNIMPLEMENTED
from paramiko.message import Message

from pmitogen.transport.keys.wire import DecodeError, PacketReader
from pmitogen.transport.paramiko_ext.packets.packetizer import FastPacketizer
from pmitogen.util import peer_text

if TYPE_CHECKING:
    _Base = paramiko.Transport
else:
    _Base = object

MAX_EXT_INFO = 2  # messages; as OpenSSH: one after the key exchange, one before the login succeeds
MAX_EXTENSIONS = 1024  # in one message, as OpenSSH
STORED_EXTENSIONS = {b"server-sig-algs": 4096, b"publickey-hostbound@openssh.com": 16}  # name: maximum of bytes of its value


class ServerMessages(_Base):
    """Mixin for a ``paramiko.Transport`` subclass; list it first. Its methods override Paramiko's, and run on its thread."""

    packetizer: FastPacketizer
    _pending_reason: str | None
    _ext_infos = 0
    server_extensions: dict[str, bytes]  # upstream's; in no stub
    _log: Callable[..., None]  # upstream's; in no stub

    def count_useless(self, kind: str, size: int = 0) -> None:
        """Count a useless message of *size* bytes. Raises SSHException if there are too many. Transport thread."""
        self.packetizer.useless.count(kind, time.monotonic(), size)

    def _parse_disconnect(self, m: Message) -> None:
        reader = PacketReader(m.asbytes())
        code, description = reader.u32(), peer_text.escape(reader.string())
        self._pending_reason = f"the server says: {description}" if description else f"the server disconnects (code {code})"

    def _parse_debug(self, m: Message) -> None:
        self.count_useless("debug", len(m.asbytes()))
        reader = PacketReader(m.asbytes())
        reader.byte()
        self._log(logging.DEBUG, "Debug message of the server: %s", peer_text.escape(reader.string()))

    def _parse_ext_info(self, m: Message) -> None:
        self._ext_infos += 1
        if self._ext_infos > MAX_EXT_INFO:
            self.count_useless("ext-info", len(m.asbytes()))
            return
        reader = PacketReader(m.asbytes())
        count = reader.u32()
        if count > MAX_EXTENSIONS:
            raise DecodeError(f"{count} extensions")
        for _ in range(count):
            name, value = reader.string(), reader.string()
            if len(value) <= STORED_EXTENSIONS.get(name, -1):
                self.server_extensions = {**self.server_extensions, name.decode(): value}

    def _parse_global_request(self, m: Message) -> None:
        reader = PacketReader(m.asbytes())
        kind, want_reply = reader.string(), reader.byte()
        self.count_useless("global request", len(m.asbytes()))
        self._log(logging.DEBUG, "Global request of the server, not granted: %s", peer_text.escape(kind, 80))
        if want_reply:
            message = Message()
            message.add_byte(cMSG_REQUEST_FAILURE)
            self._send_message(message)  # type: ignore[attr-defined]

    def _answer_unknown(self, sequence: int) -> None:
        """Answer the message number *sequence*, whose type is unknown (RFC 4253 section 11.4)."""
        message = Message()
        message.add_byte(cMSG_UNIMPLEMENTED)
        message.add_int(sequence)
        self._send_message(message)  # type: ignore[attr-defined]

    def _refuse_channel(self, remote_channel: int, code: int, reason: str) -> None:
        """Refuse a channel that the server opens. *remote_channel*: the server's number for it. *code*: reason (RFC 4254)."""
        self.count_useless("channels that were not requested")
        message = Message()
        message.add_byte(cMSG_CHANNEL_OPEN_FAILURE)
        message.add_int(remote_channel)
        message.add_int(code)
        message.add_string(reason)
        message.add_string("")
        self._send_user_message(message)  # type: ignore[attr-defined]


class IssuedChannels:
    """Replaces ``Transport.channels_seen``, in which Paramiko looks up the channel of a message that is not open any more.

    OpenSSH ends the connection at such a message; some servers are late, so a number of them is allowed here. Upstream's table
    grows with each channel.
    """

    def __init__(self, transport: ServerMessages) -> None:
        self._transport = transport

    def __setitem__(self, channel_id: int, value: bool) -> None:
        pass

    def __contains__(self, channel_id: int) -> bool:
        if channel_id >= self._transport._channel_counter:  # type: ignore[attr-defined]
            raise paramiko.SSHException(f"the server sent a message for a channel that does not exist (number {channel_id})")
        self._transport.count_useless("messages for closed channels")
        return True
