"""Messages of the hub to an agent, as type checkers see them. Requests and follow-ups are in requests.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from pmitogen.protocol.operations import Op
from pmitogen.protocol.requests import FollowUp, RequestHeader

if TYPE_CHECKING:
    from pmitogen.protocol.escalation_plan import EscalationPlan


class _StartAccount(TypedDict):
    op: Literal[Op.START_ACCOUNT]
    account: int
    python: list[str]
    env: dict[str, str]
    token: str


class StartAccount(_StartAccount, total=False):
    """Start the interpreter of an account."""

    plan: EscalationPlan  # absent: the login account
    named_pythons: list[str]  # interpreters that the user named for the host
    wraps: bool  # the client can wrap its command itself instead


class _EndAccount(TypedDict):
    op: Literal[Op.END_ACCOUNT]
    account: int


class EndAccount(_EndAccount, total=False):
    """End the interpreter of an account."""

    notify: bool  # send ``account-ended`` when it has no process any more


class AccountTimeout(TypedDict):
    """The account has not been entered in time."""

    op: Literal[Op.ACCOUNT_TIMEOUT]
    account: int


class _Secret(TypedDict):
    op: Literal[Op.SECRET]
    account: int
    step: int
    kind: str


class Secret(_Secret, total=False):
    """The answer to ``secret-request``. The secret is the body."""

    reason: str  # why there is no secret


class Sources(TypedDict):
    """The files for entering accounts, in the body."""

    op: Literal[Op.SOURCES]


class Blobs(TypedDict):
    """Contents of payloads, in the body."""

    op: Literal[Op.BLOBS]
    codec: str


ToAgent = StartAccount | EndAccount | AccountTimeout | Secret | Sources | Blobs | RequestHeader | FollowUp
