"""Copy bytes between local descriptors and a channel, 8-bit clean and with back-pressure in both directions."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Iterator

from pmitogen.transport.plain.exec_command import ChannelStream

READ_SIZE = 32 << 10  # bytes; one SSH data message


def read_pieces(descriptor: int) -> Iterator[bytes]:
    """What can be read from *descriptor*, piece by piece, up to its end. Blocks; also where it is non-blocking."""
    while True:
        try:
            data = os.read(descriptor, READ_SIZE)
        except BlockingIOError:
            select.select([descriptor], [], [])
            continue
        except OSError as error:
            if error.errno == errno.EIO:  # a terminal that has gone
                return
            raise
        if not data:
            return
        yield data


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of *data*. Blocks; also where the descriptor is non-blocking. Raises BrokenPipeError where nobody reads it."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


def copy_input(stream: ChannelStream, pieces: Iterator[bytes]) -> None:
    """Send *pieces* to the channel, then the end of the input. Blocks while the peer does not read."""
    try:
        for piece in pieces:
            stream.send(piece)
    except OSError:
        pass  # the local input cannot be read: it ends here
    stream.end_input()


def copy_output(stream: ChannelStream, stdout: int, stderr: int, on_broken_pipe: Callable[[], None]) -> None:
    """Write the channel's output to *stdout* and *stderr* until it ends. Raises ConnectionLost.

    *on_broken_pipe*: called once, when nobody reads *stdout* any longer; further output is dropped.
    """
    broken = False
    while (pair := stream.read()) is not None:
        out, err = pair
        if err:
            _write_or_drop(stderr, err)
        if out and not broken:
            try:
                write_all(stdout, out)
            except OSError:
                broken = True
                on_broken_pipe()


def _write_or_drop(descriptor: int, data: bytes) -> None:
    try:
        write_all(descriptor, data)
    except OSError:
        pass  # nobody reads the error stream; the command goes on
