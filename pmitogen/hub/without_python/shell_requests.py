"""Requests to a host that has no usable Python, served by its login shell and SFTP: a thread each.

Commands run unchanged, files are transferred by SFTP or ``cat``, and the small operations become shell commands. Before a
Python payload, Python is searched for again, because an earlier task may have installed it; if there is none, the error says
what to do. If the login shell cannot run ``/bin/sh``, only commands and SFTP work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from pmitogen.errors import ConnectError, Error
from pmitogen.hub.host.states import State
from pmitogen.hub.requests import Request, RequestWithoutPython, error_frame
from pmitogen.hub.without_python import simple_commands
from pmitogen.hub.without_python.download import Download
from pmitogen.hub.without_python.group_killer import CLOSE_TIMEOUT
from pmitogen.hub.without_python.shell_request import ShellRequest
from pmitogen.hub.without_python.simple_request import SimpleRequest
from pmitogen.protocol.error_kinds import InterpreterUnavailable, NoPythonError, WrapperNeeded
from pmitogen.protocol.operations import Op
from pmitogen.util import threads

if TYPE_CHECKING:
    from pmitogen.hub.host.interfaces import Connector
    from pmitogen.hub.login import Login
    from pmitogen.hub.scheduler import Guard
    from pmitogen.protocol.messages_to_client import Answer

LOG = logging.getLogger("pmitogen.hub")
CHECK_INTERVAL = 20.0  # seconds between looks for simple commands that do not begin
NO_SHELL = "modules need a login shell that can run /bin/sh; the raw module works without"


class ShellHost(Protocol):
    """The host of the requests."""

    name: str
    state: State
    connector: Connector
    login: Login | None
    runs_sh: bool
    python_is_broken: bool
    no_python_reason: str

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """Logs with the host's name."""

    @property
    def guard(self) -> Guard:
        """Runs work about the host."""

    @property
    def peer(self) -> str:
        """The account and address of the login."""

    def retry_boot(self, request: Request) -> None:
        """Try again to start Python, for *request*."""

    def fail(self, error: Error) -> None:
        """End the host: the connection is lost."""

    def run_by_agent(self, request: Request) -> None:
        """Pass on to Python a simple command that the login shell has not run."""

    def on_shell_frame(self, request: Request, header: Answer, body: bytes) -> None:
        """Pass on a frame for the client."""


class ShellRequests:
    """See interfaces.ShellBackend. One for each host."""

    def __init__(self, host: ShellHost, submit: Callable[[Callable[[], object]], None]) -> None:
        self._host, self._submit = host, submit
        self._under_way: dict[RequestWithoutPython, None] = {}
        self._is_checking = False  # for some that wait too long

    def end_commands(self) -> None:
        """Kill the commands under way, and wait until they have got the signal. Any thread but the I/O thread."""
        begun = []
        for each in list(self._under_way):
            try:
                begun.append(threads.start(each.kill_group, "pmitogen cancel"))
            except Error:  # no thread for it, as at the end of the program
                each.kill_group()
        for thread in begun:
            thread.join(CLOSE_TIMEOUT)

    def _check_starts(self) -> None:
        simple = [each for each in self._under_way if isinstance(each, SimpleRequest)]
        left = [seconds for each in simple if (seconds := each.check_start()) is not None]
        self._is_checking = bool(left)
        if left:
            self._host.guard.call_later(min(CHECK_INTERVAL, *left), self._check_starts)

    def start(self, request: Request) -> None:
        """Begin to serve *request*."""
        host, header = self._host, request.header
        if header["op"] == Op.RUN and not header.get("retried_boot"):
            header["retried_boot"] = True
            host.retry_boot(request)
        elif header.get("become") and (header["op"] != Op.RUN or host.python_is_broken):
            # Only the become plugin can wrap the command now, and the client has it.
            self._fail(request, WrapperNeeded(no_python(host)))
        elif header["op"] == Op.RUN or header["op"] == Op.FS and not host.runs_sh:
            # An interpreter that the agent cannot run in may still run a module that the client pipes into it.
            failure = InterpreterUnavailable if host.python_is_broken else NoPythonError
            self._fail(request, failure(no_python(host)))
        else:
            self._serve(request)

    def _serve(self, request: Request) -> None:
        host, header, login = self._host, request.header, self._host.login
        text = simple_commands.text_of(header) if header.get("simple") else None
        assert login is not None and login.connection is not None
        shell_request: SimpleRequest | ShellRequest
        login.before_close, login.commands = self.end_commands, self._under_way
        if text is not None:
            kind = Download if header["op"] == Op.GET else SimpleRequest
            shell_request = kind(host, request, login.connection, text, self._under_way, login.command_timeout, self._submit)
        else:
            shell_request = ShellRequest(host, request, login.connection, self._under_way)
        request.account = None
        request.shell_request = shell_request
        for follow_header, body in request.followups:
            shell_request.follow(follow_header, body)
        request.followups.clear()
        try:
            shell_request.start()
        except Error as exc:
            self._fail(request, ConnectError(f"{host.name}: {exc.message}", "local"))
        if text is not None and not self._is_checking:
            self._is_checking = True
            host.guard.call_later(min(CHECK_INTERVAL, login.command_timeout), self._check_starts)

    def _fail(self, request: Request, error: Error) -> None:
        self._host.on_shell_frame(request, error_frame(error), b"")


def no_python(host: ShellHost) -> str:
    """Return the error message for a module on a host without Python."""
    advice = (
        "modules need one: install it with the raw module (raw: apt-get install -y python3), "
        "or name one in ansible_python_interpreter"
    )
    return f"{host.peer}: {host.no_python_reason}; {advice if host.runs_sh else NO_SHELL}"
