"""Continue in a forked process that goes to the background: for ``ssh -f``, and for a master with ControlPersist.

The fork comes first, before there is a thread or a connection. The child logs in, and may prompt on the terminal until it calls
:meth:`Child.detach`; meanwhile the parent waits.
"""

from __future__ import annotations

import os
import sys

FAILED = 255  # ssh's exit status for its own errors


class Child:
    """The forked process, seen from itself."""

    def __init__(self, parent: int) -> None:
        self._parent = parent

    def detach(self, *descriptors: int) -> None:
        """Leave the terminal, connect *descriptors* to /dev/null, and let the parent go on. Once."""
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in descriptors:
            os.dup2(null, descriptor)
        os.close(null)
        os.write(self._parent, b"1")
        os.close(self._parent)


def fork() -> Child | None:
    """Fork. In the child: return it. In the parent: return None when the child detaches; if it ends before, exit as it did."""
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        return Child(writer)
    os.close(writer)
    try:
        if os.read(reader, 1):
            return None
    finally:
        os.close(reader)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    raise SystemExit(code if code >= 0 else FAILED)
