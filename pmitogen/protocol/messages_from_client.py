"""Messages of a client to the hub. A client runs in the account of the hub, so this guards against mistakes, not attacks.

Messages may hold secrets: an error names the field and the type of its value, never the value.
"""

# No "from __future__ import annotations": the annotations are read at run time.
from typing import Annotated, Any, Literal, TypedDict

from pmitogen.protocol.field_types import ByteText, Fixed, Items, Mapping, Number, Range, Record, Scalar, Text, Unchecked
from pmitogen.protocol.limits import CREDIT_WINDOW, INLINE, MAX_BODY, MAX_HEADER, WINDOW_SLACK
from pmitogen.protocol.message_checks import MessageType, Table
from pmitogen.protocol.operations import Fs, Op

_TEXT, _WIRE = Text(MAX_HEADER), ByteText(MAX_HEADER, nul=True)  # the target says what it cannot use
RequestId = Annotated[int, Range(0, 1 << 62)]
Pid = Annotated[int, Range(1, 1 << 31)]
Path = Annotated[str, _WIRE]
Line = Annotated[str, _TEXT]
Value = Annotated[Any, Scalar(MAX_HEADER)]
Argv = Annotated[list[Annotated[str, _WIRE]], Items(1, 1 << 16)]
Variables = Annotated[dict[str, str], Mapping(1 << 16, _WIRE, _WIRE)]
Mode = Annotated[int, Range(0, 0o7777)]


class Options(TypedDict, total=False):
    """The options of one connection, as Ansible's plugin or the library resolved them."""

    host: Annotated[str, _TEXT]
    remote_user: Value
    port: Value
    timeout: Value
    password: Value
    private_key: Value
    private_key_file: Value
    private_key_passphrase: Value
    otp: Value
    jump_credentials: Annotated[Any, Unchecked()]  # the reader's errors say more to a user
    host_key_checking: Value
    pkcs11_provider: Value
    reconnection_retries: Annotated[int, Range(-(1 << 31), 1 << 31)]
    ssh_args: Value
    ssh_common_args: Value
    ssh_extra_args: Value
    verbosity: Annotated[int, Range(-(1 << 31), 99)]
    boot_python: Annotated[list[Value], Items(0, 1000)]


class _Become(TypedDict):
    method: Annotated[str, _TEXT]


class Become(_Become, total=False):
    """The program and options that enter the account of a request from the login account."""

    user: Annotated[str, _TEXT]
    exe: Annotated[str, _TEXT]
    flags: Annotated[str, _TEXT]
    password: Annotated[str, _TEXT]
    chdir: Annotated[str, _TEXT]
    prompt_l10n: Annotated[list[Annotated[str, _TEXT]], Items(0, 1000)]
    timeout: Annotated[float, Number()]
    wraps: bool


class _Hello(TypedDict):
    op: Literal[Op.HELLO]


class Hello(_Hello, total=False):
    """The pmitogen that the client runs; compared with the hub's."""

    version: Annotated[Any, Unchecked()]
    pmitogen: Annotated[Any, Unchecked()]
    root: Annotated[Any, Unchecked()]
    python: Annotated[Any, Unchecked()]


class Caller(TypedDict):
    """The process that the connections of the run are made for."""

    op: Literal[Op.CALLER]
    directory: Annotated[str, _TEXT]
    environ: Annotated[dict[str, str], Mapping(1 << 16, _TEXT, _TEXT)]
    umask: Annotated[int, Range(0, 0o777)]


class _Open(TypedDict):
    op: Literal[Op.OPEN]
    options: Annotated[Options, Record(Options)]
    caller: Annotated[str, Text(64)]  # its digest


class Open(_Open, total=False):
    """The connection that the next requests are for."""

    pid: Pid


class _Preconnect(TypedDict):
    op: Literal[Op.PRECONNECT]
    id: RequestId


class Preconnect(_Preconnect, total=False):
    """Connect, and start Python, for a request that follows."""

    python: Argv


class _Request(TypedDict, total=False):
    become: Annotated[Become, Record(Become)]
    python: Argv
    likely_python: Argv
    python_env: Variables  # of its Python
    ack_early: bool  # the hub may answer ``ok`` before it is done
    more: bool  # data frames follow
    stream_output: bool  # send output as it comes
    own_session: bool  # in a session of its own, without Python
    task: Line
    label: Line  # of the operation, for error messages


class _Run(_Request):
    op: Literal[Op.RUN]
    id: RequestId
    archive: Annotated[str, Text(200)]  # the name of the module's archive
    module: Line
    generation: Annotated[str, Text(40)]
    profile: Value
    nofile: Annotated[int, Range(0, 1 << 62)] | None
    env: Variables


class Run(_Run, total=False):
    """Run an Ansible module. Its parameters are the body."""

    keywords_size: Annotated[int, Range(0, MAX_BODY)]  # bytes at the end of the body that are further arguments
    in_turn: bool  # begins when the previous request with ``in_turn`` has ended; has no ``more``


