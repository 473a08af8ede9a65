"""Exhaustion of file descriptors: a run on many hosts needs one socket for each."""

from __future__ import annotations

import errno
import os

EXHAUSTED_MESSAGE = (
    "Too many open files on the controller: the run's hub has reached its limit (ulimit -n); "
    "raise the limit, or use fewer hosts in one run"
)
_NUMBERS = (errno.EMFILE, errno.ENFILE)
_WORDS = tuple(map(os.strerror, _NUMBERS))


def is_exhaustion(error: BaseException) -> bool:
    """Return whether *error* means that no file descriptor is left. The resolver (EAI_SYSTEM) gives only strerror."""
    return isinstance(error, OSError) and (error.errno in _NUMBERS or error.strerror in _WORDS)
