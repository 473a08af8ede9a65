"""Files that cannot be written or read: the error is that of the host's Python, also by SFTP and by ``cat``."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pmitogen
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.processes import wait_until
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]
MakeSshd = Callable[..., Sshd]
NO_PYTHON = "/nonexistent/python"
WAYS = {"sftp": [], "cat": ["Subsystem sftp /nonexistent"]}  # sshd uses the first value of a repeated option
NAMES = [
    b"none/file",
    b"none/none/file",
    b"file/below",
    b"file/",
    b"directory",
    b"directory/",
    b"unwritable/new",
    b"closed/file",
    b"loop/file",
    b"n" * 300,
    b"n" * 300 + b"/file",
    b"d/" * 2300 + b"file",
    b"two\nlines/file",
    b"Permission denied\n/file",
    b"no \xff\xfe text/file",
]
READ = [*NAMES, b"none", b"loop", b"secret", b"dangling", b"pipe"]
Operation = Callable[[pmitogen.Host, str], object]


class Pieces(io.RawIOBase):
    """A stream of unknown length. *stop*: raises or waits before its end."""

    def __init__(self, size: int, stop: Callable[[], object] = lambda: None) -> None:
        self._left, self._stop = size, stop

    def read(self, count: int = -1) -> bytes:
        if not self._left:
            self._stop()
        piece = bytes(min(self._left, 50_000))
        self._left -= len(piece)
        return piece


def write_opened(host: pmitogen.Host, path: str) -> None:
    with host.open(path, "wb") as stream:
        stream.write(bytes(300_000))


def read_opened(host: pmitogen.Host, path: str) -> None:
    with host.open(path, "rb") as stream:
        stream.read()


WRITES: list[Operation] = [
    lambda host, path: host.put(b"data", path),
    lambda host, path: host.put(bytes(300_000), path),
    lambda host, path: host.put(Pieces(300_000), path),
    write_opened,
]
READS: list[Operation] = [lambda host, path: host.get(path), read_opened]


@pytest.fixture
def top(account: Account) -> Iterator[Path]:
    """A directory of the account with a file or directory for some of the names."""
    top = account.home / "top"
    for name in ("directory", "unwritable", "closed"):
        (top / name).mkdir(parents=True)
    account.write("top/file", "old")
    for name, target in (("loop", "loop"), ("dangling", "none")):
        (top / name).symlink_to(target)
    (top / "secret").write_bytes(b"")
    os.mkfifo(top / "pipe", 0o666)
    for path in (top, top / "directory"):
        os.chown(path, account.uid, account.gid)
    (top / "secret").chmod(0o600)
    (top / "closed").chmod(0o700)
    yield top
    shutil.rmtree(top)


def failures(host: pmitogen.Host, top: Path, operations: list[Operation], names: list[bytes]) -> dict[bytes, object]:
    """Return class, errno, path and message of the error of each operation with each name."""
    found: dict[bytes, object] = {}
    for name in names:
        for place, operation in enumerate(operations):
            key = b"%d %s" % (place, name)
            try:
                operation(host, os.fsdecode(os.fsencode(top) + b"/" + name))
            except OSError as error:
                assert isinstance(error, pmitogen.RemoteError), key
                found[key] = (type(error), error.errno, error.strerror, error.filename, str(error))
            except pmitogen.RemoteError as error:
                found[key] = error
    return found


@pytest.mark.parametrize("way", WAYS)
def test_errors_of_transfers_are_those_of_python(make_sshd: MakeSshd, account: Account, top: Path, way: str) -> None:
    server = make_sshd(config=WAYS[way])
    with connect(server, account) as with_python, connect(server, account, python=NO_PYTHON) as without:
        with_python.ping()
        for operations, names in ((WRITES, NAMES), (READS, READ)):
            expected = failures(with_python, top, operations, names)
            assert len(expected) == len(operations) * len(names)
            assert failures(without, top, operations, names) == expected
    assert (top / "file").read_bytes() == b"old" and not list(top.rglob("*.part"))


@pytest.fixture
def mounted(account: Account, tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, where an unprivileged mount is possible."""
    place = account.home / "mounted"
    place.mkdir()
    made = ["mount", "-t", "tmpfs", "-o", f"size=1m,uid={account.uid},mode=755", "none", str(place)]
    if subprocess.run(made, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    (place / "file").write_bytes(b"old")
    os.chown(place / "file", account.uid, account.gid)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
    place.rmdir()


@pytest.mark.parametrize("way", WAYS)
def test_a_full_disk_and_a_read_only_file_system_are_named(
    make_sshd: MakeSshd, account: Account, mounted: Path, way: str
) -> None:
    large: list[Operation] = [lambda host, path: host.put(bytes(3_000_000), path)]
    large += [lambda host, path: host.put(Pieces(3_000_000), path)]
    with connect(make_sshd(config=WAYS[way]), account, python=NO_PYTHON) as host:
        for remount, code, operations in (("rw", errno.ENOSPC, large), ("ro", errno.EROFS, WRITES)):
            subprocess.run(["mount", "-o", f"remount,{remount}", str(mounted)], check=True)
            for operation in operations:
                with pytest.raises(OSError, match=rf": {mounted}/file: {os.strerror(code)}$") as caught:
                    operation(host, str(mounted / "file"))
                assert caught.value.errno == code
            assert [each.name for each in mounted.iterdir()] == ["file"] and (mounted / "file").read_bytes() == b"old"


def test_a_message_in_another_language_does_not_hide_the_error(make_sshd: MakeSshd, account: Account, top: Path) -> None:
    server = make_sshd(config=WAYS["cat"])
    account.write(".bashrc", "PATH=$HOME/top/bin:$PATH\n")
    with connect(server, account) as with_python, connect(server, account, python=NO_PYTHON) as without:
        with_python.ping()
        account.write("top/bin/cat", "#!/bin/sh\necho 'Das geht nicht' >&2; exit 1\n", 0o755)
        names = [name for name in NAMES if name[:4] in (b"none", b"file", b"dire", b"clos")]
        for operations in (WRITES[:1], READS[:1]):
            assert failures(without, top, operations, names) == failures(with_python, top, operations, names)
        with pytest.raises(pmitogen.RemoteError, match=f": {top}/file: Das geht nicht$"):
            without.put(b"data", top / "file")


def test_a_file_beyond_the_size_limit_is_named(make_sshd: MakeSshd, account: Account) -> None:
    account.write(".bashrc", "ulimit -f 100\n")
    with connect(make_sshd(config=WAYS["cat"]), account, python=NO_PYTHON) as host:
        for source in (Pieces(3_000_000), bytes(3_000_000)):
            with pytest.raises(OSError, match=f": {account.home}/file: File too large$") as caught:
                host.put(source, account.home / "file")
            assert caught.value.errno == errno.EFBIG
    assert not list(account.home.glob("file*"))


@pytest.mark.parametrize("shell", ["/bin/dash", "/usr/bin/zsh", "/usr/bin/fish", "/bin/tcsh"])
def test_every_login_shell_transfers_files_by_cat(make_sshd: MakeSshd, make_account: Callable[..., Account], shell: str) -> None:
    if not os.path.exists(shell):
        pytest.skip(f"needs {shell}")
    account = make_account(shell=shell)
    with connect(make_sshd(config=WAYS["cat"]), account, python=NO_PYTHON) as host:
        for name in ("plain", "-n", 'it\'s "$HOME" \\ 100%!x', "two\nlines\n", os.fsdecode(b"no \xff text"), "größer"):
            path = account.home / name
            for source in (b"data", Pieces(300_000)):
                host.put(source, path, mode=0o604)
                with host.open(path, "rb") as stream:
                    assert stream.read() == path.read_bytes()
                assert path.stat().st_mode & 0o777 == 0o604
            assert path.stat().st_size == 300_000
        host.put(b"data", "-relative")
        assert (account.home / "-relative").read_bytes() == host.get("-relative") == b"data"
        for operation in (WRITES[0], READS[0]):
            with pytest.raises(FileNotFoundError):
                operation(host, str(account.home / "none" / "file"))


def test_an_upload_that_is_interrupted_while_its_shell_starts_leaves_no_part(make_sshd: MakeSshd, account: Account) -> None:
    """The shell, which survives the signal, would create the part after that has been removed."""
    slow = "trap '' TERM; echo >> started; sleep 0.7"
    account.write(".bashrc", f"case $BASH_EXECUTION_STRING in *cat*) {slow};; esac\n")
    started = account.home / "started"

    def fail() -> None:
        wait_until(started.exists)
        raise RuntimeError("interrupted")

    with connect(make_sshd(config=WAYS["cat"]), account, python=NO_PYTHON) as host:
        for size in (0, 1):
            started.unlink(missing_ok=True)
            with pytest.raises(RuntimeError, match="interrupted"):
                host.put(Pieces(size, fail), account.home / "file")
        time.sleep(2)
        assert not list(account.home.glob("file*"))


@pytest.mark.parametrize("way", WAYS)
def test_an_upload_that_channeltimeout_ends_names_it_and_leaves_no_part(make_sshd: MakeSshd, account: Account, way: str) -> None:
    account.write("file", "old")
    server = make_sshd(config=WAYS[way])
    arguments = [*server.ssh_args(), "-o", "ChannelTimeout=session=1"]
    with connect(server, account, python=NO_PYTHON, ssh_args=arguments) as host:
        with pytest.raises(pmitogen.ConnectionLost, match="ChannelTimeout session=1"):
            host.put(Pieces(100_000, lambda: time.sleep(2.5)), account.home / "file")
        wait_until(lambda: [each.name for each in account.home.glob("file*")] == ["file"])
        assert (account.home / "file").read_text() == "old" and host.run("echo again").stdout == b"again\n"


@pytest.mark.parametrize("way", WAYS)
def test_a_long_name_is_written(make_sshd: MakeSshd, account: Account, way: str) -> None:
    with connect(make_sshd(config=WAYS[way]), account, python=NO_PYTHON) as host:
        for name in ("n" * 255, "ü" * 127):
            host.put(b"data", account.home / name)
            assert (account.home / name).read_bytes() == b"data"


def test_a_part_is_private_until_it_has_its_mode(make_sshd: MakeSshd, account: Account) -> None:
    (account.home / "new").unlink(missing_ok=True)
    modes: list[int] = []

    def look() -> None:
        wait_until(lambda: list(account.home.glob("new.*.part")))
        modes.extend(part.stat().st_mode & 0o777 for part in account.home.glob("new.*.part"))

    with connect(make_sshd(config=WAYS["cat"]), account, python=NO_PYTHON) as host:
        host.put(Pieces(100_000, look), account.home / "new", mode=0o640)
    assert modes == [0o600] and (account.home / "new").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("size", [None, 100 << 20])
@pytest.mark.parametrize("way", WAYS)
def test_an_upload_whose_host_is_closed_leaves_no_part(make_sshd: MakeSshd, account: Account, way: str, size: int | None) -> None:
    account.write("file", "old")
    raised: list[BaseException] = []

    def write(host: pmitogen.Host) -> None:
        source = Pieces(100 << 20, lambda: time.sleep(20)) if size is None else bytes(size)
        with pytest.raises(pmitogen.ConnectionLost) as caught:
            host.put(source, account.home / "file")
        raised.append(caught.value)

    server = make_sshd(config=WAYS[way])
    for _ in range(4):
        host = connect(server, account, python=NO_PYTHON)
        writing = threading.Thread(target=write, args=(host,))
        writing.start()
        wait_until(lambda: list(account.home.glob("file.*.part")))
        host.close()
        writing.join(10)
        wait_until(lambda: [each.name for each in account.home.glob("file*")] == ["file"], 3)
        assert (account.home / "file").read_text() == "old" and raised.pop()


@pytest.mark.parametrize("way", ["python", *WAYS])
def test_a_mode_is_kept_and_links_and_devices_are_written_themselves(
    make_sshd: MakeSshd, account: Account, top: Path, way: str
) -> None:
    server, options = make_sshd(config=WAYS.get(way, [])), {} if way == "python" else {"python": NO_PYTHON}
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    for name, target in (("link", "file"), ("new", "made"), ("up", "directory")):
        (top / name).symlink_to(target)
    os.chown(top / "pipe", account.uid, account.gid)
    (top / "null").chmod(0o666)
    with connect(server, account, **options) as host:
        for content in (b"data", bytes(300_000)):
            (top / "file").chmod(0o600)
            (top / "made").unlink(missing_ok=True)
            for write in (host.put, lambda data, path, host=host: host.put(io.BytesIO(data), path)):
                for name in ("file", "link", "new", "null"):
                    write(content, top / name)
                    assert (top / name).read_bytes() == (content if name != "null" else b""), name
                for name, code in (("loop", errno.ELOOP), ("pipe", errno.ENXIO), ("up", errno.EISDIR)):
                    with pytest.raises(OSError, match=f": {top}/{name}: {os.strerror(code)}$") as caught:
                        write(content, top / name)
                    assert caught.value.errno == code
            assert (top / "file").stat().st_mode & 0o777 == 0o600
        host.put(b"", top / "other", mode=0o604)
    assert (top / "other").stat().st_mode & 0o777 == 0o604 and not list(top.glob("*.part"))
    assert (top / "link").is_symlink() and (top / "new").is_symlink() and (top / "null").is_char_device()
