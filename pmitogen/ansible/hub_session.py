"""A connection's line to the run's hub: made when something is asked, and kept until Ansible lets go of the connection.

It is opened with the connection's options, and anew where a loop's next item has others. Each request ends with one final frame;
what comes before that is output, credit, or the hub's wish for a payload that it has not seen.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable
from typing import IO, Any, NoReturn

from ansible.errors import AnsibleError
from ansible.utils.display import Display

from pmitogen import toggles
from pmitogen.ansible.exchange import WorkerTrace, ansible_error, hub_log
from pmitogen.ansible.preload import shared_state
from pmitogen.errors import Error, HubError
from pmitogen.hub import client as hub
from pmitogen.hub.daemon import socket_paths as hub_paths
from pmitogen.protocol.exchange import Exchange
from pmitogen.protocol.framing import to_wire
from pmitogen.util.caller import CallerEnvironment

display = Display()
Header = dict[str, Any]


class HubSession:
    """See the head of this file. Not thread-safe.

    *options*, *host*, *become*, *hubs* and *python* are asked when needed: what the hub is to connect with, the host's name, the
    words for the account that the task becomes, or None where that is not ours, how many hubs the run has, and the interpreter
    that modules are going to ask for, where that is known. *becoming*: whether the task becomes another account, in any way.
    """

    def __init__(
        self,
        options: Callable[[], Header],
        host: Callable[[], str],
        become: Callable[[], Header | None],
        hubs: Callable[[], int],
        python: Callable[[], str | None],
        becoming: Callable[[], bool],
    ) -> None:
        self._options, self._host, self._become, self._hubs, self._python = options, host, become, hubs, python
        self._becoming = becoming
        self._client: hub.Client | None = None
        self._open_options: Header = {}  # the options that it was opened with
        self._options_current = True  # whether those are still the connection's
        self._early_requested = False
        self._spans = WorkerTrace() if "PMITOGEN_TRACE" in os.environ else None

    def mark(self, name: str) -> None:
        """For the timeline: what has passed since the last mark was *name* (empty: somebody else counts it)."""
        if self._spans is not None:
            self._spans.mark(name)

    def options_changed(self) -> None:
        """Compare them before the next request."""
        self._options_current = False

    def connect_early(self) -> None:
        """A module is going to run: start the hub, if there is none, and have the host connected, to start its interpreter there.

        Only for a host's first task, as far as we know, and only where it is known which. Whatever goes wrong the task is told,
        when it asks for something.
        """
        if self._client is not None or self._early_requested or shared_state.current.is_known(self._host()):
            return
        with contextlib.suppress(AnsibleError, HubError):
            if self._interpreter_to_boot() is None:
                self._early_requested = True
                hub.begin(_run_pid(), CallerEnvironment.current(), self._hub_index(), log=hub_log())
            else:
                self._open().flush()

    def _interpreter_to_boot(self) -> str | None:
        """The interpreter to connect with, if that is for us to say: a host's first task does, as far as we know.

        "" stands for any: what a task names that becomes another account must not run in the login account.
        """
        if not shared_state.current.is_shared or self._early_requested or shared_state.current.is_known(self._host()):
            return None
        return "" if self._becoming() else self._python()

    def request(
        self,
        header: Header,
        body: bytes = b"",
        archive: bytes | memoryview = b"",
        *,
        become: bool = True,
        sink: Any = None,
        streamed: Any = None,
    ) -> Header:
        """Make one request and wait for its final frame, which is returned with its body. Raises AnsibleError."""
        try:
            client, header = self._begin(header, become)
            if streamed is not None and is_verbose():
                display.vvv(verbose_output().format_start(header), host=self._host())
            exchange = Exchange(client, header, body, archive=archive)
            if archive:
                self._after_payload()
            frame, data = exchange.result(lambda stream, data: (sink or streamed[stream - 1].append)(data))
        except Error as exc:
            self._raise(exc)
        shared_state.current.mark(self._host())
        return {**frame, "body": data}

    def stream_out(self, header: Header, stream: IO[bytes]) -> None:
        """Send a large file in pieces, as fast as the other end takes it. Raises AnsibleError."""
        try:
            client, header = self._begin(header, True)
            Exchange(client, header, stream).result(lambda stream, data: None)
        except Error as exc:
            self._raise(exc)

    def interactive(self, header: Header) -> Exchange:
        """Begin a command of the login account whose output is seen as it comes. Raises AnsibleError."""
        try:
            client, header = self._begin({**header, "eager": True}, False)
            return Exchange(client, header, interactive=True)
        except Error as exc:
            self._raise(exc)

    def reset(self) -> None:
        """Close this host's connection, if there is one; never makes one."""
        self.close()
        shared_state.current.clear(self._host())
        with contextlib.suppress(HubError):
            client = hub.connect_existing(_run_pid(), self._hub_index())
            if client is not None:
                with contextlib.closing(client):
                    client.open(self._options(), CallerEnvironment.current())
                    client.send({"op": "reset", "id": 1})
                    client.receive()

    def close(self) -> None:
        """Let go of the hub; the host's connection stays with it."""
        if self._client is not None:
            if self._spans is not None:
                self._spans.send(self._client)
            self._client.close()
            self._client = None

    def _begin(self, header: Header, become: bool) -> tuple[hub.Client, Header]:
        account = self._become() if become else None
        for_shell = header["op"] == "exec" and not header["argv"][0] and account is None  # which may be all that the host can do
        client = self._open(ahead=not for_shell)
        header = {**header, "id": client.next_id()}
        if account is not None:
            header["become"] = account
            likely = self._python() if "python" not in header else None
            if likely is not None:  # modules of that account are going to ask for it
                header["likely_python"] = [to_wire(likely)]
        return client, header

    def _open(self, ahead: bool = True) -> hub.Client:
        """Connect to the hub, if need be. *ahead*: also have the host's interpreter started, where it is known which."""
        if self._client is not None and not self._options_current and self._options() != self._open_options:
            self.close()
        self._options_current = True
        if self._client is None:
            self._open_options = self._options()
            if is_verbose():
                display.vvv(f"ESTABLISH PMITOGEN CONNECTION FOR USER: {self._open_options.get('remote_user')}", host=self._host())
            caller = CallerEnvironment.current()
            self._client = hub.connect(_run_pid(), self._hub_index(), log=hub_log(), caller=caller)
            self._client.open(self._open_options, caller)
            name = self._interpreter_to_boot() if ahead else None
            self._early_requested = True
            if name is not None:  # else the first step of a task, which may need none, would have another than modules ask for
                python = {"python": [to_wire(name)]} if name else {}
                self._client.queue({"op": "ahead", "id": self._client.next_id(), **python})
        return self._client

    def _hub_index(self) -> int:
        """Which of the run's hubs holds this host. Raises AnsibleError."""
        return hub_paths.number_of(self._host(), self._hubs())

    def _after_payload(self) -> None:
        """One has been built and sent: while the first of a run is under way, Ansible may build the others.

        Where nobody is going to do it at the end of the run, keep it for the next.
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
    """The main process of this run: what the hub watches."""
    parent = multiprocessing.parent_process()
    return parent.pid if parent is not None and parent.pid else os.getpid()


def is_verbose() -> bool:
    """Whether ``-vvv`` lines go anywhere: to the screen, or to the log, which may have a verbosity of its own."""
    return bool(max(display.verbosity, getattr(display, "log_verbosity", 0)) >= 3)


def verbose_output() -> Any:
    """What words the lines of -vvv."""
    from pmitogen.ansible import verbose as words

    return words
