"""Names of operations and of kinds of failure, as they are sent."""

from __future__ import annotations

import enum


class Op(str, enum.Enum):
    """The ``op`` of a frame."""

    # Requests
    EXEC = "exec"
    FS = "fs"
    GET = "get"
    PRECONNECT = "preconnect"
    PUT = "put"
    RUN = "run"
    # Follow-ups of a request
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
    ARCHIVE = "archive"
    CALLER = "caller"
    HELLO = "hello"
    OPEN = "open"
    REFUSED = "refused"
    RESET = "reset"
    STATUS = "status"
    STOP = "stop"
    TRACE = "trace"
    WARNINGS = "warnings"
    # Between hub, agent and runners, about interpreters
    ACCOUNTS_CHANGED = "accounts-changed"
    ACCOUNT_ENDED = "account-ended"
    ACCOUNT_TIMEOUT = "account-timeout"
    BLOBS = "blobs"
    BYTECODE = "bytecode"
    CODEC_UNSUPPORTED = "codec-unsupported"
    DEFERRED_ERROR = "deferred-error"
    END_ACCOUNT = "end-account"
    INTERPRETER_ENDED = "interpreter-ended"
    SECRET = "secret"
    SECRET_REQUEST = "secret-request"
    SOURCES = "sources"
    START_ACCOUNT = "start-account"
    START_INFO = "start-info"

    __str__ = str.__str__


class Fs(str, enum.Enum):
    """The ``action`` of an ``fs`` request."""

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
    INTERPRETER_ENDED = "interpreter-ended"
    LOST = "lost"  # an established connection has ended
    NO_PYTHON = "nopython"  # the host has no usable Python
    OPTIONS = "options"  # the options of the connection cannot be honoured
    PYTHON = "python"  # an interpreter is missing or does not start
    PYTHON_MISMATCH = "python-mismatch"  # another interpreter booted than this request wants; the hub resends it
    STALE = "stale"  # a fresh process would differ from the interpreter; the hub asks one
    UNREACHABLE = "unreachable"  # no connection can be made
    USAGE = "usage"  # the request cannot be carried out as it is
    WRAP = "wrap"  # the host has no Python, so the command has to be wrapped by its become plugin

    __str__ = str.__str__


FINAL = frozenset((Op.EXIT, Op.OK, Op.ERROR))  # exactly one of these ends a request
FOLLOWING = frozenset((Op.DATA, Op.EOF, Op.CREDIT, Op.KILL, Op.RESIZE, Op.SIGNAL))  # these belong to a request that was made
