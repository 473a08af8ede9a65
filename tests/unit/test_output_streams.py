"""Splitting output of commands into lines takes time in proportion to its size, and a cancelled reader loses no data."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from pmitogen.aio.process import OutputStream
from pmitogen.api.commands import Output
from pmitogen.api.exchange import Exchange
from pmitogen.api.waiting import Runtime

LIMIT = 4.0  # seconds of processor time; copying the rest for each line takes several times as long


class Pieces:
    """A stream that yields the given pieces, and then blocks forever or ends."""

    exchange: Exchange

    def __init__(self, pieces: Iterator[bytes], ends: bool = True) -> None:
        self._pieces, self._ends = pieces, ends

    async def read(self, stream: int, size: int, runtime: Runtime) -> bytes:
        for piece in self._pieces:
            return piece
        if not self._ends:
            await asyncio.Event().wait()
        return b""

    async def write(self, data: bytes, runtime: Runtime) -> None:
        raise NotImplementedError


def opened(*pieces: bytes, ends: bool = True, text: bool = False) -> OutputStream[bytes]:
    return OutputStream(Pieces(iter(pieces), ends), 0, ("utf-8", "strict") if text else None)


@pytest.mark.parametrize("text", [False, True])
def test_many_lines_in_one_piece_are_split_in_linear_time(text: bool) -> None:
    async def count() -> int:
        return sum([1 async for _ in opened(b"abc\n" * (1 << 20), text=text)])

    began = time.process_time()
    assert asyncio.run(count()) == 1 << 20
    assert time.process_time() - began < LIMIT


@pytest.mark.parametrize("name", ["readline", "read"])
def test_one_long_line_in_many_pieces_is_read_in_linear_time(name: str) -> None:
    pieces = [bytes(1 << 16)] * (1 << 11)
    began = time.process_time()
    assert len(asyncio.run(getattr(opened(*pieces), name)())) == 1 << 27
    assert time.process_time() - began < LIMIT


def test_a_long_line_for_a_function_is_read_in_linear_time() -> None:
    seen: list[int] = []
    output = Output(False, lambda stream, line: seen.append(len(line)), ("utf-8", "replace"))
    began = time.process_time()
    for _ in range(1 << 10):
        list(output.add(0, b"x" * (1 << 16), False))
    list(output.add(0, b"\r\nrest", True))
    assert time.process_time() - began < LIMIT and seen == [(1 << 26) + 1, 4]


def test_lines_and_sizes_are_respected() -> None:
    async def work() -> None:
        stream = opened(b"one\ntw", b"o\nthree", b" four")
        assert [await stream.readline(), await stream.read(1), await stream.read(0)] == [b"one\n", b"t", b""]
        assert [await stream.read(100), await stream.read(2), await stream.readline()] == [b"w", b"o\n", b"three four"]
        assert [await stream.readline(), await stream.read(5), await stream.read()] == [b"", b"", b""]
        assert await opened(b"a\nb", b"\nc").read() == b"a\nb\nc"
        assert [line async for line in opened("ä\r".encode(), b"\nb\r", b"c", text=True)] == ["ä\n", "b\n", "c"]

    asyncio.run(work())


@pytest.mark.parametrize("name", ["readline", "read"])
def test_data_read_by_a_cancelled_task_is_not_lost(name: str) -> None:
    async def work() -> None:
        stream = opened(b"whole\npart ", b"of a line", ends=False)
        assert await stream.readline() == b"whole\n"
        for _ in range(2):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(getattr(stream, name)(), 0.05)
        assert await stream.read(100) == b"part of a line"

    asyncio.run(work())
