"""File operations that fail on a host without Python: the error is that of the host's Python."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import pmitogen
from tests.integration.test_transfer_errors import NAMES, NO_PYTHON, Operation, failures, mounted, top
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.sshd import Sshd

__all__ = ["mounted", "top"]  # fixtures
pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]
MakeSshd = Callable[..., Sshd]

MORE = [b"none", b"loop", b"secret", b"dangling", b"pipe", b"file", b"closed", b"unwritable"]
# Each fails with most names, and changes nothing that the others need.
OPERATIONS: dict[str, Operation] = {
    "stat": lambda host, path: host.stat(path).st_mode,
    "lstat": lambda host, path: host.stat(path, follow_symlinks=False).st_mode,
    "listdir": lambda host, path: host.listdir(path) and None,
    "scandir": lambda host, path: host.scandir(path) and None,
    "walk": lambda host, path: host.walk(path),
    "readlink": lambda host, path: host.readlink(path),
    "chown": lambda host, path: host.chown(path, 1, 1),
    "rename": lambda host, path: host.rename(path, "/proc/none"),
    "rename to": lambda host, path: host.rename(os.path.join(path, "none"), path),
    "exists": lambda host, path: host.exists(path),
    "glob": lambda host, path: host.glob(path),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_errors_of_operations_are_those_of_python(make_sshd: MakeSshd, account: Account, top: Path, name: str) -> None:
    server = make_sshd()
    outcomes: list[list[object]] = []
    with connect(server, account) as with_python, connect(server, account, python=NO_PYTHON) as without:
        for host in (with_python, without):
            found: list[object] = []

            def keep(host: pmitogen.Host, path: str, found: list[object] = found) -> None:
                found.append(OPERATIONS[name](host, path))

            outcomes.append([failures(host, top, [keep], NAMES + MORE), found])
    assert outcomes[0] == outcomes[1]


CHANGES: dict[str, Operation] = {
    "mkdir": lambda host, path: host.mkdir(path),
    "mkdir parents": lambda host, path: host.mkdir(path + "/x/y", parents=True),
    "remove": lambda host, path: host.remove(path),
    "symlink": lambda host, path: host.symlink("anywhere", path),
    "chmod": lambda host, path: host.chmod(path, 0o700),
    "rename": lambda host, path: host.rename(os.path.dirname(path) + "/file", path),
    "put_tree": lambda host, path: host.put_tree("/proc/self/ns", path),
}
REFUSING = [
    b"none/none",
    b"file/below",
    b"file/",
    b"unwritable/new",
    b"closed/file",
    b"loop/file",
    b"n" * 300,
    b"n" * 300 + b"/file",
    b"d/" * 2300 + b"file",
]


@pytest.mark.parametrize("name", CHANGES)
def test_errors_of_changes_are_those_of_python(make_sshd: MakeSshd, account: Account, top: Path, name: str) -> None:
    server = make_sshd()
    names = [each for each in REFUSING if not (name in ("mkdir parents", "put_tree") and each.startswith((b"none", b"d/")))]
    with connect(server, account) as with_python, connect(server, account, python=NO_PYTHON) as without:
        expected = failures(with_python, top, [CHANGES[name]], names)
        assert len(expected) >= len(names) - 1
        assert failures(without, top, [CHANGES[name]], names) == expected


def test_kinds_of_refused_renames_are_told_apart(make_sshd: MakeSshd, account: Account, top: Path) -> None:
    for path in ("full/inside", "empty"):
        (top / path).mkdir(parents=True)
    subprocess.run(["chown", "-R", f"{account.uid}:{account.gid}", str(top)], check=True)
    cases = [
        ("file", "directory", errno.EISDIR),
        ("file", "directory/", errno.ENOTDIR),
        ("directory", "file", errno.ENOTDIR),
        ("empty", "full", errno.ENOTEMPTY),
        ("full", "full/inside/deeper", errno.EINVAL),
        ("file", "none/file", errno.ENOENT),
        ("file", "/proc/none", errno.EXDEV),
        ("none", "other", errno.ENOENT),
    ]
    server = make_sshd()
    for python in (None, NO_PYTHON):
        with connect(server, account, **({} if python is None else {"python": python})) as host:
            for old, new, code in cases:
                with pytest.raises(OSError, match=f"rename: {top}/{old}: {os.strerror(code)}$") as caught:
                    host.rename(top / old, os.path.join(top, new))
                assert (caught.value.errno, caught.value.filename) == (code, f"{top}/{old}"), (old, new)


def test_a_full_and_a_read_only_file_system_are_named(make_sshd: MakeSshd, account: Account, mounted: Path) -> None:
    with connect(make_sshd(), account, python=NO_PYTHON) as host:
        subprocess.run(["mount", "-o", "remount,nr_inodes=2", str(mounted)], check=True)
        with pytest.raises(OSError, match="No space left on device") as caught:
            host.mkdir(mounted / "new")
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(FileExistsError):
            host.mkdir(mounted / "file")
        subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
        changes: list[Operation] = [
            lambda host, path: host.mkdir(f"{path}/new"),
            lambda host, path: host.symlink("x", f"{path}/new"),
            lambda host, path: host.remove(f"{path}/file"),
            lambda host, path: host.chmod(f"{path}/file", 0o600),
            lambda host, path: host.rename(f"{path}/file", f"{path}/other"),
        ]
        for change in changes:
            with pytest.raises(OSError, match="Read-only file system") as caught:
                change(host, str(mounted))
            assert caught.value.errno == errno.EROFS


def test_a_host_with_neither_python_nor_sftp_says_so(make_sshd: MakeSshd, account: Account) -> None:
    with connect(make_sshd(config=["Subsystem sftp /nonexistent"]), account, python=NO_PYTHON) as host:
        for operation in ("stat", "listdir"):
            with pytest.raises(pmitogen.RemoteError, match="the host has neither Python nor SFTP"):
                getattr(host, operation)("/")
