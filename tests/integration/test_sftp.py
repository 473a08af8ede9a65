"""The SFTP client against OpenSSH's server and against Paramiko's, which has fewer extensions."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pmitogen.transport.connection import Connection
from pmitogen.transport.sessions.sftp_client import CREATE, REWRITE, SFTP, UPDATE
from pmitogen.transport.sessions.sftp_packets import NO_SUCH_FILE, UNSUPPORTED, Attributes, SFTPError
from tests.support.backends import DEMO, python_backend
from tests.support.links import link_to, linked
from tests.support.sshd import Sshd

pytestmark = pytest.mark.needs_sshd


@contextlib.contextmanager
def session(link: Connection) -> Iterator[SFTP]:
    channel = link.open_session(20)
    assert link.start_subsystem(channel, "sftp", timeout=30)
    sftp = SFTP(channel)
    yield sftp
    sftp.close()


@pytest.fixture
def sftp(sshd: Sshd) -> Iterator[SFTP]:
    with linked(sshd) as link, session(link) as made:
        yield made


def listing(sftp: SFTP, path: Path) -> dict[str, Attributes]:
    return {entry.name: entry.attributes for piece in sftp.list_directory(str(path)) for entry in piece}


def test_attributes_are_read_and_set(sftp: SFTP, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    sftp.set_attributes(str(path), Attributes(mode=0o640, atime=1_000_000_000, mtime=1_100_000_000))
    found = sftp.stat(str(tmp_path / "link"))
    assert found.is_file and not found.is_directory and found.size == 5
    assert (found.mode, found.atime, found.mtime) == (stat.S_IFREG | 0o640, 1_000_000_000, 1_100_000_000)
    assert (found.uid, found.gid) == (os.getuid(), os.getgid())
    assert sftp.lstat(str(tmp_path / "link")).is_link and sftp.readlink(str(tmp_path / "link")) == "file"
    sftp.set_attributes(str(path), Attributes(size=2))
    assert path.read_bytes() == b"12"
    with pytest.raises(SFTPError, match="[Nn]o such file") as caught:
        sftp.stat(str(tmp_path / "none"))
    assert caught.value.code == NO_SUCH_FILE


def test_directories_are_listed_created_and_removed(sftp: SFTP, tmp_path: Path) -> None:
    name = os.fsdecode(b"n\xff \xe8\xaa\x9e\n'")
    sftp.mkdir(str(tmp_path / "d"), 0o750)
    for index in range(1, 1201):
        (tmp_path / "d" / str(index)).touch()
    (tmp_path / "d" / name).mkdir()
    found = listing(sftp, tmp_path / "d")
    assert set(found) == {*map(str, range(1, 1201)), name} and found[name].is_directory and found["1"].is_file
    pieces = sftp.list_directory(str(tmp_path / "d"))
    assert 0 < len(next(pieces)) < 1200
    pieces.close()
    with pytest.raises(SFTPError, match="more than 1000 names"):
        list(sftp.list_directory(str(tmp_path / "d"), 1000))
    sftp.rmdir(str(tmp_path / "d" / name))
    with pytest.raises(SFTPError):
        sftp.rmdir(str(tmp_path / "d"))
    assert sftp.realpath(str(tmp_path / "d" / ".." / "d")) == str(tmp_path / "d")
    assert sftp.realpath(".") == pwd.getpwuid(os.getuid()).pw_dir == sftp.expand_path("~")


def test_names_with_any_byte_pass_unchanged(sftp: SFTP, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("old")
    new.write_text("new")
    with pytest.raises(SFTPError):
        sftp.rename(str(old), str(new))
    sftp.replace(str(old), str(new))
    assert new.read_text() == "old" and not old.exists()
    sftp.rename(str(new), str(old))
    sftp.hardlink(str(old), str(new))
    assert new.samefile(old)
    sftp.symlink("anywhere", str(tmp_path / "link"))
    assert os.readlink(tmp_path / "link") == "anywhere"
    for each in ("old", "new", "link"):
        sftp.remove(str(tmp_path / each))
    assert not list(tmp_path.iterdir())


def test_data_is_read_and_written_at_offsets(sftp: SFTP, tmp_path: Path) -> None:
    path, blob = tmp_path / "file", os.urandom(5_000_001)
    with sftp.open(str(path), CREATE, 0o600) as file:
        assert file.write_pieces([blob[:10], b"", blob[10:3_000_000]]) == 3_000_000
        file.write_at(3_000_000, blob[3_000_000:])
        assert file.sync() and file.attributes().size == len(blob)
    assert path.read_bytes() == blob and path.stat().st_mode & 0o777 == 0o600
    with sftp.open(str(path)) as file:
        assert b"".join(file.read_pieces()) == blob
        assert b"".join(file.read_pieces(4_999_999)) == blob[4_999_999:]
        assert file.read_at(100_000, 2_500_000) == blob[100_000:2_600_000]
        assert file.read_at(5_000_000, 100) == blob[-1:] and file.read_at(5_000_001, 1) == b"" == file.read_at(0, 0)
        pieces = file.read_pieces()
        assert next(pieces) == blob[: 32 << 10]
        assert sftp.stat(str(path)).size == len(blob), "other requests may be made between the pieces"
        assert next(pieces) == blob[32 << 10 : 64 << 10]
        pieces.close()
        assert file.read_at(0, 5) == blob[:5]
    with sftp.open(str(path), UPDATE) as file:
        file.write_at(1, b"xy")
        file.set_attributes(Attributes(size=4))
    assert path.read_bytes() == blob[:1] + b"xy" + blob[3:4]
    with pytest.raises(SFTPError):
        sftp.open(str(path), CREATE)
    with pytest.raises(SFTPError):
        sftp.open(str(tmp_path / "none"), UPDATE)
    with sftp.open(str(path), REWRITE) as file:
        file.write_at(0, b"z")
    assert path.read_bytes() == b"z"


def test_a_failed_write_is_reported_and_the_session_goes_on(sftp: SFTP) -> None:
    """The answers to later writes are discarded."""
    with pytest.raises(SFTPError) as caught, sftp.open("/dev/full", UPDATE) as file:
        file.write_pieces(bytes(32 << 10) for _ in range(200))
    assert caught.value.code is not None
    assert sftp.stat("/").is_directory


@pytest.fixture
def basic_sftp(sshd: Sshd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SFTP]:
    """The SFTP server of the demo server, which is Paramiko's."""
    for server in python_backend(DEMO, sshd.key, tmp_path_factory.mktemp("demo")):
        link = link_to(server.settings())
        with session(link) as made:
            yield made
        link.close()


def test_operations_work_without_extensions(basic_sftp: SFTP, tmp_path: Path) -> None:
    sftp = basic_sftp
    (tmp_path / "old").write_text("old")
    (tmp_path / "new").write_text("new")
    (tmp_path / "d").mkdir()
    assert "posix-rename@openssh.com" not in sftp.extensions
    sftp.replace(str(tmp_path / "old"), str(tmp_path / "new"))
    assert (tmp_path / "new").read_text() == "old"
    with pytest.raises(SFTPError):
        sftp.replace(str(tmp_path / "new"), str(tmp_path / "d"))
    with pytest.raises(SFTPError) as caught:
        sftp.replace(str(tmp_path / "none"), str(tmp_path / "new"))
    assert caught.value.code is not None and (tmp_path / "new").read_text() == "old"
    with sftp.open(str(tmp_path / "new"), UPDATE) as file:
        assert not file.sync()
    with pytest.raises(SFTPError) as caught:
        sftp.hardlink(str(tmp_path / "new"), str(tmp_path / "x"))
    assert caught.value.code == UNSUPPORTED
    assert {"new", "d"} <= set(listing(sftp, tmp_path))
