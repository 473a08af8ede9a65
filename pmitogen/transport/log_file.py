"""Log file and level of one connection: ssh's ``-E`` and LogLevel.

Paramiko's lines are logged below ``paramiko.pmitogen``, which the program that uses the library configures; each record names
its host. A connection with a log file of its own gets a logger of its own beneath it, with a handler for that file, as long as it
lives. Transferred data is never logged: Paramiko's debug lines name messages and algorithms only.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.util.caller import CallerEnvironment
from pmitogen.util.peer_text import one_line
from pmitogen.util.trusted_path import open_for_append

NAME = "paramiko.pmitogen"
LEVELS = {
    "QUIET": logging.CRITICAL,
    "FATAL": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "INFO": logging.INFO,
    "VERBOSE": logging.INFO,
    "DEBUG": logging.DEBUG,
    "DEBUG1": logging.DEBUG,
    "DEBUG2": logging.DEBUG,
    "DEBUG3": logging.DEBUG,
}
_numbers = itertools.count(1)

if TYPE_CHECKING:
    _LoggerAdapter = logging.LoggerAdapter[logging.Logger]
else:  # Python 3.10 cannot subscript the class
    _LoggerAdapter = logging.LoggerAdapter

# Without this the logging module prints warnings to stderr if the program has not configured it.
for _name in ("pmitogen", NAME):
    logging.getLogger(_name).addHandler(logging.NullHandler())


class PeerLogger(_LoggerAdapter):
    """The logger of one connection: adds its host to each record, and escapes text of the server."""

    def __init__(self, name: str, host: str) -> None:
        super().__init__(logging.getLogger(name), {"host": host})

    def log(self, level: int, msg: object, *args: Any, **_: Any) -> None:
        if self.isEnabledFor(level):
            self.logger.log(level, "%s", one_line(str(msg) % args if args else str(msg)), extra=self.extra)


def open_file(path: str, caller: CallerEnvironment) -> TextIO:
    """Open a log file to append to it; a new one gets the mode that ssh would give it. Raises OSError.

    Links and files that another user may have planted are refused.
    """
    fresh = not os.path.exists(path)
    descriptor = open_for_append(path, 0o600)
    if fresh:
        os.fchmod(descriptor, 0o666 & ~caller.umask)
    return os.fdopen(descriptor, "a", encoding="utf-8", buffering=1)


def open_log(settings: Settings) -> tuple[str, Callable[[], None]]:
    """Return the logger's name, and a function to call when the connection ends. Raises ConnectError (stage ``local``)."""
    if settings.logfile is None:
        return NAME, lambda: None
    try:
        handler = logging.StreamHandler(open_file(settings.logfile, settings.caller or CallerEnvironment.current()))
    except OSError as error:
        raise ConnectError(f"{settings.endpoint}: -E {settings.logfile}: {error.strerror}", "local") from None
    handler.setFormatter(logging.Formatter(f"%(asctime)s {settings.endpoint}: %(message)s"))
    logger = logging.getLogger(f"{NAME}.{next(_numbers)}")
    logger.setLevel(LEVELS.get(settings.loglevel.upper(), logging.INFO))
    logger.addHandler(handler)

    def close() -> None:
        logger.removeHandler(handler)
        handler.close()
        handler.stream.close()

    return logger.name, close
