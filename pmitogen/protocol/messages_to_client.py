"""Messages of the hub to a client, as type checkers see them.

The hub makes them, or passes on what messages_from_agent.py has checked, and a client trusts its hub. Nothing checks them again.
"""

from __future__ import annotations

from typing import TypedDict


class _Transfer(TypedDict):
    action: str
    path: str
    transferred: int  # bytes so far
    size: object  # bytes in all; None: unknown


class Transfer(_Transfer, total=False):
    """A transfer of a file under way, in the answer to ``status``."""

    host: str


class _Operation(TypedDict):
    op: str


class Answer(_Operation, total=False):
    """A frame of any operation. ``id`` is the number that the client gave its request."""

    id: int
    account: int
    # out
    stream: int
    # credit
    count: int  # bytes that were consumed
    # exit
    stdout_size: int  # bytes of stdout in the body
    rc: int
    signal: int
    timings: list[float]
    # ok
    path: str | None
    exists: bool
    mode: int
    home: str | None
    user: str | None
    executable: str | None
    # ok, to ``status``
    pid: int
    run: int | None
    age: float
    hosts: int
    busy: int
    workers: int
    transfers: list[Transfer]
    # error, refused
    msg: str
    kind: str | None
    errno: str  # the name of the operating system's error, such as ENOENT
    reason: str | None
    stage: str
    jump_host: str
    origin: str
    refused_count: int
    # need
    archive: str
    caller: str
    # warnings: the severity and the text of each (see transport/connection_warnings.py)
    warnings: list[tuple[str, str]]
