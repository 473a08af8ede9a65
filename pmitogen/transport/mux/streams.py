"""Copy bytes between local descriptors and a channel, unchanged and with flow control in both directions."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
from collections.abc import Callable, Iterator

from pmitogen.transport.sessions.exec_command import ChannelStream

READ_SIZE = 32 << 10  # bytes; one SSH data message
TERMINAL_PIECE = 128  # bytes that a terminal takes at once when poll says that it takes any


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


class ClientOutput:
    """Writes to descriptors that a client has sent, and ends with that client, even if their readers do not read.

    Other processes hold the same open files, so these stay blocking; no write is larger than the available space.
    """

    def __init__(self, client: int) -> None:
        """*client*: descriptor of the client's connection, which can be read when the client ends."""
        self._client = client

    def write_all(self, descriptor: int, data: bytes) -> None:
        """Write all of *data*. Blocks. Raises BrokenPipeError if the reader is closed, or the client has ended."""
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        poll.register(self._client, select.POLLIN)
        rest = memoryview(data)
        while rest:
            if self._client in (number for number, _ in poll.poll()):
                raise BrokenPipeError(errno.EPIPE, "the client has ended")
            try:
                rest = rest[_write_some(descriptor, rest) :]
            except BlockingIOError:
                continue


def _write_some(descriptor: int, data: memoryview) -> int:
    """Write as much as *descriptor* takes without blocking, if poll has said that it takes any; return the number of bytes."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        sock = socket.socket(fileno=descriptor)
        try:
            return sock.send(data, socket.MSG_DONTWAIT)
        finally:
            sock.detach()
    if stat.S_ISFIFO(mode):
        data = data[: select.PIPE_BUF]
    elif os.isatty(descriptor):
        data = data[:TERMINAL_PIECE]
    return os.write(descriptor, data)


def copy_input(stream: ChannelStream, pieces: Iterator[bytes]) -> None:
    """Send *pieces* to the channel, then EOF. Blocks while the channel's window is full."""
    try:
        for piece in pieces:
            stream.send(piece)
    except OSError:
        pass  # a local input that cannot be read counts as ended
    stream.end_input()


def copy_output(
    stream: ChannelStream,
    stdout: int,
    stderr: int,
    on_broken_pipe: Callable[[], None],
    write: Callable[[int, bytes], None] = write_all,
) -> None:
    """Write the channel's output to *stdout* and *stderr* until it ends. Raises ConnectionLost.

    *on_broken_pipe*: called once if the reader of *stdout* is closed; further output is dropped.
    *write*: writes all of some data to a descriptor.
    """
    broken = False
    while (pair := stream.read()) is not None:
        out, err = pair
        if err:
            with contextlib.suppress(OSError):  # the reader of standard error is closed; the command continues
                write(stderr, err)
        if out and not broken:
            try:
                write(stdout, out)
            except OSError:
                broken = True
                on_broken_pipe()
