"""One login on a host: from a raw option set to a connection and a running Python, on a login thread.

The thread resolves the options, connects, opens the one session channel, sends the command and the bundle behind it, and
passes the stream to the I/O thread, without waiting for further answers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Protocol

from pmitogen import logging as log
from pmitogen import toggles
from pmitogen.errors import ConnectError, Error
from pmitogen.flags import ansible as ansible_options
from pmitogen.flags.ssh.settings import Settings
from pmitogen.hub.scheduler import Guard
from pmitogen.hub.secret_options import credentials, secrets_of
from pmitogen.transport.auth.credentials import Prompt
from pmitogen.transport.login_limits import LOGIN_TIMEOUT, START_TIMEOUT, answer_timeout
from pmitogen.transport.proxy_command import ProxyCommands
from pmitogen.util import limits, threads
from pmitogen.util.caller import NOBODY, CallerEnvironment

if TYPE_CHECKING:
    from pmitogen.hub.mitogen_router import Router
    from pmitogen.hub.mitogen_stream import MitogenChannelStream
    from pmitogen.protocol.requests import ConnectionOptions
    from pmitogen.transport.connection import Connection
    from pmitogen.transport.connection_warnings import Warn
    from pmitogen.transport.forwarding.local import LocalForwarding
    from pmitogen.transport.forwarding.remote import RemoteForwarding
    from pmitogen.transport.jump_host_pool import JumpHostPool
    from pmitogen.util.worker_threads import WorkerThreads

LOG = logging.getLogger("pmitogen.hub")
HIGH_LATENCY = 0.1  # seconds for version and key exchange, which take a round trip each and some arithmetic
MAX_BACKOFF = 30  # seconds between two attempts
PROMPT_TIMEOUT = 120.0  # seconds added for the user's answers: sshd's default LoginGraceTime


@dataclasses.dataclass(eq=False, repr=False)
class BootChannel:
    """A session channel on which a Python is starting."""

    stream: MitogenChannelStream
    context_id: int
    token: str  # in the markers that the bootstrap prints


class Login:
    """One login on a host, with its connection. *options* are raw; secrets among them stay in memory.

    *caller*: the process that set them.
    """

    def __init__(
        self,
        options: ConnectionOptions,
        caller: CallerEnvironment,
        router: Router,
        jump_hosts: JumpHostPool,
        ask: Prompt | None,
        warn: Warn,
        starts_forwardings: bool = True,
    ) -> None:
        self._ask, self._warn, self._starts_forwardings = ask, warn, starts_forwardings
        self._caller = caller
        self._options = options
        self._router = router
        self.jump_hosts = jump_hosts
        self.connection: Connection | None = None
        self.settings: Settings | None = None
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._proxy_commands = ProxyCommands()
        self._login_timeout: float | None = options.get("login_timeout")  # seconds for the whole login; None: default limits
        self._deadline = 0.0  # time.monotonic() seconds; set by resolve(); begin_start() extends it
        self.stages: dict[str, float] = {}  # seconds; besides those of the connection
        self._channel_opened_at = 0.0  # time.monotonic() seconds
        self.before_close: Callable[[], None] | None = None  # ends commands that would go on without the connection; may block
        self.commands: Collection[object] | None = None  # these commands, as long as they are under way; None: unknown
        self.lent = 0  # clients of sharing/ssh_clients.py that use the connection. I/O thread
        self._lent_until = 0.0  # time.monotonic() seconds
        self._digest_for_clients: str | None = None
        self.predecessor: Login | None = None  # may still serve commands, and listens until this login has its forwardings
        self._forwardings: list[LocalForwarding | RemoteForwarding] = []

    @property
    def is_high_latency(self) -> bool:
        """Return whether the network is slow enough for stronger compression to pay."""
        stages = self.connection.stages if self.connection is not None else None
        return stages is not None and (stages.version or 0) + (stages.kex or 0) > HIGH_LATENCY

    @property
    def withheld(self) -> str | None:
        """The reason to send no secret over this connection, or None."""
        if self.connection is not None and self.connection.unsafe:
            return "no password goes to a host whose key has changed or is revoked: see the warning about its key"
        return None

    @property
    def peer(self) -> str:
        """The account and address of the login, for messages; empty before it."""
        return self.connection.peer if self.connection is not None else ""

    def all_stages(self) -> dict[str, float]:
        """Return the seconds of each stage of the login and of Python's start, in their order."""
        login = vars(self.connection.stages) if self.connection is not None else {}
        own = self.stages.get
        stages = {"config": own("config"), **login, "channel": own("channel"), "python": own("python")}
        return {name: seconds for name, seconds in stages.items() if seconds is not None}

    def totals(self) -> dict[str, int]:
        """Return the bytes that were sent and received; empty before the login."""
        connection = self.connection
        return {} if connection is None else {"sent": connection.bytes_sent, "received": connection.bytes_received}

    def describe(self) -> dict[str, object]:
        """Return the connection's properties; empty before the login."""
        connection = self.connection
        if connection is None:
            return {}
        from pmitogen.transport.auth.report import missing_identities

        settings = connection.settings
        return {
            "peer": connection.peer,
            "host": settings.originalhost,
            "hostname": settings.hostname,
            "port": settings.port,
            "login_user": settings.user,
            "algorithms": connection.describe(),
            "sent": connection.bytes_sent,
            "received": connection.bytes_received,
            "stages": self.all_stages(),
            "warnings": [each.text for each in connection.warnings],
            "missing_identities": missing_identities(connection.auth_report.attempts),
        }

    # On the login thread

    def resolve(self) -> None:
        """Resolve the options to settings. Raises Error."""
        from pmitogen.flags.ssh import resolve

        if self._login_timeout:
            self._deadline = time.monotonic() + self._login_timeout + (PROMPT_TIMEOUT if self._ask else 0)
        began = time.monotonic()
        argv, origins = ansible_options.build_ssh_argv(self._options, self._caller)
        forwards = bool(self._options.get("forwards"))
        self.settings = resolve.resolve(
            argv, origins=origins, caller=self._caller, default_session=resolve.PMITOGEN_SESSION, forwards=forwards
        )
        self.stages["config"] = time.monotonic() - began

    def identity(self) -> bytes:
        """Return bytes that are equal for logins with the same connection and interpreter. Raises Error."""
        from pmitogen.transport import connection_identity

        assert self.settings is not None
        return connection_identity.digest(self.settings, credentials(self._options), repr(self._options.get("boot_python")))

    def connect(self) -> Connection:
        """Log in, again after a failure as often as *reconnection_retries* says. Raises Error.

        The pauses are those of Ansible's ssh plugin. A refused login, host key or session, and a failure on this machine, are not
        tried again.
        """
        if self.settings is None:
            self.resolve()
        settings = self.settings
        assert settings is not None
        retries = int(self._options.get("reconnection_retries") or 0)
        attempt = 0
        while True:
            try:
                return self._connect_once(settings)
            except ConnectError as exc:
                if attempt == retries or exc.stage in ("local", "auth", "hostkey", "exec"):
                    raise
                pause = min(2**attempt - 1, MAX_BACKOFF)
                LOG.info("%s; attempt %d of %d, the next in %d s", exc.message, attempt + 1, retries + 1, pause)
                if self._cancelled.wait(pause):
                    raise
                attempt += 1

    def _connect_once(self, settings: Settings) -> Connection:
        from pmitogen.flags.ssh import resolve
        from pmitogen.transport.connect import connect

        ask = self._ask if not settings.batchmode else None
        connection = connect(
            settings,
            dataclasses.replace(credentials(self._options), prompt=ask),
            jump_hosts=self.jump_hosts,
            deadline=self._deadline if self._login_timeout else time.monotonic() + LOGIN_TIMEOUT,
            resolver=resolve.resolve_hop,
            confirm=confirm_once(ask) if ask else None,
            warn=self._warn,
            proxy_commands=self._proxy_commands,
        )
        with self._lock:
            self.connection = connection
        if self._cancelled.is_set():
            connection.close()
            raise ConnectError(f"{connection.peer}: the run is ending", "local")
        predecessor, self.predecessor = self.predecessor, None
        if settings.forwardings and self._starts_forwardings:
            self._start_forwardings(connection, settings, predecessor)
        return connection

    def _start_forwardings(self, connection: Connection, settings: Settings, predecessor: Login | None) -> None:
        from pmitogen.transport.forwarding import requested

        try:
            if predecessor is not None:
                predecessor.stop_listening()
            self._forwardings = requested.start_all(connection, settings.forwardings)
        except BaseException:
            connection.close()
            raise

    def stop_listening(self) -> None:
        """Accept no further connections for the forwardings, as another connection is about to do so. Blocks."""
        for forwarding in self._forwardings:
            forwarding.stop_listening()

    def begin_start(self) -> None:
        """Restart the time limit, because Python is started some time after the login."""
        if self._login_timeout:
            self._deadline = max(self._deadline, time.monotonic() + self._login_timeout)

    @property
    def start_timeout(self) -> float:
        """Seconds for Python to start after the login. The account's shell reads its start-up files first."""
        return max(0.1, self._deadline - time.monotonic()) if self._login_timeout else START_TIMEOUT

    @property
    def command_timeout(self) -> float:
        """Seconds for the account's shell to begin a command: as many as for Python to start some time after the login."""
        return self._login_timeout or START_TIMEOUT

    def note_python_started(self) -> None:
        """Note the end of Python's start, which begins when its channel is open. I/O thread."""
        self.stages["python"] = time.monotonic() - self._channel_opened_at

    def boot(
        self, candidates: Sequence[str], guard: Guard, on_end: Callable[[], None], slot_timeout: float = math.inf
    ) -> BootChannel:
        """Start Python on a new session channel, whose data is handled under *guard*. Raises Error.

        :param slot_timeout: seconds to wait where the server refuses a session, until another one ends.
        """
        from pmitogen.hub import bootstrap
        from pmitogen.hub.mitogen_stream import MitogenChannelStream

        bundle = bootstrap.bundle()
        token = bootstrap.new_token()
        context_id = self._router.new_context_id()
        assert self.connection is not None
        timeout = min(answer_timeout(self.connection.settings), self.start_timeout)
        began = time.monotonic()
        channel = self.connection.open_session(timeout, slot_timeout=slot_timeout)
        self._channel_opened_at = time.monotonic()
        self.stages["channel"] = self._channel_opened_at - began
        command = bootstrap.bootstrap_command(token, len(bundle), context_id, candidates)
        self.connection.start_command(channel, command, wait=not toggles.request_pipelining_enabled())
        marker = bootstrap.ready_marker(token)
        stream = MitogenChannelStream(self._router, channel, context_id, self.connection.peer, marker, guard, on_end)
        stream.writer.put(bundle)
        return BootChannel(stream, context_id, token)

    def give_back(self) -> None:
        """Note that a client uses the connection no longer. I/O thread."""
        self.lent -= 1
        self._lent_until = time.monotonic()

    def idle_seconds_left(self, seconds: float) -> float:
        """Return the seconds until the last client's end is *seconds* ago; 0 if it is. I/O thread."""
        return seconds if self.lent else max(0.0, self._lent_until + seconds - time.monotonic())

    def digest_for_clients(self) -> str:
        """Return the digest of the options by which ``pmitogen ssh`` finds this connection; "" if it is not shared with it."""
        if self._digest_for_clients is None:
            settings, connection = self.settings, self.connection
            if settings is None or connection is None:
                return ""
            is_shared = settings.controlmaster and settings.controlpersist and not connection.unsafe
            self._digest_for_clients = ""
            if is_shared and not any(secrets_of(self._options)):
                from pmitogen.transport.mux import messages

                self._digest_for_clients = messages.digest_for_hubs(settings)
        return self._digest_for_clients

    def forget_caller(self) -> None:
        """Discard the options and the caller, and keep the connection."""
        self.digest_for_clients()  # needs both
        self._options, self._caller, self._ask = {}, NOBODY, None
        if self.settings is not None:
            self.settings = self.settings._replace(caller=NOBODY, report=())
        if self.connection is not None:
            self.connection.forget_caller()

    def close(self) -> None:
        """End the connection. Any thread; idempotent; does not wait."""
        with self._lock:
            self._cancelled.set()
            self.predecessor = None
            connection = self.connection
        if connection is None:
            self._proxy_commands.close()  # of a login under way
            return
        is_used = self.before_close is not None and (self.commands is None or bool(self.commands))
        if is_used and connection.end_reason is None or not connection.closes_at_once:
            with contextlib.suppress(ConnectError):  # no thread for it
                self._router.host_threads.start(lambda: self._close_connection(connection))
                return
        connection.begin_close()

    def _close_connection(self, connection: Connection) -> None:
        if connection.end_reason is None and self.before_close is not None:
            self.before_close()
        _close_quietly(connection)


