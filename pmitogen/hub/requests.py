"""Requests of clients, from the moment they are made until their final answer.

A worker's connection or a call of the library is a *client*: it gets every frame that belongs to its requests, with its
own number in ``id``. Exactly one frame of each request is final: ``exit``, ``ok`` or ``error``.
"""

from __future__ import annotations

import dataclasses
import itertools
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from pmitogen.errors import Error
from pmitogen.protocol.error_kinds import error_fields
from pmitogen.protocol.framing import from_wire
from pmitogen.protocol.operations import FINAL, FOLLOWING, Op
from pmitogen.util.peer_text import one_line

if TYPE_CHECKING:
    from pmitogen.hub.host.accounts import Account
    from pmitogen.hub.host.host import Host
    from pmitogen.protocol.messages_to_client import Answer, Transfer
    from pmitogen.protocol.requests import FollowUp, RequestHeader

__all__ = [
    "FINAL",
    "FOLLOWING",
    "KILL_EXIT_CODES",
    "SHUTDOWN_GRACE",
    "CallbackClient",
    "AnswerReceiver",
    "Request",
    "cancels_unsent_request",
    "error_frame",
    "next_request_id",
]
MESSAGE_LIMIT = 1200  # characters of an error's text
SHUTDOWN_GRACE = 0.5  # seconds between the end of a process on a host that shuts down and that of the connection
KILL_EXIT_CODES = frozenset(128 + signum for signum in (signal.SIGHUP, signal.SIGKILL, signal.SIGTERM))
MAX_INLINE_FILE = 256 << 10  # bytes that a put may carry to be answered before it is done


_ids = itertools.count(1)


def next_request_id() -> int:
    """Return a number for a request, unique in this process, which agents use."""
    return next(_ids)


class AnswerReceiver(Protocol):
    """A receiver of answers. Called on the hub's I/O thread; must not block."""

    def answer(self, header: Answer, body: bytes) -> None:
        """Handle one frame."""

    def pause(self) -> None:
        """Send no more data until :meth:`resume`: too much is queued for the host."""
        return

    def resume(self) -> None:
        """Send again."""
        return


class RequestWithoutPython(Protocol):
    """Serves one request without Python."""

    def follow(self, header: FollowUp, body: bytes) -> None:
        """Accept a frame that belongs to the request: data, end of input, credit, or a cancellation. I/O thread."""

    def end(self) -> None:
        """Wait for nothing any more: the host has ended, and no frame reaches the client. I/O thread."""

    def kill_group(self) -> None:
        """End what would go on without the connection. Any thread but the I/O thread; blocks."""


class CallbackClient(AnswerReceiver):
    """A client inside the hub: *work* is called with the final frame's header, without its number."""

    def __init__(self, work: Callable[[Answer], None]) -> None:
        self._work = work

    def answer(self, header: Answer, body: bytes) -> None:
        if header["op"] in FINAL:
            self._work(cast("Answer", {key: value for key, value in header.items() if key != "id"}))


@dataclasses.dataclass(eq=False, repr=False)
class Request:
    """One request, from the moment it is made until its final frame."""

    client: AnswerReceiver | None  # None: no client waits any more (acknowledged early, or disconnected)
    client_id: int
    header: RequestHeader
    body: bytes
    request_id: int = 0
    account: Account | None = None
    sent: bool = False
    created_at: float = 0.0  # when it was made, in time.monotonic() seconds
    is_cancelled: bool = False  # it was killed, or its account's interpreter; a failure is then expected
    shell_request: RequestWithoutPython | None = None  # serves it without Python
    task: str = ""  # the name of Ansible's task, for the log, where the worker sent it
    followups: list[tuple[FollowUp, bytes]] = dataclasses.field(default_factory=list)  # frames for it, until it is sent
    is_acknowledged: bool = False  # it was answered before it was done
    host: Host | None = None  # where it was submitted last
    is_answered: bool = False  # an answer has arrived for it, so it is under way
    before: Request | None = None  # this request waits for it
    idle_before: float = 0.0  # seconds that its host was idle before
    moved: int = 0  # bytes of a file that were sent to the host or received from it
    refusals: int = 0  # how often it was refused and resent

    @property
    def size(self) -> int:
        """Bytes that wait until it is sent."""
        return len(self.body) + sum(len(body) for _, body in self.followups)

    @property
    def needs_python(self) -> bool:
        """Return whether an interpreter on the host must serve it. Not for a command of the account's login shell (``raw``),
        because some hosts can do nothing else, nor for a request that the library marks as *simple*.
        """
        header = self.header
        if header.get("simple"):
            return False
        return header["op"] != Op.EXEC or bool(header["argv"][0]) or bool(header.get("become"))

    @property
    def login_python(self) -> list[str] | None:
        """The interpreter that it names for the login account; None if it names none, or is for another account."""
        return None if self.header.get("become") else self.header.get("python")

    def answer(self, header: Answer, body: bytes = b"") -> None:
        """Pass a frame to the client. The text of an error may come from the target."""
        if header["op"] == Op.ERROR:
            header = {**header, "msg": one_line(str(header.get("msg")), MESSAGE_LIMIT)}
        if self.client is not None:
            self.client.answer({**header, "id": self.client_id}, body)

    def describe(self) -> str:
        """Return number, operation and account, for logs. No parameters: these may be secret."""
        header, become = self.header, self.header.get("become")
        label = header.get("module") or header.get("action") or ""
        user = become.get("user", "root") if become else "login"
        return f"#{self.request_id} {header['op']} {label} as {user}".replace("  ", " ")

    def describe_transfer(self) -> Transfer | None:
        """Return the state of a file transfer for ``pmitogen hubs``; None for other requests."""
        header = self.header
        if header["op"] not in (Op.PUT, Op.GET):
            return None
        path = from_wire(header["path"]).decode("utf-8", "backslashreplace")
        return {"action": header["op"], "path": path, "transferred": self.moved, "size": header.get("size")}

    def fail(self, error: Error) -> None:
        """Send *error* as the final answer."""
        if self.shell_request is not None:
            self.shell_request.end()
        self.answer(error_frame(error))


def cancels_unsent_request(header: FollowUp) -> bool:
    """Return whether a frame cancels a request that has not been sent to the host yet."""
    return header["op"] == Op.KILL or header["op"] == Op.SIGNAL and header["signal"] in (signal.SIGTERM, signal.SIGKILL)


def error_frame(error: Error) -> Answer:
    """Return the header of the final answer to a request that has failed."""
    return cast("Answer", {"op": Op.ERROR.value, **error_fields(error)})
