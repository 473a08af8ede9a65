"""Logging of hubs and commands: ``PMITOGEN_LOG`` sets the level, and ``PMITOGEN_LOG_FILE`` the file (default: stderr).

A line has the time, the process and its age in seconds, the host and the task if it is about one, the logger and the message:

    10:04:11.123 hub[4711] +0.532 web1 "Install nginx" hub: #7 run ansible.modules.apt as root -> exit in 812.4 ms

Host and task come from the record (``extra={"host": ..., "task": ...}``, as :func:`for_host` adds them), else from
:func:`context`, which a thread that works for one host enters. Levels are Python's own, and ``trace``, which adds the debug lines
of Paramiko and Mitogen.

No message is made from a secret, because types hide them. In addition, :func:`register_secret` removes a secret from every line,
also from tracebacks. Text from a peer cannot begin a line or control a terminal: control characters are escaped, and the lines of
a traceback are indented. Standard library only, because hubs load this file first.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, TextIO

from pmitogen.errors import UsageError
from pmitogen.util.peer_text import one_line
from pmitogen.util.trusted_path import open_for_append

LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
REDACTED = "********"
MIN_SECRET_LENGTH = 4  # characters; a shorter secret is also a part of many other words
if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
    _LoggerAdapter = logging.LoggerAdapter[logging.Logger]
else:  # Python 3.10 cannot subscript the classes
    _StreamHandler = logging.StreamHandler
    _LoggerAdapter = logging.LoggerAdapter

_FOREIGN = ("paramiko", "mitogen")

_where: contextvars.ContextVar[tuple[str, str]] = contextvars.ContextVar("pmitogen_log_where", default=("", ""))


# -- format -----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def context(host: str | None = None, task: str | None = None) -> Iterator[None]:
    """Name *host* and *task* in the lines that this thread logs during the block; None: as in the outer block."""
    outer_host, outer_task = _where.get()
    token = _where.set((outer_host if host is None else host, outer_task if task is None else task))
    try:
        yield
    finally:
        _where.reset(token)


def for_host(logger: logging.Logger, host: str) -> _HostLogger:
    """Return *logger* for lines about *host*, from any thread."""
    return _HostLogger(logger, {"host": host})


class _HostLogger(_LoggerAdapter):
    """Adds its host to each record, and leaves the task that a call names."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, {**kwargs, "extra": {**(self.extra or {}), **kwargs.get("extra", {})}}


class _Formatter(logging.Formatter):
    """Formats a line as the module's docstring shows it, without registered secrets or control characters."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role
        self._begun = time.time()

    def format(self, record: logging.LogRecord) -> str:
        lines = [one_line(self._prefix(record) + redact(record.getMessage()))]
        if record.exc_info:
            lines += ["    " + one_line(line) for line in redact(self.formatException(record.exc_info)).splitlines()]
        return redact("\n".join(lines))

    def _prefix(self, record: logging.LogRecord) -> str:
        host, task = _where.get()
        host, task = getattr(record, "host", host), getattr(record, "task", task)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        parts = [f"{clock}.{int(record.msecs):03d}", f"{self._role}[{record.process}]", f"{record.created - self._begun:+.3f}"]
        parts += [host] if host else []
        parts += [json.dumps(task, ensure_ascii=False)] if task else []
        parts += [record.levelname] if record.levelno >= logging.WARNING else []
        return " ".join(parts) + f" {record.name.removeprefix('pmitogen.')}: "


# -- secrets ----------------------------------------------------------------------------------------------------------------


class _Secrets:
    """Texts that no line may contain. Any thread may add one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, secret: str) -> None:
        written = {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
        # A key is logged line by line, if at all.
        written.update(line for line in secret.splitlines() if not line.startswith("-----"))
        with self._lock:
            self._texts.update(text for text in written if len(text) >= MIN_SECRET_LENGTH)
            # The longest first, for one may be part of another.
            texts = sorted(self._texts, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, texts))) if texts else None

    def clear(self) -> None:
        with self._lock:
            self._texts.clear()
            self._pattern = None

    def redact(self, text: str) -> str:
        pattern = self._pattern
        return pattern.sub(REDACTED, text) if pattern else text


