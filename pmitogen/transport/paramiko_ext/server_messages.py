"""Messages that a server sends by itself, outside of channels: each is checked and bounded, and most are of no use to us.

Upstream reads past the end of a short message as zeros, loops as often as a number in a message says (four billion times, if a
server likes), and answers or logs without an end.
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
from pmitogen.transport.paramiko_ext.packetizer import FastPacketizer
from pmitogen.util import peer_text

if TYPE_CHECKING:
    _Base = paramiko.Transport
else:
    _Base = object

MAX_EXT_INFO = 2  # messages; as OpenSSH: one after the key exchange, one before the login succeeds
MAX_EXTENSIONS = 1024  # in one message, as OpenSSH
KEPT_EXTENSIONS = {b"server-sig-algs": 4096, b"publickey-hostbound@openssh.com": 16}  # most bytes of what is kept of each


class ServerMessages(_Base):
    """To be mixed into a ``paramiko.Transport`` subclass, before it. Its methods are upstream's, called on its thread."""

    packetizer: FastPacketizer
    _pending_reason: str | None
    _ext_infos = 0
    server_extensions: dict[str, bytes]  # upstream's; in no stub
    _log: Callable[..., None]  # upstream's; in no stub

    def count_useless(self, what: str, size: int = 0) -> None:
        """Count a message of *size* bytes that nobody needs. Raises SSHException when there are too many. Transport thread."""
        self.packetizer.useless.count(what, time.monotonic(), size)

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
            if len(value) <= KEPT_EXTENSIONS.get(name, -1):
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
        """The message number *sequence* is of a type that we do not know (RFC 4253 section 11.4)."""
        message = Message()
        message.add_byte(cMSG_UNIMPLEMENTED)
        message.add_int(sequence)
        self._send_message(message)  # type: ignore[attr-defined]

    def _refuse_channel(self, theirs: int, code: int, reason: str) -> None:
        """Refuse a channel that the server asks for; *theirs* is its number of it, *code* RFC 4254's."""
        self.count_useless("channels that nobody asked for")
        message = Message()
        message.add_byte(cMSG_CHANNEL_OPEN_FAILURE)
        message.add_int(theirs)
        message.add_int(code)
        message.add_string(reason)
        message.add_string("")
        self._send_user_message(message)  # type: ignore[attr-defined]


class IssuedChannels:
    """Takes the place of ``Transport.channels_seen``: upstream asks it for a channel that is gone, for which a message came.

    OpenSSH ends the connection at such a message; some servers are late, so here it takes many. Upstream's table grows with each
    channel.
    """

    def __init__(self, transport: ServerMessages) -> None:
        self._transport = transport

    def __setitem__(self, number: int, value: bool) -> None:
        pass

    def __contains__(self, number: int) -> bool:
        if number >= self._transport._channel_counter:  # type: ignore[attr-defined]
            raise paramiko.SSHException(f"the server sent a message for a channel that does not exist (number {number})")
        self._transport.count_useless("messages for closed channels")
        return True
