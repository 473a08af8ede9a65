"""A connection plugin's session with the run's hub: opened at the first request, closed when Ansible closes the connection.

It is opened with the connection's options, and again if the next item of a loop has other options. Each request ends with one
final frame. The frames before it are output, credit, or the hub's request for a payload that it does not have.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, cast

from ansible.errors import AnsibleError
from ansible.utils.display import Display

from pmitogen import toggles
from pmitogen.ansible.errors import ansible_error
from pmitogen.ansible.preload import shared_state
from pmitogen.errors import Error, HubError
from pmitogen.hub import client as hub
from pmitogen.hub.daemon import socket_paths as hub_paths
from pmitogen.protocol.exchange import Exchange, HubConnection, Result, Source
from pmitogen.protocol.framing import to_wire
from pmitogen.util.caller import CallerEnvironment

if TYPE_CHECKING:
    from types import ModuleType

    from pmitogen.ansible.in_turn import RequestsInTurn
    from pmitogen.ansible.worker_trace import WorkerTrace
    from pmitogen.protocol.messages_from_client import Become, Options
    from pmitogen.protocol.requests import BecomeRequest, ClientRequest

display = Display()
SENT_AHEAD = Result({"op": "exit", "rc": 0, "stdout_size": 2}, b"{}")  # stands for the result of a module that was sent ahead
LABEL_LIMIT = 100  # characters of a name in the timeline
HUB_OPTIONS = (  # the options that the hub needs to connect
    "host",
    "host_key_checking",
    "password",
    "otp",
    "ssh_args",
    "ssh_common_args",
    "ssh_extra_args",
    "port",
    "remote_user",
    "private_key_file",
    "private_key",
    "private_key_passphrase",
    "jump_credentials",
    "pkcs11_provider",
    "timeout",
    "reconnection_retries",
    "verbosity",
    "boot_python",
)


class HubSession:
    """The session of one connection plugin with the hub. Not thread-safe.

    These are called when their value is needed:

    *options*: the options with which the hub connects.
    *host*: the host's name.
    *become*: the request for the account that the task becomes; None if the hub does not enter it.
    *hubs*: the number of hubs in the run.
    *python*: the interpreter that modules will use, if it is known.
    *becoming*: True if the task becomes another account in any way.
    """

    def __init__(
        self,
        options: Callable[[], Options],
        host: Callable[[], str],
        become: Callable[[], Become | None],
        hubs: Callable[[], int],
        python: Callable[[], str | None],
        becoming: Callable[[], bool],
    ) -> None:
        self._options, self._host, self._become, self._hubs, self._python = options, host, become, hubs, python
        self._becoming = becoming
        self._client: hub.Client | None = None
        self._open_options: Options = {}  # the options that it was opened with
        self._options_current = True  # False: the connection has other options now
        self._early_requested = False
        self.in_turn: RequestsInTurn | None = None  # while modules are sent ahead
        self._spans = _worker_trace()

    def mark(self, name: str) -> None:
        """Record the time since the last mark as *name* in the timeline (empty: it is recorded elsewhere)."""
        if self._spans is not None:
            self._spans.mark(name)

    def label(self, **labels: object) -> None:
        """Name the host and the task in the timeline: ``host``, ``task``, ``task_id``; empty ones are left out."""
        if self._spans is not None:
            self._spans.labels.update((name, str(value)[:LABEL_LIMIT]) for name, value in labels.items() if value)

    def options_changed(self) -> None:
        """Compare the options before the next request."""
        self._options_current = False

    def connect_early(self) -> None:
        """Start the hub, if necessary, and have it connect and start the host's interpreter, because a module is about to run.

        Done only for a host's first task, as far as is known, and only if the interpreter is known. The task's next request
        reports any error.
        """
        if self._client is not None or self._early_requested or shared_state.current.is_known(self._host()):
            return
        with contextlib.suppress(AnsibleError, HubError):
            if self._interpreter_to_boot() is None:
                self._early_requested = True
                if not hub.has_socket(_run_pid(), self._hub_index()):
                    from pmitogen.hub.daemon import start_or_adopt

                    start_or_adopt.start(_run_pid(), CallerEnvironment.current(), self._hub_index(), log=hub_log())
            else:
                self._open().flush()

    def _interpreter_to_boot(self) -> str | None:
        """Return the interpreter to connect with, or None. Only a host's first task, as far as is known, chooses it.

        "" means any: the interpreter of a task that becomes another account must not run in the login account.
        """
        if not shared_state.current.is_shared or self._early_requested or shared_state.current.is_known(self._host()):
            return None
        return "" if self._becoming() else self._python()

    def request(
        self,
        header: ClientRequest,
        body: bytes = b"",
        archive: bytes | memoryview = b"",
        *,
        become: bool = True,
        sink: Callable[[bytes], object] | None = None,
        streamed: tuple[list[bytes], list[bytes]] | None = None,
    ) -> Result:
        """Make one request, and wait for its final frame. Raises AnsibleError.

        *sink*: takes the output. *streamed*: lists that collect stdout and stderr of a process, whose start -vvv shows.
        """

        def consume(stream: int, data: bytes) -> None:
            if streamed is not None:
                streamed[stream - 1].append(data)
            elif sink is not None:
                sink(data)

        try:
            client, header = self._begin(header, become)
            if streamed is not None:
                self._show_start(header)
            exchange = Exchange(client, header, body, archive=archive)
            if archive:
                self._after_payload()
            result = exchange.result(consume)
        except Error as exc:
            self._raise(exc)
        shared_state.current.mark(self._host())
        return result

    def send(
        self,
        header: ClientRequest,
        body: bytes,
        archive: bytes | memoryview,
        *,
        become: bool,
        connection: Callable[[hub.Client, int], HubConnection],
    ) -> Exchange:
        """Send a request without waiting for its answers, over the result of *connection*. Raises AnsibleError."""
        try:
            client, header = self._begin(header, become)
            self._show_start(header)
            return Exchange(connection(client, header["id"]), header, body, archive=archive)
        except Error as exc:
            self._raise(exc)

    def stream_out(self, header: ClientRequest, stream: Source) -> None:
        """Send a large file in pieces, as fast as the receiver grants credit. Raises AnsibleError."""
        try:
            client, header = self._begin(header, True)
            Exchange(client, header, stream).result(lambda stream, data: None)
        except Error as exc:
            self._raise(exc)

    def interactive(self, header: ClientRequest) -> Exchange:
        """Start a command in the login account and return its output as it arrives. Raises AnsibleError."""
        try:
            client, header = self._begin({**header, "stream_output": True}, False)
            return Exchange(client, header, interactive=True)
        except Error as exc:
            self._raise(exc)

    def reset(self) -> None:
        """Close this host's connection, if there is one; never makes one."""
        self.close()
        shared_state.current.clear(self._host())
        with contextlib.suppress(HubError):
            client = hub.connect_if_running(_run_pid(), self._hub_index())
            if client is not None:
                with contextlib.closing(client):
                    client.open(self._options(), CallerEnvironment.current())
                    client.send({"op": "reset", "id": 1})
                    client.receive()

    def close(self) -> None:
        """Disconnect from the hub, which keeps the host's connection."""
        if self._client is not None:
            if self._spans is not None:
                self._spans.send(self._client)
            self._client.close()
            self._client = None

    def _show_start(self, header: ClientRequest) -> None:
        if is_verbose():
            display.vvv(verbose_output().format_start(header), host=self._host())

    def _begin(self, header: ClientRequest, become: bool) -> tuple[hub.Client, ClientRequest]:
        if self.in_turn is not None and not header.get("in_turn"):
            self.in_turn.finish_open()
        account = self._become() if become else None
        for_shell = header["op"] == "exec" and not header["argv"][0] and account is None  # the host may support nothing else
        client = self._open(ahead=not for_shell)
        header = {**header, "id": client.next_id()}
        if account is not None:
            header["become"] = cast("BecomeRequest", account)
            likely = self._python() if "python" not in header else None
            if likely is not None:  # modules of that account will use it
                header["likely_python"] = [to_wire(likely)]
        return client, header

    def _open(self, ahead: bool = True) -> hub.Client:
        """Connect to the hub, if necessary. *ahead*: also have the host's interpreter started, if it is known."""
        if self._client is not None and not self._options_current and self._options() != self._open_options:
            self.close()
        self._options_current = True
        if self._client is None:
            self._open_options = self._options()
            if is_verbose():
                display.vvv(f"ESTABLISH PMITOGEN CONNECTION FOR USER: {self._open_options.get('remote_user')}", host=self._host())
            caller = CallerEnvironment.current()
            self._client = _connect(self._hub_index(), caller)
            self._client.on_warnings = _show_warnings
            self._client.open(self._open_options, caller)
            name = self._interpreter_to_boot() if ahead else None
            self._early_requested = True
            if name is not None:  # otherwise the first step of a task would start another interpreter than modules use
                python = {"python": [to_wire(name)]} if name else {}
                self._client.queue({"op": "preconnect", "id": self._client.next_id(), **python})
        return self._client

    def _hub_index(self) -> int:
        """Return the number of the hub that serves this host. Raises AnsibleError."""
        return hub_paths.hub_index_for(self._host(), self._hubs())

    def _after_payload(self) -> None:
        """After a payload was sent: during the first one of a run, have Ansible build the others.

        If no process stores payloads at the end of the run, store this one for the next run.
        """
        self.mark("payload")
        if shared_state.current.claim_first():
            from pmitogen.ansible.preload import prebuild

            prebuild.start(_run_pid(), shared_state.current)
        elif not shared_state.current.is_shared and toggles.preload_enabled():
            from pmitogen.ansible.preload import payload_cache

            payload_cache.store()

    def _raise(self, exc: Error) -> NoReturn:
        if isinstance(exc, HubError):
            self.close()
        raise ansible_error(exc) from None