_secrets = _Secrets()


def register_secret(secret: str | bytes | None) -> None:
    """Replace *secret* in all further lines, as it is and as Python or JSON would write it.

    A secret shorter than MIN_SECRET_LENGTH is ignored. Any thread.
    """
    if isinstance(secret, bytes):
        secret = secret.decode("utf-8", "surrogateescape")
    if secret:
        _secrets.add(secret)


def forget_secrets() -> None:
    """Discard all registered secrets, because the run that they belong to has ended."""
    _secrets.clear()


def redact(text: str) -> str:
    """Return *text* with asterisks in place of every registered secret."""
    return _secrets.redact(text)


# -- output -----------------------------------------------------------------------------------------------------------------


def setup(
    role: str = "hub", level: str | None = None, environ: Mapping[str, str] = os.environ, stderr_from_pid: int | None = None
) -> bool:
    """Set up logging in this process. Returns whether anything will be logged.

    :param role: names this process in each line ("hub", "cli").
    :param level: one of LEVELS; overrides PMITOGEN_LOG. Without both, PMITOGEN_LOG_FILE alone means ``info``; without all three,
        nothing is logged.
    :param stderr_from_pid: the pid of another process of this account, whose stderr is used instead of this process's own.
        Ansible redirects the stderr of its workers, and so that of the hub which they start.

    Call it before threads start; a second call replaces the first. Raises UsageError for an unknown level or an unwritable file.
    """
    path = environ.get("PMITOGEN_LOG_FILE", "")
    level_name = (level or environ.get("PMITOGEN_LOG", "")).lower() or ("info" if path else "")
    if level_name and level_name not in LEVELS:
        raise UsageError(f"PMITOGEN_LOG: {level_name}: invalid level; use one of {', '.join(LEVELS)}")
    stream = None
    if level_name:
        stream = _open(path) if path else None if stderr_from_pid is None else _stderr_of(stderr_from_pid)
    limit = LEVELS.get(level_name, logging.CRITICAL + 1)
    for name in ("pmitogen", *_FOREIGN):
        logger = logging.getLogger(name)
        _detach(logger)
        lowest = limit if name == "pmitogen" or level_name == "trace" else max(limit, logging.WARNING)
        handler = _Handler(role, stream)
        handler.setLevel(lowest)  # a logger below this one has a level of its own, if a connection has a log file (-E)
        logger.addHandler(handler)
        logger.setLevel(lowest)
        logger.propagate = False
    return bool(level_name)


class _Handler(_StreamHandler):
    """Writes lines to *stream* and closes it in the end; None: to stderr, which stays open."""

    def __init__(self, role: str, stream: TextIO | None) -> None:
        super().__init__(stream or sys.stderr)
        self._own = stream
        self.setFormatter(_Formatter(role))

    def close(self) -> None:
        super().close()
        if self._own is not None:
            self._own.close()


def _detach(logger: logging.Logger) -> None:
    for handler in [each for each in logger.handlers if isinstance(each, _Handler)]:
        logger.removeHandler(handler)
        handler.close()


def _open(path: str) -> TextIO:
    """Open a log file to append to it, so that several processes can write to it. A new file is readable by this user only.

    Links and files that another user may have planted are refused.
    """
    try:
        # A write for each line. Characters that cannot be encoded are escaped, so that no line raises an error.
        return os.fdopen(open_for_append(path), "a", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError as error:
        raise UsageError(f"PMITOGEN_LOG_FILE: {path}: {(error.strerror or str(error)).lower()}") from None


def warn_run(pid: int, text: str) -> None:
    """Write one line to the stderr of the run whose main process is *pid*, whatever is logged. Never raises."""
    with contextlib.suppress(OSError):
        stream = _stderr_of(pid)
        if stream is not None:
            with stream:
                stream.write(f"pmitogen: warning: {one_line(text)}\n")


def _stderr_of(pid: int) -> TextIO | None:
    """Open the stderr of another process. Returns None if the system does not allow it (no /proc, or a socket)."""
    try:
        fd = os.open(f"/proc/{pid}/fd/2", os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    return os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
