"""A hostile SFTP server for ``pmitogen cp``: nothing is written outside the destination (CVE-2019-6111 and similar)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pmitogen.cli.transfer import patterns
from pmitogen.cli.transfer.copying import Copier, CopyOptions
from pmitogen.cli.transfer.files import FileError, WriteOptions
from pmitogen.cli.transfer.local_files import LocalFiles
from pmitogen.cli.transfer.remote_files import RemoteFiles
from pmitogen.errors import ConnectionLost
from pmitogen.transport.sessions.sftp_packets import Attributes
from tests.hostile.ssh_server import string, u32
from tests.hostile.test_sftp_servers import ATTRS, NAME, READDIR, STATUS, FalseAnswers, false_answer, names, serving_false_answers

pytestmark = pytest.mark.timeout(60)
DIRECTORY, FILE = u32(4) + u32(0o040755), u32(4) + u32(0o106777)


def listing_once(*listed: bytes) -> Callable[[FalseAnswers, bytes], None]:
    """Answer every second request for a listing with the names, the others with its end."""
    requests = 0

    def answer(server: FalseAnswers, number: bytes) -> None:
        nonlocal requests
        requests += 1
        server.answer(*((NAME, number, names(*listed)) if requests % 2 else (STATUS, number, u32(1), string(b""))))

    return answer


def end_of_file(server: FalseAnswers, number: bytes) -> None:
    server.answer(STATUS, number, u32(1), string(b""))


def written(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.mark.parametrize("name", [b"../evil", b"/tmp/evil", b"d/../../evil", b"", b"a\0b"])
def test_names_outside_the_destination_are_refused(tmp_path: Path, name: bytes) -> None:
    (tmp_path / "in").mkdir()
    false_answers = {READDIR: false_answer(NAME, names(b"good", name)), 17: false_answer(ATTRS, DIRECTORY), 5: end_of_file}
    with serving_false_answers(false_answers) as sftp:
        copier = Copier(RemoteFiles(sftp, "t"), LocalFiles(), CopyOptions(recursive=True), print)
        with pytest.raises(ConnectionLost, match="not a valid file name"):
            copier.copy("/d", str(tmp_path / "in" / "d"))
    assert set(written(tmp_path)) <= {"in", "in/d"}


def test_names_that_do_not_match_the_pattern_are_ignored(tmp_path: Path) -> None:
    listing = listing_once(b"evil", b".bashrc", b"x.txt", b"x.txt\n", b"y" * 5000 + b".txt")
    false_answers = {READDIR: listing, 17: false_answer(ATTRS, FILE)}
    with serving_false_answers(false_answers) as sftp:
        assert patterns.expand(RemoteFiles(sftp, "t"), "/d/*.txt") == ["/d/x.txt"]


def test_an_endless_tree_is_refused(tmp_path: Path) -> None:
    reports: list[str] = []
    false_answers = {READDIR: listing_once(b"d"), 17: false_answer(ATTRS, DIRECTORY)}

    def directory(server: FalseAnswers, number: bytes) -> None:
        one = u32(1) + string(b"d") + string(b"") + DIRECTORY
        directory.requests += 1  # type: ignore[attr-defined]
        is_listing = directory.requests % 2  # type: ignore[attr-defined]
        server.answer(*((NAME, number, one) if is_listing else (STATUS, number, u32(1), string(b""))))

    directory.requests = 0  # type: ignore[attr-defined]
    with serving_false_answers({**false_answers, READDIR: directory}) as sftp:
        copier = Copier(RemoteFiles(sftp, "t"), LocalFiles(), CopyOptions(recursive=True), reports.append)
        assert not copier.copy("/d", str(tmp_path / "d"))
    assert reports == ["Maximum directory depth exceeded: 65 levels"]


def test_setuid_bits_and_devices_are_not_copied(tmp_path: Path) -> None:
    with serving_false_answers({17: false_answer(ATTRS, FILE), 8: false_answer(ATTRS, FILE), 5: end_of_file}) as sftp:
        copier = Copier(RemoteFiles(sftp, "t"), LocalFiles(), CopyOptions(preserve=True), print)
        assert copier.copy("/f", str(tmp_path / "f"))
    assert (tmp_path / "f").stat().st_mode == 0o100777
    reports: list[str] = []
    with serving_false_answers({17: false_answer(ATTRS, u32(4) + u32(0o060666))}) as sftp:
        assert not Copier(RemoteFiles(sftp, "t"), LocalFiles(), CopyOptions(), reports.append).copy("/f", str(tmp_path / "g"))
    assert reports == ["download /f: not a regular file"] and not (tmp_path / "g").exists()


def test_an_invalid_real_path_is_refused() -> None:
    """An answer with a NUL or two names ends the connection before anything is written."""
    false_answers = {19: false_answer(NAME, names(b"a", b"b")), 16: false_answer(NAME, names(b"a\0b"))}
    with serving_false_answers(false_answers) as sftp, pytest.raises(ConnectionLost):
        with RemoteFiles(sftp, "t").writing("/f", _plan()):
            pass


def _plan():  # type: ignore[no-untyped-def]
    from pmitogen.cli.transfer.files import WriteOptions

    return WriteOptions(0o644)


def test_the_home_of_an_account_is_not_a_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_false_answers({17: false_answer(ATTRS, FILE), READDIR: listing_once(b"secret")}) as sftp:
        monkeypatch.setattr(sftp, "expand_path", lambda account: "/etc/*")
        files = RemoteFiles(sftp, "t")
        for typed in ("~bob/x", "~bob"):
            assert patterns.expand(files, files.expand(typed, patterns.escape_pattern)) == [typed.replace("~bob", "/etc/*")]


def test_an_invalid_pattern_is_reported() -> None:
    with serving_false_answers({17: false_answer(ATTRS, FILE)}) as sftp, pytest.raises(FileError, match="invalid pattern"):
        patterns.expand(RemoteFiles(sftp, "t"), "/[z-a]")


@pytest.mark.needs_root
def test_a_link_of_another_user_is_not_followed(tmp_path: Path) -> None:
    """No directory is created behind it, and no mode changed."""
    home = tmp_path / "home"
    home.mkdir(0o700)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "data").symlink_to(home)
    os.lchown(shared / "data", 65534, 65534)
    files = LocalFiles()
    with pytest.raises(FileError, match="symbolic link of another user"):
        files.make_directory(f"{shared}/data/sub", 0o755)
    with pytest.raises(FileError, match="symbolic link of another user"):
        files.set_attributes(f"{shared}/data", Attributes(mode=0o755))
    assert list(home.iterdir()) == [] and home.stat().st_mode & 0o777 == 0o700


@pytest.mark.needs_root
def test_the_mode_of_a_file_that_another_user_substituted_is_not_changed(tmp_path: Path) -> None:
    """In a shared directory, another user can replace the new file before its mode and times are set."""
    tmp_path.chmod(0o777)
    (secret := tmp_path / "secret").touch(0o600)
    os.link(secret, tmp_path / "copied")
    (other := tmp_path / "other").touch(0o600)
    os.chown(other, 65534, 65534)
    for name, reason in (("copied", "several names"), ("other", "belongs to another user")):
        with pytest.raises(FileError, match=reason):
            LocalFiles().set_attributes(str(tmp_path / name), Attributes(mode=0o644, atime=1, mtime=1))
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600 and (tmp_path / name).stat().st_mtime > 1
    (mine := tmp_path / "mine").touch(0o600)
    LocalFiles().set_attributes(str(mine), Attributes(mode=0o644, atime=1, mtime=2))
    assert mine.stat().st_mode & 0o777 == 0o644 and mine.stat().st_mtime == 2


def test_an_overwritten_program_loses_setuid(tmp_path: Path) -> None:
    target = tmp_path / "program"
    target.write_text("old")
    target.chmod(0o6755)
    with LocalFiles().writing(str(target), WriteOptions(0o644)) as writer:
        writer.write([b"new"])
    assert target.read_text() == "new" and target.stat().st_mode & 0o7777 == 0o755
