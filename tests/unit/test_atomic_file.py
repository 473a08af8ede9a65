"""A received file replaces the old one in one step, or is written into a file that cannot be replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pmitogen.util.atomic_file import atomic_write


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.write_text("old")
    path.chmod(0o4751)
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as stream:
        stream.write(b"half")
        stream.flush()
        assert path.read_text() == "old"
        raise KeyboardInterrupt
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["kept"]
    with atomic_write(path, lambda: 0o600) as stream:
        stream.write(b"new")
    assert path.read_text() == "new" and path.stat().st_mode & 0o7777 == 0o751, "setuid is dropped, as by a write in place"


def test_a_new_file_gets_its_mode_at_the_end(tmp_path: Path) -> None:
    modes: list[int] = []
    old = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "new", lambda: modes[0]) as stream:
            assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600], "mode 0600 until it is complete"
            stream.write(b"x")
            modes.append(0o777)
    finally:
        os.umask(old)
    assert (tmp_path / "new").stat().st_mode & 0o7777 == 0o750


def test_links_and_pipes_are_written_not_replaced(tmp_path: Path) -> None:
    real, hard, soft, pipe = (tmp_path / name for name in ("real", "hard", "soft", "pipe"))
    real.write_text("old")
    hard.hardlink_to(real)
    with atomic_write(hard) as stream:
        stream.write(b"both")
    assert real.read_text() == "both" and real.stat().st_nlink == 2
    hard.unlink()
    soft.symlink_to("real")
    with atomic_write(soft) as stream:
        stream.write(b"through")
    assert soft.is_symlink() and real.read_text() == "through"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with atomic_write(pipe) as stream:
            stream.write(b"x")
        assert os.read(reader, 9) == b"x" and pipe.is_fifo()
    finally:
        os.close(reader)


@pytest.mark.needs_root
def test_the_owner_is_preserved(tmp_path: Path) -> None:
    path = tmp_path / "another's"
    path.write_text("old")
    os.chown(path, 65534, 65533)
    with atomic_write(path) as stream:
        stream.write(b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65533)


def test_an_error_names_the_file_and_not_a_temporary_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "no" / "file"):
        pytest.fail("it was created")
    assert caught.value.filename == str(tmp_path / "no" / "file")