class Closable(Protocol):
    """A connection, or several."""

    def close(self) -> None:
        """Close it. May block."""


def close_on_thread(owner: Closable) -> None:
    """Close a connection, or several, without waiting; if no thread can be started, wait."""
    try:
        threads.start(_close_quietly, "pmitogen close", owner)
    except ConnectError:
        _close_quietly(owner)


def _close_quietly(owner: Closable) -> None:
    with contextlib.suppress(Exception):
        owner.close()


def confirm_once(ask: Prompt) -> Callable[[str], bool]:
    """Return a function that asks the user, and is True only for the answer "yes", as in ssh."""
    return lambda facts: (ask(f"{facts} Continue connecting? (yes/no) ", True) or "").strip().lower() == "yes"


def run_in_thread(workers: WorkerThreads, name: str, work: Callable[[], None], on_error: Callable[[Error], None]) -> None:
    """Run *work* on one of *workers*. *on_error* gets a failure as an Error, on that thread, or on this one if none starts."""

    def run() -> None:
        with log.context(host=name):
            work_safely()

    def work_safely() -> None:
        try:
            work()
        except Error as exc:
            on_error(exc)
        except Exception as exc:
            if limits.is_exhaustion(exc):
                on_error(ConnectError(limits.EXHAUSTED_MESSAGE, "local"))
                return
            LOG.exception("internal error")
            on_error(ConnectError(f"{name}: internal error: {type(exc).__name__}; PMITOGEN_LOG=debug shows more", "local"))

    try:
        workers.start(run)
    except Error as exc:
        on_error(exc)
