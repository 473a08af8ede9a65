"""The part of the transport that exchanges versions and keys.

Changes to upstream's, with their reasons:

* **Rekeying never stalls.** Upstream's transport thread answers channel requests and closes through the same call that users
  send by, which waits for the running key exchange to end; only that thread can end it, so the connection dies after 30
  seconds. Here the transport thread's messages are queued during a key exchange, and sent after NEWKEYS. Global-request
  replies, which upstream sends even during a key exchange (RFC 4253 section 7.1 forbids that), are queued as well.
  A key exchange is started by whichever thread notices that it is due, under a lock, so the reader need not poll for it.
* **The peer's offer is remembered**, so that "no common algorithm" can print both lists.
* **A cipher that authenticates needs no MAC**: upstream fails where the MACs have nothing in common, even then.
* ``curve25519-sha256`` under its standard name, ``chacha20-poly1305@openssh.com``, group exchange with bounded work, a limit for
  decompressed data, and OpenSSH's rules for the lines before a server's version.

A part can be removed when tests/integration/test_rekey.py passes with upstream's method.
"""

from __future__ import annotations

import collections
import hashlib
import threading
from typing import TYPE_CHECKING, Any, cast

import paramiko
from paramiko.message import Message

from pmitogen.transport.keys import chacha20_poly1305
from pmitogen.transport.keys.chacha20_poly1305 import ChaCha20Poly1305
from pmitogen.transport.paramiko_ext.channel import ChannelMessage
from pmitogen.transport.paramiko_ext.group_exchange import GroupExchange
from pmitogen.transport.paramiko_ext.packets.inflate import Decompressor
from pmitogen.transport.paramiko_ext.packets.outbound import FIRST_USER_MESSAGE
from pmitogen.transport.paramiko_ext.packets.packetizer import FastPacketizer
from pmitogen.transport.paramiko_ext.version_exchange import VersionExchange

if TYPE_CHECKING:
    _Base = paramiko.Transport
else:
    _Base = object

MAX_NAMES = 200  # of a list of the server's that are remembered for messages
CHACHA = {"class": ChaCha20Poly1305, "block-size": 8, "iv-size": 0, "key-size": chacha20_poly1305.KEY_SIZE, "is_aead": True}

UNUSED_MAC = {"class": hashlib.sha256, "size": 32}


def _kex_methods(upstream: dict[str, Any]) -> dict[str, Any]:
    """RFC 8731 gave curve25519 its standard name; Paramiko knows the older one only."""
    old = upstream.get("curve25519-sha256@libssh.org")
    methods = {**upstream, GroupExchange.name: GroupExchange}
    return {**methods, "curve25519-sha256": old} if old else methods


def _compressions(upstream: dict[str, Any]) -> dict[str, Any]:
    return {name: (compressor, Decompressor if expander else None) for name, (compressor, expander) in upstream.items()}


