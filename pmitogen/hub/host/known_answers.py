"""Answers that the hub gives without waiting for the target: what it has been told before, and what will surely be done.

I/O thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmitogen import toggles
from pmitogen.hub.host.accounts import Account, Accounts
from pmitogen.hub.requests import MAX_INLINE_FILE, Request
from pmitogen.protocol.operations import Fs, Op

if TYPE_CHECKING:
    from pmitogen.protocol.to_client import Answer


class KnownAnswers:
    """Home directories and temporary directories of one host. I/O thread."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._homes: dict[str, str | None] = {}

    def on_login(self, account: Account) -> None:
        """The login account is up."""
        self._homes["~"] = self._homes[f"~{account.user}"] = account.home

    def forget_homes(self) -> None:
        """Accounts of the host have changed: nothing is known of homes, except that the login keeps its own."""
        login = self._accounts.login_account
        self._homes = dict.fromkeys(("~", f"~{login.user}"), login.home) if login.home is not None else {}
        self._accounts.forget_homes()

    def answer(self, request: Request) -> bool:
        """Answer a question about home directories from memory. Returns whether that was possible. Raises UsageError."""
        header = request.header
        if header["do"] == Fs.HOME and not header.get("become") and header["path"] in self._homes:
            request.answer({"op": "ok", "path": self._homes[header["path"]]})
            return True
        if header["do"] == Fs.ACCOUNT:
            account = self._accounts.account_for(header)
            if account.home is not None:
                request.answer({"op": "ok", "home": account.home, "user": account.user, "exe": account.exe})
                return True
            header["do"], header["path"] = Fs.HOME.value, "~"
        return False

    @staticmethod
    def answer_ahead(request: Request, account: Account) -> bool:
        """Tell the client that it is done where a failure would only surface at its next request anyway.

        Returns whether that was done.
        """
        header = request.header
        if not toggles.request_pipelining_enabled():
            return False
        answer: Answer = {"op": "ok"}
        if header["op"] == Op.PUT and (header.get("more") or len(request.body) > MAX_INLINE_FILE):
            return False
        if header["op"] == Op.FS and header["do"] == Fs.MKDTEMP:
            base = account.known_temp_base(header["bases"][0])
            if base is None:
                return False
            answer["path"] = f"{base.rstrip('/')}/{header['name']}"
            header["bases"] = [base]  # should it have to be made again
        request.answer(answer)
        request.is_acknowledged = True
        return True

    def remember(self, request: Request, header: Answer) -> None:
        """Keep what a final answer tells about the host."""
        asked = request.header
        if asked["op"] != Op.FS or header["op"] != Op.OK:
            return
        if asked["do"] == Fs.HOME and not asked.get("become"):
            self._homes[asked["path"]] = header["path"]
        elif asked["do"] == Fs.MKDTEMP and request.account is not None:
            path = header["path"]
            assert path is not None  # see protocol/answers.py
            request.account.temp_bases[asked["bases"][0]] = path.rpartition("/")[0]
