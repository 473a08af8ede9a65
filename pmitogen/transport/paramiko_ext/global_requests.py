"""Global requests to the server: keepalive probes, and requests for forwardings (RFC 4254 section 4).

An answer does not name its request; answers arrive in the order of the requests. So a request waits until the probes before it
are answered, and no probe is sent while it is under way: its answer also proves that the server is alive. Upstream has one slot
for an answer, which a probe's answer may fill.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import paramiko
from paramiko.common import cMSG_GLOBAL_REQUEST
from paramiko.message import Message

if TYPE_CHECKING:
    from pmitogen.transport.paramiko_ext.server_messages import ServerMessages

    _Base = ServerMessages
else:
    _Base = object


class GlobalRequests(_Base):
    """Mixin for a ``paramiko.Transport`` subclass; list it first."""

    end_reason: str | None
    active: bool

    def _init_requests(self) -> None:
        """Set up our own state; to be called by the constructor."""
        self._answered = threading.Condition()
        self._probes = 0  # unanswered
        self._is_requesting = False
        self._answers: list[tuple[bool, bytes]] = []  # to the request under way; at most one

    def probe(self) -> None:
        """Send a keepalive request. Never waits. Transport thread."""
        if not self.clear_to_send.is_set():
            return  # the messages of a key exchange prove that it is alive
        with self._answered:
            if self._is_requesting:
                return
            self._probes += 1
        self.packetizer.send_nowait(_request("keepalive@openssh.com"))

    def request(self, kind: str, *fields: bytes, timeout: float) -> bytes | None:
        """Make a global request, and return the data of the answer, or None if it is refused. Blocks; not the transport's thread.

        *fields* are encoded already. *timeout* in seconds. Raises TimeoutError, SSHException where the connection is over.
        """
        deadline = time.monotonic() + timeout
        with self._answered:
            self._wait(lambda: not self._is_requesting, deadline)
            self._is_requesting = True
            self._answers.clear()
        try:
            with self._answered:
                self._wait(lambda: self._probes == 0, deadline)
            self._send_user_message(_request(kind, *fields))  # type: ignore[attr-defined]
            with self._answered:
                self._wait(lambda: bool(self._answers), deadline)
                granted, data = self._answers[0]
            return data if granted else None
        finally:
            with self._answered:
                self._is_requesting = False
                self._answered.notify_all()

    def _wait(self, done: Callable[[], bool], deadline: float) -> None:
        while not done():
            if self.end_reason is not None or not self.active:
                raise paramiko.SSHException(self.end_reason or "the connection is closed")
            if not self._answered.wait(min(1.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                raise TimeoutError

    def _parse_request_success(self, m: Message) -> None:
        self._take_answer(True, m.asbytes())

    def _parse_request_failure(self, m: Message) -> None:
        self._take_answer(False, b"")

    def _take_answer(self, granted: bool, data: bytes) -> None:
        with self._answered:
            if self._probes:
                self._probes -= 1
            elif self._is_requesting and not self._answers:
                self._answers.append((granted, data))
            else:
                self.count_useless("answers to global requests", len(data))
            self._answered.notify_all()


def _request(kind: str, *fields: bytes) -> Message:
    message = Message()
    message.add_byte(cMSG_GLOBAL_REQUEST)
    message.add_string(kind)
    message.add_boolean(True)
    for field in fields:
        message.add_bytes(field)
    return message
