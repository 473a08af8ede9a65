"""One host: its connection, its accounts, and the requests under way. Everything here happens on the hub's I/O thread.

::

    NEW -> CONNECTING -> BOOTING -> UP
                |           |        |
                v           v        v
              DEAD        PLAIN     DEAD         (DEAD hosts are forgotten; the next request makes a new one)

A host is PLAIN after CONNECTING, too, if all that was asked so far are commands for its login shell (``raw``): nothing but these
is sent to a host that may be an appliance. The first request of another kind then starts Python.

Requests wait while CONNECTING. From BOOTING on they are sent at once, behind the bundle that starts Python, so that the
first task costs no round trip of its own; if there turns out to be no Python they are taken back and go over plain SSH.

Its interpreters are in accounts.py, and how they are spoken to in wire.py.
"""

from __future__ import annotations

import enum
import itertools
import logging
import math
import signal
import time
from typing import TYPE_CHECKING

from pmitogen import toggles
from pmitogen.errors import BecomeError, ConnectionLost, Error, UsageError
from pmitogen.flags.ansible import DEFAULT_SSH_ARGS
from pmitogen.hub.accounts import Account, Accounts
from pmitogen.hub.agent_channel import Wire
from pmitogen.hub.back_pressure import BackPressure
from pmitogen.hub.known_answers import KnownAnswers
from pmitogen.hub.renewal import EarlyAnswers, Renewal
from pmitogen.hub.requests import FINAL, Header, Request, Then
from pmitogen.hub.scheduler import Guard
from pmitogen.logging import for_host
from pmitogen.protocol.errors import InterpreterEnded, OptionsError, ProtocolError
from pmitogen.protocol.gate import InterpreterError
from pmitogen.protocol.operations import ErrorKind
from pmitogen.util.caller import NOBODY, CallerEnvironment
from pmitogen.util.peer_text import escape

if TYPE_CHECKING:
    from pmitogen.hub.registry import Contexts
    from pmitogen.hub.session import Booting, Login
    from pmitogen.transport.auth.credentials import Prompt

LOG = logging.getLogger("pmitogen.hub")
LOGIN_ENDED = "the interpreter of the login account has ended"
DEFAULT_PERSISTENCE = 60.0  # seconds: what DEFAULT_SSH_ARGS say
GOING_DOWN = 0.5  # seconds between the end of a process on a host that goes down and that of the connection
KILLED = frozenset(128 + number for number in (signal.SIGHUP, signal.SIGKILL, signal.SIGTERM))  # exit codes of such processes
_rids = itertools.count(1)


class State(enum.Enum):
    """See the head of this file."""

    NEW = "new"
    CONNECTING = "connecting"
    BOOTING = "booting"
    UP = "up"
    PLAIN = "plain"
    DEAD = "dead"


