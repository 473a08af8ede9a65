"""A stream over two pipes behaves as a socket does: reading, writing, time limits, and the end by either side."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pmitogen.transport.pipe_stream import PipeStream

Pair = tuple[Any, socket.socket | PipeStream]
BIG = 4 << 20  # bytes; more than any buffer


def _pipes() -> tuple[PipeStream, PipeStream]:
    first, second = os.pipe(), os.pipe()
    return (
        PipeStream(open(first[0], "rb", 0), open(second[1], "wb", 0)),
        PipeStream(open(second[0], "rb", 0), open(first[1], "wb", 0)),
    )


@pytest.fixture(params=["socket pair", "pipes"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Two connected streams."""
    ends = socket.socketpair() if request.param == "socket pair" else _pipes()
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def pipes() -> Iterator[tuple[PipeStream, PipeStream]]:
    ends = _pipes()
    yield ends
    for end in ends:
        end.close()


def _in_thread(call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Start *call* on a thread, which adds its result or error to the list."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(call())
        except OSError as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def _fill(stream: Any) -> None:
    stream.settimeout(0.05)
    with contextlib.suppress(TimeoutError):
        while True:
            stream.send(bytes(1 << 16))


def test_data_in_both_directions(pair: Pair) -> None:
    ours, theirs = pair
    assert ours.send(b"there") == 5 and theirs.recv(100) == b"there"
    assert theirs.send(memoryview(b"back")) == 4
    buffer = bytearray(10)
    assert ours.recv_into(memoryview(buffer)) == 4 and buffer[:4] == b"back"


def test_more_than_a_buffer_holds(pair: Pair) -> None:
    ours, theirs = pair
    data = os.urandom(BIG)

    def send() -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[ours.send(rest) :]

    thread, results = _in_thread(send)
    received = b""
    while len(received) < len(data):
        received += theirs.recv(1 << 16)
    thread.join(5)
    assert received == data and results == [None]


def test_time_limits(pair: Pair) -> None:
    ours, _ = pair
    ours.settimeout(0.1)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        ours.recv(1)
    assert 0.09 < time.monotonic() - began < 1
    with pytest.raises(TimeoutError):
        while True:
            ours.send(bytes(1 << 16))


def test_the_end_by_the_peer(pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(b"rest")
    theirs.close()
    assert ours.recv(100) == b"rest"
    assert ours.recv(100) == b""
    with pytest.raises(BrokenPipeError):
        ours.send(b"more")


def test_the_end_of_one_direction(pair: Pair) -> None:
    ours, theirs = pair
    ours.shutdown(socket.SHUT_WR)
    assert theirs.recv(100) == b""
    theirs.send(b"still")
    assert ours.recv(100) == b"still"
    with pytest.raises(OSError):
        ours.send(b"more")


@pytest.mark.parametrize("direction", ["read", "write"])
@pytest.mark.parametrize("limit", [None, 30.0])
def test_a_shutdown_wakes_the_thread_that_waits(pair: Pair, direction: str, limit: float | None) -> None:
    ours, _ = pair
    _fill(ours)
    ours.settimeout(limit)

    def use() -> bytes | None:
        while direction == "write":
            ours.send(bytes(1 << 16))
        return ours.recv(1)

    thread, results = _in_thread(use)
    time.sleep(0.1)
    assert thread.is_alive()
    ours.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    assert not thread.is_alive()
    assert results[0] == b"" or isinstance(results[0], OSError)


def test_what_follows_its_own_end(pipes: tuple[PipeStream, PipeStream]) -> None:
    ours, theirs = pipes
    for _ in range(2):
        ours.close()
        ours.shutdown(socket.SHUT_RDWR)
    assert ours.fileno() == -1
    for call in (lambda: ours.recv(1), lambda: ours.send(b"x")):
        with pytest.raises(OSError, match="Bad file descriptor"):
            call()
    assert theirs.recv(1) == b""


def test_the_descriptor_to_poll_is_the_one_to_write_to(pipes: tuple[PipeStream, PipeStream]) -> None:
    ours, _ = pipes
    poller = select.poll()
    poller.register(ours, select.POLLOUT)
    assert [events for _, events in poller.poll(0)] == [select.POLLOUT]
    _fill(ours)
    assert poller.poll(0) == []


def test_no_data_for_a_file_that_has_the_number_of_a_closed_descriptor(tmp_path: Path) -> None:
    """Many times over: threads read and write while another closes the stream and opens files at once."""
    for attempt in range(200):
        ours, theirs = _pipes()

        def work(ours: PipeStream = ours) -> None:
            with contextlib.suppress(OSError):
                while True:
                    ours.send(b"x" * 5000)

        def read(ours: PipeStream = ours) -> None:
            with contextlib.suppress(OSError):
                while ours.recv(1):
                    pass

        def drain(theirs: PipeStream = theirs) -> None:
            with contextlib.suppress(OSError):
                while theirs.recv(1 << 16):
                    theirs.send(b"y")

        threads = [_in_thread(call)[0] for call in (work, read, drain)]
        time.sleep(0.001 * (attempt % 3))
        ours.close()
        files = [open(tmp_path / str(index), "w+b", 0) for index in range(8)]
        for file in files:
            file.write(b"mine")
            file.seek(0)
        theirs.close()
        for thread in threads:
            thread.join(5)
        assert not any(thread.is_alive() for thread in threads)
        for file in files:
            assert file.tell() == 0 and file.read() == b"mine"
            file.close()


def test_a_broken_pipe_is_an_error_where_sigpipe_is_not_ignored() -> None:
    program = (
        "import os, signal\n"
        "from pmitogen.transport.pipe_stream import PipeStream\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"
        "first, second = os.pipe(), os.pipe()\n"
        "stream = PipeStream(open(first[0], 'rb', 0), open(second[1], 'wb', 0))\n"
        "os.close(second[0])\n"
        "try:\n"
        "    stream.send(b'x')\n"
        "except BrokenPipeError:\n"
        "    print('broken', signal.sigpending(), signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "broken set() set()\n", "")


def test_a_forked_child_closes_its_copies_while_a_thread_here_waits(pipes: tuple[PipeStream, PipeStream]) -> None:
    ours, theirs = pipes
    thread, results = _in_thread(lambda: ours.recv(1))
    time.sleep(0.05)
    before = set(os.listdir("/proc/self/fd"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads are the point
        pid = os.fork()
    if not pid:
        ours.abandon()
        theirs.abandon()
        os._exit(len(before) - len(set(os.listdir("/proc/self/fd"))))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 8
    theirs.send(b"x")
    thread.join(5)
    assert results == [b"x"]
