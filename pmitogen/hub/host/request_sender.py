"""Sending the requests of one host to its agent. I/O thread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

from pmitogen.errors import Error
from pmitogen.flags.ansible import DEFAULT_SSH_ARGS
from pmitogen.hub.agent_channel import AgentChannel
from pmitogen.hub.host.accounts import Account, Accounts
from pmitogen.hub.host.known_answers import KnownAnswers
from pmitogen.hub.host.pending import PendingRequests
from pmitogen.hub.host.stale_interpreters import EarlyAnswers
from pmitogen.hub.host.states import State
from pmitogen.hub.requests import CallbackClient, Request, next_request_id
from pmitogen.protocol.operations import Fs, Op

if TYPE_CHECKING:
    from pmitogen.hub.login import Login
    from pmitogen.hub.trace import Trace
    from pmitogen.protocol.messages_to_client import Answer
    from pmitogen.protocol.requests import ConnectionOptions, FollowUp, RequestHeader

DEFAULT_PERSISTENCE = 60.0  # seconds: the ControlPersist of DEFAULT_SSH_ARGS
_NOT_SENT = frozenset(
    ("become", "python", "python_env", "ack_early", "archive", "likely_python", "simple")
)  # fields that are for the hub alone


class SendingHost(Protocol):
    """The host of the requests."""

    state: State
    agent_channel: AgentChannel
    options: ConnectionOptions
    login: Login | None

    def submit(self, request: Request) -> None:
        """Accept a request."""

    def follow(self, request: Request, header: FollowUp, body: bytes) -> None:
        """Accept a frame that belongs to a request."""


class RequestSender:
    """Finds or starts the account of each request, and sends the request to it."""

    def __init__(
        self,
        host: SendingHost,
        accounts: Accounts,
        pending: PendingRequests,
        early: EarlyAnswers,
        known: KnownAnswers,
        trace: Callable[[], Trace | None],
    ) -> None:
        self._host, self._accounts, self._pending = host, accounts, pending
        self._early, self._known, self._trace = early, known, trace

    def send(self, request: Request) -> None:
        """Send a request, answer it from memory, or queue it until accounts that it removes have ended."""
        header = request.header
        chain = header.get("chain", 0)
        if header["op"] == Op.PRECONNECT:
            self._finish_preconnect(request)
            return
        if header["op"] == Op.FS and self._known.answer(request):
            return
        try:
            account = self._accounts.account_for(header)
            before = self._early.account(chain)
            if before is not None and before is not account:
                self.send_after(before, request)
                return
            message = cast("RequestHeader", {key: value for key, value in header.items() if key not in _NOT_SENT})
            if header["op"] == Op.RUN:
                message["manifest"] = self._host.agent_channel.send_missing_blobs(header)
        except Error as exc:
            request.fail(exc)
            return
        if self._accounts.evict_for(request, account) or header.get("in_turn") and self._pending.has_waiting(chain):
            self._pending.wait(request)
            return
        is_unanswered = bool(header.get("ack_early")) and (
            request.is_acknowledged
            or self._early.has_room(chain, len(request.body))
            and self._known.acknowledge_early(request, account)
        )
        if is_unanswered:
            message["no_reply"] = True  # a failure surfaces at the next request of the same chain
        message["id"], message["account"] = request.request_id, account.number
        if self._trace() is not None:
            message["trace"] = True
        if request.idle_before > self._ssh_persistence:
            message["reconnect"] = True
        python = header.get("python")
        if account.number == 0 and python and account.executable is None:
            message["if_python"] = python[0]
        request.account, request.sent = account, True
        account.last_used = time.monotonic()
        self._host.agent_channel.send(message, request.body)
        if is_unanswered:
            if header.get("action") != Fs.REMOVE:  # nothing depends on a removal
                self._early.add(header["chain"], account, request)
            return
        account.active_requests += 1
        self._pending.open(request)
        followups, request.followups = request.followups, []
        for follow_header, follow_body in followups:
            self._host.follow(request, follow_header, follow_body)

    def send_after(self, account: Account, request: Request) -> None:
        """Send a request once *account* has done the requests of its chain that were acknowledged early.

        There is no other order between two interpreters. If the interpreter of *account* has ended meanwhile, the agent reports
        it, and the request fails with that error.
        """

        def go_on(answer: Answer) -> None:
            if answer["op"] == Op.ERROR:
                request.answer(answer)
            elif not request.is_cancelled:
                self._host.submit(request)

        question: RequestHeader = {
            "op": Op.FS.value,
            "action": Fs.EXISTS.value,
            "path": "/",
            "chain": request.header["chain"],
            "even_if_stale": True,
        }
        asking = Request(
            CallbackClient(go_on),
            0,
            question,
            b"",
            request_id=next_request_id(),
            account=account,
            sent=True,
            created_at=time.monotonic(),
        )
        asking.before = request
        account.active_requests += 1
        self._pending.open(asking)
        self._host.agent_channel.send({**question, "id": asking.request_id, "account": account.number}, b"")

    def resend(self, request: Request) -> None:
        """Send a request once more, because it got another interpreter than it needs."""
        request.sent = False
        request.header.pop("likely_python", None)
        if self._host.state is State.UP:
            self.send(request)
        else:
            self._pending.wait(request)

    def _finish_preconnect(self, request: Request) -> None:
        """Answer a request that only wants the connection."""
        if self._host.state is State.BOOTING:
            self._pending.wait(request)
        else:
            request.answer({"op": Op.OK.value})

    @property
    def _ssh_persistence(self) -> float:
        """The seconds for which Ansible's ssh would keep this connection after its last use."""
        host = self._host
        args = host.options.get("ssh_args")
        if args is None or host.options.get("otp") or host.login is None or host.login.settings is None:
            return math.inf  # the library's connections last; a one-time password is good for one login
        if str(args).split() == DEFAULT_SSH_ARGS.split():
            return DEFAULT_PERSISTENCE
        seconds = host.login.settings.controlpersist
        return math.inf if seconds < 0 else seconds
