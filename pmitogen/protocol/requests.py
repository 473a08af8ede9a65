"""Requests and their follow-ups, as type checkers see them in the hub: one dict type for all operations.

The tables in messages_from_client.py say which fields each operation has, and check them. The hub handles all operations alike,
adds the fields of :class:`RequestHeader` that come last, and sends the rest on to the agent. A test compares these types with the
tables.
"""

from __future__ import annotations

from typing import TypedDict

from pmitogen.protocol.messages_from_client import Become, Options


class ConnectionOptions(Options, total=False):
    """The options of one connection; the last four are the library's."""

    ssh_extra_args_from: str  # the name of ssh_extra_args in messages
    interactive: bool  # a user can be asked
    login_timeout: float | None  # seconds for the whole login; None: the default limits
    forwards: bool  # -L, -R and -D are carried out


class BecomeRequest(Become, total=False):
    """The program and options that enter the account of a request; the library can enter an account from another."""

    otp: str
    via: BecomeRequest


class _Operation(TypedDict):
    op: str


class ClientRequest(_Operation, total=False):
    """A request of any operation, with the fields that a client gives it. Wire text: code points that are bytes."""

    id: int
    action: str
    become: BecomeRequest | None
    python: list[str]
    likely_python: list[str]
    python_env: dict[str, str]
    ack_early: bool
    more: bool
    stream_output: bool
    in_turn: bool
    own_session: bool
    task: str
    label: str
    # run
    archive: str
    module: str
    generation: str
    profile: object
    nofile: int | None
    keywords_size: int
    # run and exec
    env: dict[str, str]
    # exec
    argv: list[str]
    tty: bool
    cwd: str
    # put, get and fs
    path: str
    mode: int
    size: int  # put: bytes in all
    bases: list[str]
    name: str
    paths: list[str]
    add: int


class RequestHeader(ClientRequest, total=False):
    """A request in the hub, and as it goes to the agent."""

    account: int  # the account's number on the host
    chain: int  # of the client: requests of one chain are done in order
    manifest: str  # the manifest of the payload; takes the place of ``archive``
    no_reply: bool  # no answer is expected
    even_if_stale: bool  # do it even if a fresh process would differ
    trace: bool  # measure it
    reconnect: bool  # ssh would have made another connection by now
    if_python: str  # only if the login account's interpreter is this one
    retried_boot: bool  # Python was started once more for it
    terminal_size: list[int]  # exec, in the library: lines and columns
    function: str  # run, of a function of the library: its name
    simple: bool  # exec, get and preconnect, in the library: it needs no Python there
    names: list[str]  # run, of a function of the library: names to replace by placeholders


class _FollowUp(TypedDict):
    op: str


class FollowUp(_FollowUp, total=False):
    """A frame that belongs to a request: ``data``, ``eof``, ``credit``, ``kill``, ``signal`` or ``resize``."""

    id: int
    account: int
    count: int  # credit: bytes that were consumed
    signal: int  # signal: its number
    secret: bool
    terminal_size: list[int]  # resize: lines and columns
