"""Exhaustion of file descriptors: a run on many hosts needs one socket for each."""

from __future__ import annotations

import errno
import os

NONE_LEFT = (
    "the controller can open no further file or socket: the run's hub has as many as it may (ulimit -n); "
    "raise that, or have fewer hosts in one run"
)
_NUMBERS = (errno.EMFILE, errno.ENFILE)
_WORDS = tuple(map(os.strerror, _NUMBERS))


def are_used_up(error: BaseException) -> bool:
    """Return whether *error* means that no file descriptor is left. The resolver (EAI_SYSTEM) gives only strerror."""
    return isinstance(error, OSError) and (error.errno in _NUMBERS or error.strerror in _WORDS)
