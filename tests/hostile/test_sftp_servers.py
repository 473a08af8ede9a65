"""Hostile SFTP servers: each lie ends with one line, in bounded time and memory, and names nothing outside the directory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from pmitogen.transport.sessions.sftp_client import SFTP
from pmitogen.transport.sessions.sftp_packets import NO_SUCH_FILE, SFTPError
from tests.hostile.ssh_server import Sftp, string, u32
from tests.hostile.test_ssh_servers import linked, serving

pytestmark = pytest.mark.timeout(60)
OPENDIR, READDIR, STATUS, HANDLE, DATA, NAME, ATTRS = 11, 12, 101, 102, 103, 104, 105


def names(*listed: bytes) -> bytes:
    """The fields of a NAME answer, without attributes."""
    return u32(len(listed)) + b"".join(string(name) + string(b"") + u32(0) for name in listed)


class Liar(Sftp):
    """Answers each request of one kind with a lie; the rest as an honest server with empty files would."""

    lies: dict[int, Callable[[Liar, bytes], None]] = {}

    def on_sftp(self, kind: int, number: bytes, rest: bytes) -> None:
        if kind in self.lies:
            self.lies[kind](self, number)
        elif kind == OPENDIR:
            self.answer(HANDLE, number, string(b"d"))
        else:
            super().on_sftp(kind, number, rest)


@contextlib.contextmanager
def lying(lies: dict[int, Callable[[Liar, bytes], None]]) -> Iterator[SFTP]:
    with serving(type("OneLiar", (Liar,), {"lies": lies})) as settings:
        link = linked(settings)
        channel = link.open_session(5)
        assert link.start_subsystem(channel, "sftp", timeout=30)
        channel.settimeout(20)
        yield SFTP(channel)
        link.close()


def lie(kind: int, *fields: bytes) -> Callable[[Liar, bytes], None]:
    return lambda server, number: server.answer(kind, number, *fields)


@pytest.mark.parametrize(
    "name", [b"../x", b"/etc/passwd", b"a/b", b"", b"a\0b", b"x/"], ids=["up", "absolute", "below", "empty", "nul", "slash"]
)
def test_a_name_that_leads_elsewhere(name: bytes) -> None:
    with lying({READDIR: lie(NAME, names(b"honest", name))}) as sftp, pytest.raises(SFTPError, match="not a valid file name"):
        list(sftp.list_directory("/d"))


def test_dot_and_dot_dot_are_left_out() -> None:
    answers = iter([names(b".", b"..", b"a"), names(b".", b"..")])

    def answer(server: Liar, number: bytes) -> None:
        fields = next(answers, None)
        server.answer(*((STATUS, number, u32(1), string(b"")) if fields is None else (NAME, number, fields)))

    with lying({READDIR: answer}) as sftp:
        assert [[entry.name for entry in piece] for piece in sftp.list_directory("/d")] == [["a"], []]


def test_an_endless_listing() -> None:
    with lying({READDIR: lie(NAME, names(*(b"%d" % each for each in range(1000))))}) as sftp:
        with pytest.raises(SFTPError, match="more than 50000 names"):
            for piece in sftp.list_directory("/d", 50_000):
                assert len(piece) == 1000


@pytest.mark.parametrize(
    ("fields", "phrase"),
    [
        (u32(0xFFFFFFFF), "malformed SFTP packet"),
        (u32(2) + string(b"one") + string(b"") + u32(0), "malformed SFTP packet"),
        (u32(1) + string(b"one") + string(b"") + u32(0x80000000) + u32(0xFFFFFFFF), "malformed SFTP packet"),
        (u32(1) + u32(0x7FFFFFFF) + b"one", "malformed SFTP packet"),
    ],
    ids=["four billion names", "fewer than it says", "four billion attributes", "a long name that is short"],
)
def test_counts_that_lie(fields: bytes, phrase: str) -> None:
    with lying({READDIR: lie(NAME, fields)}) as sftp, pytest.raises(SFTPError, match=phrase):
        list(sftp.list_directory("/d"))


def test_a_listing_of_nothing_ends() -> None:
    with lying({READDIR: lie(NAME, u32(0))}) as sftp:
        assert list(sftp.list_directory("/d")) == []


@pytest.mark.parametrize("fields", [names(), names(b"a", b"b"), names(b""), names(b"a\0b")], ids=["none", "two", "empty", "nul"])
def test_a_path_that_is_none(fields: bytes) -> None:
    for kind, ask in ((16, "realpath"), (19, "readlink")):
        with lying({kind: lie(NAME, fields)}) as sftp, pytest.raises(SFTPError, match="request for a path"):
            getattr(sftp, ask)("/p")


@pytest.mark.parametrize(
    "answer",
    [lie(STATUS, u32(0), string(b"")), lie(DATA, string(b"x")), lie(200), lie(ATTRS, u32(1))],
    ids=["success without data", "data", "unknown kind", "short"],
)
def test_answers_of_another_kind(answer: Callable[[Liar, bytes], None]) -> None:
    with lying(dict.fromkeys((3, 7, OPENDIR, 16), answer)) as sftp:
        for ask in (sftp.lstat, sftp.realpath, sftp.open, lambda path: list(sftp.list_directory(path))):
            with pytest.raises(SFTPError) as caught:
                ask("/p")
            assert caught.value.code is None


def test_a_size_that_lies() -> None:
    """Reading ahead is bounded, and ends where the data ends."""
    asked = 0

    def read(server: Liar, number: bytes) -> None:
        nonlocal asked
        asked += 1
        server.answer(*((DATA, number, string(bytes(32 << 10))) if asked <= 3 else (STATUS, number, u32(1), string(b""))))

    with lying({5: read, 8: lie(ATTRS, u32(1), (1 << 62).to_bytes(8, "big"))}) as sftp:
        with sftp.open("/f") as file:
            assert sum(map(len, file.read_pieces())) == 3 * (32 << 10)
        assert asked <= 64 + 3
        with sftp.open("/f") as file:
            assert file.read_at(1 << 50, 10) == b""


def test_more_data_than_was_asked_for() -> None:
    with lying({5: lie(DATA, string(bytes(100)))}) as sftp, sftp.open("/f") as file:
        with pytest.raises(SFTPError, match="invalid answer to a read"):
            file.read_at(0, 10)


def test_two_answers_to_one_request() -> None:
    def twice(server: Liar, number: bytes) -> None:
        for _ in range(2):
            server.answer(ATTRS, number, u32(0))

    with lying({17: twice}) as sftp:
        sftp.stat("/f")
        with pytest.raises(SFTPError, match="request that was not made"):
            sftp.stat("/f")


def test_answers_that_never_come() -> None:
    """The requests of files that were given up are not remembered without end."""
    with lying({4: lambda server, number: None}) as sftp, pytest.raises(SFTPError, match="unanswered"):
        for _ in range(5000):
            sftp.open("/f").abandon()


def test_a_refusal_is_shown_harmlessly() -> None:
    with lying({17: lie(STATUS, u32(2), string(b"\x1b[2J\r\n" * 50_00))}) as sftp, pytest.raises(SFTPError) as caught:
        sftp.stat("/f")
    assert caught.value.code == NO_SUCH_FILE and str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_paths_that_no_server_takes() -> None:
    """A server could take a name up to its NUL for the whole."""
    with lying({}) as sftp:
        for ask in (
            sftp.stat,
            sftp.remove,
            sftp.mkdir,
            sftp.open,
            lambda path: sftp.rename("a", path),
        ):
            with pytest.raises(SFTPError, match="NUL"):
                ask("a\0b")
            with pytest.raises(SFTPError, match="longer than"):
                ask("a" * 40_000)
