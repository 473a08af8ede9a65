"""Messages of an agent to the hub. The agent, and every interpreter whose answers it passes on, may be hostile."""

# No "from __future__ import annotations": the annotations are read at run time.
from typing import Annotated, Literal, TypedDict

from pmitogen.protocol.fields import Items, Range, Seconds, Text, Wire
from pmitogen.protocol.limits import CREDIT_WINDOW, MESSAGE_TEXT, NAME, PATH, TARGET_BODY, WINDOW_SLACK
from pmitogen.protocol.operations import ErrorKind, Op
from pmitogen.protocol.table import Row, Table

AccountNumber = Annotated[int, Range(0, 1 << 31)]
RequestId = Annotated[int, Range(1, 1 << 62)]
Path = Annotated[str, Wire(PATH)]
Message = Annotated[str, Text(MESSAGE_TEXT)]


class Hello(TypedDict):
    """The interpreter of an account is up."""

    op: Literal[Op.HELLO]
    acct: AccountNumber
    pid: Annotated[int, Range(1, 1 << 31)]
    uid: Annotated[int, Range(0, (1 << 32) - 1)]
    user: Annotated[str, Text(NAME)]
    exe: Annotated[str, Text(PATH)]
    home: Path
    home_writable: bool
    python: Annotated[list[Annotated[int, Range(0, 999)]], Items(3, 3)]


class Gone(TypedDict):
    """The interpreter of an account has ended."""

    op: Literal[Op.GONE]
    acct: AccountNumber


class Left(TypedDict):
    """An account that the hub ended has no process any more."""

    op: Literal[Op.LEFT]
    acct: AccountNumber


class Changed(TypedDict):
    """The accounts of the host have changed: what was known of homes may be wrong."""

    op: Literal[Op.CHANGED]


class Ask(TypedDict):
    """A prompt asks for a secret of an account that is being entered."""

    op: Literal[Op.ASK]
    acct: AccountNumber
    step: Annotated[int, Range(0, 99)]  # which program asks; 0: the first that was started
    kind: Literal["password", "otp"]


class Lack(TypedDict):
    """The target cannot read the codec of ``blobs``."""

    op: Literal[Op.LACK]


class _Said(TypedDict, total=False):
    acct: AccountNumber  # the account whose interpreter said it; absent: the login account's, or the agent itself


class Late(_Said):
    """A request that was answered ahead has failed."""

    op: Literal[Op.LATE]
    msg: Message


class Out(_Said):
    """Output, or a piece of a file."""

    op: Literal[Op.OUT]
    id: RequestId
    s: Literal[1, 2]


class Credit(_Said):
    """So much of the request's data has been consumed."""

    op: Literal[Op.CREDIT]
    id: RequestId
    n: Annotated[int, Range(1, CREDIT_WINDOW + WINDOW_SLACK)]


class _Exit(_Said):
    op: Literal[Op.EXIT]
    id: RequestId
    rc: Annotated[int, Range(0, 255)]
    n: Annotated[int, Range(0, TARGET_BODY)]  # bytes of stdout in the body; the rest is stderr


class Exit(_Exit, total=False):
    """The process has ended."""

    signal: Annotated[int, Range(1, 127)]  # that ended it
    t: Annotated[list[Annotated[float, Seconds(1e9)]], Items(2, 2)]  # before its process, and of its process


class _Ok(_Said):
    op: Literal[Op.OK]
    id: RequestId


class Ok(_Ok, total=False):
    """The operation is done. Which fields there are depends on the operation."""

    path: Path | None
    exists: bool
    mode: Annotated[int, Range(0, 0o7777)]


class _Error(_Said):
    op: Literal[Op.ERROR]
    id: RequestId
    msg: Message


class Error(_Error, total=False):
    """The request has failed."""

    kind: Literal[ErrorKind.BECOME, ErrorKind.GONE, ErrorKind.PYTHON, ErrorKind.PYTHON_MISMATCH, ErrorKind.STALE]
    errno: Annotated[str, Text(20)]  # the name of the operating system's error, such as ENOENT
    why: Annotated[str, Text(40)] | None  # why the account could not be entered (see BecomeError.kind), or what is stale
    lost: Annotated[int, Range(0, 1 << 20)]  # requests of the chain that were answered ahead and refused, if something is stale


FromAgent = Hello | Gone | Left | Changed | Ask | Lack | Late | Out | Credit | Exit | Ok | Error

TABLE = Table(
    Row(Hello),
    Row(Gone),
    Row(Left),
    Row(Changed),
    Row(Ask),
    Row(Lack),
    Row(Late),
    Row(Out, least_body=1, most_body=TARGET_BODY),
    Row(Credit),
    Row(Exit, most_body=TARGET_BODY),
    Row(Ok),
    Row(Error),
)
