"""Conversion of text and bytes between JSON, this Python and the operating system.

NOTE: runs on the target, under Python 2.7 and 3.x.
"""

from __future__ import absolute_import

import os
import sys

MYPY = False
if MYPY:
    from typing import Union  # noqa: F401


def native(value):
    # type: (Union[str, bytes]) -> str
    """Convert text (unicode in Python 2, from JSON) or bytes to the str type of this Python, for arguments and paths."""
    if isinstance(value, str):
        return value
    if sys.version_info < (3,):
        return value.encode("utf-8")
    return value.decode("utf-8", "surrogateescape")


def as_bytes(value):
    # type: (Union[str, bytes]) -> bytes
    """Encode text as the bytes of an argument."""
    if isinstance(value, bytes):
        return value
    if sys.version_info < (3,):
        return value.encode("utf-8")
    return value.encode("utf-8", "surrogateescape")


def environment_bytes(value):
    # type: (str) -> bytes
    """Encode a name or value of os.environ as the bytes that it has in the operating system."""
    try:
        return os.fsencode(value)
    except (AttributeError, UnicodeError):  # Python 2, or text that cannot be encoded in the caller's locale
        return as_bytes(value)
