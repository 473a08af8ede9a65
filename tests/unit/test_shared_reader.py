"""The thread that waits for many connections: what it handles itself, what it leaves to a thread, and its own end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from pmitogen.errors import ConnectError
from pmitogen.transport.paramiko_ext import shared_reader
from pmitogen.transport.paramiko_ext.message_loop import First, Handover, MessageLoop
from pmitogen.transport.paramiko_ext.shared_reader import SharedReader
from tests.support import processes


class Timers:
    """Stands in for the packetizer: only its timers matter here."""

    deadline: float | None = None

    def next_deadline(self, now: float) -> float | None:
        return self.deadline


class Connection:
    """A connection whose *handle* says what becomes of each piece of data."""

    def __init__(self, handle: Callable[[bytes], Handover | None] = lambda _data: None) -> None:
        self.sock, self.far = socket.socketpair()
        self.sock.setblocking(False)
        self.packetizer = Timers()
        self.handle = handle
        self.received: list[tuple[bytes, str]] = []
        self.served: list[str] = []
        self.thread = 0

    def become_shared(self, thread: int) -> None:
        self.thread = thread

    def handle_available(self, buffer: memoryview) -> Handover | None:
        count = self.sock.recv_into(buffer)
        self.received.append((bytes(buffer[:count]), threading.current_thread().name))
        return self.handle(self.received[-1][0])

    def serve(self, first: First) -> None:
        first()
        self.served.append(threading.current_thread().name)

    def wait_for_data(self) -> bool:
        self.packetizer.deadline = None
        return True


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> SharedReader:
    monkeypatch.setattr(shared_reader, "LINGER", 0.1)
    return SharedReader()


@pytest.fixture
def make() -> Iterator[Callable[..., Connection]]:
    made: list[Connection] = []

    def make(*args: Any) -> Connection:
        made.append(Connection(*args))
        return made[-1]

    yield make
    for each in made:
        each.handle = lambda _data: Handover(lambda: False, ends=True)
        each.far.close()
    processes.wait_until(lambda: "pmitogen read" not in names(), 10)
    for each in made:
        each.sock.close()


def add(reader: SharedReader, connection: Connection) -> bool:
    return reader.add(cast("MessageLoop", connection))


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in ("pmitogen read", "pmitogen transport")]


def test_one_thread_serves_all_connections(reader: SharedReader, make: Callable[..., Connection]) -> None:
    connections = [make() for _ in range(50)]
    assert all(add(reader, each) for each in connections)
    for each in connections:
        each.far.send(b"hello")
    for each in connections:
        processes.wait_until(lambda each=each: each.received == [(b"hello", "pmitogen read")], 5)
    assert names().count("pmitogen read") == 1 and len({each.thread for each in connections}) == 1
    assert not any(each.served for each in connections)


def test_what_may_block_is_done_on_a_thread(reader: SharedReader, make: Callable[..., Connection]) -> None:
    go_on = threading.Event()
    slow, quick = make(lambda _data: Handover(lambda: go_on.wait(10))), make()
    assert add(reader, slow) and add(reader, quick)
    slow.far.send(b"x")
    processes.wait_until(lambda: bool(slow.received), 5)
    quick.far.send(b"y")
    processes.wait_until(lambda: bool(quick.received), 5)
    assert not slow.served
    slow.far.send(b"more")  # for the thread that has it now
    quick.far.send(b"z")
    processes.wait_until(lambda: len(quick.received) == 2, 5)
    assert len(slow.received) == 1
    go_on.set()
    processes.wait_until(lambda: slow.served == ["pmitogen transport"], 5)


def test_a_connection_can_come_back(reader: SharedReader, make: Callable[..., Connection]) -> None:
    connection = make(lambda _data: Handover(lambda: True))
    for count in (1, 2, 3):
        assert add(reader, connection)
        connection.far.send(b"x")
        processes.wait_until(lambda count=count: len(connection.served) == count, 5)


def test_connections_that_end_together_need_one_thread(reader: SharedReader, make: Callable[..., Connection]) -> None:
    hold = threading.Event()
    busy = make(lambda _data: [hold.wait(10), None][1])
    ending = [make(lambda _data: Handover(lambda: False, ends=True)) for _ in range(100)]
    assert add(reader, busy) and all(add(reader, each) for each in ending)
    busy.far.send(b"x")
    processes.wait_until(lambda: bool(busy.received), 5)
    for each in ending:
        each.far.close()
    hold.set()
    for each in ending:
        processes.wait_until(lambda each=each: bool(each.served), 5)
    assert names().count("pmitogen transport") <= 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_at_the_end_of_one_connection_leaves_none_open(reader: SharedReader, make: Callable[..., Connection]) -> None:
    hold = threading.Event()
    busy = make(lambda _data: [hold.wait(10), None][1])
    failing, other = (make(lambda _data: Handover(lambda: 1 // 0 > 0, ends=True)) for _ in range(2))
    other.handle = lambda _data: Handover(lambda: False, ends=True)
    for each in (busy, failing, other):
        assert add(reader, each)
    busy.far.send(b"x")
    processes.wait_until(lambda: bool(busy.received), 5)
    failing.far.close()
    other.far.close()
    hold.set()
    processes.wait_until(lambda: bool(other.served), 5)


def test_a_timer_that_is_due_gets_a_thread(reader: SharedReader, make: Callable[..., Connection]) -> None:
    first, second = make(), make()
    first.packetizer.deadline = time.monotonic() + 0.3
    second.packetizer.deadline = time.monotonic() + 60
    assert add(reader, first) and add(reader, second)
    time.sleep(0.1)
    assert not first.served
    processes.wait_until(lambda: first.served == ["pmitogen transport"], 5)
    assert not second.served


def test_a_timer_that_was_put_off_is_checked_again(reader: SharedReader, make: Callable[..., Connection]) -> None:
    connection = make()
    connection.packetizer.deadline = time.monotonic() + 0.2
    assert add(reader, connection)
    connection.packetizer.deadline = time.monotonic() + 0.6
    time.sleep(0.4)
    assert not connection.served
    processes.wait_until(lambda: bool(connection.served), 5)


def test_the_deadlines_of_connections_that_left_are_forgotten(
    reader: SharedReader, make: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_reader, "SPARE_DEADLINES", 5)
    connection, other = make(lambda _data: Handover(lambda: True)), make()
    for each in (connection, other):
        each.packetizer.deadline = time.monotonic() + 3600
    assert add(reader, other)
    for count in range(1, 31):
        assert add(reader, connection)
        connection.far.send(b"x")
        processes.wait_until(lambda count=count: len(connection.served) == count, 5)
    assert len(reader._deadlines) < 12
    assert other in [each[2].connection for each in reader._deadlines]


def test_the_threads_end_when_nothing_is_left(reader: SharedReader, make: Callable[..., Connection]) -> None:
    before = len(names())
    connection = make(lambda _data: Handover(lambda: False, ends=True))
    for _ in range(2):  # the second time, the thread starts again
        assert add(reader, connection)
        connection.far.send(b"x")
        processes.wait_until(lambda: len(names()) <= before, 10)
    assert len(connection.served) == 2


def test_without_another_thread_the_connection_waits_for_one(
    reader: SharedReader, make: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, other = make(lambda _data: Handover(lambda: True)), make()
    assert add(reader, connection) and add(reader, other)
    start, refusals = reader._workers.start, []

    def refuse(work: Callable[[], object]) -> None:
        if len(refusals) < 3:
            refusals.append(work)
            raise ConnectError("no thread", "local")
        start(work)

    monkeypatch.setattr(reader._workers, "start", refuse)
    connection.far.send(b"x")
    processes.wait_until(lambda: bool(refusals), 5)
    other.far.send(b"y")
    processes.wait_until(lambda: bool(other.received), 5)
    processes.wait_until(lambda: bool(connection.served), 5)
    assert len(refusals) == 3


def refuse_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ConnectError("no thread", "local")

    monkeypatch.setattr("pmitogen.util.threads.start", refuse)


def test_a_connection_that_waited_for_a_thread_is_served_once(
    reader: SharedReader, make: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads on one connection would mix up its packets."""
    monkeypatch.setattr(shared_reader, "RETRY", 0.02)
    connection = make(lambda _data: Handover(lambda: True))
    assert add(reader, connection)
    with monkeypatch.context() as patch:
        refuse_threads(patch)
        connection.far.send(b"x")
        processes.wait_until(lambda: bool(connection.received), 5)
        time.sleep(0.2)
        assert not connection.served
    processes.wait_until(lambda: bool(connection.served), 5)
    time.sleep(0.2)
    assert len(connection.served) == 1


