"""Print errors and notices as ssh does: on standard error, or with ``-E`` at the end of its file."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable

from pmitogen.flags.ssh.settings import Settings
from pmitogen.util.caller import CallerEnvironment
from pmitogen.util.peer_text import one_line


def write(lines: Iterable[str], settings: Settings | None, end: str = "\n") -> None:
    """Print *lines*. *settings*: None before they are known. *end*: of each line on standard error. Any thread."""
    sys.stdout.flush()
    if settings is not None and settings.logfile is not None:
        from pmitogen.transport import log_file

        with contextlib.suppress(OSError):  # as where standard error is closed
            with log_file.open_file(settings.logfile, CallerEnvironment.current()) as file:
                file.writelines(one_line(line) + "\n" for line in lines)
        return
    for line in lines:
        sys.stderr.write(one_line(line) + end)
    sys.stderr.flush()
