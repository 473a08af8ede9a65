"""Names of operations and of kinds of failure, as they are sent."""

from __future__ import annotations

import enum


class Op(str, enum.Enum):
    """The ``op`` of a frame."""

    # Requests
    AHEAD = "ahead"
    EXEC = "exec"
    FS = "fs"
    GET = "get"
    PUT = "put"
    RUN = "run"
    # What follows a request
    CREDIT = "credit"
    DATA = "data"
    EOF = "eof"
    KILL = "kill"
    RESIZE = "resize"
    SIGNAL = "signal"
    # Answers
    ERROR = "error"
    EXIT = "exit"
    NEED = "need"
    OK = "ok"
    OUT = "out"
    # Between a client and the hub, about the hub
    ADOPT = "adopt"
    CALLER = "caller"
    HELLO = "hello"
    OPEN = "open"
    REFUSED = "refused"
    RESET = "reset"
    STATUS = "status"
    STOP = "stop"
    TRACE = "trace"
    ZIP = "zip"
    # Between hub, agent and runners, about interpreters
    ACCOUNT = "account"
    ASK = "ask"
    BLOBS = "blobs"
    CHANGED = "changed"
    CODES = "codes"
    DROP = "drop"
    ENTERED = "entered"
    GONE = "gone"
    LACK = "lack"
    LATE = "late"
    LEFT = "left"
    OVERDUE = "overdue"
    SECRET = "secret"
    SOURCES = "sources"

    __str__ = str.__str__


class Fs(str, enum.Enum):
    """The ``do`` of an ``fs`` request."""

    ACCOUNT = "account"  # who the account is; answered by the hub
    CHMOD = "chmod"
    EXISTS = "exists"
    HOME = "home"
    MKDTEMP = "mkdtemp"
    REMOVE = "remove"

    __str__ = str.__str__


class ErrorKind(str, enum.Enum):
    """The ``kind`` of an ``error``. Without one, the operation itself failed on the target."""

    AUTH = "auth"  # the server refused every credential
    BECOME = "become"  # the account could not be entered
    GONE = "gone"  # the interpreter has ended
    LOST = "lost"  # an established connection has ended
    NO_PYTHON = "nopython"  # the host has no usable Python
    OPTIONS = "options"  # the options of the connection cannot be honoured
    PYTHON = "python"  # an interpreter is missing or does not start
    PYTHON_MISMATCH = "python-mismatch"  # another interpreter booted than this request wants; the hub asks again
    STALE = "stale"  # a fresh process would differ from the interpreter; the hub asks one
    UNREACHABLE = "unreachable"  # no connection can be made
    USAGE = "usage"  # the request cannot be carried out as it is
    WRAP = "wrap"  # the host has no Python, so the command has to be wrapped by its become plugin

    __str__ = str.__str__


FINAL = frozenset((Op.EXIT, Op.OK, Op.ERROR))  # exactly one of these ends a request
FOLLOWING = frozenset((Op.DATA, Op.EOF, Op.CREDIT, Op.KILL, Op.RESIZE, Op.SIGNAL))  # these belong to a request that was made
