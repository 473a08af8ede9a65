"""The accounts of one host: its interpreters, each for one identity, one Python and one environment.

An account has an identity (the login, or a become plan), a Python, and the environment that must be there before Python starts.
The first request for it starts it. It ends with the connection, when it is idle and there are too many, or when a request is
about to remove its user. Account 0 is the login account with the interpreter that booted.

Everything here happens on the hub's I/O thread.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from pmitogen.errors import Error
from pmitogen.hub.bootstrap import become_sources, new_token
from pmitogen.hub.host import user_commands
from pmitogen.hub.requests import Request
from pmitogen.hub.scheduler import Guard
from pmitogen.protocol.operations import Op

if TYPE_CHECKING:
    from pmitogen.protocol import messages_from_agent, messages_to_agent
    from pmitogen.protocol.escalation_plan import EscalationPlan
    from pmitogen.protocol.requests import BecomeRequest, RequestHeader

_SHELL_SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")  # a path without special characters of a shell: see target/files.py
MAX_ACCOUNTS = 20  # accounts per host besides the login account; more are ended when idle
ESCALATION_GRACE = 5.0  # seconds added to the escalation's own time limit on the target


@dataclasses.dataclass(eq=False, repr=False)
class Account:
    """An account with one Python and one environment, and the runner that serves it."""

    number: int
    become: str | None = None  # the become request as JSON, with its secrets; None: the login account
    python: tuple[str, ...] = ()  # () is the interpreter that booted
    env: tuple[tuple[str, str], ...] = ()
    home: str | None = None  # Latin-1 text of its bytes; known after the runner's hello
    home_writable: bool = False
    temp_bases: dict[str, str] = dataclasses.field(default_factory=dict)  # base as asked for -> where a directory was made
    user: str | None = None
    executable: str | None = None
    active_requests: int = 0
    last_used: float = 0.0
    is_up: bool = False
    retired: bool = False  # a fresh interpreter would differ: no further request is for it

    def on_hello(self, header: messages_from_agent.Hello) -> None:
        """Record the facts in the runner's hello."""
        self.is_up = True
        self.home, self.user, self.executable = header["home"], header["user"], header["executable"]
        self.home_writable = header["home_writable"]

    def known_temp_base(self, base: str) -> str | None:
        """Return the directory in which a temporary directory can be created for sure, or None if that is not known."""
        if self.home is not None and self.home_writable and _SHELL_SAFE.fullmatch(self.home):
            if base.startswith("~/"):
                return self.home + base[1:]
            if base.startswith(self.home + "/"):
                return base
        return self.temp_bases.get(base)


