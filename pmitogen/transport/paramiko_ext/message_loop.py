"""The loop that handles the messages of one server.

Upstream has a thread for each connection, as long as it lasts. Here the thread that logs in handles the messages of the login
itself, while it waits for them. Afterwards the connection has a thread of its own while it changes keys, transfers much, or has
to send something that may block. Otherwise it is *shared*: the one thread of shared_reader.py waits for the messages of all such
connections, and handles those that cannot block. Anything else continues on a thread.

``Transport.run`` of upstream cannot be left and entered again, so this is another one, with upstream's handlers.
"""

from __future__ import annotations

import functools
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import paramiko
from paramiko.common import MSG_DEBUG, MSG_DISCONNECT, MSG_IGNORE, MSG_KEXINIT, MSG_UNIMPLEMENTED
from paramiko.message import Message
from paramiko.packet import NeedRekeyException
from paramiko.util import tb_strings

from pmitogen.transport.paramiko_ext import shared_reader
from pmitogen.transport.paramiko_ext.packets.packetizer import KEX_METHOD_MESSAGES, FastPacketizer, QuietException
from pmitogen.transport.paramiko_ext.version_exchange import NoVersion

if TYPE_CHECKING:
    from pmitogen.transport.paramiko_ext.key_exchange import KeyExchange

    _Base = KeyExchange
else:
    _Base = object

# Global requests, answers to them, and the messages of open channels (RFC 4254): their handlers do not block.
SHARED_MESSAGES = frozenset((*range(80, 83), *range(91, 101)))
MAX_AT_ONCE = 64  # messages that the shared thread handles before it looks at the other connections
First = Callable[[], bool]
"""What a thread does before it reads on. Returns whether it shall."""


class Handover(NamedTuple):
    """Work for a thread: what it has to do for a connection."""

    first: First
    ends: bool = False  # it only ends the connection, which does not block