def _run_pid() -> int:
    """Return the process id of this run's main process, which the hub watches."""
    parent = multiprocessing.parent_process()
    return parent.pid if parent is not None and parent.pid else os.getpid()


def _connect(hub_index: int, caller: CallerEnvironment) -> hub.Client:
    """Return a connection to a hub of this run, started if there is none. Raises HubError."""
    client = hub.connect_if_running(_run_pid(), hub_index)
    if client is not None:
        return client
    from pmitogen.hub.daemon import start_or_adopt

    return start_or_adopt.connect(_run_pid(), hub_index, log=hub_log(), caller=caller)


def _show_warnings(warnings: list[tuple[str, str]]) -> None:
    from pmitogen.ansible import connection_warnings

    connection_warnings.show(warnings)


def hub_log() -> str | None:
    """Return the level of detail that a new hub logs to the run's stderr."""
    return "debug" if Display().verbosity >= 4 else None


def is_logged() -> bool:
    """Return True if the hub logs requests."""
    return "PMITOGEN_LOG" in os.environ or hub_log() is not None


def _worker_trace() -> WorkerTrace | None:
    if "PMITOGEN_TRACE" not in os.environ:
        return None
    from pmitogen.ansible.worker_trace import WorkerTrace

    return WorkerTrace()


def is_verbose() -> bool:
    """Return True if ``-vvv`` lines are shown on the screen or written to the log, which may have a separate verbosity."""
    return bool(max(display.verbosity, getattr(display, "log_verbosity", 0)) >= 3)


def verbose_output() -> ModuleType:
    """Return the module that formats the lines of -vvv."""
    from pmitogen.ansible import verbose

    return verbose
