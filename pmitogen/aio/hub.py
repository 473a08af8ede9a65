"""Connections to many hosts, for tasks."""

from __future__ import annotations

import asyncio
import collections
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

from pmitogen.aio.host import Host
from pmitogen.aio.waiting import Suspending
from pmitogen.api import connecting
from pmitogen.api.account import Account
from pmitogen.api.core import Core
from pmitogen.api.many import LIMIT, Item, Outcome, checked_mapping, connect_each, limit_of
from pmitogen.errors import Error
from pmitogen.util.caller import CallerEnvironment

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pmitogen.api.connecting import ConnectArguments

T = TypeVar("T")
RUNTIME = Suspending()


class Hub:
    """The owner of connections to many hosts, in this process. Close it, or use it in ``async with``."""

    def __init__(self) -> None:
        self._core = Core()
        self._forget = weakref.finalize(self, self._core.close_later)
        self._forget.atexit = False  # then it is closed by the core itself

    def __reduce__(self) -> NoReturn:
        raise TypeError("a pmitogen.aio.Hub cannot be pickled: it belongs to this process; make one in the other")

    async def connect(self, target: str, **options: Unpack[ConnectArguments]) -> Host:
        """Log in to *target* and return it, connected. As :meth:`pmitogen.Hub.connect`, with the same options."""
        header, ask = connecting.option_set(target, options)
        account = Account(self._core, header, CallerEnvironment.current(), None, ask, self)
        await account.log_in(RUNTIME)
        return Host(account, self)

    @overload
    async def connect_all(
        self,
        targets: Iterable[str],
        *,
        limit: int = LIMIT,
        return_exceptions: Literal[False] = False,
        **options: Unpack[ConnectArguments],
    ) -> list[Host]: ...

    @overload
    async def connect_all(
        self, targets: Iterable[str], *, limit: int = LIMIT, return_exceptions: bool, **options: Unpack[ConnectArguments]
    ) -> list[Host | Error]: ...

    async def connect_all(
        self,
        targets: Iterable[str],
        *,
        limit: int = LIMIT,
        return_exceptions: bool = False,
        **options: Unpack[ConnectArguments],
    ) -> list[Host] | list[Host | Error]:
        """Log in to all *targets*, at most *limit* at once, and return their hosts. As :meth:`pmitogen.Hub.connect_all`."""
        accounts = connecting.accounts(self, self._core, targets, options)
        failures = await connect_each(accounts, RUNTIME, limit_of(limit, "connect_all"))
        if not return_exceptions:
            for failure in failures:
                if failure is not None:
                    raise failure
        return [failure or Host(account, self) for account, failure in zip(accounts, failures, strict=True)]

    async def map(
        self, function: Callable[[Item], Awaitable[T]], hosts: Iterable[Item], *, limit: int = LIMIT
    ) -> list[Outcome[Item, T]]:
        """Await *function* of every host, at most *limit* at once; return an Outcome for each, in the hosts' order."""
        call, order, places = checked_mapping("map", function, hosts, limit)
        room = asyncio.Semaphore(places)

        async def work(host: Item) -> Outcome[Item, T]:
            async with room:
                try:
                    return Outcome(host, await call(host))
                except Exception as exc:
                    return Outcome(host, None, exc)

        return await asyncio.gather(*map(work, order))

    def as_completed(
        self, function: Callable[[Item], Awaitable[T]], hosts: Iterable[Item], *, limit: int = LIMIT
    ) -> AsyncGenerator[Outcome[Item, T], None]:
        """Await *function* of every host as :meth:`map` does, and yield an Outcome for each as soon as it has ended.

        Ending the iteration early (``aclose``, or the end of the loop's task) cancels those that are under way.
        """
        return self._outcomes(*checked_mapping("as_completed", function, hosts, limit))

    async def _outcomes(
        self, function: Callable[[Item], Awaitable[T]], hosts: list[Item], limit: int
    ) -> AsyncGenerator[Outcome[Item, T], None]:
        async def work(host: Item) -> Outcome[Item, T]:
            try:
                return Outcome(host, await function(host))
            except Exception as exc:
                return Outcome(host, None, exc)

        waiting = collections.deque(hosts)
        running: set[asyncio.Task[Outcome[Item, T]]] = set()
        try:
            while waiting or running:
                while waiting and len(running) < limit:
                    running.add(asyncio.create_task(work(waiting.popleft())))
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def close(self) -> None:
        """Close every connection, and end what still runs on the hosts. Idempotent; takes up to a few seconds."""
        self._forget.detach()
        await asyncio.to_thread(self._core.close)

    async def __aenter__(self) -> Hub:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Connecting:
    """The result of :func:`connect`: await it for a host, or use it in ``async with``, which closes the host."""

    def __init__(self, target: str, options: ConnectArguments) -> None:
        self._target, self._options = target, options
        self._host: Host | None = None

    async def _connect(self) -> Host:
        hub = Hub()
        try:
            host = await hub.connect(self._target, **self._options)
        except BaseException:
            hub._core.close_later()
            raise
        host._owns_hub = True
        return host

    def __await__(self) -> Generator[Any, None, Host]:
        return self._connect().__await__()

    async def __aenter__(self) -> Host:
        self._host = await self._connect()
        return self._host

    async def __aexit__(self, *_: object) -> None:
        if self._host is not None:
            await self._host.close()


def connect(target: str, **options: Unpack[ConnectArguments]) -> Connecting:
    """Connect to one host, with a hub of its own that closes with it: ``async with connect(...) as host``, or await it.

    *options* are those of :meth:`pmitogen.Hub.connect`.
    """
    connecting.option_set(target, options)  # an error at the line that has it
    return Connecting(target, options)
