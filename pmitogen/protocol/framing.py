"""The framing of all messages between client, hub, agent and runner: a JSON header and a body of bytes.

This file travels to targets: Python 2.7 and 3.x, standard library only.

::

    0        4        8            8+H            8+H+B
    +--------+--------+------------+---------------+
    | H      | B      | header     | body          |
    +--------+--------+------------+---------------+

Both lengths are big-endian, 32 bits. The header is one JSON object in ASCII. Bytes in it (a path, an argument, an environment
variable) are encoded as text whose code points are the bytes (Latin-1), so that nothing depends on a locale: see :func:`to_wire`
and :func:`from_wire`. No frame is unpickled or evaluated.

A header has at most ``MAX_HEADER`` bytes and a body at most ``MAX_BODY``. For a longer one, and for a header that is not JSON,
the reader raises :class:`FrameError`; after that it cannot be used again.
"""

import json
import struct
import sys
import zlib

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Sequence, Tuple, Union  # noqa: F401

    Json = Any  # any value that JSON has
    Header = Dict[str, Json]
    Frame = Tuple[Header, bytes]  # header and body
    Send = Callable[[Header, bytes], None]

PREFIX = struct.Struct(">II")
# The handles of the Mitogen messages that carry frames: a frame as it is, or a piece of the packed stream.
TO_AGENT_UNPACKED, TO_AGENT_PACKED, TO_HUB_UNPACKED, TO_HUB_PACKED = 2000, 2001, 2002, 2003
MAX_HEADER = 4 << 20  # bytes
MAX_BODY = 64 << 20  # bytes
CHUNK = 128 << 10  # bytes in one data frame: large, to cost little, but small enough that other frames need not wait for long
CREDIT_WINDOW = 4 << 20  # bytes of one transfer that may be sent and not yet acknowledged
TARGET_HEADER = 64 << 10  # bytes of a header from a target
TARGET_BODY = 2 * CHUNK  # bytes of a body from a target
MESSAGE_TEXT = 4000  # characters of an error message
FOLLOWING = ("data", "eof", "credit", "kill", "signal", "resize")  # operations that belong to an earlier request
COMPRESS_BELOW = 16 << 10  # bytes: longer bodies are not compressed, which would take more time than it saves
# The compression of frames: the base-2 logarithm of its window in bytes, and zlib's memory level. With these a connection's
# compressor takes 64 KB instead of zlib's usual 256 KB, and the same bytes are sent: a request repeats the one before it.
COMPRESSION_WINDOW, COMPRESSION_MEMORY = 13, 6
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
    """The data are not a frame, or exceed its bounds."""

    pass  # the docstring does not travel


def encode_frame(header, body=b""):
    # type: (Header, bytes) -> bytes
    """Return one frame as bytes."""
    head = json.dumps(header, separators=(",", ":")).encode("ascii")
    return PREFIX.pack(len(head), len(body)) + head + body


def new_compressor():
    # type: () -> zlib._Compress
    """Return the zlib stream that compresses the frames of one direction of a connection."""
    return zlib.compressobj(6, zlib.DEFLATED, COMPRESSION_WINDOW, COMPRESSION_MEMORY)


def new_decompressor():
    # type: () -> zlib._Decompress
    """Return the stream that decompresses what new_compressor()'s has compressed."""
    return zlib.decompressobj(COMPRESSION_WINDOW)


def split_pieces(listed, body):
    # type: (Sequence[List[Any]], bytes) -> List[Tuple[Any, ...]]
    """Split *body*. The last item of each list in *listed* is the size of its piece. Returns tuples with the pieces instead."""
    pieces, pos = [], 0
    for item in listed:
        pieces.append(tuple(item[:-1]) + (body[pos : pos + item[-1]],))
        pos += item[-1]
    return pieces


def has_basic_values(header):
    # type: (Header) -> bool
    """Return True if all values are text, null, numbers of usual size or lists of these: some parsers reject other JSON."""
    for value in header.values():
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, TEXT) and (isinstance(item, (dict, list)) or not -1e18 < item < 1e18):
                return False
    return True


class FrameReader(object):
    """Splits a byte stream into frames. Not thread-safe."""

    def __init__(self, max_header=MAX_HEADER, max_body=MAX_BODY):
        # type: (int, int) -> None
        self._buf = bytearray()
        self._max_header, self._max_body = max_header, max_body

    def feed(self, data):
        # type: (bytes) -> List[Frame]
        """Add *data* and return the frames that are now complete. Raises FrameError."""
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
    """Decode a header. Raises FrameError."""
    try:
        header = json.loads(data.decode("ascii"))  # type: Header
    except (ValueError, RuntimeError):  # RuntimeError: nested too deeply
        raise FrameError("frame header is not JSON")
    if not isinstance(header, dict):
        raise FrameError("frame header is not an object")
    return header