class MessageLoop(_Base):
    """Mixin for a ``paramiko.Transport`` subclass; list it first."""

    packetizer: FastPacketizer
    channel_closed: threading.Condition
    _is_reading = False  # from the start to the end of the connection, on whatever thread
    # Upstream's, in no stub:
    _expected_packet: tuple[int, ...]
    _handler_table: dict[int, Callable[[Message], None]]
    _channel_handler_table: Any
    _enforce_strict_kex: Callable[[int], None]
    _ensure_authed: Callable[[int, Message], Message | None]
    _expect_packet: Callable[[int], None]
    _parse_disconnect: Callable[[Message], None]
    _parse_debug: Callable[[Message], None]
    _log: Callable[..., None]
    agreed_on_strict_kex: bool
    kex_engine: Any

    def start(self) -> None:
        """Start a thread that handles the messages. Raises RuntimeError if the system refuses it."""
        self._is_reading = True
        try:
            super().start()
        except BaseException:
            self._is_reading = False
            raise

    def run(self) -> None:
        """Handle messages (overrides Paramiko's)."""
        self.serve(_read_on)

    # The login, on the thread of its caller

    def exchange_keys(self) -> None:
        """Exchange versions and keys on this thread. Blocks. If that fails, ``active`` is False afterwards."""
        self.active = True
        if self.version_deadline is not None:
            self.packetizer.limit_writes(self.version_deadline)
        self._handle_here(self._begin, lambda: self.initial_kex_done)

    def handle_until(self, is_done: Callable[[], bool], until: float) -> None:
        """Handle messages on this thread until *is_done*, the connection ends, or the time *until*. Blocks.

        For the thread that logs in, until :meth:`leave`. *until*: ``time.monotonic()`` seconds.
        """
        self.packetizer.limit_writes(until)
        self._handle_here(_read_on, is_done, until)

    def handle_arrived(self, until: float) -> None:
        """Handle the messages that have arrived, on this thread. A packet that is incomplete is awaited until *until*."""
        self._handle_here(_read_on, lambda: not self.packetizer.has_input(), until)

    def leave(self) -> None:
        """Let another thread handle the messages from now on: the login is over. Raises RuntimeError if there can be none."""
        self._handle_here(_read_on, lambda: not self.packetizer.has_packet)
        self.packetizer.write_until = None
        if not self.active:
            return
        self._is_reading = True
        if not (self._can_be_shared() and shared_reader.add(self)):
            self._reading_thread = 0
            self.start()

    def _handle_here(self, first: First, is_done: Callable[[], bool], until: float | None = None) -> None:
        self._reading_thread, self._is_reading = threading.get_ident(), True
        self.packetizer.enter_thread()
        try:
            is_open = first()
            while is_open and self.active and not is_done():
                self._change_keys_if_due()
                is_open = self._handle_next(until)
            if is_open and self.active:
                self._is_reading = False
                return
        except Exception as error:
            if isinstance(error, TimeoutError) and until is not None and time.monotonic() >= until and self.active:
                self._is_reading = False
                return
            self._note_failure(error)
        self._conclude()

    def _begin(self) -> bool:
        try:
            self.packetizer.write_all(f"{self.local_version}\r\n".encode())
        except TimeoutError:
            raise NoVersion("the server takes no data") from None
        self._check_banner()
        self.packetizer.start_handshake(self.handshake_timeout)
        self._send_kex_init()
        self._expect_packet(MSG_KEXINIT)
        return True

    # The messages

    def serve(self, first: First) -> None:
        """Handle messages on this thread after *first*, until the connection ends or can be shared. Blocks."""
        self._reading_thread, self._is_shared = threading.get_ident(), False
        self.packetizer.enter_thread()
        try:
            if first() and self._serve():
                return
        except Exception as error:
            self._note_failure(error)
        self._conclude()

    def _serve(self) -> bool:
        """Return whether the connection is shared now; otherwise it ends."""
        while self.active:
            self._change_keys_if_due()
            if self._can_be_shared() and shared_reader.add(self):
                return True
            if not self._handle_next():
                break
        return False

    def _change_keys_if_due(self) -> None:
        if self.packetizer.need_rekey() and not self.in_kex:
            self._send_kex_init()

    def _handle_next(self, until: float | None = None) -> bool:
        """Wait for a message and handle it. Returns False if the connection ends with it. Raises TimeoutError at *until*."""
        try:
            message_type, message = self.packetizer.read_message(until)
        except (NeedRekeyException, QuietException):
            return True
        return self._handle_message(message_type, message)

    def _handle_message(self, message_type: int, message: Message) -> bool:
        """Handle a message. Returns False if the connection ends with it."""
        if message_type in (MSG_IGNORE, MSG_DEBUG):
            self._enforce_strict_kex(message_type)
            if message_type == MSG_DEBUG:
                self._parse_debug(message)
            return True
        if message_type == MSG_DISCONNECT:
            self._parse_disconnect(message)
            return False
        if self._expected_packet:
            if message_type not in self._expected_packet:
                error = paramiko.ssh_exception.MessageOrderError if self.agreed_on_strict_kex else paramiko.SSHException
                raise error(f"the server sent an unexpected message (number {message_type})")
            self._expected_packet = ()
            if message_type in KEX_METHOD_MESSAGES:
                self.kex_engine.parse_next(message_type, message)
                return True
        return self._dispatch(message_type, message)

    def _dispatch(self, message_type: int, message: Message) -> bool:
        auth_handler: Any = self.auth_handler
        if message_type in self._handler_table:
            refusal = self._ensure_authed(message_type, message)
            if refusal is None:
                self._handler_table[message_type](message)
            else:
                self._send_message(refusal)
        elif message_type in self._channel_handler_table:
            number = message.get_int()
            channel = self._channels.get(number)  # type: ignore[attr-defined]
            if channel is not None:
                self._channel_handler_table[message_type](channel, message)
            elif number not in self.channels_seen:
                return False
        elif auth_handler is not None and message_type in auth_handler._handler_table:
            auth_handler._handler_table[message_type](message)
            if self._expected_packet:
                return True
        elif message_type != MSG_UNIMPLEMENTED:
            self.packetizer.on_unknown(message.seqno)
        self.packetizer.complete_handshake()
        return True

    # Sharing

    def _can_be_shared(self) -> bool:
        """Return whether this connection needs no thread of its own at the moment."""
        return (
            isinstance(self.sock, socket.socket)
            and self.is_authenticated()
            and not self.in_kex
            and not self._deferred
            and self.packetizer.is_quiet
            and not self.packetizer.account(time.monotonic())  # also for what no read accounts for: this thread may leave now
        )

    def become_shared(self, thread: int) -> None:
        """Note that from now on the shared thread, with this identifier, handles the messages."""
        self._reading_thread, self._is_shared = thread, True
        self.packetizer.release_buffer()

    def wait_for_data(self) -> bool:
        """Wait for data until a timer is due, and do what it asks for; see :data:`First`. Blocks."""
        self.packetizer.wait_for_data()
        return True

    def handle_available(self, buffer: memoryview) -> Handover | None:
        """Handle messages that have arrived. Shared thread; does not block. Returns what it leaves to a thread."""
        began = time.thread_time()
        try:
            handover = self._handle_available(buffer)
            self.packetizer.spend(time.thread_time() - began)
            if handover is None and not self._needs_no_thread():
                handover = Handover(_read_on)
        except Exception as error:
            handover = Handover(functools.partial(_raise, error), ends=True)
        return handover

    def _handle_available(self, buffer: memoryview) -> Handover | None:
        self.packetizer.receive_available(buffer)
        for _ in range(MAX_AT_ONCE):
            packet = self.packetizer.take_packet()
            if packet is None:
                break
            if packet[1] not in SHARED_MESSAGES:
                return Handover(functools.partial(self._handle_packet, *packet))
            if not self._handle_packet(*packet):
                return Handover(_stop, ends=True)
            if self._deferred:
                return Handover(self._continue_sending)
        return None

    def _needs_no_thread(self) -> bool:
        packetizer = self.packetizer
        return not packetizer.pause(time.monotonic()) and not packetizer.need_rekey() and packetizer.is_quiet

    def _handle_packet(self, sequence: int, message_type: int, fields: bytes) -> bool:
        message = self.packetizer.message_of(sequence, message_type, fields)
        return message is None or self._handle_message(message_type, message)

    def _continue_sending(self) -> bool:
        self.send_deferred()
        return True

    # The end

    def _note_failure(self, error: Exception) -> None:
        """Store the error that ends the connection, and log it."""
        self.saved_exception = error
        if isinstance(error, EOFError):
            self._log(logging.DEBUG, "The server closed the connection")
            return
        self._log(logging.ERROR, "%s: %s", type(error).__name__, error)
        if not isinstance(error, (paramiko.SSHException, OSError)):
            self._log(logging.ERROR, tb_strings())

    def _conclude(self) -> None:
        """End the connection: nothing reads any more."""
        self.final_reason()  # before it looks ended to a thread that begins something
        for channel in list(self._channels.values()):  # type: ignore[attr-defined]
            channel._unlink()
        if self.active:
            self.active = False
            self.packetizer.close()
            if self.completion_event is not None:
                self.completion_event.set()
            if self.auth_handler is not None:
                self.auth_handler.abort()
            for opened in list(self.channel_events.values()):
                opened.set()
        self.sock.close()
        self._finish()
        with self.channel_closed:
            self._is_reading = False
            self.channel_closed.notify_all()

    def final_reason(self) -> str:
        """See ClientTransport."""
        raise NotImplementedError

    def _finish(self) -> None:
        """See ClientTransport."""
        raise NotImplementedError

    def join(self, timeout: float | None = None) -> None:
        """Wait at most *timeout* seconds until the connection has ended (overrides Thread's)."""
        with self.channel_closed:
            self.channel_closed.wait_for(lambda: not self._is_reading, timeout)


def _read_on() -> bool:
    return True


def _stop() -> bool:
    return False


def _raise(error: Exception) -> bool:
    raise error
