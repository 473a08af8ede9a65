"""Copy bytes between local descriptors and a channel, unchanged and with flow control in both directions."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable, Iterator

from pmitogen.transport.sessions.exec_command import ChannelStream

READ_SIZE = 32 << 10  # bytes; one SSH data message


def read_pieces(descriptor: int) -> Iterator[bytes]:
    """Yield the input from *descriptor* in pieces up to its end. Blocks, even if the descriptor is non-blocking."""
    while True:
        try:
            data = os.read(descriptor, READ_SIZE)
        except BlockingIOError:
            select.select([descriptor], [], [])
            continue
        except OSError as error:
            if error.errno == errno.EIO:  # the terminal was closed
                return
            raise
        if not data:
            return
        yield data


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of *data*. Blocks, even if the descriptor is non-blocking. Raises BrokenPipeError if its reader is closed."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


def copy_input(stream: ChannelStream, pieces: Iterator[bytes]) -> None:
    """Send *pieces* to the channel, then EOF. Blocks while the channel's window is full."""
    try:
        for piece in pieces:
            stream.send(piece)
    except OSError:
        pass  # a local input that cannot be read counts as ended
    stream.end_input()


def copy_output(stream: ChannelStream, stdout: int, stderr: int, on_broken_pipe: Callable[[], None]) -> None:
    """Write the channel's output to *stdout* and *stderr* until it ends. Raises ConnectionLost.

    *on_broken_pipe*: called once if the reader of *stdout* is closed; further output is dropped.
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
        pass  # the reader of standard error is closed; the command continues
