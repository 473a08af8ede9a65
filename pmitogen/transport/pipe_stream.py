"""A byte stream over two pipes, with the methods of a socket that Paramiko and our packetizer call.

ssh gives pipes to a program that is the connection to a server, and programs can tell them from a socket: bash reads
``~/.bashrc`` if its standard input is a socket, and ``sshd -i`` asks a socket for the peer's address.

The descriptors do not block. A thread that has to wait polls; :meth:`PipeStream.shutdown` wakes it through a further pipe. Each
descriptor is closed by the last thread that uses it, so none is read or written after its number belongs to another file.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import threading
import time
from typing import IO


class PipeStream:
    """Reads from one pipe and writes to another. One thread reads, one writes at a time; any thread may close.

    :param reader: an unbuffered file of a pipe's end.
    :param writer: the same, for the other pipe. Both belong to the stream from now on.

    Raises OSError if no descriptor is left; then the files still belong to the caller.
    """

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        woken, waker = os.pipe()
        os.set_blocking(reader.fileno(), False)
        os.set_blocking(writer.fileno(), False)
        self._input, self._output = _End(reader), _End(writer)
        self._woken, self._waker = _End(open(woken, "rb", 0)), _End(open(waker, "wb", 0))
        self._timeout: float | None = None

    def settimeout(self, timeout: float | None) -> None:
        """Limit each later call of :meth:`recv_into` and :meth:`send` to *timeout* seconds. None: no limit."""
        self._timeout = timeout

    def fileno(self) -> int:
        """Return the descriptor that is written to, or -1 after its end."""
        return self._output.descriptor

    @property
    def _closed(self) -> bool:
        """True after :meth:`close`. Paramiko reads a socket's attribute of this name when the program ends (``stop_thread``)."""
        return self._output.descriptor < 0 and self._input.descriptor < 0

    def recv_into(self, buffer: memoryview) -> int:
        """Read what has arrived, at least one byte, and return the number of bytes; 0: the peer has ended the stream.

        Raises TimeoutError, OSError; the latter also after our own end of the stream.
        """
        end = self._deadline()
        with self._input as descriptor:
            while True:
                try:
                    return os.readv(descriptor, [buffer])
                except BlockingIOError:
                    self._wait(descriptor, select.POLLIN, end)

    def recv(self, size: int) -> bytes:
        """Read up to *size* bytes, as :meth:`recv_into` does."""
        buffer = memoryview(bytearray(size))
        return bytes(buffer[: self.recv_into(buffer)])

    def recv_ready(self) -> bool:
        """Return whether :meth:`recv_into` would not wait."""
        with self._input as descriptor:
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            return bool(poller.poll(0))

    def send(self, data: bytes | memoryview) -> int:
        """Write a part of *data*, at least one byte, and return the number of bytes.

        Raises TimeoutError, BrokenPipeError if the peer does not read any more, OSError after our own end of the stream.
        """
        end = self._deadline()
        with self._output as descriptor:
            while True:
                try:
                    return _write(descriptor, data)
                except BlockingIOError:
                    self._wait(descriptor, select.POLLOUT, end)

    def shutdown(self, how: int) -> None:
        """End one direction (``socket.SHUT_RD``, ``SHUT_WR``) or both (``SHUT_RDWR``). Any thread; idempotent; does not wait.

        The end of both wakes the threads that read or write, which get OSError. With one, a thread that is using this direction
        completes its call.
        """
        if how in (socket.SHUT_RD, socket.SHUT_RDWR):
            self._input.close()
        if how in (socket.SHUT_WR, socket.SHUT_RDWR):
            self._output.close()
        if how == socket.SHUT_RDWR:
            self._waker.close()
            self._woken.close()

    def close(self) -> None:
        """End both directions, as :meth:`shutdown` does."""
        self.shutdown(socket.SHUT_RDWR)

    def abandon(self) -> None:
        """In a forked child: close the copies of the descriptors. There is no thread that uses them; locks may be held."""
        for end in (self._input, self._output, self._woken, self._waker):
            end.abandon()

    def _deadline(self) -> float | None:
        return None if self._timeout is None else time.monotonic() + self._timeout

    def _wait(self, descriptor: int, events: int, end: float | None) -> None:
        """Wait until *descriptor* is ready. *end*: ``time.monotonic()`` seconds."""
        rest = None if end is None else max(0.0, end - time.monotonic()) * 1000
        with self._woken as woken:
            poller = select.poll()
            poller.register(descriptor, events)
            poller.register(woken, select.POLLIN)
            ready = dict(poller.poll(rest))
            if woken in ready:
                raise _closed()
            if not ready:
                raise TimeoutError


class _End:
    """One end of a pipe. As a context: its descriptor, which stays open for that long. Any thread."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._users = 0
        self._closing = False

    @property
    def descriptor(self) -> int:
        """The descriptor, or -1 after :meth:`close`."""
        with self._lock:
            return -1 if self._closing else self._file.fileno()

    def __enter__(self) -> int:
        with self._lock:
            if self._closing:
                raise _closed()
            self._users += 1
            return self._file.fileno()

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._users -= 1
            self._close_if_unused()

    def close(self) -> None:
        """Close the descriptor, now or when the last user has left. Does not wait. Idempotent."""
        with self._lock:
            self._closing = True
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._closing and not self._users:
            self._file.close()

    def abandon(self) -> None:
        """Close the descriptor now, without the lock."""
        self._closing = True
        self._file.close()


def _closed() -> OSError:
    return OSError(errno.EBADF, os.strerror(errno.EBADF))


def _write(descriptor: int, data: bytes | memoryview) -> int:
    """Write to a pipe. A process that does not ignore SIGPIPE, as Python does by default, gets none from here."""
    if signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN:
        return os.write(descriptor, data)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])
    try:
        return os.write(descriptor, data)
    except BrokenPipeError:
        if signal.SIGPIPE in signal.sigpending():
            signal.sigwait([signal.SIGPIPE])
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
