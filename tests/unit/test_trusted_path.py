"""Files that another user may have created in a shared directory are neither followed, written to nor read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pmitogen.util import private_directory, trusted_path
from pmitogen.util.atomic_file import atomic_write
from pmitogen.util.trusted_path import UntrustedPath

OTHER = 65533  # the uid of another user

pytestmark = pytest.mark.needs_root


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory like /tmp."""
    path = tmp_path / "shared"
    path.mkdir()
    path.chmod(0o1777)
    return path


def _append(path: Path) -> None:
    os.write(descriptor := trusted_path.open_for_append(path), b"new")
    os.close(descriptor)


def _replace(path: Path) -> None:
    with atomic_write(path) as stream:
        stream.write(b"new")


WRITERS = pytest.mark.parametrize("write", [_append, _replace])


@WRITERS
def test_a_link_of_another_user_is_not_followed(shared: Path, tmp_path: Path, write: Callable[[Path], None]) -> None:
    mine = tmp_path / "mine"
    mine.write_text("old")
    for target in (mine, tmp_path / "none", shared / "second"):
        link = shared / "link"
        link.symlink_to(target)
        os.chown(link, OTHER, OTHER, follow_symlinks=False)
        with pytest.raises(UntrustedPath, match="is a symbolic link of another user"):
            write(link)
        link.unlink()
    directory = shared / "directory"
    directory.symlink_to(tmp_path)
    os.chown(directory, OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(UntrustedPath, match="is a symbolic link of another user"):
        write(directory / "new")
    assert mine.read_text() == "old" and sorted(os.listdir(tmp_path)) == ["mine", "shared"]


@WRITERS
def test_a_file_of_another_user_is_not_written(shared: Path, tmp_path: Path, write: Callable[[Path], None]) -> None:
    theirs = shared / "theirs"
    theirs.write_text("old")
    theirs.chmod(0o666)
    os.chown(theirs, OTHER, OTHER)
    with pytest.raises(UntrustedPath, match="belongs to another user"):
        write(theirs)
    assert theirs.read_text() == "old"
    mine = tmp_path / "mine"
    mine.write_text("old")
    os.link(mine, shared / "name")
    with pytest.raises(UntrustedPath, match="has several names"):
        write(shared / "name")
    os.mkfifo(shared / "pipe")
    os.chown(shared / "pipe", OTHER, OTHER)
    reader = os.open(shared / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(UntrustedPath, match="belongs to another user"):
            write(shared / "pipe")
        assert os.read(reader, 9) == b""
    finally:
        os.close(reader)
    assert mine.read_text() == "old"


@WRITERS
def test_own_links_are_followed_everywhere(shared: Path, tmp_path: Path, write: Callable[[Path], None]) -> None:
    (shared / "link").symlink_to("../mine")
    write(shared / "link")
    (tmp_path / "known_hosts").symlink_to(shared / "link")
    write(tmp_path / "known_hosts")
    assert (tmp_path / "mine").read_text() == ("newnew" if write is _append else "new")
    assert (shared / "link").is_symlink() and (tmp_path / "known_hosts").is_symlink()
    assert (tmp_path / "mine").stat().st_mode & 0o777 == (0o600 if write is _append else 0o644)


@WRITERS
def test_links_of_others_in_an_own_directory_are_followed(tmp_path: Path, write: Callable[[Path], None]) -> None:
    """A user who can create the link there could also change the file."""
    (tmp_path / "target").write_text("")
    (tmp_path / "link").symlink_to("target")
    os.chown(tmp_path / "link", OTHER, OTHER, follow_symlinks=False)
    write(tmp_path / "link")
    os.link(tmp_path / "target", tmp_path / "name")
    write(tmp_path / "name")
    assert (tmp_path / "target").read_text() == ("newnew" if write is _append else "new")
    write(Path("/dev/null"))


def test_an_open_file_can_be_written_by_its_descriptor_path(tmp_path: Path) -> None:
    """/dev/stderr is such a path."""
    reading, writing = os.pipe()
    try:
        _append(Path(f"/dev/fd/{writing}"))
        _replace(Path(f"/proc/self/fd/{writing}"))
        assert os.read(reading, 9) == b"newnew"
    finally:
        os.close(reading)
        os.close(writing)


def test_links_are_resolved_as_by_the_system(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "up").symlink_to("a/b/")
    (tmp_path / "loop").symlink_to("loop")
    for path in ("up/../x", "up/./y//z", "a/b/../../none/more", "../" * 40 + "etc", "none/../a"):
        assert trusted_path.resolve(tmp_path / path) == os.path.realpath(tmp_path / path)
    with pytest.raises(OSError, match="symbolic links"):
        trusted_path.resolve(tmp_path / "loop/x")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "file"
    path.write_text("ours")
    path.chmod(0o600)
    yield path


def _no_file(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "spoil",
    [
        _no_file,
        _link,
        lambda path: os.chown(path, OTHER, OTHER),
        lambda path: path.chmod(0o620),
        lambda path: path.chmod(0o602),
        lambda path: os.link(path, path.with_name("more")),
    ],
    ids=["pipe", "link", "owner", "group", "others", "names"],
)
def test_a_file_that_others_could_write_is_not_opened(own: Path, spoil: Callable[[Path], None]) -> None:
    os.close(trusted_path.open_own(own))
    spoil(own)
    with pytest.raises(OSError):
        trusted_path.open_own(own)


def test_a_file_of_the_owner_of_the_packages_is_opened(own: Path) -> None:
    os.chown(own, OTHER, OTHER)
    os.close(trusted_path.open_own(own, owners=(OTHER,)))


def test_a_directory_that_others_can_access_is_not_private(tmp_path: Path) -> None:
    path = tmp_path / "private"
    private_directory.make(str(path))
    private_directory.make(str(path))
    assert private_directory.is_private(str(path)) and path.stat().st_mode & 0o7777 == 0o700
    (tmp_path / "link").symlink_to("private")
    for spoilt, reason in ((tmp_path / "link", "is a symbolic link"), (tmp_path / "none", None)):
        assert not private_directory.is_private(str(spoilt))
        if reason:
            with pytest.raises(UntrustedPath, match=reason):
                private_directory.make(str(spoilt))
    path.chmod(0o710)
    with pytest.raises(UntrustedPath, match=r"is accessible by others \(mode 0710\)"):
        private_directory.make(str(path))
    path.chmod(0o700)
    os.chown(path, OTHER, OTHER)
    with pytest.raises(UntrustedPath, match=f"belongs to uid {OTHER}"):
        private_directory.make(str(path))


@pytest.mark.parametrize(
    ("mode", "owner", "safe"), [(0o1777, 0, True), (0o777, 0, False), (0o755, OTHER, False), (0o700, 0, True)]
)
def test_no_parent_of_a_private_directory_may_be_writable_by_others(short_path: Path, mode: int, owner: int, safe: bool) -> None:
    above = short_path / "above"
    (above / "path").mkdir(parents=True)
    above.chmod(mode)
    os.chown(above, owner, owner)
    if safe:
        private_directory.check_parents(str(above / "path"))
    else:
        with pytest.raises(UntrustedPath, match="belongs to uid|can be written by others"):
            private_directory.check_parents(str(above / "path"))
