"""Answers without a round trip to the target: known facts, and acknowledgements of operations that will surely succeed.

I/O thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmitogen import toggles
from pmitogen.hub.host.accounts import Account, Accounts
from pmitogen.hub.requests import MAX_INLINE_FILE, Request
from pmitogen.protocol.operations import Fs, Op

if TYPE_CHECKING:
    from pmitogen.protocol.messages_to_client import Answer


class KnownAnswers:
    """Home directories and temporary directories of one host. I/O thread."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._home_cache: dict[str, str | None] = {}

    def on_login(self, account: Account) -> None:
        """Cache the home of the login account, which is up."""
        self._home_cache["~"] = self._home_cache[f"~{account.user}"] = account.home

    def forget_homes(self) -> None:
        """Forget all homes except the login account's, because accounts of the host have changed."""
        account = self._accounts.login_account
        self._home_cache = dict.fromkeys(("~", f"~{account.user}"), account.home) if account.home is not None else {}
        self._accounts.forget_homes()

    def answer(self, request: Request) -> bool:
        """Answer a question about home directories from memory. Returns whether that was possible. Raises UsageError."""
        header = request.header
        if header["action"] == Fs.HOME and not header.get("become") and header["path"] in self._home_cache:
            request.answer({"op": "ok", "path": self._home_cache[header["path"]]})
            return True
        if header["action"] == Fs.ACCOUNT:
            account = self._accounts.account_for(header)
            if account.home is not None:
                request.answer({"op": "ok", "home": account.home, "user": account.user, "executable": account.executable})
                return True
            header["action"], header["path"] = Fs.HOME.value, "~"
        return False

    @staticmethod
    def acknowledge_early(request: Request, account: Account) -> bool:
        """Acknowledge a request before it is done, if a failure would only surface at the next request anyway.

        Returns whether that was done.
        """
        header = request.header
        if not toggles.request_pipelining_enabled():
            return False
        answer: Answer = {"op": "ok"}
        if header["op"] == Op.PUT and (header.get("more") or len(request.body) > MAX_INLINE_FILE):
            return False
        if header["op"] == Op.FS and header["action"] == Fs.MKDTEMP:
            base = account.known_temp_base(header["bases"][0])
            if base is None:
                return False
            answer["path"] = f"{base.rstrip('/')}/{header['name']}"
            header["bases"] = [base]  # for the case that the request is resent
        request.answer(answer)
        request.is_acknowledged = True
        return True

    def remember(self, request: Request, header: Answer) -> None:
        """Cache the facts about the host in a final answer."""
        asked = request.header
        if asked["op"] != Op.FS or header["op"] != Op.OK:
            return
        if asked["action"] == Fs.HOME and not asked.get("become"):
            self._home_cache[asked["path"]] = header["path"]
        elif asked["action"] == Fs.MKDTEMP and request.account is not None:
            path = header["path"]
            assert path is not None  # see protocol/answers.py
            request.account.temp_bases[asked["bases"][0]] = path.rpartition("/")[0]