class _Exec(_Request):
    op: Literal[Op.EXEC]
    id: RequestId
    argv: Argv


class Exec(_Exec, total=False):
    """Run a command. Its input is the body."""

    tty: bool
    env: Variables
    cwd: Path


class _Put(_Request):
    op: Literal[Op.PUT]
    id: RequestId
    path: Path


class Put(_Put, total=False):
    """Write a file."""

    mode: Mode
    size: Annotated[int, Range(0, 1 << 62)]


class Get(_Request):
    """Read a file."""

    op: Literal[Op.GET]
    id: RequestId
    path: Path


class Account(_Request):
    """Ask for the account's user, home and interpreter."""

    op: Literal[Op.FS]
    action: Literal[Fs.ACCOUNT]
    id: RequestId


class Mkdtemp(_Request):
    """Make a temporary directory in the first of *bases* where that works."""

    op: Literal[Op.FS]
    action: Literal[Fs.MKDTEMP]
    id: RequestId
    bases: Annotated[list[Path], Items(1, 1000)]
    name: Path


class Home(_Request):
    """Expand a path that begins with ``~``."""

    op: Literal[Op.FS]
    action: Literal[Fs.HOME]
    id: RequestId
    path: Path


class Exists(_Request):
    """Ask whether a path exists."""

    op: Literal[Op.FS]
    action: Literal[Fs.EXISTS]
    id: RequestId
    path: Path


class Chmod(_Request):
    """Add permission bits to paths."""

    op: Literal[Op.FS]
    action: Literal[Fs.CHMOD]
    id: RequestId
    paths: Annotated[list[Path], Items(1, 1 << 16)]
    add: Mode


class Remove(_Request):
    """Remove a directory and all below it."""

    op: Literal[Op.FS]
    action: Literal[Fs.REMOVE]
    id: RequestId
    path: Path


class _Data(TypedDict):
    op: Literal[Op.DATA]
    id: RequestId


class Data(_Data, total=False):
    """Data of a request."""

    secret: bool  # it is a password: none goes to a host whose key has changed


class Eof(TypedDict):
    """The end of a request's data."""

    op: Literal[Op.EOF]
    id: RequestId


class Credit(TypedDict):
    """So much of the request's output has been consumed."""

    op: Literal[Op.CREDIT]
    id: RequestId
    count: Annotated[int, Range(0, CREDIT_WINDOW + WINDOW_SLACK)]


class Kill(TypedDict):
    """End a request."""

    op: Literal[Op.KILL]
    id: RequestId


class Archive(TypedDict):
    """A module's archive that the hub lacks, in Base64."""

    op: Literal[Op.ARCHIVE]
    archive: Annotated[str, Text(200)]


class Reset(TypedDict):
    """Close the connection, if there is one."""

    op: Literal[Op.RESET]
    id: RequestId


class _Trace(TypedDict):
    op: Literal[Op.TRACE]
    spans: Annotated[list[Annotated[list[Any], Fixed((_TEXT, Number(), Number()))]], Items(0, 1 << 16)]


class Trace(_Trace, total=False):
    """Spans of the client's time: names, and seconds since the epoch from and to."""

    host: Annotated[str, Text(1000)]  # its name in the inventory
    task: Annotated[str, Text(1000)]
    task_id: Annotated[str, Text(100)]


class Adopt(TypedDict):
    """Make a hub on standby serve this run."""

    op: Literal[Op.ADOPT]
    id: RequestId
    run: Pid
    path: Annotated[str, _TEXT]
    settings: Annotated[dict[str, str], Mapping(100, _TEXT, _TEXT)]


class Status(TypedDict):
    """Ask the hub about itself."""

    op: Literal[Op.STATUS]
    id: RequestId


class _Stop(TypedDict):
    op: Literal[Op.STOP]
    id: RequestId


class Stop(_Stop, total=False):
    """End the hub."""

    standby_only: bool  # only if it serves no run


TABLE = Table(
    MessageType(Hello, extensible=True),
    MessageType(Caller),
    MessageType(Open),
    MessageType(Preconnect),
    MessageType(Run, max_body=INLINE),
    MessageType(Exec, max_body=INLINE),
    MessageType(Put, max_body=INLINE),
    MessageType(Get),
    MessageType(Account),
    MessageType(Mkdtemp),
    MessageType(Home),
    MessageType(Exists),
    MessageType(Chmod),
    MessageType(Remove),
    MessageType(Data, max_body=MAX_BODY),
    MessageType(Eof),
    MessageType(Credit),
    MessageType(Kill),
    MessageType(Archive, max_body=MAX_BODY),
    MessageType(Reset),
    MessageType(Trace),
    MessageType(Adopt),
    MessageType(Status, extensible=True),
    MessageType(Stop, extensible=True),
    shows_values=False,
)