def test_a_connection_does_not_wait_for_the_thread_of_another(
    reader: SharedReader, make: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That may be busy for hours; meanwhile the system has threads again."""
    go_on = threading.Event()
    busy, connection = make(lambda _data: Handover(lambda: go_on.wait(10))), make(lambda _data: Handover(lambda: True))
    assert add(reader, busy) and add(reader, connection)
    busy.far.send(b"x")
    processes.wait_until(lambda: names().count("pmitogen transport") > 0, 5)
    with monkeypatch.context() as patch:
        refuse_threads(patch)
        connection.far.send(b"x")
        processes.wait_until(lambda: bool(connection.received), 5)
        time.sleep(0.1)
    try:
        processes.wait_until(lambda: bool(connection.served), 3)
    finally:
        go_on.set()


def test_without_any_thread_the_connection_keeps_its_own(
    reader: SharedReader, make: Callable[..., Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ConnectError("no thread", "local")

    monkeypatch.setattr("pmitogen.util.threads.start", refuse)
    assert not add(reader, make())
    monkeypatch.undo()
    monkeypatch.setattr(shared_reader, "LINGER", 0.1)
    connection = make()
    assert add(reader, connection)
    connection.far.send(b"x")
    processes.wait_until(lambda: bool(connection.received), 5)