class KeyExchange(_Base):
    """Mixin for a ``paramiko.Transport`` subclass; list it first."""

    packetizer: FastPacketizer
    # Upstream's, in no stub:
    clear_to_send_timeout: float
    active: bool
    local_cipher: str
    remote_cipher: str
    _preferred_macs: tuple[str, ...]
    end_reason: str | None
    _reading_thread = 0  # the identifier of the thread that handles messages now
    _is_shared = False  # this is the thread of shared_reader.py, which must not block
    _kex_info = _kex_methods(paramiko.Transport._kex_info)  # type: ignore[attr-defined]
    _cipher_info = {**paramiko.Transport._cipher_info, chacha20_poly1305.NAME: CHACHA}  # type: ignore[attr-defined]
    _mac_info: dict[str, Any] = paramiko.Transport._mac_info  # type: ignore[attr-defined]
    _compression_info = _compressions(paramiko.Transport._compression_info)  # type: ignore[attr-defined]

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.packetizer.in_kex = lambda: self.in_kex
        self._kex_start = threading.RLock()  # above clear_to_send_lock
        self._deferred: collections.deque[Message] = collections.deque()
        self.peer_offer: dict[str, list[str]] = {}
        self.agreed_kex = ""
        self.version_exchange = VersionExchange()
        self.version_deadline: float | None = None  # time.monotonic() seconds

    def end(self, reason: str) -> None:
        """See ClientTransport."""
        raise NotImplementedError

    def _check_banner(self) -> None:
        """Read the server's version (overrides Paramiko's)."""
        self.remote_version = self.version_exchange.read(self.packetizer, self.version_deadline)

    def _send_kex_init(self) -> None:
        with self._kex_start:
            if self.local_kex_init is None:
                super()._send_kex_init()  # type: ignore[misc]

    def _negotiate_keys(self, m: Message) -> None:
        self.peer_offer = offer(m.asbytes())
        with self._kex_start:
            super()._negotiate_keys(m)  # type: ignore[misc]
        preferred = self.preferred_kex
        self.agreed_kex = next((name for name in preferred if name in self.peer_offer["kex"]), "")

    def _parse_kex_init(self, m: Message) -> None:
        offered_macs, server_macs = self._preferred_macs, self.peer_offer["MAC"]
        in_common = bool(set(offered_macs) & set(server_macs))
        if not in_common:
            # Upstream requires one nevertheless, and computes a key for it that an authenticated cipher does not use.
            self._mac_info = {**self._mac_info, server_macs[0]: UNUSED_MAC}
            self._preferred_macs = (server_macs[0],)
        try:
            super()._parse_kex_init(m)  # type: ignore[misc]
        finally:
            self._preferred_macs = offered_macs
        if not in_common and not self.cipher_authenticates:
            raise paramiko.SSHException("no MAC algorithm in common")

    @property
    def cipher_authenticates(self) -> bool:
        """True if the negotiated ciphers need no MAC."""
        return all(self._cipher_info[name].get("is_aead") for name in (self.local_cipher, self.remote_cipher))

    def _parse_newkeys(self, m: Message) -> None:
        super()._parse_newkeys(m)  # type: ignore[misc]
        self.send_deferred()

    def send_deferred(self) -> None:
        """Send the messages that could not be sent at once, unless a key exchange is running. Transport thread, if not shared."""
        with self.clear_to_send_lock:
            self._write_deferred()

    def _write_deferred(self) -> None:
        while self._deferred and self.clear_to_send.is_set():
            self._write(self._deferred.popleft())

    @property
    def handles_messages_here(self) -> bool:
        """True on the thread that handles messages, which must not wait for one of the server."""
        return threading.get_ident() == self._reading_thread

    def _send_message(self, data: Message) -> None:
        """Send at once (overrides Paramiko's): from the transport thread, or before the connection is in use."""
        is_user_message = data.asbytes()[0] >= FIRST_USER_MESSAGE
        if is_user_message and self.handles_messages_here:
            self._send_or_hold(data)
            return
        if is_user_message:  # the caller holds clear_to_send_lock; a command must not be overtaken by its input
            self._write_deferred()
        self._write(data)

    def _send_user_message(self, data: Message) -> None:
        """Send when no key exchange is running: wait for its end, or on the transport thread, keep the message until then."""
        if self.handles_messages_here:
            self._send_or_hold(data)
            return
        try:
            super()._send_user_message(data)  # type: ignore[misc]
        except paramiko.SSHException:  # no thread will ever send again
            self.end(f"no new keys within {self.clear_to_send_timeout:g} s")
            raise
        if self.packetizer.need_rekey() and not self.in_kex:
            self._start_rekey()

    def try_send(self, data: Message, *more: Message) -> bool:
        """Send a short message, unless that could wait for another thread, for new keys or for the peer. Any thread.

        Returns whether it was sent, or need not be: then its channel or the connection is closed. *more* messages of the same
        channel go in the same write.
        """
        if self.packetizer.need_rekey() or not self.clear_to_send_lock.acquire(blocking=False):
            return False
        try:
            if self._deferred or not self.clear_to_send.is_set() or not self.active:
                return False
            channel = data.channel if isinstance(data, ChannelMessage) else None
            if channel is not None and channel.close_sent:
                return True
            is_sent = self.packetizer.try_send(data.asbytes(), *(each.asbytes() for each in more))
            if is_sent and channel is not None:
                channel.close_sent = cast("ChannelMessage", data).closes
            return is_sent
        except EOFError:  # the connection has ended
            return True
        finally:
            self.clear_to_send_lock.release()

    def send_together(self, *messages: ChannelMessage) -> None:
        """Send messages of one channel as :meth:`_send_user_message` does, in one write if this is the transport thread."""
        if self.handles_messages_here and self._is_shared:
            if not self.try_send(*messages):
                self._deferred.extend(messages)
        elif self.handles_messages_here:
            with self.clear_to_send_lock:
                if self.clear_to_send.is_set():
                    if not messages[0].channel.close_sent:
                        self.packetizer.send_message(*messages)
                else:
                    self._deferred.extend(messages)
        else:
            for message in messages:
                self._send_user_message(message)

    def _send_or_hold(self, data: Message) -> None:
        if self._is_shared:
            if not self.try_send(data):
                self._deferred.append(data)
            return
        with self.clear_to_send_lock:
            if self.clear_to_send.is_set():
                self._write(data)
            else:
                self._deferred.append(data)

    def _write(self, data: Message) -> None:
        """Send, or drop a message of a channel that is closed. For these, clear_to_send_lock must be held."""
        if isinstance(data, ChannelMessage):
            if data.channel.close_sent:
                return
            data.channel.close_sent = data.closes
        self.packetizer.send_message(data)

    def _start_rekey(self) -> None:
        with self._kex_start:
            if self.active and self.initial_kex_done and self.packetizer.need_rekey() and not self.in_kex:
                self._send_kex_init()


def offer(raw: bytes) -> dict[str, list[str]]:
    """Return the lists of a KEXINIT (RFC 4253 section 7.1) that must have a common name. ``<``: for data from the server."""
    message = Message(raw)
    message.get_bytes(16)
    names = ("kex", "host key", "cipher", "cipher<", "MAC", "MAC<", "compression", "compression<")
    lists = {name: message.get_list()[:MAX_NAMES] for name in names}
    lists["kex"] = [word for word in lists["kex"] if not word.startswith(("ext-info-", "kex-strict-"))]
    return lists
