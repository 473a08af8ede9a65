"""Where one connection's log lines go: ssh's ``-E`` file and LogLevel.

Everything is logged below ``pmitogen.ssh``, which the program that uses us sets up as it likes. A connection with a log file of
its own gets a logger of its own beneath it, with a handler for that file, as long as it lives. Nothing here logs what is sent:
Paramiko's debug lines name messages and algorithms, never contents.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable

from pmitogen.errors import ConnectError
from pmitogen.flags.settings import Settings
from pmitogen.transport.dial import describe

NAME = "pmitogen.ssh"
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

# Without this the logging module prints warnings to stderr where nobody has set it up.
logging.getLogger("pmitogen").addHandler(logging.NullHandler())


def open_log(settings: Settings) -> tuple[str, Callable[[], None]]:
    """The name of the logger to use, and what to call when the connection is over. Raises ConnectError (stage ``resolve``)."""
    if settings.logfile is None:
        return NAME, lambda: None
    try:
        handler = logging.FileHandler(settings.logfile, encoding="utf-8")
    except OSError as error:
        raise ConnectError(f"{describe(settings)}: -E {settings.logfile}: {error.strerror}", "resolve") from None
    handler.setFormatter(logging.Formatter(f"%(asctime)s {describe(settings)}: %(message)s"))
    logger = logging.getLogger(f"{NAME}.{next(_numbers)}")
    logger.setLevel(LEVELS.get(settings.loglevel.upper(), logging.INFO))
    logger.addHandler(handler)

    def close() -> None:
        logger.removeHandler(handler)
        handler.close()

    return logger.name, close
