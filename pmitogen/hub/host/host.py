"""One host: its connection, its accounts, and the requests under way. Everything here happens on the hub's I/O thread.

Requests wait while the host is CONNECTING (see states.py). From BOOTING on they are sent at once, behind the bundle that
starts Python, so that the first task costs no round trip of its own; if there turns out to be no Python, they are taken back, and
served by the login shell and SFTP. A host that was asked only for commands of its login shell (``raw``) is SHELL_ONLY, too:
it may be an appliance, so nothing else is sent to it. The first request of another kind then starts Python; so do several simple
commands (without_python/simple_commands.py), which do not wait for it. request_sender.py sends requests, answer_reader.py reads
answers, and connector.py makes the connection.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pmitogen import toggles
from pmitogen.errors import BecomeError, ConnectionLost, Error, UsageError
from pmitogen.hub.agent_channel import AgentChannel
from pmitogen.hub.back_pressure import BackPressure
from pmitogen.hub.host.accounts import Accounts
from pmitogen.hub.host.answer_reader import AnswerReader
from pmitogen.hub.host.interfaces import Connector, Replacement, ShellBackend
from pmitogen.hub.host.known_answers import KnownAnswers
from pmitogen.hub.host.pending import PendingRequests
from pmitogen.hub.host.request_sender import RequestSender
from pmitogen.hub.host.stale_interpreters import EarlyAnswers, StaleInterpreters
from pmitogen.hub.host.states import WITHOUT_AGENT, Event, State, next_state
from pmitogen.hub.requests import Request, cancels_unsent_request, next_request_id
from pmitogen.hub.scheduler import Guard
from pmitogen.hub.without_python import simple_commands
from pmitogen.logging import for_host
from pmitogen.protocol.error_kinds import OptionsError, ProtocolError
from pmitogen.protocol.gate import InterpreterError
from pmitogen.protocol.operations import FINAL, Op
from pmitogen.util.caller import NOBODY, CallerEnvironment

if TYPE_CHECKING:
    from pmitogen.hub.blob_store import BlobStore
    from pmitogen.hub.login import BootChannel, Login
    from pmitogen.hub.mitogen_router import Router
    from pmitogen.hub.scheduler import Scheduler
    from pmitogen.hub.trace import Trace
    from pmitogen.protocol import messages_from_agent
    from pmitogen.protocol.escalation_plan import EscalationPlan
    from pmitogen.protocol.messages_to_client import Answer, Transfer
    from pmitogen.protocol.requests import BecomeRequest, ConnectionOptions, FollowUp
    from pmitogen.transport.auth.credentials import Prompt

LOG = logging.getLogger("pmitogen.hub")


class Host:
    """One connection of an option set, and its requests. Once DEAD it stays so; HostRegistry makes another. I/O thread.

    :param options: the raw option set that a worker sent.
    :param caller: the process whose options these are.
    :param scheduler: the hub's queue and timers.
    :param router: sends messages to agents.
    :param blobs: the contents of payloads.
    :param plan: makes the plan of a become request; raises UsageError.
    :param trace: returns the timeline of the run, or None.
    """

    connector: Connector
    shell_backend: ShellBackend

    def __init__(
        self,
        options: ConnectionOptions,
        caller: CallerEnvironment,
        scheduler: Scheduler,
        router: Router,
        blobs: BlobStore,
        plan: Callable[[BecomeRequest], EscalationPlan],
        trace: Callable[[], Trace | None],
    ) -> None:
        self.keys: set[str] = set()  # of the option sets that use it, in the registry
        self.options = options
        self.caller = caller
        self.name = str(options.get("host") or "?")
        self.log = for_host(LOG, self.name)
        self.state = State.NEW
        self.guard = Guard(scheduler, self._failed)  # of everything that is done about this host
        self.login: Login | None = None
        self.ask: Prompt | None = None  # asks the user during the login
        self.last_used = time.monotonic()
        self.end_reason = ""
        self.agent_channel = AgentChannel(router, blobs)
        self.no_python_reason = ""  # why the host has no Python, if so
        self.python_is_broken = False  # whether that is because it fails to start
        self.runs_sh = True  # whether the login shell can run /bin/sh
        self.needs_python = False  # whether any request needs Python. Written on the I/O thread, read on any
        self.agent_hello: messages_from_agent.Hello | None = None
        self._pending = PendingRequests()
        self._early = EarlyAnswers()
        self._accounts = Accounts(plan, self.guard, self.agent_channel.send, options.get("boot_python") or ())
        self._known = KnownAnswers(self._accounts)
        self._stale = StaleInterpreters(self, self._accounts, self._early, lambda: self._pending.under_way)
        self._pressure = BackPressure(lambda: self.agent_channel.queued + self._pending.waiting_size)
        self._sender = RequestSender(self, self._accounts, self._pending, self._early, self._known, trace)
        self._answers = AnswerReader(
            self, self._accounts, self._pending, self._early, self._known, self._stale, self._sender, trace
        )
        self._simple = simple_commands.FirstCommands()

    @property
    def peer(self) -> str:
        """The account and address of the login, for messages; the host's name before the login."""
        return (self.login.peer if self.login is not None else "") or self.name

    @property
    def busy(self) -> bool:
        """True if any request is under way."""
        return bool(self._pending)

    @property
    def replacement(self) -> Replacement | None:
        """The host that takes all further requests, if the session is out of date."""
        return self._stale.replacement

    @property
    def executable(self) -> str | None:
        """The interpreter that serves the login account."""
        return self._accounts.login_account.executable

    @property
    def withheld(self) -> str | None:
        """The reason to send no secret to this host, or None."""
        return self.login.withheld if self.login is not None else None

    def describe(self) -> dict[str, object]:
        """Return the connection's properties: Python, accounts, seconds per stage, bytes, algorithms."""
        hello: messages_from_agent.Hello | dict[str, None] = self.agent_hello or {}
        python = {"python": hello.get("python_version"), "no_python": self.no_python_reason, "exe": self.executable}
        account = {"user": hello.get("user"), "home": hello.get("home"), "accounts": len(self._accounts)}
        connection = self.login.describe() if self.login is not None else {}
        return {"state": self.state.value, **python, **account, **connection}

    def transfers(self) -> list[Transfer]:
        """Return the transfers of files under way."""
        return self._pending.transfers(self.name)

    def _on(self, event: Event) -> None:
        """Change the state. No other method does. Raises IllegalTransition."""
        before, self.state = self.state, next_state(self.state, event)
        self.log.debug("%s: %s -> %s", event.value, before.value, self.state.value)

    # Requests from clients

    def submit(self, request: Request) -> None:
        """Accept a request: send it, queue it until there is a connection, or answer it from memory."""
        if self._stale.join(request):
            request.host = self
            return
        replacement, before = self.replacement, self._early.account(request.header.get("chain", 0))
        if replacement is not None and before is None:
            replacement.guard.run(replacement.submit, request)
            return
        request.idle_before = 0.0 if self.busy else time.monotonic() - self.last_used
        self.last_used = request.created_at = time.monotonic()
        request.request_id, request.host = next_request_id(), self
        self._simple.check(request.header, self.needs_python or self.state is State.UP, len(self._pending))
        is_first, self.needs_python = not self.needs_python, self.needs_python or request.needs_python
        if replacement is not None and before is not None:
            self._sender.send_after(before, request)
        elif request.header.pop("own_session", False) and self.state in (State.BOOTING, State.UP):
            self.serve_by_shell(request)
        elif request.header.get("simple") and self.login is not None and self.state in WITHOUT_AGENT:
            self.serve_by_shell(request)
            self._start_python_ahead()
        elif self.state in (State.BOOTING, State.UP):
            self._sender.send(request)
        elif self.state is State.SHELL_ONLY and is_first and self.needs_python:
            self.retry_boot(request)
        elif self.state is State.SHELL_ONLY:
            self.serve_by_shell(request)
        elif self.state is State.DEAD:
            request.fail(ConnectionLost(f"{self.name}: the connection has ended"))
        else:
            self._pending.wait(request)
            if self.state is State.NEW:
                self._on(Event.CONNECT)
                self.connector.connect(request.login_python)
        self._pressure.check(request.client)

    def _start_python_ahead(self) -> None:
        """Start Python once commands are many; further ones need not wait for it."""
        if self.state is State.SHELL_ONLY and self._simple.are_many(self.connector.host_count):
            self._on(Event.PYTHON_WANTED)
            self.connector.start_python(None)

    def run_by_agent(self, request: Request) -> None:
        """Pass on to Python a simple command that the login shell has not run."""
        if self._pending.close(request):
            request.header.pop("simple", None)
            request.shell_request = None
            self.submit(request)

    def follow(self, request: Request, header: FollowUp, body: bytes) -> None:
        """Handle a frame that belongs to a request: data, end of input, credit, or a cancellation."""
        if header["op"] in (Op.KILL, Op.SIGNAL):
            request.is_cancelled = True
        if header.pop("secret", False) and self.withheld:
            request.fail(BecomeError(f"{self.peer}: {self.withheld}", "other"))
            self.abandon(request)
        elif request.sent and request.account is not None:
            if not request.is_answered:  # it may have to be resent
                request.followups.append((header, body))
            request.moved += len(body)
            self.agent_channel.send({**header, "id": request.request_id, "account": request.account.number}, body)
        elif self._pending.get(request.request_id) is not None and request.shell_request is not None:
            request.moved += len(body)
            request.shell_request.follow(header, body)
        elif cancels_unsent_request(header):
            self._pending.stop_waiting(request)
            request.fail(ConnectionLost(f"{self.name}: cancelled before it began"))
        else:
            request.followups.append((header, body))
        if body:
            self._pressure.check(request.client)

    def abandon(self, request: Request) -> None:
        """Cancel a request whose client has disconnected."""
        request.client = None
        self.follow(request, {"op": Op.KILL.value}, b"")

    def end_chain(self, chain: int) -> None:
        """Forget the requests of *chain*, whose client has disconnected."""
        self._early.forget(chain)
        self._stale.end_unused()
        if self.replacement is not None:
            self.replacement.end_chain(chain)

    def may_have_lost(self, chain: int) -> bool:
        """Return whether a request of *chain* that was acknowledged early may have been lost with the connection."""
        return chain in self._early

    def send_waiting(self) -> None:
        """Send the requests that wait."""
        for request in self._pending.take_waiting():
            self._sender.send(request)
        self._pressure.release()

    def serve_by_shell(self, request: Request) -> None:
        """Serve a request without Python."""
        if request.header["op"] == Op.PRECONNECT:
            request.answer({"op": Op.OK.value})
        else:
            request.sent = False
            self._pending.open(request)
            self.shell_backend.start(request)

    def on_shell_frame(self, request: Request, header: Answer, body: bytes) -> None:
        """Pass on a frame of a request that is served without Python."""
        if self._pending.get(request.request_id) is not None:
            if header["op"] in FINAL:
                self._pending.close(request)
                self._answers.log_end(request, header)
                self._stale.end_unused()
            request.moved += len(body)
            request.answer(header, body)

    def retry_boot(self, request: Request) -> None:
        """Start Python for a request on a host that has none so far: it may have been installed meanwhile."""
        self._pending.wait(request)
        if self.state is not State.CONNECTING:  # for another request
            self._on(Event.PYTHON_WANTED)
            self.connector.start_python(request.login_python)

    def on_session_refused(self) -> None:
        """Start Python by another connection, if needed: commands hold all the sessions that the server allows on this one."""
        requests = self._pending.take_waiting()
        self._use_shell_only(Event.LOGGED_IN)
        if self.needs_python:
            self._stale.reconnect(requests)

    # Between runs, and between connections

    def end_run(self) -> None:
        """Discard everything of the run except the connection and the login account's interpreter."""
        self._accounts.close_all()
        self.keys.clear()
        self.options, self.caller, self.ask = {}, NOBODY, None
        if self.login is not None:
            self.login.forget_caller()

    def begin_run(self, host: Host) -> None:
        """Adopt the options and the caller of *host*, which a later run has requested and this connection can serve."""
        self.options, self.caller, self.name, self.log = host.options, host.caller, host.name, host.log

    def join(self, other: Host) -> None:
        """Pass all requests, and all further ones, to another host that has the same connection."""
        self._on(Event.END)
        self._stale.replacement = other
        for request in self._pending.take_waiting():
            other.guard.run(other.submit, request)

    def succeed(self, host: Host) -> None:
        """Begin as the replacement of *host*: its connector is about to make the session."""
        self.keys, self.ask, self.needs_python = host.keys, host.ask, True
        self._on(Event.CONNECT)

    # The connection

    def on_message(self, data: bytes, packed: bool) -> None:
        """Handle a message from the agent. Raises ProtocolError."""
        frame = self.agent_channel.read(data, packed)
        if frame is not None:
            self._answers.on_frame(*frame)

    def on_channel(self, booting: BootChannel, login: Login) -> None:
        """Note that the bundle was sent, and send the requests that wait."""
        if self.state is not State.CONNECTING:
            login.close()
            return
        self.login = login
        self.agent_channel.open(booting, "xz" if login.is_high_latency and toggles.request_pipelining_enabled() else "zlib")
        booting.stream.writer.on_low = lambda: self.guard.defer(self._pressure.release)
        self._answers.boot_failed = False
        self._on(Event.PYTHON_STARTING)
        self.send_waiting()

    def on_agent_up(self, hello: messages_from_agent.Hello) -> None:
        """Handle the agent's hello: Python is up."""
        self._on(Event.PYTHON_UP)
        self.agent_hello = hello
        if self.login is not None:
            self.login.note_python_started()

    def on_login(self, login: Login) -> None:
        """Note the login, which began when no request needed Python."""
        if self.state is not State.CONNECTING:
            login.close()
            return
        self.login = login
        if self.needs_python:  # another request arrived meanwhile
            named = [request.login_python for request in self._pending.waiting]
            self.connector.start_python(next(filter(None, named), None))
        else:
            self._use_shell_only(Event.LOGGED_IN)

    def on_no_python(self, login: Login, reason: str, runs_sh: bool = True, is_broken: bool = False) -> None:
        """Serve all requests without Python, including those already sent: there is no interpreter."""
        self.login, self.runs_sh, self.python_is_broken = login, runs_sh, is_broken
        self.agent_channel.reset()
        self.no_python_reason = reason
        self._accounts.reset()
        self._use_shell_only(Event.NO_PYTHON)

    def _use_shell_only(self, event: Event) -> None:
        self._on(event)
        for request in self._pending.take_waiting() + self._pending.take_open(lambda request: request.shell_request is None):
            self.serve_by_shell(request)

    # The end

    def _failed(self, exc: Exception) -> None:
        """Handle failed work about this host: end the host, or the interpreter that caused it."""
        if isinstance(exc, InterpreterError):
            self._answers.end_interpreter(exc)
        elif isinstance(exc, ProtocolError):
            self.log.warning("protocol error: the target sent %s", exc)
            self.fail(ConnectionLost(f"{self.peer}: protocol error: the target sent {exc}; the connection was closed"))
        else:
            self.log.error("internal error", exc_info=exc)
            self.fail(ConnectionLost(f"{self.peer}: internal error: {type(exc).__name__}; PMITOGEN_LOG=debug shows more"))

    def fail(self, error: Error) -> None:
        """End the host, and every request with *error*: there is no connection, or it is lost."""
        if self.state is not State.DEAD:
            self.end_reason = error.message
            self._end(OptionsError(error.problem, error.origin) if isinstance(error, UsageError) else error)

    def close(self, reason: str = "") -> None:
        """End the connection, and with it every process that pmitogen started on the host. Idempotent.

        :param reason: the message of unfinished requests.
        """
        self.end_reason = self.end_reason or f"{self.peer}: {reason or 'the connection was closed'}"
        self._end(ConnectionLost(self.end_reason))

    def _end(self, error: Error) -> None:
        requests = self._pending.take_all() + self._stale.take_held()
        if self.state is not State.DEAD:
            self._on(Event.END)
        self.guard.close()
        self._pressure.release_all()
        self.connector.close()
        for request in requests + self._pending.take_all():
            request.fail(error)

    def end_session(self) -> None:
        """End a session that has a replacement and nothing left to do. Idempotent."""
        if self.state is State.DEAD:
            return
        self._on(Event.END)
        self.guard.close()
        self.connector.close_session()
