"""Reading the frames of one host's agent, after they have passed the gate (protocol/gate.py). I/O thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from pmitogen.errors import ConnectionLost, Error
from pmitogen.hub.agent_channel import AgentChannel
from pmitogen.hub.host.accounts import Accounts
from pmitogen.hub.host.interfaces import ConnectedHost
from pmitogen.hub.host.known_answers import KnownAnswers
from pmitogen.hub.host.pending import PendingRequests
from pmitogen.hub.host.request_sender import RequestSender
from pmitogen.hub.host.stale_interpreters import EarlyAnswers, StaleInterpreters
from pmitogen.hub.host.states import State
from pmitogen.hub.requests import KILL_EXIT_CODES, SHUTDOWN_GRACE, Request
from pmitogen.protocol.error_kinds import InterpreterEnded
from pmitogen.protocol.operations import FINAL, ErrorKind, Op
from pmitogen.util.peer_text import escape

if TYPE_CHECKING:
    from pmitogen.hub.login import Login
    from pmitogen.hub.trace import Trace
    from pmitogen.protocol import messages_from_agent
    from pmitogen.protocol.gate import InterpreterError
    from pmitogen.protocol.messages_from_agent import FromAgent
    from pmitogen.protocol.messages_to_client import Answer

    RequestAnswer = (
        messages_from_agent.Out
        | messages_from_agent.Credit
        | messages_from_agent.Exit
        | messages_from_agent.Ok
        | messages_from_agent.Error
    )

LOGIN_INTERPRETER_ENDED = "the interpreter of the login account has ended"
_ENDS_ACCOUNT = (ErrorKind.BECOME, ErrorKind.PYTHON, ErrorKind.INTERPRETER_ENDED)
_NO_LOGIN_STATE = "state"  # the ``reason`` of an interpreter that cannot start a process as a login would


class AnsweredHost(ConnectedHost, Protocol):
    """The host of the agent."""

    name: str
    state: State
    agent_channel: AgentChannel
    login: Login | None
    last_used: float

    @property
    def withheld(self) -> str | None:
        """The reason to send no secret to this host, or None."""

    def on_agent_up(self, hello: messages_from_agent.Hello) -> None:
        """Handle the hello of the login account's interpreter."""

    def send_waiting(self) -> None:
        """Send the requests that wait."""

    def serve_by_shell(self, request: Request) -> None:
        """Serve a request without Python."""

    def fail(self, error: Error) -> None:
        """End the host with *error*: the connection is lost."""


