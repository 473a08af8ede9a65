"""Replace interpreters that are stale, because a fresh process would differ, and resend the requests that they refused.

The kind of change decides what must be replaced (see ``pmitogen/target/freshness.py``):

=========  ==============================================================================================================
account    The interpreter, by another sudo, su or doas if need be. The old one ends when it has nothing left to do.
session    The session on the target, on the same connection, and with it every interpreter (as ssh does for each task).
connect    The connection, if ssh would have closed it.
=========  ==============================================================================================================

A request that was refused may rely on others of its chain that were answered before they were done (``EarlyAnswers``): an
interpreter does the requests of a chain in order, and a failure surfaces at the next one that is waited for.

Everything here happens on the hub's I/O thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Protocol

from pmitogen.hub.host.accounts import Account, Accounts
from pmitogen.hub.host.interfaces import ConnectedHost, Replacement
from pmitogen.hub.requests import Request
from pmitogen.protocol.error_kinds import InterpreterUnavailable
from pmitogen.util.peer_text import escape

if TYPE_CHECKING:
    from pmitogen.protocol import messages_from_agent

MAX_HELD = 4 << 20  # bytes of one chain's requests
MAX_REFUSALS = 3  # of one request; then it is sent once more, and done in any case
ACCOUNT, SESSION, CONNECT = "account", "session", "connect"


class EarlyAnswers:
    """Requests that were acknowledged before they were done, until a later answer of their chain confirms them.

    *chain* is the number of a worker's connection.
    """

    def __init__(self) -> None:
        self._chains: dict[int, tuple[Account, list[Request]]] = {}

    def __contains__(self, chain: int) -> bool:
        return chain in self._chains

    def __len__(self) -> int:
        return len(self._chains)

    def account(self, chain: int) -> Account | None:
        """Return the account that the unconfirmed requests of *chain* were sent to."""
        return self._chains[chain][0] if chain in self._chains else None

    def accounts(self) -> Collection[Account]:
        """Return all accounts that unconfirmed requests were sent to."""
        return [account for account, _ in self._chains.values()]

    def has_room(self, chain: int, size: int) -> bool:
        """Return whether a further request of *size* bytes may be held."""
        held = self._chains[chain][1] if chain in self._chains else ()
        return sum(len(request.body) for request in held) + size <= MAX_HELD

    def add(self, chain: int, account: Account, request: Request) -> None:
        """Hold a request that was sent to *account*."""
        self._chains.setdefault(chain, (account, []))[1].append(request)

    def confirm(self, chain: int, account: Account | None) -> None:
        """Forget the requests of *chain* before one that *account* has answered: they are done, or their failure was reported."""
        if self.account(chain) is account:
            self._chains.pop(chain, None)

    def forget(self, chain: int) -> None:
        """Forget the requests of *chain*, whose client has disconnected."""
        self._chains.pop(chain, None)

    def take(self, chain: int, count: int) -> list[Request]:
        """Remove and return the last *count* requests of *chain*, which were not done; those before them are."""
        _, held = self._chains.pop(chain, (None, []))
        return held[max(0, len(held) - count) :] if count > 0 else []


class StaleHost(ConnectedHost, Protocol):
    """The host whose session may be out of date."""

    @property
    def busy(self) -> bool:
        """True if any request is under way."""

    def submit(self, request: Request) -> None:
        """Accept a request."""

    def end_session(self) -> None:
        """End the session: nothing is left to do in it."""


class StaleInterpreters:
    """Replaces stale interpreters of one host, and resends the requests that they refused."""

    def __init__(
        self, host: StaleHost, accounts: Accounts, early: EarlyAnswers, under_way: Callable[[], Iterable[Request]]
    ) -> None:
        self._host, self._accounts, self._early, self._under_way = host, accounts, early, under_way
        # Requests in turn, by chain, behind one that was refused: resent once none of them is on its way.
        self._in_turn: dict[int, tuple[StaleHost | Replacement, list[Request]]] = {}
        self.replacement: Replacement | None = None  # has the newer session: it gets every further request

    def on_refusal(self, request: Request, refusal: messages_from_agent.Error) -> None:
        """Resend a refused request, behind those of its chain that were lost with it."""
        if self.join(request):
            return
        reason, refused_count = refusal.get("reason"), refusal["refused_count"]
        self._host.log.debug("%s is resent: %s has changed", request.describe(), escape(refusal["msg"]))
        lost, account = self._early.take(request.header.get("chain", 0), refused_count), request.account
        if request.before is not None:  # it only checked whether that one may follow
            request = request.before
        request.refusals += 1
        if request.refusals > MAX_REFUSALS + 1:
            request.fail(
                InterpreterUnavailable(
                    f"{self._host.peer}: the interpreter of this account was replaced too often; run the task again"
                )
            )
            return
        target: StaleHost | Replacement = self._host
        if reason == ACCOUNT and account is not None:
            self._accounts.retire(account)
        elif reason in (SESSION, CONNECT):
            target = self._replace_session(reconnect=reason == CONNECT)
        for each in (*lost, request):
            each.header["even_if_stale"] = request.refusals == MAX_REFUSALS + 1
        if request.header.get("in_turn"):
            self._in_turn[request.header["chain"]] = target, [*lost, request]
        else:
            self._submit(target, [*lost, request])

    def join(self, request: Request) -> bool:
        """Hold a request in turn behind those of its chain that are resent. Returns whether there are any."""
        held = self._in_turn.get(request.header.get("chain", 0)) if request.header.get("in_turn") else None
        if held is not None:
            held[1].append(request)
        return held is not None

    def take_held(self) -> list[Request]:
        """Remove and return the requests that wait to be resent."""
        held, self._in_turn = self._in_turn, {}
        return [request for _, requests in held.values() for request in requests]

    @staticmethod
    def _submit(target: StaleHost | Replacement, requests: Iterable[Request]) -> None:
        for request in requests:
            if not request.is_cancelled:
                request.sent, request.account = False, None
                target.guard.run(target.submit, request)

    def _resend_held(self) -> None:
        for chain in list(self._in_turn):
            on_their_way = (request.header for request in self._under_way() if request.header.get("in_turn"))
            if all(header["chain"] != chain for header in on_their_way):
                target, requests = self._in_turn.pop(chain)
                self._submit(target, sorted(requests, key=lambda request: request.client_id))

    def reconnect(self, requests: Iterable[Request]) -> None:
        """Send *requests*, and all further ones, by another connection. The requests under way go on."""
        self._submit(self._replace_session(reconnect=True), requests)
        self.end_unused()

    def _replace_session(self, reconnect: bool) -> Replacement:
        if self.replacement is None:
            self.replacement = self._host.connector.replace_session(reconnect)
        return self.replacement

    def end_unused(self) -> None:
        """End the retired interpreters that are idle, and the session if it is retired and idle."""
        if self._in_turn:
            self._resend_held()
        self._accounts.end_retired(self._early.accounts())
        if self.replacement is not None and not self._host.busy and not self._early:
            self._host.end_session()
