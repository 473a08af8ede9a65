"""Messages of the hub to an agent, as type checkers see them. Requests and follow-ups are in requests.py."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from pmitogen.protocol.operations import Op
from pmitogen.protocol.requests import FollowUp, RequestHeader


class _Account(TypedDict):
    op: Literal[Op.ACCOUNT]
    acct: int
    python: list[str]
    env: dict[str, str]
    token: str


class Account(_Account, total=False):
    """Start the interpreter of an account."""

    plan: dict[str, Any]  # see flags/become/plan.py; absent: the login account
    named: list[str]  # interpreters that the user named for the host
    wraps: bool


class _Drop(TypedDict):
    op: Literal[Op.DROP]
    acct: int


class Drop(_Drop, total=False):
    """End the interpreter of an account."""

    tell: bool  # say ``left`` when it has no process any more


class Overdue(TypedDict):
    """The account has not been entered in time."""

    op: Literal[Op.OVERDUE]
    acct: int


class _Secret(TypedDict):
    op: Literal[Op.SECRET]
    acct: int
    step: int
    kind: str


class Secret(_Secret, total=False):
    """The answer to ``ask``. The secret is the body."""

    why: str  # there is none, for this reason


class Sources(TypedDict):
    """The files for entering accounts, in the body."""

    op: Literal[Op.SOURCES]


class Blobs(TypedDict):
    """Contents of payloads, in the body."""

    op: Literal[Op.BLOBS]
    codec: str


ToAgent = Account | Drop | Overdue | Secret | Sources | Blobs | RequestHeader | FollowUp
