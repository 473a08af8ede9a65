"""Hostile SFTP servers: each false answer ends with a one-line error, in bounded time and memory, inside the directory."""

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
    """Return the fields of a NAME answer, without attributes."""
    return u32(len(listed)) + b"".join(string(name) + string(b"") + u32(0) for name in listed)


class FalseAnswers(Sftp):
    """Gives a false answer to each request of some types, and otherwise answers as an honest server with empty files."""

    answers: dict[int, Callable[[FalseAnswers, bytes], None]] = {}

    def on_sftp(self, kind: int, number: bytes, rest: bytes) -> None:
        if kind in self.answers:
            self.answers[kind](self, number)
        elif kind == OPENDIR:
            self.answer(HANDLE, number, string(b"d"))
        else:
            super().on_sftp(kind, number, rest)


@contextlib.contextmanager
def serving_false_answers(answers: dict[int, Callable[[FalseAnswers, bytes], None]]) -> Iterator[SFTP]:
    with serving(type("FalseServer", (FalseAnswers,), {"answers": answers})) as settings:
        link = linked(settings)
        channel = link.open_session(5)
        assert link.start_subsystem(channel, "sftp", timeout=30)
        channel.settimeout(20)
        yield SFTP(channel)
        link.close()


def false_answer(kind: int, *fields: bytes) -> Callable[[FalseAnswers, bytes], None]:
    return lambda server, number: server.answer(kind, number, *fields)


@pytest.mark.parametrize(
    "name", [b"../x", b"/etc/passwd", b"a/b", b"", b"a\0b", b"x/"], ids=["up", "absolute", "below", "empty", "nul", "slash"]
)
def test_a_name_outside_the_directory_is_refused(name: bytes) -> None:
    false_answers = {READDIR: false_answer(NAME, names(b"honest", name))}
    with serving_false_answers(false_answers) as sftp, pytest.raises(SFTPError, match="not a valid file name"):
        list(sftp.list_directory("/d"))


def test_dot_and_dot_dot_are_skipped() -> None:
    answers = iter([names(b".", b"..", b"a"), names(b".", b"..")])

    def answer(server: FalseAnswers, number: bytes) -> None:
        fields = next(answers, None)
        server.answer(*((STATUS, number, u32(1), string(b"")) if fields is None else (NAME, number, fields)))

    with serving_false_answers({READDIR: answer}) as sftp:
        assert [[entry.name for entry in piece] for piece in sftp.list_directory("/d")] == [["a"], []]


def test_an_endless_listing_is_refused() -> None:
    with serving_false_answers({READDIR: false_answer(NAME, names(*(b"%d" % each for each in range(1000))))}) as sftp:
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
def test_false_counts_are_refused(fields: bytes, phrase: str) -> None:
    with serving_false_answers({READDIR: false_answer(NAME, fields)}) as sftp, pytest.raises(SFTPError, match=phrase):
        list(sftp.list_directory("/d"))


def test_an_empty_listing_ends() -> None:
    with serving_false_answers({READDIR: false_answer(NAME, u32(0))}) as sftp:
        assert list(sftp.list_directory("/d")) == []


@pytest.mark.parametrize("fields", [names(), names(b"a", b"b"), names(b""), names(b"a\0b")], ids=["none", "two", "empty", "nul"])
def test_an_invalid_path_answer_is_refused(fields: bytes) -> None:
    for kind, ask in ((16, "realpath"), (19, "readlink")):
        false_answers = {kind: false_answer(NAME, fields)}
        with serving_false_answers(false_answers) as sftp, pytest.raises(SFTPError, match="request for a path"):
            getattr(sftp, ask)("/p")


@pytest.mark.parametrize(
    "answer",
    [false_answer(STATUS, u32(0), string(b"")), false_answer(DATA, string(b"x")), false_answer(200), false_answer(ATTRS, u32(1))],
    ids=["success without data", "data", "unknown kind", "short"],
)
def test_answers_of_the_wrong_type_are_refused(answer: Callable[[FalseAnswers, bytes], None]) -> None:
    with serving_false_answers(dict.fromkeys((3, 7, OPENDIR, 16), answer)) as sftp:
        for ask in (sftp.lstat, sftp.realpath, sftp.open, lambda path: list(sftp.list_directory(path))):
            with pytest.raises(SFTPError) as caught:
                ask("/p")
            assert caught.value.code is None


def test_reading_ends_at_the_end_of_the_data_if_the_size_is_false() -> None:
    """The number of requests ahead of the answers is bounded."""
    asked = 0

    def read(server: FalseAnswers, number: bytes) -> None:
        nonlocal asked
        asked += 1
        server.answer(*((DATA, number, string(bytes(32 << 10))) if asked <= 3 else (STATUS, number, u32(1), string(b""))))

    with serving_false_answers({5: read, 8: false_answer(ATTRS, u32(1), (1 << 62).to_bytes(8, "big"))}) as sftp:
        with sftp.open("/f") as file:
            assert sum(map(len, file.read_pieces())) == 3 * (32 << 10)
        assert asked <= 64 + 3
        with sftp.open("/f") as file:
            assert file.read_at(1 << 50, 10) == b""


def test_more_data_than_requested_is_refused() -> None:
    with serving_false_answers({5: false_answer(DATA, string(bytes(100)))}) as sftp, sftp.open("/f") as file:
        with pytest.raises(SFTPError, match="invalid answer to a read"):
            file.read_at(0, 10)


def test_a_second_answer_to_a_request_is_refused() -> None:
    def twice(server: FalseAnswers, number: bytes) -> None:
        for _ in range(2):
            server.answer(ATTRS, number, u32(0))

    with serving_false_answers({17: twice}) as sftp:
        sftp.stat("/f")
        with pytest.raises(SFTPError, match="request that was not made"):
            sftp.stat("/f")


def test_the_number_of_unanswered_requests_is_bounded() -> None:
    """Requests of abandoned files count."""
    with serving_false_answers({4: lambda server, number: None}) as sftp, pytest.raises(SFTPError, match="unanswered"):
        for _ in range(5000):
            sftp.open("/f").abandon()


def test_the_text_of_a_refusal_is_escaped() -> None:
    false_answers = {17: false_answer(STATUS, u32(2), string(b"\x1b[2J\r\n" * 50_00))}
    with serving_false_answers(false_answers) as sftp, pytest.raises(SFTPError) as caught:
        sftp.stat("/f")
    assert caught.value.code == NO_SUCH_FILE and str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_paths_with_nul_and_long_paths_are_refused() -> None:
    """A server could ignore the part of a name after its NUL."""
    with serving_false_answers({}) as sftp:
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
