"""Limits for messages of a peer. Sizes in bytes, times in seconds.

The limits that targets keep, too, are in protocol/framing.py.
"""

from __future__ import annotations

from pmitogen.protocol.framing import (
    CHUNK,
    COMPRESS_BELOW,
    CREDIT_WINDOW,
    MAX_BODY,
    MAX_HEADER,
    MESSAGE_TEXT,
    TARGET_BODY,
    TARGET_HEADER,
)

# From a target
TARGET_UNPACKED = 8 + TARGET_HEADER + COMPRESS_BELOW  # one frame of the packed stream
TARGET_MESSAGE = 8 + TARGET_HEADER + TARGET_BODY  # data of one Mitogen message

# From a client
INLINE = 4 * CHUNK  # bytes of a body that come in the frame of the request itself; the rest follows in data frames

# Text
PATH = 16 << 10  # bytes of a path: PATH_MAX of Linux is 4096
NAME = 256  # LOGIN_NAME_MAX of Linux

# Windows
FRAME_COST = 256  # bytes of memory that a frame takes besides its body
WINDOW_SLACK = 1 << 20  # bytes that may be under way beyond the window: a sender checks it between two frames

__all__ = [
    "CHUNK",
    "FRAME_COST",
    "INLINE",
    "MAX_BODY",
    "MAX_HEADER",
    "MESSAGE_TEXT",
    "NAME",
    "COMPRESS_BELOW",
    "PATH",
    "TARGET_BODY",
    "TARGET_HEADER",
    "TARGET_MESSAGE",
    "TARGET_UNPACKED",
    "CREDIT_WINDOW",
    "WINDOW_SLACK",
]
