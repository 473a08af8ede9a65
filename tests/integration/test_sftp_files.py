"""File operations on a host without Python: over SFTP, with the same results and errors as through Python."""

from __future__ import annotations

import asyncio
import errno
import glob
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import pmitogen
from pmitogen import aio
from pmitogen.api.sftp import trees
from pmitogen.testing.server import ScriptedServer
from pmitogen.transport.sessions.sftp_client import SFTP
from pmitogen.transport.sessions.sftp_packets import Attributes

from .test_api_files import fill, listing

pytest_plugins = ["pmitogen.testing"]


@pytest.fixture
def host(ssh_server: ScriptedServer) -> Iterator[pmitogen.Host]:
    with pmitogen.connect(ssh_server.target, options=ssh_server.options, timeout=20) as made:
        yield made


@pytest.fixture
def top(ssh_server: ScriptedServer) -> Path:
    return ssh_server.root


def test_file_operations_have_the_same_results(host: pmitogen.Host, top: Path) -> None:
    host.mkdir("/a/b/c", parents=True)
    host.put(b"text", "/a/b/größer")
    assert host.listdir("/a/b") == ["c", "größer"] and host.exists("/a/b/c") and not host.exists("/nothing")
    found = host.stat("/a/b/größer")
    assert found.st_size == 4 and stat.S_ISREG(found.st_mode) and found.st_mtime > 0
    host.chmod("/a/b/größer", 0o640)
    assert (top / "a/b/größer").stat().st_mode & 0o777 == 0o640
    host.symlink("b", "/a/link")
    assert host.readlink("/a/link") == "b" and stat.S_ISLNK(host.stat("/a/link", follow_symlinks=False).st_mode)
    assert [(entry.name, entry.is_dir(), entry.is_symlink()) for entry in host.scandir("/a")] == [
        ("b", True, False),
        ("link", False, True),
    ]
    assert host.walk("/a") == [("/a", ["b"], ["link"]), ("/a/b", ["c"], ["größer"]), ("/a/b/c", [], [])]
    host.rename("/a/b/größer", "/a/other")
    host.put(b"more", "/a/third")
    host.rename("/a/third", "/a/other")
    assert (top / "a/other").read_bytes() == b"more"
    host.mkdir("/a", exist_ok=True)
    host.remove("/a/link")
    host.remove("/a", recursive=True)
    host.remove("/a", missing_ok=True)
    assert not (top / "a").exists()


def test_errors_are_those_of_the_os_module(host: pmitogen.Host) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        host.stat("/nothing")
    assert caught.value.filename == "/nothing" and isinstance(caught.value, pmitogen.RemoteError)
    host.mkdir("/full/x", parents=True)
    host.put(b"", "/file")
    with pytest.raises(FileExistsError):
        host.mkdir("/full")
    with pytest.raises(FileNotFoundError):
        host.listdir("/nothing")
    with pytest.raises(OSError, match="not empty"):
        host.remove("/full")
    with pytest.raises(FileNotFoundError):
        host.remove("/nothing")


def test_operations_that_sftp_lacks_are_reported(host: pmitogen.Host) -> None:
    with pytest.raises(pmitogen.ConnectError, match="Python") as caught:
        host.become().stat("/")
    assert caught.value.stage == "python"
    with pytest.raises(OSError, match="use a number instead of the name 'root'") as refused:
        host.chown("/", "root")
    assert refused.value.errno == errno.EINVAL


def test_owners_are_read_and_changed(host: pmitogen.Host, top: Path) -> None:
    host.put(b"", "/file")
    found = (top / "file").stat()
    host.chown("/file", found.st_uid)
    host.chown("/file", None, found.st_gid)
    with pytest.raises(FileNotFoundError):
        host.chown("/nothing", 0)


PATTERNS = [
    "*",
    "/*",
    "/a/*",
    "/a/?",
    "/*/b",
    "/a/.*",
    "/a/[!b]",
    "/nothing/*",
    "/a/b",
    "/nothing",
    "/a/**",
    "/a/**/f",
    "/[a]/b/f",
]


@pytest.mark.parametrize("recursive", [False, True])
def test_glob_finds_what_python_finds(recursive: bool, host: pmitogen.Host, top: Path) -> None:
    host.mkdir("/a/b/c", parents=True)
    for name in ("a/f", "a/ä", "a/.hidden", "a/b/f", "a/b/c/f", "a/[x]", "a/line\nend"):
        (top / name).write_text("")
    for pattern in PATTERNS:
        wanted = sorted(glob.glob(str(top) + "/" + pattern.lstrip("/"), recursive=recursive))
        got = host.glob(pattern, recursive=recursive)
        assert sorted("/" + path.lstrip("/") for path in got) == [path[len(str(top)) :] for path in wanted], pattern


def test_glob_reads_no_further_directory_when_it_has_found_too_many(
    host: pmitogen.Host, top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    entries = trees._listed

    def count(sftp: SFTP, path: str) -> list[tuple[str, Attributes]]:
        read.append(path)
        return entries(sftp, path)

    monkeypatch.setattr(trees, "_listed", count)
    monkeypatch.setattr(trees, "MAX_ENTRIES", 10)
    for number in range(8):
        (top / f"d{number}").mkdir()
        for name in "abcde":
            (top / f"d{number}" / name).write_text("")
    with pytest.raises(OSError, match="/d\\*/\\*") as caught:
        host.glob("/d*/*")
    assert caught.value.errno == errno.E2BIG and len(read) == 4  # the first, and three below it


def test_glob_refuses_directories_that_are_too_deep(host: pmitogen.Host, top: Path) -> None:
    deep = str(top)
    for _ in range(1200):  # deeper than os.makedirs goes, and shutil.rmtree
        deep += "/x"
        os.mkdir(deep)
    try:
        with pytest.raises(OSError, match="/\\*\\*") as caught:
            host.glob("/**", recursive=True)
        assert caught.value.errno == errno.ELOOP and host.exists("/x")
    finally:
        for _ in range(1200):
            os.rmdir(deep)
            deep = os.path.dirname(deep)


def test_trees_are_copied_in_both_directions(host: pmitogen.Host, top: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    fill(source)
    changes = host.put_tree(source, "/tree", exclude=["*.pyc"])
    assert len(changes.copied) == 43 and not changes.removed
    wanted = {name: state for name, state in listing(source).items() if name != "skip.pyc"}
    assert listing(top / "tree") == wanted
    assert host.put_tree(source, "/tree", exclude=["*.pyc"]).copied == ()
    (source / "sub/9").write_text("9\n9\n9\n9\n8\n")
    (top / "tree/more").mkdir()
    changes = host.put_tree(source, "/tree", delete=True, exclude=["*.pyc"])
    assert (changes.copied, changes.removed) == (("sub/9",), ("more",))
    got = host.get_tree("/tree", tmp_path / "back")
    assert len(got.copied) == 43 and listing(tmp_path / "back") == listing(top / "tree")
    assert host.get_tree("/tree", tmp_path / "back").copied == ()
    with pytest.raises(FileNotFoundError):
        host.get_tree("/nothing", tmp_path / "x")
    with pytest.raises(NotADirectoryError):
        host.get_tree("/tree/run", tmp_path / "x")


def test_the_asyncio_library_works_over_sftp(ssh_server: ScriptedServer) -> None:
    async def work() -> list[str]:
        async with aio.connect(ssh_server.target, options=ssh_server.options, timeout=20) as host:
            await host.mkdir("/made")
            return await host.listdir("/")

    assert asyncio.run(work()) == ["made", "tmp"]
