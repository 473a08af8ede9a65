"""pmitogen as a Python library: hosts to run commands, call functions and move files on.

::

    with pmitogen.connect("admin@web1") as host:
        print(host.run("uname -r").stdout)
        root = host.become("root", password=...)
        root.put(b"hello\\n", "/etc/motd")

A :class:`Hub` owns connections and the one I/O thread behind them; :func:`connect` makes a private one. Every method of
:class:`Host` may be called from any thread, many at once; each call blocks its own thread only. Errors are those of
:mod:`pmitogen.errors`.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import io
import json
import logging
import math
import os
import queue
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, TypeVar

from pmitogen.errors import ConnectionLost, Error, RemoteError, UsageError
from pmitogen.hub.registry import HostRegistry
from pmitogen.hub.requests import Header, Request, error_frame
from pmitogen.hub.scheduler import Guard
from pmitogen.protocol.exchange import Exchange, Output
from pmitogen.protocol.framing import to_wire
from pmitogen.transport.auth.credentials import Prompt
from pmitogen.util import threads
from pmitogen.util.atomic_file import atomic_write
from pmitogen.util.caller import CallerEnvironment
from pmitogen.util.peer_text import escape

T = TypeVar("T")
Command = str | Sequence[str]


@dataclasses.dataclass(frozen=True)
class Completed:
    """How a command ended: its exit status (128 + n for signal n) and what it said."""

    rc: int
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.rc == 0


class Hub:
    """The owner of connections to many hosts, in this process. Close it, or use it in ``with``."""

    def __init__(self) -> None:
        self._contexts = HostRegistry()
        self._contexts.when_ended = self._on_end
        self._closed = False
        self._over = False  # closed, or its I/O thread has ended, which only a fault of ours would do
        self._calls: set[_Call] = set()  # those that somebody waits for

    def connect(
        self,
        target: str,
        *,
        ssh_args: Sequence[str] = (),
        password: str | None = None,
        private_key: str | None = None,
        passphrase: str | None = None,
        otp: str | None = None,
        jump_credentials: Mapping[str, Mapping[str, str]] | None = None,
        timeout: float | None = None,
        python: str | None = None,
        host_key_checking: bool = True,
        ask: Prompt | None = None,
    ) -> Host:
        """Log in to *target* (``host``, ``user@host`` or ``ssh://user@host:port``) and return it, connected.

        *ssh_args* are words of ssh's command line, and ssh_config(5) counts as for ssh. This process's working directory and
        environment at the time of this call count, also for a later reconnection. *private_key* is a key's text, not
        a path (for that, ``-i`` in *ssh_args*). *otp* answers a second factor. *python* is tried before the usual
        interpreters. Options that agree in everything share one connection.

        *timeout* is in seconds, for everything up to a running Python. None: as with ssh, ConnectTimeout (10 seconds where it is
        not set) ends with the server's version, and a slow login may take its time.

        *jump_credentials*: what jump hosts (``-J``, ProxyJump, ``ProxyCommand="ssh -W ..."``) are logged in to with, by
        ``[user@]host[:port]``: a mapping with any of ``password``, ``private_key``, ``passphrase`` and ``otp``. A jump host with
        an entry is given that and nothing else; without one, keys only. None: no entries.

        *ask* is called, on a thread of ours, with a question for a person and whether the answer may be seen as it is typed:
        whether to trust a new host key ("yes" does; and only where StrictHostKeyChecking is ``ask``, the default), for a
        passphrase, a password, a second factor. It returns the answer, or None to give up. With it, a *timeout* is two
        minutes longer. BatchMode keeps it silent.

        Raises UsageError, ConnectError (``.stage`` says how far it came), AuthenticationError.
        """
        options: Header = {"host": target, "host_key_checking": host_key_checking}
        for name, value in (
            ("ssh_extra_args", shlex.join(ssh_args)),
            ("ssh_extra_args_from", "ssh_args"),
            ("password", password),
            ("private_key", private_key),
            ("private_key_passphrase", passphrase),
            ("otp", otp),
            ("jump_credentials", jump_credentials),
            ("boot_python", python and [python]),
            ("interactive", ask is not None),
            ("timeout", timeout and math.ceil(timeout)),
            ("login_timeout", timeout),
        ):
            if value:
                options[name] = value
        host = Host(self, options, CallerEnvironment.current(), None, ask)
        host.ping()
        return host

    def map(self, function: Callable[[Host], T], hosts: Sequence[Host]) -> list[T]:
        """Call *function* with every host, all at once, a thread each; return the results in the hosts' order.

        Raises what the first failing one raised, after all have ended, and ConnectError where there are no threads for all.
        """
        results: list[Any] = [None] * len(hosts)
        errors: list[BaseException] = []

        def work(position: int, host: Host) -> None:
            try:
                results[position] = function(host)
            except BaseException as exc:
                errors.append(exc)

        begun = []
        try:
            for position, host in enumerate(hosts):
                begun.append(threads.start(work, f"pmitogen map {host}", position, host))
        finally:
            for thread in begun:
                thread.join()
        if errors:
            raise errors[0]
        return results

    def close(self) -> None:
        """Close every connection, and end what still runs on the hosts. Idempotent; blocks up to a few seconds."""
        if not self._closed:
            self._closed = self._over = True
            self._contexts.close()
            self._on_end()  # for calls that were made in the last moment

    def _on_end(self) -> None:
        """Nobody answers any more: tell those who wait."""
        self._over = True
        for call in list(self._calls):
            call.fail(ConnectionLost("the hub was closed"))

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(target: str, **options: Any) -> Host:
    """Connect to one host, with a hub of its own that closes with it. *options* are those of :meth:`Hub.connect`."""
    hub = Hub()
    try:
        host = hub.connect(target, **options)
    except BaseException:
        hub.close()
        raise
    host._owned_hub = hub
    return host


class Host:
    """An account on a host. Made by :func:`connect`, :meth:`Hub.connect` and :meth:`become`."""

    def __init__(self, hub: Hub, options: Header, caller: CallerEnvironment, become: Header | None, ask: Prompt | None) -> None:
        self._hub = hub
        self._options = options
        self._caller = caller
        self._become = become
        self._asker = ask
        self._owned_hub: Hub | None = None

    def __repr__(self) -> str:
        who = f" as {self._become['user']}" if self._become else ""
        return f"<pmitogen.Host {self._options['host']}{who}>"

    def ping(self) -> None:
        """See that there is a connection, and a running Python if the host has one. Raises as :meth:`run`."""
        self._ask({"op": "fs", "do": "home", "path": "~"})

    def run(
        self,
        command: Command,
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        tty: bool = False,
        timeout: float | None = None,
        check: bool = False,
    ) -> Completed:
        """Run a command: a text for ``/bin/sh``, or the words of a program and its arguments. Blocks until it has ended.

        *env* is added to the account's environment. *tty* gives it a terminal (then stderr is part of stdout). After
        *timeout* seconds it is killed, with all of its process group, and TimeoutError raised. *check* raises RemoteError
        for a status other than 0, whose ``text`` is stderr.

        Raises ConnectError, ConnectionLost, BecomeError.
        """
        argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        if not argv:
            raise UsageError("run: an empty command")
        header: Header = {"op": "exec", "argv": [to_wire(word) for word in argv], "tty": tty}
        if env:
            header["env"] = {to_wire(name): to_wire(value) for name, value in env.items()}
        if cwd:
            header["cwd"] = cwd
        frame, out, err = self._ask(header, stdin, timeout=timeout)
        done = Completed(int(frame["rc"]), out, err)
        if check and done.rc:
            last = escape(err.rstrip().rpartition(b"\n")[2])
            message = f"{self!r}: {argv[0]} ended with status {done.rc}{': ' + last if last else ''}"
            raise RemoteError(message, err.decode("utf-8", "replace"))
        return done

    def call(self, function: Callable[..., T], *args: Any, timeout: float | None = None, **kwargs: Any) -> T:
        """Call *function* there, in a fresh process, with its module and what that imports (but for the standard library)
        sent along.

        It must be importable by name (no lambda, no closure). Arguments and result are what JSON can hold. What it prints
        is lost. An exception there is a RemoteError here, whose ``text`` is the remote traceback. Raises UsageError,
        TimeoutError, and as :meth:`run`.
        """
        from pmitogen.hub.function_sources import source_of

        name, qualname, files = source_of(function)
        try:
            body = json.dumps([args, kwargs]).encode("ascii")
        except (TypeError, ValueError) as exc:
            raise UsageError(f"call: {qualname}: its arguments are not JSON: {exc}") from None
        manifest = self._on_io_thread(lambda: self._hub._contexts.blobs.add_files(files))
        header: Header = {"op": "run", "man": manifest, "gen": "call", "fqn": name, "func": qualname, "env": {}}
        header["names"] = _public_names()
        frame, out, err = self._ask(header, body, timeout=timeout)
        last = out.rpartition(b"\n")[2]
        try:
            answer = json.loads(last)
        except ValueError:
            message = f"{self!r}: {qualname} ended without a result, status {frame['rc']}: {escape(err, keep_end=True)}"
            raise RemoteError(message, err.decode("utf-8", "replace")) from None
        if "error" in answer:
            raise RemoteError(f"{self!r}: {qualname}: {escape(str(answer['error']))}", str(answer.get("traceback", "")))
        value: T = answer["value"]
        return value

    def put(self, source: str | os.PathLike[str] | bytes | IO[bytes], path: str, *, mode: int = 0o644) -> None:
        """Copy to *path* there: bytes, a file's name, or an open file. It appears whole or not at all; memory use is constant.

        *mode* is for a new file, under the account's umask. Raises RemoteError, OSError for the source, and as :meth:`run`.
        """
        header: Header = {"op": "put", "path": to_wire(path), "mode": mode, "what": path}
        if isinstance(source, bytes):
            self._ask(header, source)
        elif isinstance(source, (str, os.PathLike)):
            with open(source, "rb") as stream:
                self._ask({**header, "size": os.fstat(stream.fileno()).st_size}, stream)
        else:
            self._ask(header, source)

    def get(self, path: str, target: str | os.PathLike[str] | IO[bytes] | None = None) -> bytes:
        """Copy *path* from there: into a file by name, an open file, or (with None) memory: then it is returned.

        The file by name appears whole or not at all, and memory use is constant. Raises RemoteError, OSError for the target,
        and as :meth:`run`.
        """
        header: Header = {"op": "get", "path": to_wire(path), "what": path}
        if target is None:
            memory = io.BytesIO()
            self._ask(header, sink=memory.write)
            return memory.getvalue()
        if isinstance(target, (str, os.PathLike)):
            with atomic_write(target) as stream:
                self._ask(header, sink=stream.write)
        else:
            self._ask(header, sink=target.write)
        return b""

    def become(
        self,
        user: str = "root",
        *,
        method: str = "sudo",
        password: str | None = None,
        flags: str | None = None,
        exe: str | None = None,
        timeout: float = 10.0,
    ) -> Host:
        """Return the same host as another account, entered by ``sudo``, ``su`` or ``doas`` when it is first used.

        *flags* are the program's own (default for sudo: ``-H``). *timeout* is in seconds, for entering. Its failure is a
        BecomeError of the first call.
        """
        words: Header = {
            "method": method,
            "user": user,
            "timeout": timeout,
            "flags": flags if flags is not None else _FLAGS.get(method, ""),
        }
        if password is not None:
            words["password"] = password
        if exe is not None:
            words["exe"] = exe
        if self._become is not None:
            words["via"] = self._become
        return Host(self._hub, self._options, self._caller, words, self._asker)

    def info(self) -> dict[str, Any]:
        """What is known of the connection: Python, user and home there, seconds per stage, bytes, algorithms."""
        self.ping()
        found: dict[str, Any] = self._on_io_thread(lambda: self._hub._contexts.host(self._options, self._caller).describe())
        return found

    def close(self) -> None:
        """Close the connection to this host (all its accounts), and a hub that belongs to it. Idempotent."""
        if self._owned_hub is not None:
            self._owned_hub.close()
        elif not self._hub._over:
            self._on_io_thread(lambda: self._hub._contexts.close_host(self._options, self._caller))

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Inside

    def _on_io_thread(self, work: Callable[[], Any]) -> Any:
        """Have *work* done there and wait. (Mitogen's own way to do so keeps a pair of sockets open for ever.)"""
        done: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def run() -> None:
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        if self._hub._over:
            raise ConnectionLost(f"{self!r}: its hub is closed")
        self._hub._contexts.defer(run)
        while True:
            try:
                return done.result(1.0)
            except concurrent.futures.TimeoutError:
                if self._hub._over:
                    raise ConnectionLost(f"{self!r}: its hub is closed") from None

    def _ask(
        self,
        header: Header,
        body: bytes | IO[bytes] = b"",
        *,
        sink: Callable[[bytes], Any] | None = None,
        timeout: float | None = None,
    ) -> tuple[Header, bytes, bytes]:
        """Make a request and wait for its end. Returns the final frame, stdout and stderr."""
        if self._hub._over:
            raise ConnectionLost(f"{self!r}: its hub is closed")
        if self._become:
            header["become"] = self._become
        try:
            return _Call(self, header, body, sink).result(timeout)
        except RemoteError as exc:
            raise RemoteError(f"{self!r}: {exc.message}", exc.text) from None


_FLAGS = {"sudo": "-H"}


def _public_names() -> list[str]:
    import pmitogen

    return [name for name in pmitogen.__all__ if not name.startswith("_")]


class _Call:
    """One request of the library's, and the thread that waits for it: a :class:`Link` to a hub in the same process."""

    def __init__(self, host: Host, header: Header, body: bytes | IO[bytes], sink: Callable[[bytes], Any] | None) -> None:
        self._host = host
        self._contexts = host._hub._contexts
        self._guard = Guard(self._contexts.scheduler, self._failed)
        self._frames: queue.SimpleQueue[tuple[Header, bytes]] = queue.SimpleQueue()
        self._request: Request | None = None
        self._sink = sink
        self.is_paused = False
        self._exchange = Exchange(self, {**header, "id": 0}, body)

    def send(self, header: Header, body: bytes = b"") -> None:
        """The first frame is the request, all others follow it."""
        request, number = self._request, header.pop("id", None)
        if request is not None:
            self._defer(lambda: request.host.follow(request, header, body))
        else:
            self._request = Request(self, number, header, body)
            self._defer(self._submit, self._request)

    def receive(self, timeout: float | None = None) -> tuple[Header, bytes]:
        """Wait for a frame; one without a number when :attr:`is_paused` has changed."""
        try:
            return self._frames.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None

    def _defer(self, work: Callable[..., None], *args: Any) -> None:
        if not self._guard.defer(work, *args):  # the loop has ended
            raise ConnectionLost(f"{self._host!r}: its hub is closed")

    def _failed(self, exc: Exception) -> None:
        logging.getLogger("pmitogen").error("internal error", exc_info=exc)
        self.fail(UsageError(f"internal error: {type(exc).__name__}: {exc}"))

    def _submit(self, request: Request) -> None:
        context = self._contexts.host(self._host._options, self._host._caller, self._host._asker)
        context.guard.run(context.submit, request)

    def answer(self, header: Header, body: bytes) -> None:
        """I/O thread."""
        self._frames.put((header, body))

    def fail(self, error: Error) -> None:
        """End the wait with *error*. I/O thread."""
        self.answer({**error_frame(error), "id": 0}, b"")

    def pause(self) -> None:
        """I/O thread."""
        self.is_paused = True

    def resume(self) -> None:
        """I/O thread."""
        self.is_paused = False
        self._frames.put(({}, b""))

    def result(self, timeout: float | None) -> tuple[Header, bytes, bytes]:
        """Wait for the final frame. Whatever ends the wait early ends the request, too."""
        self._host._hub._calls.add(self)
        try:
            if self._host._hub._over:
                raise ConnectionLost(f"{self._host!r}: its hub is closed")
            return self._result(timeout, None if timeout is None else time.monotonic() + timeout)
        except BaseException:
            with contextlib.suppress(ConnectionLost):
                self._exchange.cancel()
            raise
        finally:
            self._host._hub._calls.discard(self)

    def _result(self, timeout: float | None, deadline: float | None) -> tuple[Header, bytes, bytes]:
        outputs: tuple[list[bytes], list[bytes]] = ([], [])
        while True:
            try:
                event = self._exchange.next(None if deadline is None else max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise TimeoutError(f"{self._host!r}: not done within {timeout:g} seconds") from None
            if not isinstance(event, Output):
                size = event.header.get("n", len(event.body))
                return event.header, b"".join(outputs[0]) + event.body[:size], b"".join(outputs[1]) + event.body[size:]
            (self._sink or outputs[event.stream - 1].append)(event.data)
