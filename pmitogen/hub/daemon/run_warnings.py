"""Warnings about connections, for the workers of a run: each is given to one of them, once in the run.

A run may have several hubs, and a hub that ends is replaced. So they share a file, in the directory of their sockets, with a
digest of each warning that was given.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable

from pmitogen.transport.connection_warnings import ConnectionWarning


class RunWarnings:
    """The warnings that no worker has taken yet. I/O thread.

    :param path: returns the path of the file of the run that is served.
    """

    def __init__(self, path: Callable[[], str]) -> None:
        self._path = path
        self._new: list[tuple[str, str]] = []
        self._given: set[str] = set()

    def add(self, warning: ConnectionWarning) -> None:
        """Add a warning, except if the run has had one of its kind about its host."""
        digest = hashlib.sha256(f"{warning.kind} {warning.host}".encode("utf-8", "surrogateescape")).hexdigest()
        if digest not in self._given and self._claim(digest):
            self._new.append((warning.severity.value, warning.text))
        self._given.add(digest)

    def take(self) -> list[tuple[str, str]]:
        """Return the severity and the text of each new warning, and forget them."""
        new, self._new = self._new, []
        return new

    def end_run(self) -> None:
        """Forget everything: the run has ended."""
        self._new, self._given = [], set()
        with contextlib.suppress(OSError):
            os.unlink(self._path())

    def _claim(self, digest: str) -> bool:
        """Return False if another hub of the run has given the warning."""
        try:
            descriptor = os.open(self._path(), os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:  # the disk is full: the other hubs cannot know of it
            return True
        with open(descriptor, "r+", encoding="ascii") as stream:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if digest in stream.read().split():
                return False
            with contextlib.suppress(OSError):
                stream.write(digest + "\n")
                stream.flush()
        return True
