"""An account on a host and its operations: the one implementation below the blocking and the asyncio interface.

Every operation is a coroutine that waits by means of the *runtime* of its caller; see waiting.py.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from pmitogen.api import arguments
from pmitogen.api.core import Core, refuse_pickling
from pmitogen.api.exchange import Exchange
from pmitogen.api.waiting import Runtime
from pmitogen.errors import RemoteError, TimeoutExpired, UsageError
from pmitogen.transport.auth.credentials import Prompt as Ask
from pmitogen.util.caller import CallerEnvironment
from pmitogen.util.peer_text import escape

if TYPE_CHECKING:
    from pmitogen.protocol.messages_to_client import Answer
    from pmitogen.protocol.requests import BecomeRequest, ConnectionOptions, RequestHeader

T = TypeVar("T")
BecomeMethod = Literal["sudo", "su", "doas"]
METHODS = ("sudo", "su", "doas")
DEFAULT_FLAGS = {"sudo": "-H"}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Account:
    """One account on one host; several objects may refer to the same account.

    :param options: the raw option set of the connection.
    :param caller: the process that set the options.
    :param become: how the account is entered; None: it is the login account.
    :param ask: asks the user during the login.
    :param hub: its owner, which lives as long as anything that uses the account: a process, an open file.
    """

    core: Core
    options: ConnectionOptions
    caller: CallerEnvironment
    become: BecomeRequest | None = None
    ask: Ask | None = None
    hub: object = None

    def __reduce__(self) -> NoReturn:
        refuse_pickling(f"an object of {self}")

    def __str__(self) -> str:
        return f"{self.options['host']} as {self.become['user']}" if self.become else str(self.options["host"])

    async def exchange(
        self,
        runtime: Runtime,
        header: RequestHeader,
        body: bytes = b"",
        *,
        timeout: float | None = None,
    ) -> tuple[Answer, bytes, bytes]:
        """Make a request without further input. Returns the final frame, stdout and stderr. A timeout kills its process."""
        request = Exchange(self, header, body)
        await self.finish(runtime, request, timeout)
        return request.result(), request.take(0), request.take(1)

    async def finish(self, runtime: Runtime, request: Exchange, timeout: float | None) -> None:
        """Wait for the end of a request whose output is small, or is read elsewhere."""
        try:
            await request.until(lambda: False, runtime, None if timeout is None else time.monotonic() + timeout)
        except TimeoutError:
            request.kill()
            raise self.timed_out(timeout) from None
        except BaseException:
            request.kill()
            raise

    def timed_out(
        self, timeout: float | None, stdout: bytes | str | None = None, stderr: bytes | str | None = None
    ) -> TimeoutExpired:
        """Return the exception for a call that took longer than *timeout* seconds, with the output so far."""
        return TimeoutExpired(f"{self}: timed out after {timeout:g} seconds", stdout, stderr)

    async def ping(self, runtime: Runtime) -> None:
        """Connect if there is no connection, and start Python if the host has one."""
        request = self.start_ping()
        await self.finish(runtime, request, None)
        request.result()

    async def log_in(self, runtime: Runtime) -> None:
        """Connect if there is no connection. Python is started when something needs it."""
        request = self.start_login()
        await self.finish(runtime, request, None)
        request.result()

    def start_login(self) -> Exchange:
        """Send a request for the connection."""
        return Exchange(self, {"op": "preconnect", "simple": True})

    def start_ping(self) -> Exchange:
        """Send a request that every host can answer."""
        return Exchange(self, {"op": "fs", "action": "home", "path": "~"})

    async def info(self, runtime: Runtime) -> dict[str, Any]:
        """Return the connection's properties."""
        await self.ping(runtime)
        registry = self.core.registry
        return await self.core.on_io_thread(runtime, self, lambda: registry.host(self.options, self.caller).describe())

    async def close(self, runtime: Runtime) -> None:
        """Close the connection of this and of every other account of its host."""
        self.core.check_process(self)
        if not self.core.has_ended:
            registry = self.core.registry
            await self.core.on_io_thread(runtime, self, lambda: registry.close_host(self.options, self.caller))

    async def call(
        self,
        runtime: Runtime,
        function: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        timeout: float | None,
    ) -> T:
        """Call *function* on the host."""
        from pmitogen.hub.function_sources import collect

        if not callable(function):
            arguments.wrong("call: function", "a function", function)
        self.core.check(self)
        name, qualname, files = await runtime.blocking(collect, function)
        value: T = await self.call_by_name(runtime, name, qualname, files, args, kwargs, timeout)
        return value

    async def call_by_name(
        self,
        runtime: Runtime,
        name: str,
        qualname: str,
        files: Mapping[str, bytes],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        timeout: float | None = None,
    ) -> Any:
        """Call the function *qualname* of the module *name*, which is among *files* or in the target's Python."""
        try:
            body = json.dumps([args, kwargs]).encode("ascii")
        except (TypeError, ValueError, RecursionError) as exc:
            raise UsageError(f"call: {qualname}: its arguments are not JSON: {exc}") from None
        manifest = await self.core.on_io_thread(runtime, self, lambda: self.core.registry.blobs.add_files(dict(files)))
        header: RequestHeader = {
            "op": "run",
            "manifest": manifest,
            "generation": "call",
            "module": name,
            "function": qualname,
            "env": {},
        }
        header["names"] = _public_names()
        request = Exchange(self, header, body)
        answer = _Tail()
        try:
            deadline = None if timeout is None else time.monotonic() + timeout
            while request.final is None:
                await request.until(request.has_any_output, runtime, deadline)
                answer.add(request)
        except TimeoutError:
            request.kill()
            raise self.timed_out(timeout) from None
        except BaseException:
            request.kill()
            raise
        answer.add(request)
        frame = request.result()
        return self._value(qualname, frame, answer.stdout.rpartition(b"\n")[2], answer.stderr)

    def _value(self, qualname: str, frame: Answer, last: bytes, err: bytes) -> Any:
        """Return the function's result, from its last line of output. Raises RemoteError."""
        try:
            answer = json.loads(last)
            if not isinstance(answer, dict) or not ("value" in answer or "error" in answer):
                raise ValueError
        except (ValueError, RecursionError):
            last_output = escape(err, keep_end=True)
            message = f"{self}: {qualname} ended without a result, status {frame['rc']}{last_output and ': ' + last_output}"
            raise RemoteError(message, err.decode("utf-8", "replace")) from None
        if "error" in answer:
            raise RemoteError(f"{self}: {qualname}: {escape(str(answer['error']))}", str(answer.get("traceback", "")))
        return answer["value"]

    def entered(
        self,
        user: str,
        method: BecomeMethod,
        password: str | bytes | None,
        flags: str | None,
        exe: arguments.AnyPath | None,
        timeout: float,
    ) -> Account:
        """Return the same host as another account. Raises TypeError, UsageError."""
        name = arguments.text(method, "become: method")
        if name not in METHODS:
            raise UsageError(f"become: method: {name!r}: use one of {', '.join(METHODS)}")
        flags = arguments.optional_text(flags, "become: flags")
        step: BecomeRequest = {
            "method": name,
            "user": arguments.text(user, "become: user"),
            "timeout": arguments.time_limit(timeout, "become: timeout") or 0.0,
            "flags": flags if flags is not None else DEFAULT_FLAGS.get(name, ""),
        }
        secret = arguments.secret(password, "become: password")
        if secret is not None:
            step["password"] = secret
        if exe is not None:
            step["exe"] = os.fsdecode(arguments.wire_path(exe, "become: exe").encode("latin-1"))
        if self.become is not None:
            step["via"] = self.become
        return dataclasses.replace(self, become=step)


class _Tail:
    """The output of a called function: all of stdout, once it has ended, and the end of stderr."""

    SHOWN = 64 << 10  # bytes

    def __init__(self) -> None:
        self.stdout = b""
        self.stderr = b""
        self._parts: list[bytes] = []

    def add(self, request: Exchange) -> None:
        self._parts.append(request.take(0))
        self.stderr = (self.stderr + request.take(1))[-self.SHOWN :]
        if request.final is not None:
            self.stdout = b"".join(self._parts)


def _public_names() -> list[str]:
    import pmitogen

    return [name for name in pmitogen.__all__ if not name.startswith("_")]
