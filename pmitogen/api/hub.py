"""Connections to many hosts, for threads."""

from __future__ import annotations

import collections
import contextlib
import queue
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NoReturn, TypeVar, overload

from pmitogen.api import connecting
from pmitogen.api.account import Account
from pmitogen.api.core import Core
from pmitogen.api.host import Host
from pmitogen.api.many import LIMIT, Item, Outcome, checked_mapping, connect_each, limit_of
from pmitogen.api.waiting import Blocking, Interruption, finish
from pmitogen.errors import Error
from pmitogen.util import threads
from pmitogen.util.caller import CallerEnvironment

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pmitogen.api.connecting import ConnectArguments

T = TypeVar("T")
RUNTIME = Blocking()


class Hub:
    """The owner of connections to many hosts, in this process. Close it, or use it in ``with``.

    A hub that is not closed is closed when it and its hosts are no longer used, and when the program ends.
    """

    def __init__(self) -> None:
        self._core = Core()
        self._forget = weakref.finalize(self, self._core.close_later)
        self._forget.atexit = False  # then it is closed by the core itself

    def __reduce__(self) -> NoReturn:
        raise TypeError("a pmitogen.Hub cannot be pickled: it belongs to this process; make one in the other")

    def connect(self, target: str, **options: Unpack[ConnectArguments]) -> Host:
        """Log in to *target* (``host``, ``user@host`` or ``ssh://user@host:port``) and return it, connected.

        A Python is started on the host when something needs it, within *timeout* seconds again. The account's shell has as
        long to begin a command.

        :param options: a :class:`ConnectOptions`; every other argument that says the same goes before it.
        :param ssh_args: arguments of ssh's command line. ssh_config(5) counts as for ssh. This process's working directory and
            environment at the time of this call count, also for a later reconnection. ``-L``, ``-R`` and ``-D`` forward as long
            as the connection lasts; if one fails, so does the login.
        :param password: answers the server's password prompt.
        :param private_key: a key's text, not a path (for that, ``-i`` in *ssh_args*).
        :param passphrase: opens it, and the identity files.
        :param otp: answers a second factor, once.
        :param jump_credentials: what jump hosts (``-J``, ProxyJump, ``ProxyCommand="ssh -W ..."``) are logged in to with, by
            ``[user@]host[:port]``: a mapping with any of ``password``, ``private_key``, ``passphrase`` and ``otp``. A jump
            host with an entry is given that and nothing else; without one, keys only.
        :param timeout: seconds for the login. None: as with ssh, ConnectTimeout (10 seconds where it is
            not set) ends with the server's version, and a slow login may take its time.
        :param python: is tried before the usual interpreters.
        :param host_key_checking: False: accept any host key.
        :param ask: called, on a pmitogen thread, with a question for a person and whether the answer may be seen as it is typed:
            whether to trust a new host key ("yes" does; and only where StrictHostKeyChecking is ``ask``, the default), for a
            passphrase, a password, a second factor. It returns the answer, or None to give up. With it, a *timeout* is two
            minutes longer. BatchMode keeps it silent.

        Options that agree in everything share one connection.

        Raises TypeError, UsageError, ConnectError (``.stage`` says how far it came), AuthenticationError.
        """
        header, ask = connecting.option_set(target, options)
        account = Account(self._core, header, CallerEnvironment.current(), None, ask, self)
        finish(account.log_in(RUNTIME))
        return Host(account, self)

    @overload
    def connect_all(
        self,
        targets: Iterable[str],
        *,
        limit: int = LIMIT,
        return_exceptions: Literal[False] = False,
        **options: Unpack[ConnectArguments],
    ) -> list[Host]: ...

    @overload
    def connect_all(
        self, targets: Iterable[str], *, limit: int = LIMIT, return_exceptions: bool, **options: Unpack[ConnectArguments]
    ) -> list[Host | Error]: ...

    def connect_all(
        self,
        targets: Iterable[str],
        *,
        limit: int = LIMIT,
        return_exceptions: bool = False,
        **options: Unpack[ConnectArguments],
    ) -> list[Host] | list[Host | Error]:
        """Log in to all *targets*, at most *limit* at once, and return their hosts in the same order.

        *return_exceptions*: put the Error of a host that cannot be reached in its place. Otherwise raise the first Error, after
        all were tried. *options* are those of :meth:`connect`.
        """
        accounts = connecting.accounts(self, self._core, targets, options)
        failures = finish(connect_each(accounts, RUNTIME, limit_of(limit, "connect_all")))
        if not return_exceptions:
            for failure in failures:
                if failure is not None:
                    raise failure
        return [failure or Host(account, self) for account, failure in zip(accounts, failures, strict=True)]

    @overload
    def map(
        self,
        function: Callable[[Item], T],
        hosts: Iterable[Item],
        *,
        limit: int = LIMIT,
        return_exceptions: Literal[False] = False,
    ) -> list[T]: ...

    @overload
    def map(
        self, function: Callable[[Item], T], hosts: Iterable[Item], *, limit: int = LIMIT, return_exceptions: bool
    ) -> list[T | BaseException]: ...

    def map(
        self, function: Callable[[Item], T], hosts: Iterable[Item], *, limit: int = LIMIT, return_exceptions: bool = False
    ) -> list[T] | list[T | BaseException]:
        """Call *function* with every host, at most *limit* at once, a thread each; return the results in the hosts' order.

        *return_exceptions*: put the exception of a failing host in its place. Otherwise raise the first exception, after all
        have ended. Control-C interrupts the call on its host that each function waits for. Raises ConnectError if no thread can
        be started.
        """
        outcomes = dict(self._outcomes(*checked_mapping("map", function, hosts, limit)))
        in_order = [outcomes[index] for index in range(len(outcomes))]
        if return_exceptions:
            return [outcome.error or outcome.result() for outcome in in_order]
        return [outcome.result() for outcome in in_order]

    def as_completed(
        self, function: Callable[[Item], T], hosts: Iterable[Item], *, limit: int = LIMIT
    ) -> Iterator[Outcome[Item, T]]:
        """Call *function* with every host as :meth:`map` does, and yield an Outcome for each as soon as it has ended.

        Leaving the iteration early calls it for no further host, and waits for those that are under way.
        """
        outcomes = self._outcomes(*checked_mapping("as_completed", function, hosts, limit))
        return (outcome for _, outcome in outcomes)

    def _outcomes(self, function: Callable[[Item], T], hosts: list[Item], limit: int) -> Iterator[tuple[int, Outcome[Item, T]]]:
        waiting = collections.deque(enumerate(hosts))
        ended: queue.SimpleQueue[tuple[int, Outcome[Item, T]]] = queue.SimpleQueue()
        interruption = Interruption.of_this_thread()

        def work() -> None:
            interruption.include_this_thread()
            while True:
                try:
                    index, host = waiting.popleft()
                except IndexError:
                    return
                try:
                    ended.put((index, Outcome(host, function(host))))
                except BaseException as exc:
                    ended.put((index, Outcome(host, None, exc)))

        begun: list[threading.Thread] = []

        def leave() -> None:
            waiting.clear()
            for thread in begun:
                thread.join()

        try:
            with contextlib.suppress(GeneratorExit):  # the caller wants no more
                for index in range(min(limit, len(hosts))):
                    begun.append(threads.start(work, f"pmitogen map {index}"))
                for _ in hosts:
                    yield ended.get()
            leave()
        except Exception:  # as where no thread can be started: the functions under way are not at fault
            leave()
            raise
        except BaseException:
            waiting.clear()
            interruption.interrupt()
            leave()
            raise

    def close(self) -> None:
        """Close every connection, and end what still runs on the hosts. Idempotent; blocks up to a few seconds."""
        self._forget.detach()
        self._core.close()

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(target: str, **options: Unpack[ConnectArguments]) -> Host:
    """Connect to one host, with a hub of its own that closes with it. *options* are those of :meth:`Hub.connect`."""
    hub = Hub()
    try:
        host = hub.connect(target, **options)
    except BaseException:
        hub.close()
        raise
    host._owns_hub = True
    return host