class Host:
    """See the head of this file. *options* is the raw option set that a worker sent for its *caller*."""

    def __init__(self, contexts: Contexts, options: Header, caller: CallerEnvironment) -> None:
        self.contexts = contexts
        self.keys: set[str] = set()  # of the option sets that use it, in the registry
        self.options = options
        self.caller = caller
        self.name = str(options.get("host") or "?")
        self.log = for_host(LOG, self.name)
        self.state = State.NEW
        self.guard = Guard(contexts.scheduler, self._failed)  # of everything that is done about this host
        self.login: Login | None = None
        self.ask: Prompt | None = None  # a person, for questions of the login
        self.born = time.monotonic()
        self.last_used = self.born
        self._waiting: list[Request] = []
        self._open: dict[int, Request] = {}
        self._early = EarlyAnswers()
        self.end = ""  # how the connection ended
        self.wire = Wire(contexts.router, contexts.blobs)
        self._accounts = Accounts(contexts, self.guard, self.wire.send, options.get("boot_python") or ())
        self._known = KnownAnswers(self._accounts)
        self.renewal = Renewal(self, self._accounts, self._early)
        self._pressure = BackPressure(lambda: self.wire.queued + sum(request.size for request in self._waiting))
        self.no_python = ""  # why there is none, where there is none
        self.python_is_broken = False  # whether that is because it breaks down at its start
        self.runs_sh = True  # whether the login shell is one that starts /bin/sh
        self.needs_python = False  # whether anything was asked that needs one. Written on the I/O thread, read on any
        self.hello: Header = {}
        self._booting_since = 0.0
        self._boot_failed = False  # whether the login account's interpreter has ended before it was up

    @property
    def peer(self) -> str:
        """Who logged in where, for messages; the host's name, while nobody has."""
        return str(self.login.link.peer) if self.login is not None and self.login.link is not None else self.name

    @property
    def busy(self) -> bool:
        """Whether any request is under way."""
        return bool(self._open or self._waiting)

    @property
    def exe(self) -> str | None:
        """The interpreter that serves the login account."""
        return self._accounts.login.exe

    def describe(self) -> Header:
        """What is known of the connection, for people."""
        found: Header = {
            "state": self.state.value,
            "python": self.hello.get("python"),
            "no_python": self.no_python,
            "exe": self.exe,
            "user": self.hello.get("user"),
            "home": self.hello.get("home"),
            "accounts": len(self._accounts),
        }
        return {**found, **(self.login.describe() if self.login is not None else {})}

    @property
    def withheld(self) -> str | None:
        """Why no secret goes to this host, or None."""
        return self.login.withheld if self.login is not None else None

    # Requests from clients

    def submit(self, request: Request) -> None:
        """Take a request: send it, keep it until there is a connection, or answer it from what is known."""
        successor, before = self.renewal.successor, self._early.account(request.header.get("chain", 0))
        if successor is not None and before is None:
            successor.guard.run(successor.submit, request)
            return
        request.idle_before = 0.0 if self.busy else time.monotonic() - self.last_used
        self.last_used = request.born = time.monotonic()
        request.rid, request.host = next(_rids), self
        untried, self.needs_python = not self.needs_python, self.needs_python or request.needs_python
        if successor is not None and before is not None:
            self._send_after(before, request)
        elif request.header.pop("plain", False) and self.state in (State.BOOTING, State.UP):
            self._plain(request)
        elif self.state in (State.BOOTING, State.UP):
            self._send_request(request)
        elif self.state is State.PLAIN and untried and self.needs_python:
            self.retry_boot(request)
        elif self.state is State.PLAIN:
            self._plain(request)
        elif self.state is State.DEAD:
            request.fail(ConnectionLost(f"{self.name}: the connection has ended"))
        else:
            self._waiting.append(request)
            if self.state is State.NEW:
                self.state = State.CONNECTING
                self.contexts.connect(self, request.login_python)
        self._pressure.check(request.client)

    def follow(self, request: Request, header: Header, body: bytes) -> None:
        """Take a frame that belongs to a request: data for it, credit, or its end."""
        if header["op"] == "kill":
            request.ending = True
        if header.pop("secret", False) and self.withheld:
            request.fail(BecomeError(f"{self.peer}: {self.withheld}", "other"))
            self.abandon(request)
        elif request.sent:
            if not request.heard:  # it may have to be made again
                request.tail.append((header, body))
            self.wire.send({**header, "id": request.rid, "acct": request.account.number}, body)
        elif request.rid in self._open and request.serving is not None:
            self.contexts.plain_follow(self, request, header, body)
        elif header["op"] == "kill":
            self._waiting = [other for other in self._waiting if other is not request]
        else:
            request.tail.append((header, body))
        if body:
            self._pressure.check(request.client)

    def abandon(self, request: Request) -> None:
        """Whoever asked has gone: end what it started."""
        request.client = None
        self.follow(request, {"op": "kill"}, b"")

    def end_chain(self, chain: int) -> None:
        """Whoever made the requests of *chain* has gone."""
        self._early.forget(chain)
        self.renewal.end_unused()
        if self.renewal.successor is not None:
            self.renewal.successor.end_chain(chain)

    def _send_request(self, request: Request) -> None:
        header = request.header
        if header["op"] == "ahead":
            self._connected_ahead(request)
            return
        if header["op"] == "fs" and self._known.answer(request):
            return
        try:
            account = self._accounts.wanted_by(header)
            before = self._early.account(header.get("chain", 0))
            if before is not None and before is not account:
                self._send_after(before, request)
                return
            message = {
                key: value
                for key, value in header.items()
                if key not in ("become", "python", "bootenv", "early", "zip", "likely_python")
            }
            if header["op"] == "run":
                message["man"] = self.wire.supply(header)
        except Error as exc:
            request.fail(exc)
            return
        if self._accounts.leave(request, account):
            self._waiting.append(request)
            return
        room = self._early.has_room(header.get("chain", 0), len(request.body))
        quiet = bool(header.get("early")) and (request.told or room and self._known.answer_ahead(request, account))
        if quiet:
            message["quiet"] = True  # a failure surfaces at the next request of the same chain
        message.update(id=request.rid, acct=account.number)
        if self.contexts.trace is not None:
            message["trace"] = True
        if request.idle_before > self._ssh_would_keep:
            message["reconnect"] = True
        if account.number == 0 and header.get("python") and account.exe is None:
            message["if_python"] = header["python"][0]
        request.account, request.sent = account, True
        account.last_used = time.monotonic()
        self.wire.send(message, request.body)
        if quiet:
            if header.get("do") != "remove":  # of which nothing depends
                self._early.add(header["chain"], account, request)
            return
        account.busy += 1
        self._open[request.rid] = request
        tail, request.tail = request.tail, []
        for follow_header, follow_body in tail:
            self.follow(request, follow_header, follow_body)

    def _send_after(self, account: Account, request: Request) -> None:
        """Send a request once another interpreter has done what was answered early in its chain: nothing else orders the two.

        If that has ended meanwhile, the agent says so, and the request fails with it.
        """

        def go_on(answer: Header) -> None:
            if answer["op"] == "error":
                request.answer(answer)
            elif not request.ending:
                self.submit(request)

        question: Header = {"op": "fs", "do": "exists", "path": "/", "chain": request.header["chain"], "as_is": True}
        asking = Request(Then(go_on), 0, question, b"", rid=next(_rids), account=account, sent=True, born=time.monotonic())
        asking.before = request
        account.busy += 1
        self._open[asking.rid] = asking
        self.wire.send({**question, "id": asking.rid, "acct": account.number}, b"")

    def _connected_ahead(self, request: Request) -> None:
        """All that is wanted is to be connected."""
        if self.state is State.BOOTING:
            self._waiting.append(request)
        else:
            request.answer({"op": "ok"})

    def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            self._send_request(request)
        self._pressure.release()

    # What need not be waited for

    def may_lack(self, chain: int) -> bool:
        """Whether this connection may have ended before something was done that was answered early, in *chain*."""
        return chain in self._early

    @property
    def _ssh_would_keep(self) -> float:
        """Seconds that Ansible's ssh would keep this connection after its last use."""
        args = self.options.get("ssh_args")
        if args is None or self.options.get("otp") or self.login is None or self.login.settings is None:
            return math.inf  # the library's connections last; a one-time password is good for one login
        if str(args).split() == DEFAULT_SSH_ARGS.split():
            return DEFAULT_PERSISTENCE
        seconds = self.login.settings.controlpersist
        return math.inf if seconds < 0 else seconds

    def end_run(self) -> None:
        """The run has ended and the connection outlives it: keep that and its interpreter, and nothing else of the run."""
        self._accounts.drop_all()
        self.keys.clear()
        self.options, self.caller, self.ask = {}, NOBODY, None
        if self.login is not None:
            self.login.forget_caller()

    def begin_run(self, host: Host) -> None:
        """Be the connection of *host*, which another run would else make anew."""
        self.options, self.caller, self.name, self.log = host.options, host.caller, host.name, host.log

    def join(self, other: Host) -> None:
        """Have another host, which has the same connection, take over all that was asked of this one, and what will be."""
        self.state, self.renewal.successor = State.DEAD, other
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            other.guard.run(other.submit, request)

    # What the agent says

    def on_message(self, data: bytes, packed: bool) -> None:
        """A message from the agent. Raises ProtocolError."""
        frame = self.wire.read(data, packed)
        if frame is not None:
            self._on_frame(dict(frame[0]), frame[1])

    def _on_frame(self, header: Header, body: bytes) -> None:
        """Take a frame that has passed the gate."""
        if self._boot_failed:  # what was asked is going to be asked again, over plain SSH
            return
        op = header["op"]
        if op == "hello":
            self._on_hello(header)
        elif op == "gone":
            account = self._accounts.get(header["acct"])
            if account is not None and account.number:
                self._accounts.forget(account)
            elif account is not None and self.state is State.BOOTING:
                self._boot_failed = True
                self.contexts.give_up_boot(self)
            elif account is not None:  # nothing makes another: the next request makes another connection
                self.fail(ConnectionLost(f"{self.peer}: {LOGIN_ENDED}"))
        elif op == "left":
            if self._accounts.left(header["acct"]):
                self._send_waiting()
        elif op == "ask":
            self._accounts.on_ask(header, self.withheld)
        elif op == "changed":
            self._known.forget_homes()
        elif op == "late":
            self.log.warning("%s", escape(header["msg"]))
        elif op == "lack":
            self.wire.resend()
        else:
            header.pop("acct", None)
            self._on_answer(header, body)

    def _on_hello(self, header: Header) -> None:
        account = self._accounts.get(header["acct"])
        if account is None:
            return
        account.on_hello(header)
        self.log.debug(
            "account %d is up: user %s, %s, Python %s",
            account.number,
            escape(str(account.user), 80),
            escape(str(account.exe)),
            escape(str(header.get("python")), 80),
        )
        if account.number == 0:
            self.state = State.UP
            self.hello = header
            if self.login is not None:
                self.login.stages["python"] = time.monotonic() - self._booting_since
                if self.contexts.trace is not None:
                    self.contexts.trace.stages(self.name, time.time(), self.describe()["stages"])
            self._known.on_login(account)
            self._send_waiting()  # those that learnt too early that they want another interpreter

    def _on_answer(self, header: Header, body: bytes) -> None:
        request = self._open.get(header["id"])
        if request is None:
            return
        if header.get("kind") == "stale":
            self._take_back(request)
            self.renewal.on_refusal(request, header)
            self.renewal.end_unused()
            return
        if header.get("kind") != "python-mismatch":
            request.heard = True
            request.tail.clear()
        if (header.get("kind") == "gone" or header.get("rc") in KILLED) and not request.ending:
            # A host that goes down kills processes one by one: if the connection follows, it is that which is lost.
            request.ending = True
            self.guard.later(GOING_DOWN, self._on_answer, header, body)
            return
        if header["op"] in FINAL:
            self._take_back(request)
            if header["op"] == "error" and header.get("kind") == "python-mismatch":
                self._again(request)
                return
            if header.get("why") == "state" and header.get("kind") is None:  # the interpreter cannot start it as a login would
                if request.header["op"] == "exec" and not request.header.get("become"):
                    request.sent = False
                    self._plain(request)
                    return
                header["kind"] = ErrorKind.WRAP.value
            if self._took_a_bad_interpreter(request, header):
                self._accounts.forget(request.account)
                self._again(request)
                return
            if header["op"] == "error" and request.account is not None and header.get("kind") in ("become", "python", "gone"):
                self._accounts.forget(request.account)
                if header["kind"] == "become":
                    header["msg"] = f"{self.peer}: {header['msg']}"
            self._early.confirm(request.header.get("chain", 0), request.account)
            took = time.monotonic() - request.born
            task = {"task": request.task} if request.task else {}
            self.log.debug("%s -> %s in %.1f ms", request.describe(), header["op"], took * 1000, extra=task)
            if self.contexts.trace is not None:
                self._trace(request, header)
            self._known.remember(request, header)
            self.last_used = time.monotonic()
        request.answer(header, body)
        if header["op"] in FINAL:
            self.renewal.end_unused()

    def _take_back(self, request: Request) -> None:
        """It is no longer under way."""
        del self._open[request.rid]
        if request.account is not None:
            request.account.busy -= 1

    def _trace(self, request: Request, header: Header) -> None:
        trace = self.contexts.trace
        assert trace is not None
        row = getattr(request.client, "pid", 0)
        what = request.describe().partition(" ")[2]
        trace.request(self.name, row, what, trace.wall(request.born), header.get("t"))

    @staticmethod
    def _took_a_bad_interpreter(request: Request, header: Header) -> bool:
        """Whether it names no interpreter, and failed for one that another request has named."""
        named = request.account is not None and request.account.python and not request.header.get("python")
        return bool(named and "python" in (header.get("kind"), header.get("why")) and not request.header.get("more"))

    def _again(self, request: Request) -> None:
        """The interpreter that booted is not the one that the first request wanted: ask for that one."""
        request.sent = False
        request.header.pop("likely_python", None)
        if self.state is State.UP:
            self._send_request(request)
        else:
            self._waiting.append(request)

    # What fails

    def _failed(self, exc: Exception) -> None:
        """Work about this host has failed: end the host, or the interpreter that is to blame."""
        if isinstance(exc, InterpreterError):
            account = self._accounts.get(exc.account)
            if account is not None:
                who = f"the interpreter of account {escape(account.user or '?')}"
                self.log.warning("protocol error: %s sent %s", who, exc)
                self._accounts.drop(account)
                for request in [request for request in self._open.values() if request.account is account]:
                    del self._open[request.rid]
                    request.fail(InterpreterEnded(f"{self.peer}: protocol error: {who} sent {exc}; it was ended"))
        elif isinstance(exc, ProtocolError):
            self.log.warning("protocol error: the target sent %s", exc)
            self.fail(ConnectionLost(f"{self.peer}: protocol error: the target sent {exc}; the connection was closed"))
        else:
            self.log.error("internal error", exc_info=exc)
            self.fail(ConnectionLost(f"{self.peer}: internal error: {type(exc).__name__}; PMITOGEN_LOG=debug shows more"))

    # The connection's life

    def on_channel(self, booting: Booting, login: Login) -> None:
        """The bundle is on its way; requests may follow it."""
        if self.state is not State.CONNECTING:
            login.close()
            return
        self.login = login
        self.wire.open(booting, "xz" if login.is_far and toggles.saves_trips() else "zlib")
        booting.stream.writer.on_low = lambda: self.guard.defer(self._pressure.release)
        self.state, self._boot_failed = State.BOOTING, False
        self._booting_since = time.monotonic()
        self._send_waiting()

    def on_login(self, login: Login) -> None:
        """Logged in, and nothing that has been asked needs Python."""
        if self.state is not State.CONNECTING:
            login.close()
            return
        self.login = login
        if self.needs_python:  # something else has been asked meanwhile
            named = [request.login_python for request in self._waiting]
            self.contexts.reboot(self, next(filter(None, named), None))
        else:
            self._go_plain()

    def on_no_python(self, login: Login, why: str, runs_sh: bool = True, is_broken: bool = False) -> None:
        """There is a connection but no interpreter: what was sent is taken back and goes over plain SSH."""
        self.login, self.runs_sh, self.python_is_broken = login, runs_sh, is_broken
        self.wire.shut()
        self.no_python = why
        self._accounts.reset()
        self._go_plain()

    def _go_plain(self) -> None:
        self.state = State.PLAIN
        requests = self._waiting + [request for request in self._open.values() if request.serving is None]
        self._waiting, self._open = [], {rid: request for rid, request in self._open.items() if request.serving is not None}
        for request in requests:
            request.sent = False
            self._plain(request)

    def _plain(self, request: Request) -> None:
        if request.header["op"] == "ahead":
            self._connected_ahead(request)
            return
        self._open[request.rid] = request
        self.contexts.plain(self, request)

    def plain_done(self, request: Request, header: Header, body: bytes) -> None:
        """A frame of a request that went over plain SSH."""
        if request.rid in self._open:
            if header["op"] in FINAL:
                del self._open[request.rid]
            request.answer(header, body)

    def retry_boot(self, request: Request) -> None:
        """A module on a host without Python: perhaps there is one by now."""
        self._open.pop(request.rid, None)
        self._waiting.append(request)
        if self.state is not State.CONNECTING:  # for another request
            self.state = State.CONNECTING
            self.contexts.reboot(self, request.login_python)

    def fail(self, exc: Error) -> None:
        """The connection cannot be had, or is lost: everything under way ends with one line."""
        if self.state is State.DEAD:
            return
        self.state = State.DEAD
        self.end = exc.message
        requests = self._waiting + list(self._open.values())
        self._waiting, self._open = [], {}
        self.close()
        for request in requests:
            request.fail(OptionsError(exc.message) if isinstance(exc, UsageError) else exc)

    def end_session(self) -> None:
        """Its successor has taken its place, and it has nothing left to do."""
        self.state = State.DEAD
        self.guard.close()
        self.contexts.close_session(self)

    def close(self, reason: str = "") -> None:
        """End the connection, and with it every process of ours on the host. *reason*: what unfinished requests are told."""
        self.state = State.DEAD
        self.end = self.end or f"{self.peer}: {reason or 'the connection was closed'}"
        self.guard.close()
        self._pressure.release_all()
        self.contexts.forget(self)
        if self.wire.booting is not None:
            self.wire.booting.stream.on_disconnect(self.contexts.broker)
        if self.login is not None:
            self.login.close()
        requests = self._waiting + list(self._open.values())
        self._waiting, self._open = [], {}
        for request in requests:
            request.fail(ConnectionLost(self.end))
