"""Messages of an agent to the hub. The agent, and every interpreter whose answers it passes on, may be hostile."""

# No "from __future__ import annotations": the annotations are read at run time.
from typing import Annotated, Literal, TypedDict

from pmitogen.protocol.field_types import ByteText, Items, Range, Seconds, Text
from pmitogen.protocol.limits import CREDIT_WINDOW, MESSAGE_TEXT, NAME, PATH, TARGET_BODY, WINDOW_SLACK
from pmitogen.protocol.message_checks import MessageType, Table
from pmitogen.protocol.operations import ErrorKind, Op

AccountNumber = Annotated[int, Range(0, 1 << 31)]
RequestId = Annotated[int, Range(1, 1 << 62)]
Path = Annotated[str, ByteText(PATH)]
Message = Annotated[str, Text(MESSAGE_TEXT)]


class Hello(TypedDict):
    """The interpreter of an account is up."""

    op: Literal[Op.HELLO]
    account: AccountNumber
    pid: Annotated[int, Range(1, 1 << 31)]
    uid: Annotated[int, Range(0, (1 << 32) - 1)]
    user: Annotated[str, Text(NAME)]
    executable: Annotated[str, Text(PATH)]
    home: Path
    home_writable: bool
    python_version: Annotated[list[Annotated[int, Range(0, 999)]], Items(3, 3)]


class InterpreterEnded(TypedDict):
    """The interpreter of an account has ended."""

    op: Literal[Op.INTERPRETER_ENDED]
    account: AccountNumber


class AccountEnded(TypedDict):
    """An account that the hub ended has no process any more."""

    op: Literal[Op.ACCOUNT_ENDED]
    account: AccountNumber


class AccountsChanged(TypedDict):
    """The file of accounts has changed: home directories that are known may be wrong."""

    op: Literal[Op.ACCOUNTS_CHANGED]


class SecretRequest(TypedDict):
    """A prompt asks for a secret of an account that is being entered."""

    op: Literal[Op.SECRET_REQUEST]
    account: AccountNumber
    step: Annotated[int, Range(0, 99)]  # which program asks; 0: the first that was started
    kind: Literal["password", "otp"]


class CodecUnsupported(TypedDict):
    """The target cannot read the codec of ``blobs``."""

    op: Literal[Op.CODEC_UNSUPPORTED]


class _FromInterpreter(TypedDict, total=False):
    account: AccountNumber  # the account whose interpreter sent it; absent: the login account's, or the agent itself


class DeferredError(_FromInterpreter):
    """A request with ``no_reply`` has failed."""

    op: Literal[Op.DEFERRED_ERROR]
    msg: Message


class Out(_FromInterpreter):
    """Output, or a piece of a file."""

    op: Literal[Op.OUT]
    id: RequestId
    stream: Literal[1, 2]


class Credit(_FromInterpreter):
    """So much of the request's data has been consumed."""

    op: Literal[Op.CREDIT]
    id: RequestId
    count: Annotated[int, Range(1, CREDIT_WINDOW + WINDOW_SLACK)]


class _Exit(_FromInterpreter):
    op: Literal[Op.EXIT]
    id: RequestId
    rc: Annotated[int, Range(0, 255)]
    stdout_size: Annotated[int, Range(0, TARGET_BODY)]  # bytes of stdout in the body; the rest is stderr


class Exit(_Exit, total=False):
    """The process has ended."""

    signal: Annotated[int, Range(1, 127)]  # that ended it
    timings: Annotated[list[Annotated[float, Seconds(1e9)]], Items(2, 2)]  # before its process, and of its process


class _Ok(_FromInterpreter):
    op: Literal[Op.OK]
    id: RequestId


class Ok(_Ok, total=False):
    """The operation is done. Which fields there are depends on the operation."""

    path: Path | None
    exists: bool
    mode: Annotated[int, Range(0, 0o7777)]


class _Error(_FromInterpreter):
    op: Literal[Op.ERROR]
    id: RequestId
    msg: Message


class Error(_Error, total=False):
    """The request has failed."""

    kind: Literal[ErrorKind.BECOME, ErrorKind.INTERPRETER_ENDED, ErrorKind.PYTHON, ErrorKind.PYTHON_MISMATCH, ErrorKind.STALE]
    errno: Annotated[str, Text(20)]  # the name of the operating system's error, such as ENOENT
    reason: Annotated[str, Text(40)] | None  # why the account could not be entered (see BecomeError.kind), or what is stale
    refused_count: Annotated[
        int, Range(0, 1 << 20)
    ]  # if something is stale: requests of the chain with ``no_reply`` that were refused


FromAgent = (
    Hello
    | InterpreterEnded
    | AccountEnded
    | AccountsChanged
    | SecretRequest
    | CodecUnsupported
    | DeferredError
    | Out
    | Credit
    | Exit
    | Ok
    | Error
)

TABLE = Table(
    MessageType(Hello),
    MessageType(InterpreterEnded),
    MessageType(AccountEnded),
    MessageType(AccountsChanged),
    MessageType(SecretRequest),
    MessageType(CodecUnsupported),
    MessageType(DeferredError),
    MessageType(Out, min_body=1, max_body=TARGET_BODY),
    MessageType(Credit),
    MessageType(Exit, max_body=TARGET_BODY),
    MessageType(Ok),
    MessageType(Error),
)
