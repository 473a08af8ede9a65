"""Text and bytes between JSON, this Python and the operating system.

NOTE: runs on the target, under Python 2.7 and 3.x.
"""

from __future__ import absolute_import

import os


def native(value):
    """Text (JSON gives unicode to Python 2) or bytes as this Python's str, which is what argv and paths are."""
    if isinstance(value, str):
        return value
    return value.encode("utf-8") if str is bytes else value.decode("utf-8", "surrogateescape")


def as_bytes(value):
    """Text as the bytes that an argument holds."""
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape" if str is not bytes else "strict")


def environment_bytes(value):
    """A name or value of os.environ as the bytes that it was."""
    try:
        return os.fsencode(value)
    except (AttributeError, UnicodeError):  # Python 2, or text that the caller's locale has no bytes for
        return as_bytes(value)
