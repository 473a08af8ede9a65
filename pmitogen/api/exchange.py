"""One request of the library: the hub's I/O thread delivers its frames, and the caller reads its output and sends its input.

A reader that finds nothing waits by a :class:`~pmitogen.api.waiting.Waiter` of its own, so a thread and a task may use the same
exchange. There is back-pressure in both directions: output is acknowledged when the caller has taken it, and input is sent when
the other end has room for it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pmitogen.errors import ConnectionLost, Error, RemoteError, UsageError
from pmitogen.hub.requests import FINAL, Request, error_frame
from pmitogen.hub.scheduler import Guard
from pmitogen.protocol.error_kinds import exception_from
from pmitogen.protocol.framing import CHUNK, CREDIT_WINDOW
from pmitogen.util.os_errors import os_error

if TYPE_CHECKING:
    from pmitogen.api.account import Account
    from pmitogen.api.waiting import Runtime, Waiter
    from pmitogen.protocol.messages_to_client import Answer
    from pmitogen.protocol.requests import FollowUp, RequestHeader

KILL_GRACE = 0.5  # seconds
ACKNOWLEDGE = CREDIT_WINDOW // 16  # bytes that are taken before they are acknowledged


class Exchange:
    """One request and its answers. The I/O thread delivers frames; one thread or task reads, another may send.

    :param header: the request; see the tables of the protocol.
    :param body: its body.
    :param feeds: whether :meth:`send` will send more, up to :meth:`end_input`.
    """

    def __init__(self, account: Account, header: RequestHeader, body: bytes = b"", feeds: bool = False) -> None:
        self._account, self._core = account, account.core
        self._core.check(account)
        self._guard = Guard(self._core.registry.scheduler, self._failed)
        self._lock = threading.Lock()
        self._waiters: list[Waiter] = []
        self._output: tuple[list[bytes], list[bytes]] = ([], [])
        self._unacknowledged = 0  # bytes taken and not acknowledged
        self._credit = CREDIT_WINDOW
        self._paused = False
        self._input: list[bytes] = []  # what the I/O thread has not sent yet
        self._feeds = feeds
        self.final: Answer | None = None
        self._killed = False
        if feeds:
            header["more"] = True
        if account.become:
            header["become"] = account.become
        self._request = Request(self, 0, header, body)
        self._core.calls.add(self)
        self._defer(self._submit)

    # The I/O thread's side

    def _defer(self, work: Callable[[], None]) -> None:
        if self._core.has_ended or not self._guard.defer(work):
            self.fail(ConnectionLost("the hub was closed"))

    def _submit(self) -> None:
        account = self._account
        self._core.registry.host(account.options, account.caller, account.ask).submit(self._request)

    def _failed(self, exc: Exception) -> None:
        """End this call, because its work on the I/O thread has failed. Other calls continue."""
        logging.getLogger("pmitogen").error("internal error", exc_info=exc)
        self.fail(UsageError(f"internal error: {type(exc).__name__}: {exc}"))

    def answer(self, header: Answer, body: bytes) -> None:
        """Store a frame for the call. I/O thread; raises nothing."""
        op = header["op"]
        with self._lock:
            if self.final is not None:
                return
            if op == "out":
                if not self._killed or self._stored() < CREDIT_WINDOW:
                    self._output[header["stream"] - 1].append(body)
            elif op == "credit":
                self._credit += header["count"]
            elif op in FINAL:
                size = header.get("stdout_size", len(body))
                for stream, piece in ((0, body[:size]), (1, body[size:])):
                    if piece:
                        self._output[stream].append(piece)
                self.final = header
                self._core.calls.discard(self)
            self._wake()
        if op == "out" and self._killed:  # the caller may never take it, and the other end must not wait for that
            self.follow({"op": "credit", "count": len(body)})

    def _stored(self) -> int:
        return sum(len(piece) for pieces in self._output for piece in pieces)

    def pause(self) -> None:
        """Stop sending until :meth:`resume`. I/O thread."""
        self._paused = True

    def resume(self) -> None:
        """Send again. I/O thread."""
        with self._lock:
            self._paused = False
            self._wake()

    def fail(self, error: Error) -> None:
        """End it with an error. Any thread."""
        self.answer(error_frame(error), b"")

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.wake()

    # The caller's side. In a fork of the process nothing is sent, and waiting raises UsageError.

    async def until(self, ready: Callable[[], bool], runtime: Runtime, deadline: float | None = None) -> None:
        """Wait until *ready*, or the end. Raises TimeoutError when *deadline* (time.monotonic() seconds) has passed."""
        self._core.check_process(self._account)
        has_given_way = False
        while True:
            waiter: Waiter | None = None
            with self._lock:
                if self.final is None and deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError  # even if output is ready: a fast command always has more
                if self.final is not None or ready():
                    if has_given_way:
                        return
                else:
                    waiter = runtime.waiter()
                    self._waiters.append(waiter)
            has_given_way = True
            if waiter is None:
                await runtime.give_way()
                continue
            try:
                if not await waiter.wait(deadline):
                    raise TimeoutError
            finally:
                with self._lock:
                    if waiter in self._waiters:
                        self._waiters.remove(waiter)

    def has_output(self, stream: int) -> bool:
        """Return True if output waits on *stream*: 0 for stdout, 1 for stderr."""
        return bool(self._output[stream])

    def has_any_output(self) -> bool:
        """Return True if output waits on either stream."""
        return bool(self._output[0] or self._output[1])

    def has_room(self) -> bool:
        """Return True if the other end takes more input."""
        return self._credit > 0 and not self._paused

    def take(self, stream: int, size: int = -1) -> bytes:
        """Take what waits on a stream, at most *size* bytes (-1: all). Empty: there is nothing now."""
        with self._lock:
            pieces = self._output[stream]
            if not pieces:
                return b""
            if size < 0:
                taken = b"".join(pieces)
                pieces.clear()
            else:
                taken = pieces[0][:size]
                rest = pieces[0][size:]
                if rest:
                    pieces[0] = rest
                else:
                    del pieces[0]
            self._unacknowledged += len(taken)
            count = self._unacknowledged if self._unacknowledged >= ACKNOWLEDGE and self.final is None and not self._killed else 0
            self._unacknowledged -= count
        if count:
            self.follow({"op": "credit", "count": count})
        return taken

    async def send(self, data: bytes, runtime: Runtime, deadline: float | None = None) -> bool:
        """Send input, in pieces that the other end has room for. False: it has ended and takes no more."""
        view = memoryview(data)
        while len(view):
            await self.until(self.has_room, runtime, deadline)
            if self.final is not None:
                return False
            piece = bytes(view[:CHUNK])
            view = view[len(piece) :]
            with self._lock:
                self._credit -= len(piece)
                self._input.append(piece)
                is_first = len(self._input) == 1
            if is_first:
                self._defer(self._send_input)
        return self.final is None

    def _send_input(self) -> None:
        """Send the input that has come so far, in as few frames as possible: a source of a few bytes at a time is soon
        faster than the I/O thread, which has other hosts to serve. I/O thread.
        """
        with self._lock:
            data = b"".join(self._input)
            self._input.clear()
        if self.final is None:
            for start in range(0, len(data), CHUNK):
                self._follow({"op": "data"}, data[start : start + CHUNK])

    def end_input(self) -> None:
        """End the input. Idempotent."""
        if self._feeds and not self._core.in_forked_process:
            self._feeds = False
            self.follow({"op": "eof"})

    def follow(self, header: FollowUp, body: bytes = b"") -> None:
        """Send a frame that belongs to the request. Nothing, if it has ended. Raises UsageError in a fork."""
        self._core.check_process(self._account)
        if self.final is None:
            self._defer(lambda: self._follow(header, body))

    def _follow(self, header: FollowUp, body: bytes) -> None:
        if self._request.host is not None:
            self._request.host.follow(self._request, header, body)

    def kill(self) -> None:
        """End the process that it started: SIGTERM to the process group, SIGKILL two seconds later. Idempotent.

        From now on output is acknowledged at once, and at most a window of it is stored.
        """
        if self._core.in_forked_process:  # it is the parent's; the lock may be held there
            return
        with self._lock:
            if self._killed:
                return
            self._killed = True
            count = self._unacknowledged + self._stored()
        self.follow({"op": "kill"})
        if count:
            self.follow({"op": "credit", "count": count})

    async def wait_after_kill(self, runtime: Runtime) -> None:
        """Wait a moment for the end of a killed process: the host then sends its last output."""
        with contextlib.suppress(TimeoutError):
            await self.until(lambda: False, runtime, time.monotonic() + KILL_GRACE)

    def result(self) -> Answer:
        """Return the final frame, or raise its exception; ConnectionLost if there is none yet."""
        if self.final is None:
            raise ConnectionLost(f"{self._account}: the request has not ended")
        if self.final["op"] == "error":
            error = exception_from(self.final)
            raise self._remote_error(error) if isinstance(error, RemoteError) else error
        return self.final

    def _remote_error(self, error: RemoteError) -> RemoteError:
        message = f"{self._account}: {error}"
        if error.code:
            return os_error(message, error.code, path=self._request.header.get("label"))
        return RemoteError(message, error.text)

    def __repr__(self) -> str:
        return f"<{self._request.describe()}>"

    def __getstate__(self) -> Any:
        raise TypeError("a running request cannot be pickled")


async def until_any(requests: Sequence[Exchange], runtime: Runtime, or_output: bool = False) -> None:
    """Wait until one of *requests* has ended, or with *or_output* has output. May return earlier."""
    waiter = runtime.waiter()
    try:
        for request in requests:
            with request._lock:
                if request.final is not None or or_output and request.has_any_output():
                    return
                request._waiters.append(waiter)
        await waiter.wait(None)
    finally:
        for request in requests:
            with request._lock:
                if waiter in request._waiters:
                    request._waiters.remove(waiter)
