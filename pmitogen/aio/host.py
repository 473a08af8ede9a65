"""An account on a host, for tasks. Cancelling a task ends its processes on the host."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, TypeVar, overload

from pmitogen.aio.files import Files
from pmitogen.aio.process import Process
from pmitogen.aio.waiting import Suspending
from pmitogen.api import arguments, commands, forwarding, transfers
from pmitogen.api.account import Account, BecomeMethod
from pmitogen.api.arguments import AnyPath, Command
from pmitogen.api.commands import Input, StreamName, Terminal
from pmitogen.api.core import refuse_pickling
from pmitogen.api.forwarding import End, Forwarding
from pmitogen.api.results import Completed
from pmitogen.api.running import Running
from pmitogen.api.transfers import Progress

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pmitogen.aio.hub import Hub
    from pmitogen.api.commands import RunArguments, StartArguments

P = ParamSpec("P")
T = TypeVar("T")
RUNTIME = Suspending()


class Host(Files):
    """An account on a host. Made by :func:`connect`, :meth:`Hub.connect` and :meth:`become`.

    It belongs to the process that connected: in a fork of that, every method raises UsageError.
    """

    def __init__(self, account: Account, hub: Hub, owns_hub: bool = False) -> None:
        self._account = account
        self._hub = hub  # so that the hub lives as long as its hosts
        self._owns_hub = owns_hub

    @property
    def target(self) -> str:
        """The first argument of ``connect``; it is the same for every account of the host."""
        return str(self._account.options["host"])

    def __str__(self) -> str:
        return str(self._account)

    def __repr__(self) -> str:
        return f"<pmitogen.aio.Host {self}>"

    def __reduce__(self) -> NoReturn:
        refuse_pickling(repr(self))

    async def ping(self) -> None:
        """Connect if there is no connection, and start Python if the host has one. Raises as :meth:`run`."""
        await self._account.ping(RUNTIME)

    @overload
    async def run(
        self,
        command: Command,
        *,
        text: Literal[False] = False,
        encoding: None = None,
        errors: None = None,
        on_output: Callable[[StreamName, bytes], object] | None = None,
        **options: Unpack[RunArguments],
    ) -> Completed[bytes]: ...

    @overload
    async def run(
        self,
        command: Command,
        *,
        text: Literal[True],
        encoding: str | None = None,
        errors: str | None = None,
        on_output: Callable[[StreamName, str], object] | None = None,
        **options: Unpack[RunArguments],
    ) -> Completed[str]: ...

    @overload
    async def run(
        self,
        command: Command,
        *,
        text: bool = False,
        encoding: str,
        errors: str | None = None,
        on_output: Callable[[StreamName, str], object] | None = None,
        **options: Unpack[RunArguments],
    ) -> Completed[str]: ...

    async def run(
        self,
        command: Command,
        *,
        stdin: Input = None,
        input: Input = None,
        env: Mapping[str, str] | None = None,
        cwd: AnyPath | None = None,
        tty: bool | Terminal = False,
        timeout: float | None = None,
        check: bool = False,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
        capture: bool = True,
        on_output: Callable[[StreamName, Any], object] | None = None,
    ) -> Completed[Any]:
        """Run a command and wait for its end. Cancelling the task ends the command.

        :param command: a text for ``/bin/sh``, or a program and its arguments (str, bytes or os.PathLike).
        :param stdin: the input: bytes, str or an open file; None or subprocess.DEVNULL: no input. *input* is another name for
            this argument.
        :param env: is added to the account's environment.
        :param cwd: its working directory; None: the account's home.
        :param tty: give it a terminal, which merges stderr into stdout: a :class:`Terminal`; True: ``Terminal()``.
        :param timeout: seconds; then its process group is killed and TimeoutExpired raised, with the output so far.
        :param check: raise RemoteError for a status other than 0; its ``result`` is the Completed of the command.
        :param text: the output is str: UTF-8 or *encoding*, undecodable bytes by *errors* (default: ``replace``).
        :param capture: False: do not collect the output.
        :param on_output: called with ``"stdout"`` or ``"stderr"`` and each piece as it comes; with *text*, each line.

        Raises TypeError, UsageError, ConnectError, ConnectionLost, BecomeError, RemoteError, TimeoutExpired.
        """
        return await commands.checked_run(
            self._account,
            RUNTIME,
            command,
            stdin,
            input,
            env,
            cwd,
            tty,
            timeout,
            check,
            text,
            encoding,
            errors,
            capture,
            on_output,
        )

    @overload
    async def start(
        self,
        command: Command,
        *,
        text: Literal[False] = False,
        encoding: None = None,
        errors: None = None,
        **options: Unpack[StartArguments],
    ) -> Process[bytes]: ...

    @overload
    async def start(
        self,
        command: Command,
        *,
        text: Literal[True],
        encoding: str | None = None,
        errors: str | None = None,
        **options: Unpack[StartArguments],
    ) -> Process[str]: ...

    @overload
    async def start(
        self,
        command: Command,
        *,
        text: bool = False,
        encoding: str,
        errors: str | None = None,
        **options: Unpack[StartArguments],
    ) -> Process[str]: ...

    async def start(
        self,
        command: Command,
        *,
        env: Mapping[str, str] | None = None,
        cwd: AnyPath | None = None,
        tty: bool | Terminal = False,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
    ) -> Process[Any]:
        """Start a command and return it while it runs. Use it in ``async with``: leaving the block ends the command.

        *env*, *cwd*, *tty*, *text*, *encoding* and *errors* are as for :meth:`run`. If the command cannot be started, its streams
        and ``wait`` raise the error. Raises TypeError, UsageError, ConnectionLost.
        """
        decoding = commands.text_encoding(text, encoding, errors, "start")
        header = commands.exec_header("start", command, env, cwd, tty)
        return Process(Running(self._account, header), decoding)

    @overload
    async def call(self, function: Callable[..., T], *args: Any, timeout: float | None, **kwargs: Any) -> T: ...

    @overload
    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T: ...

    # The type checker does not see that *timeout* is none of the function's own arguments.
    async def call(self, function: Callable[..., T], *args: Any, timeout: float | None = None, **kwargs: Any) -> T:  # type: ignore[misc]
        """Call *function* on the host in a new process. Its module and the imports of that module, except the standard library,
        are sent to the host.

        *function* must be importable by name (no lambda, no closure). Arguments and result must be JSON values. Printed output is
        discarded. An exception is raised as a RemoteError, whose ``text`` is the remote traceback. *timeout* is in seconds.
        Raises UsageError, TimeoutExpired, and as :meth:`run`.
        """
        return await self._account.call(RUNTIME, function, args, kwargs, arguments.seconds(timeout, "call: timeout"))

    async def put(
        self,
        source: str | os.PathLike[str] | bytes | IO[bytes],
        path: AnyPath,
        *,
        mode: int = 0o644,
        progress: Progress | None = None,
    ) -> None:
        """Upload *source* (bytes, a file name or an open file) to *path*. Written atomically, in constant memory.

        :param mode: of a new file, under the account's umask.
        :param progress: called with the bytes sent so far, and the size (None: unknown).

        Raises RemoteError, OSError for the source, and as :meth:`run`.
        """
        await transfers.put(self._account, RUNTIME, source, path, mode, progress)

    async def get(self, path: AnyPath, target: AnyPath | IO[bytes] | None = None, *, progress: Progress | None = None) -> bytes:
        """Download *path* into *target*, a file name or an open file; return b"". Without *target*, return the content.

        A file named by *target* is written atomically, in constant memory. *progress* is called with the bytes received so far
        and None. Raises RemoteError, OSError for the target, and as :meth:`run`.
        """
        return await transfers.get(self._account, RUNTIME, path, target, progress)

    async def forward_local(self, target: End, listen: End = 0) -> Forwarding:
        """Listen on this machine, and have the host connect to *target* for each connection (ssh's ``-L``).

        An end is a port (of the loopback address), a (host, port) pair, or the path of a Unix socket. Port 0: any that is free;
        the result's ``port`` says which. Closed by leaving its ``with`` block, and with the connection.
        Raises TypeError, UsageError, ConnectError, ConnectionLost.
        """
        return await forwarding.local(self._account, RUNTIME, target, listen)

    async def forward_remote(self, target: End, listen: End = 0) -> Forwarding:
        """Listen on the host, and connect to *target* from this machine for each connection (ssh's ``-R``).

        As :meth:`forward_local`.
        """
        return await forwarding.remote(self._account, RUNTIME, target, listen)

    async def forward_socks(self, listen: End = 0) -> Forwarding:
        """Listen on this machine for SOCKS clients, whose connections the host makes (ssh's ``-D``). As :meth:`forward_local`."""
        return await forwarding.socks(self._account, RUNTIME, listen)

    def become(
        self,
        user: str = "root",
        *,
        method: BecomeMethod = "sudo",
        password: str | bytes | None = None,
        flags: str | None = None,
        exe: AnyPath | None = None,
        timeout: float = 10.0,
    ) -> Host:
        """Return the same host as another account, entered by ``sudo``, ``su`` or ``doas`` when it is first used.

        *flags* are the program's own (default for sudo: ``-H``). *timeout* is in seconds, for entering. Its failure is a
        BecomeError of the first call. Raises TypeError, UsageError.
        """
        return Host(self._account.entered(user, method, password, flags, exe, timeout), self._hub)

    async def info(self) -> dict[str, Any]:
        """Return the connection's properties: Python, user and home on the host, seconds per stage, bytes, algorithms."""
        return await self._account.info(RUNTIME)

    async def close(self) -> None:
        """Close the connection to this host (all its accounts), and a hub that belongs to it. Idempotent."""
        if self._owns_hub:
            await self._hub.close()
        else:
            await self._account.close(RUNTIME)

    async def __aenter__(self) -> Host:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