class AnswerReader:
    """Passes answers on to clients, and tracks the state of the interpreters."""

    def __init__(
        self,
        host: AnsweredHost,
        accounts: Accounts,
        pending: PendingRequests,
        early: EarlyAnswers,
        known: KnownAnswers,
        stale: StaleInterpreters,
        sender: RequestSender,
        trace: Callable[[], Trace | None],
    ) -> None:
        self._host, self._accounts, self._pending, self._early = host, accounts, pending, early
        self._known, self._stale, self._sender, self._trace = known, stale, sender, trace
        self.boot_failed = False  # the login account's interpreter has ended before it was up

    def on_frame(self, header: FromAgent, body: bytes) -> None:
        """Handle a frame of the agent."""
        if self.boot_failed:  # all requests are going to be resent, without Python
            return
        if header["op"] == Op.HELLO:
            self._on_hello(header)
        elif header["op"] == Op.INTERPRETER_ENDED:
            self._on_interpreter_ended(header)
        elif header["op"] == Op.ACCOUNT_ENDED:
            self._on_account_ended(header)
        elif header["op"] == Op.SECRET_REQUEST:
            self._accounts.on_secret_request(header, self._host.withheld)
        elif header["op"] == Op.ACCOUNTS_CHANGED:
            self._known.forget_homes()
        elif header["op"] == Op.DEFERRED_ERROR:
            self._host.log.warning("%s", escape(header["msg"]))
        elif header["op"] == Op.CODEC_UNSUPPORTED:
            self._host.agent_channel.resend_blobs()
        else:
            header.pop("account", None)
            self._on_answer(header, body)

    def end_interpreter(self, error: InterpreterError) -> None:
        """End the interpreter that broke the protocol, and its requests."""
        account = self._accounts.get(error.account)
        if account is not None:
            interpreter = f"the interpreter of account {escape(account.user or '?')}"
            self._host.log.warning("protocol error: %s sent %s", interpreter, error)
            self._accounts.end(account)
            for request in self._pending.take_of(account):
                request.fail(InterpreterEnded(f"{self._host.peer}: protocol error: {interpreter} sent {error}; it was ended"))

    def _on_interpreter_ended(self, header: messages_from_agent.InterpreterEnded) -> None:
        account = self._accounts.get(header["account"])
        if account is None:
            return
        if account.number:
            self._accounts.remove(account)
        elif self._host.state is State.BOOTING:
            self.boot_failed = True
            self._host.connector.abandon_start()
        else:  # it is not replaced: the next request makes another connection
            self._host.fail(ConnectionLost(f"{self._host.peer}: {LOGIN_INTERPRETER_ENDED}"))

    def _on_account_ended(self, header: messages_from_agent.AccountEnded) -> None:
        if self._accounts.on_evicted(header["account"]):
            self._host.send_waiting()

    def _on_hello(self, header: messages_from_agent.Hello) -> None:
        account = self._accounts.get(header["account"])
        if account is None:
            return
        account.on_hello(header)
        self._host.log.debug(
            "account %d is up: user %s, %s, Python %s",
            account.number,
            escape(header["user"], 80),
            escape(header["executable"]),
            escape(str(header["python_version"]), 80),
        )
        if account.number == 0:
            self._host.on_agent_up(header)
            trace = self._trace()
            if trace is not None and self._host.login is not None:
                trace.stages(self._host.name, time.time(), self._host.login.all_stages())
            self._known.on_login(account)
            self._host.send_waiting()  # those that were to have another interpreter than this one

    def _on_answer(self, header: RequestAnswer, body: bytes) -> None:
        request = self._pending.get(header["id"])
        kind = header.get("kind") if header["op"] == Op.ERROR else None
        if request is None:
            return
        if header["op"] == Op.ERROR and kind == ErrorKind.STALE:
            self._close(request)
            self._stale.on_refusal(request, header)
            self._stale.end_unused()
            return
        if kind != ErrorKind.PYTHON_MISMATCH:
            request.is_answered = True
            request.followups.clear()
        exit_code = header["rc"] if header["op"] == Op.EXIT else None
        if (kind == ErrorKind.INTERPRETER_ENDED or exit_code in KILL_EXIT_CODES) and not request.is_cancelled:
            # A host that shuts down kills processes one by one. If the connection ends soon after, that is the failure to report.
            request.is_cancelled = True
            self._host.guard.call_later(SHUTDOWN_GRACE, self._on_answer, header, body)
            return
        answer = cast("Answer", header)
        if header["op"] not in FINAL:
            request.moved += len(body)
            request.answer(answer, body)
            return
        self._close(request)
        if self._resend_if_needed(request, answer):
            return
        self._finish(request, answer)
        request.answer(answer, body)
        self._stale.end_unused()

    def _close(self, request: Request) -> None:
        self._pending.close(request)
        if request.account is not None:
            request.account.active_requests -= 1

    def _resend_if_needed(self, request: Request, header: Answer) -> bool:
        """Resend the request in another way if its answer demands it. Returns whether it did; the answer is then dropped."""
        kind, reason = header.get("kind"), header.get("reason")
        if kind == ErrorKind.PYTHON_MISMATCH:
            self._sender.resend(request)
            return True
        if reason == _NO_LOGIN_STATE and kind is None:
            if request.header["op"] == Op.EXEC and not request.header.get("become"):
                self._host.serve_by_shell(request)
                return True
            header["kind"] = ErrorKind.WRAP.value
        # The request names no interpreter, and another request has named one that does not work.
        account = request.account
        named = account is not None and account.python and not request.header.get("python")
        if account is not None and named and ErrorKind.PYTHON in (kind, reason) and not request.header.get("more"):
            self._accounts.remove(account)
            self._sender.resend(request)
            return True
        return False

    def _finish(self, request: Request, header: Answer) -> None:
        kind, account = header.get("kind"), request.account
        if account is not None and kind in _ENDS_ACCOUNT:
            self._accounts.remove(account)
            if kind == ErrorKind.BECOME:
                header["msg"] = f"{self._host.peer}: {header['msg']}"
        self._early.confirm(request.header.get("chain", 0), account)
        self.log_end(request, header)
        self._known.remember(request, header)
        self._host.last_used = time.monotonic()

    def log_end(self, request: Request, header: Answer) -> None:
        """Log a request that has ended, and add it to the timeline of the run."""
        took = time.monotonic() - request.created_at
        task = {"task": request.task} if request.task else {}
        self._host.log.debug("%s -> %s in %.1f ms", request.describe(), header["op"], took * 1000, extra=task)
        trace = self._trace()
        if trace is not None:
            row, label = getattr(request.client, "pid", 0), request.describe().partition(" ")[2]
            totals = self._host.login.totals() if self._host.login is not None else {}
            trace.request(self._host.name, row, label, trace.to_wall_clock(request.created_at), header.get("timings"), totals)
