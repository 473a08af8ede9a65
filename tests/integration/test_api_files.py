"""File operations of the library: single ones, open files, and whole trees."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import pickle
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pmitogen
from pmitogen import aio
from pmitogen.api import Host, trees
from tests.support import processes
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


@pytest.fixture
def host(sshd: Sshd, account: Account) -> Iterator[Host]:
    with connect(sshd, account) as made:
        yield made


@pytest.fixture
def top(host: Host, account: Account) -> Iterator[Path]:
    """An empty directory of the account on the host, which is this machine."""
    path = account.home / "files"
    host.mkdir(path)
    yield path
    host.become().remove(path, recursive=True)


def test_each_operation_has_the_effect_of_its_name_in_os(host: Host, account: Account, top: Path) -> None:
    host.put(b"12345", top / "a", mode=0o640)
    found, real = host.stat(top / "a"), (top / "a").stat()
    assert (found.st_size, found.st_mode, found.st_uid, found.st_ino) == (5, real.st_mode, account.uid, real.st_ino)
    assert abs(found.st_mtime - real.st_mtime) < 1e-3
    host.mkdir(top / "b/c/d", parents=True)
    host.mkdir(top / "b", exist_ok=True)
    host.symlink("a", top / "link")
    assert host.readlink(top / "link") == "a"
    assert host.stat(top / "link").st_size == 5 and stat.S_ISLNK(host.stat(top / "link", follow_symlinks=False).st_mode)
    assert host.listdir(top) == ["a", "b", "link"]
    assert [(e.name, e.path, e.is_file(), e.is_dir(), e.is_symlink()) for e in host.scandir(top)] == [
        ("a", f"{top}/a", True, False, False),
        ("b", f"{top}/b", False, True, False),
        ("link", f"{top}/link", False, False, True),
    ]
    assert host.walk(top) == [(each, sorted(directories), sorted(names)) for each, directories, names in os.walk(top)]
    assert host.glob(f"{top}/[ab]") == [f"{top}/a", f"{top}/b"]
    assert f"{top}/b/c/d" in host.glob(f"{top}/**", recursive=True)
    host.chmod(top / "a", 0o600)
    assert stat.S_IMODE((top / "a").stat().st_mode) == 0o600
    host.rename(top / "a", top / "new")
    assert not host.exists(top / "a") and host.exists(top / "new")
    host.become().chown(top / "new", "root", 0)
    assert ((top / "new").stat().st_uid, (top / "new").stat().st_gid) == (0, 0)
    host.remove(top / "link")
    host.remove(top / "nothing", missing_ok=True)
    host.remove(top / "b", recursive=True)
    assert host.listdir(top) == ["new"]
    name = os.fsdecode(b"not utf-8 \xff\n")
    host.put(b"", top / name)
    assert host.listdir(top) == ["new", name] and host.stat(top / name).st_size == 0


def test_errors_are_those_of_the_os_module(host: Host, account: Account, top: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        host.stat(top / "nothing")
    assert (caught.value.errno, caught.value.filename) == (2, f"{top}/nothing")
    with pytest.raises(PermissionError) as denied:
        host.mkdir("/etc/pmitogen-cannot")
    again = pickle.loads(pickle.dumps(denied.value))
    assert isinstance(again, PermissionError) and isinstance(again, pmitogen.RemoteError)
    assert (str(again), again.errno, again.filename) == (str(denied.value), 13, "/etc/pmitogen-cannot")
    with pytest.raises(FileExistsError):
        host.mkdir(top)
    with pytest.raises(NotADirectoryError):
        host.listdir("/etc/passwd")
    host.mkdir(top / "full/x", parents=True)
    with pytest.raises(OSError, match="not empty"):
        host.remove(top / "full")
    host.put(b"", top / "full/y")
    host.become().chown(top / "full", "root")
    with pytest.raises(PermissionError, match=f"remove: {top}/full/[xy]: ") as refused:
        host.remove(top / "full", recursive=True)
    assert str(refused.value.filename).startswith(f"{top}/full/")
    host.become().chown(top / "full", account.name)
    with pytest.raises(FileExistsError) as there:
        host.symlink("to", top / "full")
    assert there.value.filename == f"{top}/full"
    with pytest.raises(OSError, match="no such user"):
        host.become().chown(top, "nobody-of-this-name")
    with pytest.raises(OSError, match="no such group"):
        host.become().chown(top, None, "group-of-nobody")
    for wrong in (lambda: host.stat(3), lambda: host.chmod(top, "x"), lambda: host.chown(top, 1.5)):  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            wrong()
    for number in (-1, 1 << 32):
        with pytest.raises(pmitogen.UsageError, match="chown: user"):
            host.chown(top, number)


def test_open_files_can_be_read_written_and_positioned(host: Host, top: Path) -> None:
    with host.open(top / "a", "w") as stream:
        stream.write("größer\n")
        stream.write("line\n" * 200_000)
        assert not (top / "a").exists()
    with host.open(top / "a") as stream:
        assert stream.readline() == "größer\n"
        assert sum(1 for _ in stream) == 200_000
    with pytest.raises(KeyError), host.open(top / "a", "wb") as binary:
        binary.write(bytes(1 << 20))
        raise KeyError
    assert (top / "a").read_text().startswith("größer") and host.listdir(top) == ["a"]
    with host.open(top / "a", "rb") as binary:
        assert binary.read(8) == "größer".encode()
    with pytest.raises(FileNotFoundError), host.open(top / "nothing") as stream:
        stream.read()


def fill(path: Path) -> None:
    (path / "sub/deep").mkdir(parents=True)
    (path / "empty").mkdir(mode=0o700)
    for index in range(40):
        (path / f"sub/{index}").write_text(f"{index}\n" * 5)
    (path / "sub/deep/large").write_bytes(os.urandom(1 << 20))
    (path / "run").write_text("#!/bin/sh\n")
    (path / "run").chmod(0o755)
    (path / "link").symlink_to("sub/0")
    (path / "skip.pyc").write_text("x")
    os.utime(path / "run", (1_000_000_000, 1_000_000_000))


def listing(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in sorted(path.rglob("*")):
        state = each.lstat()
        content = os.readlink(each) if each.is_symlink() else each.read_bytes() if each.is_file() else None
        time = None if each.is_symlink() else int(state.st_mtime)
        found[str(each.relative_to(path))] = (state.st_mode if not each.is_symlink() else 0, time, content)
    return found


def test_trees_are_copied_in_both_directions_with_differences_only(host: Host, top: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    fill(source)
    seen: list[str] = []
    changes = host.put_tree(source, top / "t", exclude=["*.pyc"], progress=seen.append)
    assert len(seen) == 42 and set(changes.copied) == {*seen, "link"} and not changes.removed
    wanted = {name: state for name, state in listing(source).items() if name != "skip.pyc"}
    assert listing(top / "t") == wanted
    assert host.put_tree(source, top / "t", exclude=["*.pyc"]).copied == ()
    (top / "t/more").write_text("other")
    host.run("printf '9\n9\n9\n9\n8\n' > sub/9 && rm link && mkdir link && touch link/x", cwd=top / "t", check=True)
    (source / "run").unlink()
    changes = host.put_tree(source, top / "t", delete=True, exclude=["*.pyc"])
    assert (changes.copied, set(changes.removed)) == (("link", "sub/9"), {"more", "run", "link"})
    back = tmp_path / "back"
    got = host.get_tree(top / "t", back)
    assert len(got.copied) == 42 and listing(back) == listing(top / "t")
    (back / "extra").write_text("x")
    again = host.get_tree(top / "t", back, delete=True)
    assert (again.copied, again.removed) == ((), ("extra",))


def test_a_tree_with_read_only_directories_is_copied(host: Host, top: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "fixed/deep").mkdir(parents=True)
    for number in (1, 2):
        for name in ("fixed/a", "fixed/deep/b", f"fixed/new{number}"):
            (source / name).write_text("x" * number)
        (source / "fixed/deep").chmod(0o500)
        (source / "fixed").chmod(0o555)
        if number == 2:
            (source / "fixed/new1").unlink()
        host.put_tree(source, top / "t", delete=True)
        assert listing(top / "t") == listing(source)
    host.get_tree(top / "t", tmp_path / "back")
    assert listing(tmp_path / "back") == listing(source)
    host.run(["chmod", "-R", "u+w", top / "t"], check=True)


@pytest.mark.parametrize("config", [(), ("ForceCommand internal-sftp",)])
def test_only_delete_removes_files_and_never_excluded_ones(
    config: tuple[str, ...], make_sshd: Callable[..., Sshd], account: Account, tmp_path: Path
) -> None:
    source, here = tmp_path / "source", tmp_path / "here"
    source.mkdir()
    (source / "plain").write_text("x")
    for name in ("gone/deep/skip.tmp", "gone/deep/other", "gone/more/file", "skip.tmp", "plain/file"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("kept")
    with connect(make_sshd(config=list(config)), account) as host:
        host.put_tree(here, "t")
        with pytest.raises(OSError, match="plain: .*not empty") as caught:
            host.put_tree(source, "t")
        assert caught.value.errno == errno.ENOTEMPTY and host.get("t/plain/file") == b"kept"
        changes = host.put_tree(source, "t", delete=True, exclude=["*.tmp"])
        assert set(changes.removed) == {"gone/deep/other", "gone/more", "plain"}
        assert host.get("t/gone/deep/skip.tmp") == host.get("t/skip.tmp") == b"kept" and host.get("t/plain") == b"x"
        with pytest.raises(OSError, match="not empty.*plain"):
            host.get_tree("t", here, exclude=["gone"])
        (here / "plain/skip.tmp").write_text("kept")
        with pytest.raises(OSError, match="not empty.*plain"):
            host.get_tree("t", here, delete=True, exclude=["*.tmp"])
        (here / "plain/skip.tmp").unlink()
        host.get_tree("t", here, delete=True, exclude=["*.tmp"])
        assert (here / "plain").read_text() == "x" and not (here / "gone/deep/other").exists()
        assert (here / "gone/deep/skip.tmp").read_text() == "kept"
        host.remove("t", recursive=True)


def test_patterns_match_characters_not_bytes(host: Host, top: Path, tmp_path: Path) -> None:
    for name in ("ä", "a", "äb", os.fsdecode(b"\xff"), "line\nend", "[x]"):
        (top / name).write_text("x")
    assert host.glob(f"{top}/?") == sorted([f"{top}/a", f"{top}/ä", f"{top}/" + os.fsdecode(b"\xff")], key=os.fsencode)
    assert host.glob(f"{top}/[ä]*") == [f"{top}/ä", f"{top}/äb"] and host.glob(f"{top}/[[]*") == [f"{top}/[x]"]
    assert host.glob(f"{top}/*\n*") == [f"{top}/line\nend"] and host.glob(f"{top}/[") == []
    changes = host.get_tree(top, tmp_path / "got", exclude=["?", "[[]*"])
    assert changes.copied == ("line\nend", "äb")
    assert host.put_tree(tmp_path / "got", top, delete=True, exclude=["?"]).removed == ("[x]",)


def test_glob_is_bounded_in_a_tree_with_circular_links(host: Host, top: Path) -> None:
    for name in ("up", "back", "again"):
        (top / name).symlink_to(".")
    with pytest.raises(OSError, match="more than 200000 paths") as caught:
        host.glob(f"{top}/**", recursive=True)
    assert caught.value.errno == errno.E2BIG


def test_missing_and_unwritable_trees_raise_oserror(host: Host, top: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        host.put_tree(tmp_path / "nothing", top)
    with pytest.raises(FileNotFoundError):
        host.get_tree(top / "nothing", tmp_path / "x")
    with pytest.raises(PermissionError):
        (tmp_path / "a").mkdir()
        host.put_tree(tmp_path / "a", "/etc/pmitogen-cannot")


@pytest.mark.parametrize(
    "entry",
    [
        ["../x", "f", 0o644, 1, 0, None],
        ["/etc/x", "f", 0o644, 1, 0, None],
        ["a/b", "f", 0o644, 1, 0, None],
        ["..", "d", 0o755, 1, 0, None],
        ["", "d", 0o755, 1, 0, None],
        ["x\0", "f", 0o755, 1, 0, None],
        ["link/x", "f", 0o644, 1, 0, None],
        ["x", "z", 0o644, 1, 0, None],
        ["x", "f", "644", 1, 0, None],
        [3, "f", 0o644, 1, 0, None],
        ["link", "f", 0o644, 1, 0, None],
        ["to", "l", 0o777, 1, 0, "a\0b"],
        ["to", "l", 0o777, 1, 0, "\u0100"],
        ["\u0100", "f", 0o644, 1, 0, None],
    ],
)
def test_a_listing_with_invalid_entries_is_refused(entry: list[Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        trees.read_entries([["link", "l", 0o777, 1, 0, "/etc"], entry])


def test_the_asyncio_library_copies_trees(sshd: Sshd, account: Account, top: Path, tmp_path: Path) -> None:
    async def work() -> None:
        async with aio.connect(f"{account.name}@{sshd.host}", ssh_args=sshd.ssh_args(), timeout=30) as host:
            source = tmp_path / "source"
            source.mkdir()
            fill(source)
            changes = await host.put_tree(source, top / "t")
            assert len(changes.copied) == 44
            await host.get_tree(top / "t", tmp_path / "back")
            assert listing(tmp_path / "back") == listing(source)
            assert (await host.stat(top / "t/run")).st_size == 10 and "run" in await host.listdir(top / "t")
            with pytest.raises(FileNotFoundError):
                await host.readlink(top / "nothing")

    asyncio.run(work())


@pytest.mark.parametrize("config", [(), ("Subsystem sftp /nonexistent",)], ids=["sftp", "cat"])
def test_a_stream_of_unknown_length_is_written_without_python(
    make_sshd: Callable[..., Sshd], account: Account, short_path: Path, config: tuple[str, ...]
) -> None:
    os.chown(short_path, account.uid, account.gid)
    data = os.urandom(3 << 20)
    with connect(make_sshd(config=list(config)), account, python="/nonexistent/python") as host:
        with host.open(short_path / "written", "wb") as stream:
            stream.write(data[:100])
            stream.write(data[100:])
        (short_path / "source").write_bytes(data)
        with open(short_path / "source", "rb") as source:
            host.put(source, short_path / "put")
    assert (short_path / "written").read_bytes() == (short_path / "put").read_bytes() == data
    assert sorted(path.name for path in short_path.iterdir()) == ["put", "source", "written"]


@pytest.mark.parametrize("python", ["/nonexistent/python", None], ids=["without", "with"])
@pytest.mark.parametrize("config", [(), ("Subsystem sftp /nonexistent",)], ids=["sftp", "cat"])
def test_an_interrupted_upload_of_unknown_length_leaves_the_old_file(
    make_sshd: Callable[..., Sshd], account: Account, short_path: Path, config: tuple[str, ...], python: str | None
) -> None:
    """Its end is not that of the data."""

    class Failing(io.RawIOBase):
        has_begun = False

        def read(self, size: int = -1) -> bytes:
            if not self.has_begun:
                self.has_begun = True
                return b"x" * 100
            wait_for_part()
            raise RuntimeError("unreadable")

    def wait_for_part() -> None:
        processes.wait_until(lambda: len(list(short_path.iterdir())) > 1, 10)

    os.chown(short_path, account.uid, account.gid)
    target = short_path / "f"
    target.write_bytes(b"old")
    os.chown(target, account.uid, account.gid)
    with connect(make_sshd(config=list(config)), account, **({"python": python} if python else {})) as host:
        with pytest.raises(RuntimeError, match="unreadable"):
            host.put(Failing(), target)
        with pytest.raises(RuntimeError, match="given up"), host.open(target, "wb") as stream:
            stream.write(b"x" * 100)
            stream.flush()
            wait_for_part()
            raise RuntimeError("given up")
        assert host.run("echo alive").ok
        processes.wait_until(lambda: [path.name for path in short_path.iterdir()] == ["f"], 10)
        assert target.read_bytes() == b"old"


@pytest.mark.parametrize("config", [(), ("Subsystem sftp /nonexistent",)], ids=["sftp", "cat"])
def test_names_that_begin_with_a_dash_are_no_options(
    make_sshd: Callable[..., Sshd], account: Account, config: tuple[str, ...]
) -> None:
    with connect(make_sshd(config=list(config)), account, python="/nonexistent/python") as host:
        host.put(b"text\n", "-n", mode=0o600)
        with host.open("-m", "wb") as stream:
            stream.write(b"more")
        assert (host.get("-n"), host.get("-m")) == (b"text\n", b"more")
    assert {"-n", "-m"} == {path.name for path in account.home.iterdir() if path.name.startswith("-")}


@pytest.mark.parametrize("config", [(), ("Subsystem sftp /nonexistent",)], ids=["sftp", "cat"])
def test_a_download_that_is_given_up_ends(make_sshd: Callable[..., Sshd], account: Account, config: tuple[str, ...]) -> None:
    """Without Python as well: nothing goes on reading."""
    with connect(make_sshd(config=list(config)), account, python="/nonexistent/python") as host:
        with host.open("/dev/zero", "rb") as stream:
            assert stream.read(10) == bytes(10)
        processes.wait_until(lambda: not any(t.name.startswith("pmitogen shell") for t in threading.enumerate()), 10)


def test_a_command_killed_before_its_session_is_open_ends(sshd: Sshd, account: Account) -> None:
    with connect(sshd, account, python="/nonexistent/python") as host:
        host.exists("/etc")  # from here on it is known that there is no Python
        began = time.monotonic()
        with host.start("sleep 6.15"):
            pass
        assert time.monotonic() - began < 5
    # A shell that has just started may miss the signal.
    processes.wait_until(lambda: not any("sleep 6.15" in process.command for process in processes.all_processes()))