class Accounts:
    """Starts, finds and ends the interpreters of one host. I/O thread.

    :param plan: makes the plan of a become request; raises UsageError.
    :param guard: of the host.
    :param frame: sends a frame to the host's agent.
    :param named_pythons: paths of interpreters that the user named for the host; they may be started in any account.
    """

    def __init__(
        self,
        plan: Callable[[BecomeRequest], EscalationPlan],
        guard: Guard,
        frame: Callable[[messages_to_agent.ToAgent, bytes], None],
        named_pythons: Sequence[str],
    ) -> None:
        self._plan = plan
        self._guard = guard
        self._frame = frame
        self._named_pythons = list(named_pythons)
        self._numbers = itertools.count(1)
        self._evicting: set[int] = set()  # accounts whose end requests wait for
        self.reset()

    def reset(self) -> None:
        """Forget all accounts except the login account, and all files sent."""
        self._by_number: dict[int, Account] = {0: Account(0)}
        self._sources_sent = False

    @property
    def login_account(self) -> Account:
        """Account 0."""
        return self._by_number[0]

    def __len__(self) -> int:
        return len(self._by_number)

    def get(self, account_number: int) -> Account | None:
        """Return the account with this number, or None."""
        return self._by_number.get(account_number)

    def account_for(self, header: RequestHeader) -> Account:
        """Return the account that a request is for, and start it if necessary. Raises UsageError."""
        become = header.get("become")
        python = tuple(header.get("python") or ())
        env = tuple(sorted((header.get("python_env") or {}).items()))
        raw_become = json.dumps(become, sort_keys=True) if become else None
        account = self._find_matching(raw_become, python, env)
        if account is None:
            account_number = next(self._numbers)
            likely = tuple(header.get("likely_python") or ())
            account = self._by_number[account_number] = Account(account_number, raw_become, python or likely, env)
            try:
                self._start(account, become)
            except Error:
                self.remove(account)
                raise
            self._end_idle(but=account)
        return account

    def _find_matching(self, raw_become: str | None, python: tuple[str, ...], env: tuple[tuple[str, str], ...]) -> Account | None:
        """Return a running account that serves these. Without an interpreter in the request, any matches."""
        for account in self._by_number.values():
            if account.become == raw_become and account.env == env and not account.retired:
                executable = account.executable or (self.login_account.executable if not account.python else None)
                if (
                    not python
                    or python == account.python
                    or len(python) == 1
                    and (executable or not account.number and python[0]) == python[0]
                ):
                    return account
        return None

    def _start(self, account: Account, become: BecomeRequest | None) -> None:
        header: messages_to_agent.StartAccount = {
            "op": Op.START_ACCOUNT,
            "account": account.number,
            "python": list(account.python),
            "env": dict(account.env),
            "token": new_token(),
        }
        if become:
            plan = header["plan"] = self._plan(become)
            header["named_pythons"], header["wraps"] = self._named_pythons, bool(become.get("wraps"))
            if not self._sources_sent:
                self._sources_sent = True
                self._frame({"op": Op.SOURCES}, become_sources())
            # The target has its own timer; this one is for the case that it fails.
            self._guard.call_later(plan["timeout"] + ESCALATION_GRACE, self._on_timeout, account)
        self._frame(header, b"")

    def _on_timeout(self, account: Account) -> None:
        if not account.is_up and self.get(account.number) is account:
            self._frame({"op": Op.ACCOUNT_TIMEOUT, "account": account.number}, b"")

    def on_secret_request(self, header: messages_from_agent.SecretRequest, withheld: str | None) -> None:
        """Answer a prompt for a secret of an account that is being entered. *withheld*: the reason to send none, or None."""
        account = self.get(header["account"])
        if account is None or account.become is None or account.is_up:
            return
        answer: messages_to_agent.Secret = {
            "op": Op.SECRET,
            "account": account.number,
            "step": header["step"],
            "kind": header["kind"],
        }
        secret = _secret(json.loads(account.become), header["step"], header["kind"])
        if withheld is not None or secret is None:
            answer["reason"] = withheld or "there is no such secret"
        self._frame(answer, b"" if "reason" in answer else str(secret).encode("utf-8", "surrogateescape"))

    # Their end

    def remove(self, account: Account) -> None:
        """Remove an account that has ended. Account 0 ends with the host."""
        if account.number:
            self._by_number.pop(account.number, None)

    def end(self, account: Account, notify: bool = False) -> None:
        """End the interpreter of *account*. *notify*: have the agent report when the account has no process any more."""
        header: messages_to_agent.EndAccount = {"op": Op.END_ACCOUNT, "account": account.number}
        if notify:
            header["notify"] = True
        self._frame(header, b"")
        self.remove(account)

    def _end_idle(self, but: Account) -> None:
        others = (account for account in self._by_number.values() if account.number and account is not but)
        idle = sorted((account for account in others if not account.active_requests), key=lambda account: account.last_used)
        for account in idle[: max(0, len(self) - 1 - MAX_ACCOUNTS)]:
            self.end(account)

    def retire(self, account: Account) -> None:
        """Send no further request to *account*; see ``end_retired``."""
        account.retired = True

    def end_retired(self, needed: Collection[Account]) -> None:
        """End the retired interpreters that are idle and not *needed*, except account 0, which holds the session."""
        for account in list(self._by_number.values()):
            if account.retired and account.number and not account.active_requests and account not in needed:
                self.end(account)

    def forget_homes(self) -> None:
        """Forget homes, which may have changed: the interpreters decide where temporary directories are created."""
        for account in self._by_number.values():
            if account.become:
                account.home_writable = False
                account.temp_bases.clear()

    def close_all(self) -> None:
        """End every interpreter except account 0."""
        for account in list(self._by_number.values()):
            if account.number:
                self.end(account)

    def evict_for(self, request: Request, own: Account) -> bool:
        """End the idle accounts that a request is about to remove or change. Returns whether the request has to wait for that."""
        if len(self) == 1:
            return False
        idle = [it for it in self._by_number.values() if it.become and not it.active_requests and it.user not in (None, own.user)]
        users = user_commands.affected_users(request, {str(other.user) for other in idle})
        for account in idle:
            if account.user in users:
                self.end(account, notify=True)
                self._evicting.add(account.number)
        return bool(users)

    def on_evicted(self, account_number: int) -> bool:
        """Note that an evicted account has no process any more. Returns whether no request has to wait any longer."""
        self._evicting.discard(account_number)
        return not self._evicting


def _secret(become: BecomeRequest, step: int, kind: str) -> str | None:
    """Return the secret of a become request for program number *step* (0: the first that is started), or None."""
    steps = [become]
    while steps[0].get("via"):
        steps.insert(0, steps[0]["via"])
    if not 0 <= step < len(steps):
        return None
    return steps[step].get("password") if kind == "password" else steps[step].get("otp") if kind == "otp" else None
