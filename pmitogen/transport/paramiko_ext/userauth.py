"""Client side of the userauth protocol: send requests and receive answers, on the caller's thread.

Missing upstream (Paramiko 5.1, ``AuthHandler``): each attempt begins with a service request and waits for its acceptance, a
round trip without use; a key signs before the server was asked whether it accepts it; partial success and the list
of methods reach the caller in pieces; the keyboard-interactive handler runs on the thread that reads the connection. Upstream
is fixed when ``Transport.auth_*`` offers a probe and returns the server's whole answer.

So this handler decides nothing: it puts messages into a queue (and enables compression at success, which must happen before the
next byte is read). The thread that waits for an answer handles the server's messages meanwhile (message_loop.py). An unrequested
answer ends the connection. Source: RFC 4252, RFC 4256; that requests may follow the service request at once, RFC 4253 section
10 (server authentication is explicit in every key exchange Paramiko has).
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable
from typing import Any

import paramiko
from paramiko.auth_handler import AuthHandler
from paramiko.message import Message

from pmitogen import toggles
from pmitogen.errors import ConnectError
from pmitogen.transport.keys.wire import PacketReader, encode_string
from pmitogen.transport.paramiko_ext.inbound_budget import UselessMessages
from pmitogen.util.overrides import require_methods

SERVICE_REQUEST, SERVICE_ACCEPT = 5, 6
REQUEST, FAILURE, SUCCESS, BANNER, PK_OK, INFO_REQUEST, INFO_RESPONSE = 50, 51, 52, 53, 60, 60, 61
GSSAPI_RESPONSE, GSSAPI_TOKEN, GSSAPI_EXCHANGE_COMPLETE, GSSAPI_ERROR, GSSAPI_ERRTOK, GSSAPI_MIC = 60, 61, 63, 64, 65, 66
SERVICE = "ssh-connection"
HOST_BOUND_EXTENSION, HOST_BOUND = "publickey-hostbound@openssh.com", "publickey-hostbound-v00@openssh.com"
MAX_BANNER_SIZE = 16 * 1024  # bytes of the server's text before login that are stored
MAX_SHOWN_BANNERS = 256 * 1024  # bytes of that text that are passed to on_banner; sshd sends each text in one packet
MAX_BANNERS = 100  # messages; more are counted as useless
MAX_ANSWERS = 500  # of the server in one login


class ConnectionClosed(Exception):
    """The connection ended while an answer was awaited."""


class UserauthClient(AuthHandler):
    """Takes the place of Paramiko's handler on *transport* from its creation on. For the thread that logs in."""

    def __init__(self, transport: paramiko.Transport, user: str, endpoint: str, deadline: float, answer_timeout: float) -> None:
        super().__init__(transport)
        self.username = user
        self._user = user
        self.endpoint = endpoint
        self.deadline = deadline
        self._answer_timeout = answer_timeout
        self.round_trips = 0
        self._banner = b""
        self._banners = 0
        self.last_banner = b""
        self.on_banner: Callable[[bytes], None] | None = None  # called by wait() with the text
        self._shown = 0  # bytes of banners given to on_banner
        self.explains_refusal = False  # True if the server sent a banner after a refusal
        self._answers = 0
        self._expected = 0  # answers that the server has not sent yet
        self._useless = UselessMessages(time.monotonic())
        self._inbox: collections.deque[tuple[int, bytes]] = collections.deque()
        self._paramiko: Any = self.transport  # a weak proxy: the caller holds the transport
        self._asked_for_service = False
        self._await_service_accept = not toggles.request_pipelining_enabled()
        self._transport_handlers = {
            SERVICE_ACCEPT: self._on_service_accept,
            SUCCESS: self._on_success,
            FAILURE: lambda message: self._put(FAILURE, message),
            BANNER: self._on_banner,
            PK_OK: lambda message: self._put(PK_OK, message),
            GSSAPI_TOKEN: lambda message: self._put(GSSAPI_TOKEN, message),
            GSSAPI_ERROR: self._on_gssapi_error,
            GSSAPI_ERRTOK: self._on_gssapi_error,
        }
        transport.auth_handler = self

    # -- messages

    @property
    def _handler_table(self) -> dict[int, Any]:
        return self._transport_handlers

    def _put(self, kind: int, message: Message) -> None:
        self._claim(kind)
        self._inbox.append((kind, message.get_remainder()))

    def _claim(self, kind: int) -> None:
        """Match an answer with a request. Raises SSHException if there is none."""
        if self._expected <= 0 or self.authenticated:
            raise paramiko.SSHException(f"unexpected authentication message from the server (type {kind})")
        self._expected -= 1
        self._answers += 1

    def _on_service_accept(self, message: Message) -> None:
        if self._await_service_accept:
            self._put(SERVICE_ACCEPT, message)
        else:
            self._useless.count("service accept", time.monotonic(), len(message.asbytes()))

    def _on_success(self, message: Message) -> None:
        self._claim(SUCCESS)
        self.authenticated = True
        self._paramiko._auth_trigger()
        self._inbox.append((SUCCESS, message.get_remainder()))

    def _on_banner(self, message: Message) -> None:
        self._banners += 1
        if self._banners > MAX_BANNERS or self.authenticated:
            self._useless.count("banners", time.monotonic(), len(message.asbytes()))
            return
        text = PacketReader(message.asbytes()).string()
        if self.on_banner is not None and self._shown < MAX_SHOWN_BANNERS:
            self._inbox.append((BANNER, text[: MAX_SHOWN_BANNERS - self._shown]))
            self._shown += len(text)
        self.last_banner = text[:MAX_BANNER_SIZE]
        # Not counting the answer to the request for the service.
        self.explains_refusal = self._answers > int(self._await_service_accept)
        self._banner += self.last_banner[: MAX_BANNER_SIZE - len(self._banner)]

    def _on_gssapi_error(self, message: Message) -> None:
        """Pass over the reason, which the refusal follows: it is for the server's own log and often says nothing."""
        self._useless.count("GSSAPI errors", time.monotonic(), len(message.asbytes()))

    def abort(self) -> None:
        """Do nothing (called by Paramiko when the connection has ended): :meth:`wait` notices that."""

    # -- requests

    @property
    def server_banner(self) -> str:
        """The server's text for the user (SSH_MSG_USERAUTH_BANNER), not escaped."""
        return self._banner.decode("utf-8", "replace")

    def session_id(self) -> bytes:
        """Return the session identifier, which is part of the data that is signed."""
        return bytes(self._paramiko.session_id)

    def server_algorithms(self) -> tuple[str, ...]:
        """Return ``server-sig-algs`` (RFC 8308); empty: the server has not sent it so far."""
        value = self._paramiko.server_extensions.get("server-sig-algs", b"")
        return tuple(value.decode("ascii", "replace").split(",")) if value else ()

    @property
    def binds_host(self) -> bool:
        """True if the server has announced that it accepts host-bound signatures (OpenSSH PROTOCOL, publickey-hostbound)."""
        return bool(self._paramiko.server_extensions.get(HOST_BOUND_EXTENSION) == b"0")

    def request(self, method: str, rest: bytes = b"") -> None:
        """Send a userauth request without waiting; the service request goes before the first. Raises what :meth:`wait` does."""
        if not self._asked_for_service:
            self._asked_for_service = True
            self._send(bytes([SERVICE_REQUEST]) + encode_string("ssh-userauth"), answered=self._await_service_accept)
            if self._await_service_accept:
                self.wait()
        self._send(bytes([REQUEST]) + self.body(method, rest))

    def body(self, method: str, rest: bytes) -> bytes:
        """Return the fields at the beginning of every request, which are also signed."""
        return encode_string(self._user) + encode_string(SERVICE) + encode_string(method) + rest

    def respond(self, answers: list[str]) -> None:
        """Answer an INFO_REQUEST (RFC 4256 section 3.4)."""
        self._send(bytes([INFO_RESPONSE]) + len(answers).to_bytes(4, "big") + b"".join(map(encode_string, answers)))

    def send_gssapi(self, kind: int, fields: bytes, *, answered: bool) -> None:
        """Send a message of the method gssapi-with-mic (RFC 4462 section 3). *answered*: whether the server answers it."""
        self._send(bytes([kind]) + fields, answered)

    def wait(self) -> tuple[int, PacketReader]:
        """Wait for the next answer and return it. Raises :class:`ConnectionClosed`, and ConnectError after the time limit."""
        self.round_trips += 1
        if self.round_trips > MAX_ANSWERS:
            raise ConnectError(f"{self.endpoint}: authentication failed: more than {MAX_ANSWERS} answers from the server", "auth")
        began = time.monotonic()
        while True:
            self._paramiko.handle_until(lambda: bool(self._inbox), self._limit(began))
            if not self._inbox:
                raise self._no_answer(began) if self._paramiko.is_active() else ConnectionClosed()
            kind, fields = self._inbox.popleft()
            if kind != BANNER:
                return kind, PacketReader(fields)
            if self.on_banner is not None:
                self.on_banner(fields)

    def handle_arrived(self) -> None:
        """Handle what the server has sent on its own, such as its signature algorithms. Raises :class:`ConnectionClosed`."""
        self._paramiko.handle_arrived(self._limit(time.monotonic()))
        if not self._paramiko.is_active():
            raise ConnectionClosed

    def remaining(self) -> float:
        """Return the seconds to the deadline; never negative."""
        return max(0.0, self.deadline - time.monotonic())

    def _send(self, message: bytes, answered: bool = True) -> None:
        if not self._paramiko.is_active():
            raise ConnectionClosed
        self._expected += answered
        began = time.monotonic()
        self._paramiko.packetizer.limit_writes(self._limit(began))
        try:
            self._paramiko._send_user_message(Message(message))
        except TimeoutError:
            raise self._no_answer(began) from None
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise ConnectionClosed from error

    def _limit(self, began: float) -> float:
        """Return when a step that *began* then has taken too long."""
        return min(began + self._answer_timeout, self.deadline)

    def _no_answer(self, began: float) -> ConnectError:
        waited = f"{max(0.0, self._limit(began) - began):.3g} s"
        return ConnectError(f"{self.endpoint}: authentication failed: no answer from the server within {waited}", "auth")


require_methods(AuthHandler, "abort(self)")
if not isinstance(vars(AuthHandler).get("_handler_table"), property):
    raise ImportError(
        "pmitogen overrides paramiko.auth_handler.AuthHandler._handler_table, which is not a property in this release"
    )
