"""The framing that client, hub, agent and runner speak: a JSON header and a body of bytes.

This file travels to targets: Python 2.7 and 3.x, standard library only.

::

    0        4        8            8+H            8+H+B
    +--------+--------+------------+---------------+
    | H      | B      | header     | body          |
    +--------+--------+------------+---------------+

Both lengths are big-endian 32 bit. The header is one JSON object in ASCII. What is bytes by nature (a path, an argument, a
variable of the environment) travels in the header as text whose code points are the bytes (Latin-1), so that nothing depends
on either side's locale: see :func:`to_wire` and :func:`from_wire`. No frame is ever unpickled or evaluated.

A reader bounds what it accepts: a header of at most ``MAX_HEADER`` bytes and a body of at most ``MAX_BODY``, else
:class:`FrameError`, after which the connection is of no more use.
"""

import json
import struct
import sys

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Sequence, Tuple, Union  # noqa: F401

    Json = Any  # any value that JSON has
    Header = Dict[str, Json]
    Frame = Tuple[Header, bytes]  # header and body
    Send = Callable[[Header, bytes], None]

PREFIX = struct.Struct(">II")
# The handles of the Mitogen messages that carry frames, plain or as pieces of the packed stream.
TO_AGENT_PLAIN, TO_AGENT_PACKED, TO_HUB_PLAIN, TO_HUB_PACKED = 2000, 2001, 2002, 2003
MAX_HEADER = 4 << 20  # bytes
MAX_BODY = 64 << 20  # bytes
CHUNK = 128 << 10  # bytes in one data frame: large enough to be cheap, small enough to let other traffic in between
CREDIT_WINDOW = 4 << 20  # bytes of one transfer that may be under way, unacknowledged
TARGET_HEADER = 64 << 10  # bytes of a header from a target
TARGET_BODY = 2 * CHUNK  # bytes of a body from a target
MESSAGE_TEXT = 4000  # characters of an error message
FOLLOWING = ("data", "eof", "credit", "kill", "signal", "resize")  # frames that belong to a request already made
PACK_BELOW = 16 << 10  # bytes of body that go through the packed stream; larger ones are not worth the processor time
PY2 = sys.version_info < (3,)

if PY2:

    def to_wire(value):
        if isinstance(value, unicode):  # noqa: F821
            value = value.encode("utf-8")
        return value.decode("latin-1")
else:

    def to_wire(value):
        # type: (Union[str, bytes]) -> str
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogateescape")
        return value.decode("latin-1")


def from_wire(text):
    # type: (str) -> bytes
    return text.encode("latin-1")


TEXT = (str, type(b"".decode("ascii")), type(None))


class FrameError(Exception):
    """The peer does not speak our framing, or exceeds its bounds."""

    pass  # the docstring does not travel


def encode_frame(header, body=b""):
    # type: (Header, bytes) -> bytes
    """Return one frame as bytes. *header* is a dict that JSON can hold."""
    head = json.dumps(header, separators=(",", ":")).encode("ascii")
    return PREFIX.pack(len(head), len(body)) + head + body


def split_pieces(listed, body):
    # type: (Sequence[List[Any]], bytes) -> List[Tuple[Any, ...]]
    """Split *body* into its pieces: return each list in *listed* as a tuple, its last item, a size, replaced by the piece."""
    pieces, pos = [], 0
    for item in listed:
        pieces.append(tuple(item[:-1]) + (body[pos : pos + item[-1]],))
        pos += item[-1]
    return pieces


def is_plain(header):
    # type: (Header) -> bool
    """True if a header has only text, numbers of the usual size, and lists of these: no JSON that some parsers refuse."""
    for value in header.values():
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, TEXT) and (isinstance(item, (dict, list)) or not -1e18 < item < 1e18):
                return False
    return True


class FrameReader(object):
    """Cut a byte stream into frames. Not thread-safe: only the thread that reads the stream may use it."""

    def __init__(self, max_header=MAX_HEADER, max_body=MAX_BODY):
        # type: (int, int) -> None
        self._buf = bytearray()
        self._max_header, self._max_body = max_header, max_body

    def feed(self, data):
        # type: (bytes) -> List[Frame]
        """Take bytes in; return the list of (header, body) that they complete. Raises FrameError."""
        buf = self._buf
        buf += data
        frames = []
        pos = 0
        size = len(buf)
        while size - pos >= 8:
            head_len, body_len = PREFIX.unpack_from(buf, pos)
            if head_len > self._max_header or body_len > self._max_body:
                raise FrameError("frame of %d+%d bytes is over the limit" % (head_len, body_len))
            end = pos + 8 + head_len + body_len
            if end > size:
                break
            frames.append((parse_header(bytes(buf[pos + 8 : pos + 8 + head_len])), bytes(buf[pos + 8 + head_len : end])))
            pos = end
        if pos:
            del buf[:pos]
        return frames


def parse_header(data):
    # type: (bytes) -> Header
    """Return the header dict. Raises FrameError."""
    try:
        header = json.loads(data.decode("ascii"))  # type: Header
    except (ValueError, RuntimeError):  # RuntimeError: it is nested too deeply
        raise FrameError("frame header is not JSON")
    if not isinstance(header, dict):
        raise FrameError("frame header is not an object")
    return header
