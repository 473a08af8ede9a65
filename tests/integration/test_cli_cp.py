"""``pmitogen cp`` against a real sshd, beside OpenSSH's scp: the same messages, exit status and files."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pmitogen.cli.transfer.files import part_key, part_name
from pmitogen.cli.transfer.local_files import LocalFiles
from tests.support.accounts import Account
from tests.support.processes import wait_until
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]
OURS = (sys.executable, "-m", "pmitogen", "cp")


class Host:
    """A server with the name ``t`` in a configuration file, and a directory of the test on each side."""

    def __init__(self, server: Sshd, directory: Path, user: str = "root") -> None:
        self.config = directory / "config"
        self.config.write_text(
            f"Host t\n HostName {server.host}\n Port {server.port}\n User {user}\n IdentityFile {server.key.path}\n"
            f" IdentitiesOnly yes\n UserKnownHostsFile {server.known_hosts}\n StrictHostKeyChecking yes\n"
        )
        self.there, self.here = directory / "there", directory / "here"
        self.there.mkdir()
        self.here.mkdir()

    def run(self, *argv: str | Path, program: tuple[str, ...] = OURS) -> subprocess.CompletedProcess[str]:
        command = [*program, "-F", str(self.config), *map(str, argv)]
        return subprocess.run(command, cwd=self.here, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)

    def copy(self, *argv: str | Path) -> None:
        done = self.run(*argv)
        assert done.returncode == 0 and not done.stdout + done.stderr, done.stderr

    def start(self, *argv: str | Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*OURS, "-F", str(self.config), *map(str, argv)], cwd=self.here, stderr=subprocess.PIPE)


@pytest.fixture
def host(sshd: Sshd, tmp_path: Path) -> Host:
    return Host(sshd, tmp_path)


def tree(directory: Path) -> dict[str, tuple[int, int, bytes | None]]:
    """Return the mode, the time and the content of each file."""
    found = {}
    for path in sorted(directory.rglob("*")):
        content = None if path.is_dir() else path.read_bytes()
        found[str(path.relative_to(directory))] = path.stat().st_mode, int(path.stat().st_mtime), content
    return found


def make_tree(directory: Path) -> None:
    (directory / "d" / "e").mkdir(parents=True)
    names = ["a", "b c", "d/'q\"$(x)", "d/e/\xe8\xaa\n", "d/-r", "d/[x]*", os.fsdecode(b"d/n\xff")]
    for index, name in enumerate(names):
        (directory / name).write_bytes(os.urandom(index * 20_000))
        os.chmod(directory / name, 0o600 + index * 8)
        os.utime(directory / name, (1_000_000_000 + index, 1_100_000_000 + index))
    os.chmod(directory / "d/e", 0o750)
    os.utime(directory / "d/e", (1, 1_200_000_000))


@pytest.mark.parametrize(
    "argv",
    [
        ("t:{there}/none", "."),
        ("t:{there}", "."),
        ("none", "t:{there}"),
        (".", "t:{there}/x"),
        ("t:{there}/f", "none/x"),
        ("t:{there}/f", "none/"),
        ("t:{there}/no*", "."),
        ("f", "t:/none/x"),
        ("f", "f", "t:{there}/f"),
        ("-r", "t:{there}", "none/x"),
        ("f", "t:{there}/none/"),
        ("f", "t:{there}/f"),
        ("t:{there}/f", "t:{there}/g"),
        ("t:{there}/[fx]", "."),
        ("-r", "t:{there}/.", "got"),
        ("t:{there}/f", "t:{there}/g", "none"),
        ("-X", "buffer=1000", "-T", "-3", "f", "t:{there}/x"),
        ("-i", "/nonexistent/key", "f", "t:{there}/x"),
    ],
)
@pytest.mark.needs_program("scp")
def test_same_messages_and_status_as_scp(host: Host, argv: tuple[str, ...]) -> None:
    results = []
    for program in (OURS, ("scp",)):
        for directory in (host.there, host.here):
            subprocess.run(["rm", "-rf", *directory.iterdir()], check=True)
            (directory / "f").write_text("text")
        done = host.run(*(word.format(there=host.there) for word in argv), program=program)
        left = {str(path.relative_to(host.here.parent)) for directory in (host.there, host.here) for path in directory.rglob("*")}
        results.append((done.returncode, done.stderr.splitlines(), left))
    if argv[0] in ("-X",):  # older releases of scp do not have it
        results[1] = (0, [], {"there/f", "here/f", "there/x"})
    assert results[0] == results[1]


@pytest.mark.parametrize("argv", [(), ("a",), ("-z", "a", "b"), ("-P",)])
@pytest.mark.needs_program("scp")
def test_wrong_usage_ends_as_with_scp(host: Host, argv: tuple[str, ...]) -> None:
    ours, theirs = (host.run(*argv, program=program) for program in (OURS, ("scp",)))
    assert ours.returncode == theirs.returncode == 1 and "usage: scp " in ours.stderr
    if argv[:1] == ("-z",):
        assert ours.stderr.splitlines()[0].split(" -- ") == ["scp: unknown option", "z"]


@pytest.mark.needs_program("scp")
@pytest.mark.parametrize("target", ["file", ".", "link"])
def test_a_file_is_not_copied_to_itself(host: Host, target: str) -> None:
    (host.here / "file").write_text("text")
    (host.here / "link").symlink_to("file")
    before = (host.here / "file").stat()
    ours, theirs = (host.run("file", target, program=program) for program in (OURS, ("scp",)))
    assert (ours.returncode, ours.stderr.partition(": ")[2]) == (theirs.returncode, theirs.stderr.partition(": ")[2])
    assert ours.returncode == 1 and (host.here / "file").stat() == before


def test_a_failed_login_ends_as_with_scp(host: Host) -> None:
    done = host.run("-P", "1", "t:f", ".")
    lines = done.stderr.splitlines()
    assert done.returncode == 255 and lines[-1] == "scp: Connection closed"
    assert re.match(r"ssh: connect to host 127\.0\.0\.1 port 1: Connection refused", lines[0])


def test_a_quoted_path_is_accepted_with_the_old_protocol(host: Host) -> None:
    """Programs such as Ansible quote a remote path for the server's shell if scp knows -O."""
    (host.here / "f").write_text("text")
    host.copy("-TO", "f", f"t:'{host.there}/a b'")
    host.copy("-TO", f"t:'{host.there}/a b'", "back")
    assert (host.here / "back").read_text() == (host.there / "a b").read_text() == "text"


def test_trees_are_copied_in_both_directions(host: Host) -> None:
    make_tree(host.here / "src")
    host.copy("-rp", "src", f"t:{host.there}/copy")
    assert tree(host.there / "copy") == tree(host.here / "src")
    host.copy("-rp", f"t:{host.there}/copy", "back")
    assert tree(host.here / "back") == tree(host.here / "src")
    host.copy("-r", "-p", f"t:{host.there}/copy", f"t:{host.there}/second")
    assert tree(host.there / "second") == tree(host.here / "src")
    host.copy("-r", "src", f"t:{host.there}/copy")
    assert (host.there / "copy/src/a").exists(), "a copy to an existing directory is inside it, with the source's name"


def test_an_existing_file_keeps_its_mode_and_links(host: Host) -> None:
    (host.here / "new").write_text("new")
    for directory, target in ((host.there, f"t:{host.there}/link"), (host.here, "link")):
        (directory / "old").write_text("old and longer")
        (directory / "old").chmod(0o604)
        (directory / "link").symlink_to("old")
        host.copy("new", target)
        assert (directory / "old").read_text() == "new" and (directory / "old").stat().st_mode & 0o777 == 0o604
        assert (directory / "link").is_symlink()
    host.copy("new", "t:/dev/null")
    host.copy("t:/proc/self/status", "status")
    assert "Name:" in (host.here / "status").read_text()


def test_a_file_of_another_account_is_overwritten_in_place(
    sshd: Sshd, account: Account, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A file that cannot be replaced is overwritten."""
    tmp_path = tmp_path_factory.mktemp("shared")
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    host = Host(sshd, tmp_path, account.name)
    (host.here / "new").write_text("new")
    (host.there / "f").write_text("old")
    (host.there / "f").chmod(0o666)
    host.copy("new", f"t:{host.there}/f")
    assert (host.there / "f").read_text() == "new" and (host.there / "f").stat().st_uid == os.getuid()
    assert [path.name for path in host.there.iterdir()] == ["f"]
    (host.there / "g").write_text("old")
    done = host.run("new", f"t:{host.there}/g")
    assert done.returncode == 1 and f'scp: dest open "{host.there}/g": Permission denied\n' in done.stderr
    assert (host.there / "g").read_text() == "old"


BIG = 8 << 20  # bytes


@pytest.fixture
def interrupted(make_sshd: Callable[..., Sshd], tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Copy a large file slowly, and end the connection in the middle."""
    server = make_sshd()
    made = Host(server, tmp_path)

    def cut(*argv: str | Path, watched: Path) -> None:
        with made.start("-l", "4000", *argv) as process:
            wait_until(lambda: any(path.stat().st_size > 1 << 20 for path in watched.glob(".big.*.part")) or process.poll(), 20)
            server.kill_sessions()
            assert process.wait(20) == 255 and process.stderr is not None
            assert b"scp: Connection closed" in process.stderr.read()

    cut.host = made  # type: ignore[attr-defined]
    yield cut


@pytest.mark.parametrize("direction", ["up", "down"])
def test_resume_continues_an_interrupted_copy(interrupted: Callable[..., None], direction: str) -> None:
    host: Host = interrupted.host  # type: ignore[attr-defined]
    source, target = (host.here, host.there) if direction == "up" else (host.there, host.here)
    blob = os.urandom(BIG)
    (source / "big").write_bytes(blob)
    (target / "big").write_text("old")
    args = ("big", f"t:{host.there}/big") if direction == "up" else (f"t:{host.there}/big", "big")
    interrupted("--resume", *args, watched=target)
    assert (target / "big").read_text() == "old"
    (part,) = target.glob(".big.*.part")
    with part.open("r+b") as file:
        file.write(b"MARK")
    host.copy("--resume", *args)
    assert (target / "big").read_bytes() == b"MARK" + blob[4:], "the partial file must be continued"
    assert [path.name for path in target.iterdir()] == ["big"]
    part.write_bytes(b"part of another version")
    os.utime(source / "big", (1, 1))
    host.copy("--resume", *args)
    assert (target / "big").read_bytes() == blob


def test_a_partial_file_in_a_shared_directory_is_not_continued(host: Host) -> None:
    """Another user may have created it, to hold it open or to insert data before the contents."""
    host.there.chmod(0o1777)
    (host.here / "secret").write_text("the secret")
    (host.here / "secret").chmod(0o600)
    key = part_key("secret", LocalFiles().stat(str(host.here / "secret")))
    (host.there / part_name("secret", key)).write_text("PLANT")
    (host.there / part_name("secret", key)).chmod(0o666)
    host.copy("--resume", "secret", f"t:{host.there}/secret")
    assert (host.there / "secret").read_text() == "the secret"
    assert (host.there / "secret").stat().st_mode & 0o777 == 0o600


def test_a_partial_file_is_as_private_as_the_old_file(host: Host) -> None:
    (host.there / "f").write_text("old")
    (host.there / "f").chmod(0o600)
    (host.here / "f").write_bytes(bytes(4 << 20))
    (host.here / "f").chmod(0o644)
    modes = set()
    with host.start("-l", "16000", "f", f"t:{host.there}/f") as process:
        while process.poll() is None:
            modes |= {path.stat().st_mode & 0o777 for path in host.there.glob(".f.*.part") if path.exists()}
            time.sleep(0.02)
    assert modes == {0o600} and (host.there / "f").stat().st_mode & 0o777 == 0o600


def test_an_interrupted_copy_leaves_the_old_file(interrupted: Callable[..., None]) -> None:
    host: Host = interrupted.host  # type: ignore[attr-defined]
    (host.there / "big").write_bytes(bytes(BIG))
    (host.here / "big").write_text("old")
    with host.start("-l", "4000", f"t:{host.there}/big", ".") as process:
        wait_until(lambda: any(path.name != "big" for path in host.here.iterdir()))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    assert [path.name for path in host.here.iterdir()] == ["big"] and (host.here / "big").read_text() == "old"
    with host.start("-l", "16000", "big", f"t:{host.there}/up") as process:
        wait_until(lambda: process.poll() is not None)
    with host.start("-l", "4000", f"t:{host.there}/big", f"t:{host.there}/again") as process:
        wait_until(lambda: any(host.there.glob(".again.*.part")))
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    wait_until(lambda: not any(host.there.glob(".*.part")))


def test_a_link_in_place_of_the_partial_file_is_not_followed(host: Host) -> None:
    """Another user may have created it."""
    from pmitogen.cli.transfer.files import part_key, part_name
    from pmitogen.cli.transfer.local_files import LocalFiles

    (host.there / "f").write_text("text")
    (host.here / "victim").write_text("victim")
    key = part_key(f"{host.there}/f", LocalFiles().stat(str(host.there / "f")))
    (host.here / part_name("f", key)).symlink_to("victim")
    done = host.run("--resume", f"t:{host.there}/f", ".")
    assert done.returncode == 1 and (host.here / "victim").read_text() == "victim" and not (host.here / "f").exists()
    (host.there / part_name("f2", key)).symlink_to("f")
    host.copy("--resume", "victim", f"t:{host.there}/f2")
    assert (host.there / "f").read_text() == "text" and (host.there / "f2").read_text() == "victim"


def test_progress_is_shown_on_a_terminal_only(host: Host) -> None:
    import pty

    (host.here / "f").write_bytes(bytes(100_000))

    def seen(*options: str) -> bytes:
        leader, follower = pty.openpty()
        command = [*OURS, *options, "-F", str(host.config), "f", f"t:{host.there}/f"]
        subprocess.run(command, cwd=host.here, stdout=follower, stderr=follower, stdin=follower, check=True, timeout=60)
        os.close(follower)
        text = b""
        try:
            while piece := os.read(leader, 4096):
                text += piece
        except OSError:
            pass
        os.close(leader)
        return text

    assert re.search(rb"\rf +100%  97\.7KB .*/s 00:0\d    \r?\n$", seen())
    assert seen("-q") == b""


def test_l_limits_the_rate(host: Host) -> None:
    (host.here / "f").write_bytes(bytes(500_000))
    begun = time.monotonic()
    host.copy("-l", "4000", "f", f"t:{host.there}/f")
    assert time.monotonic() - begun >= 0.9
    wrong = host.run("-l", "fast", "f", f"t:{host.there}/f")
    assert wrong.returncode == 1 and wrong.stderr.startswith("usage: scp ")


@pytest.mark.parametrize(
    ("word", "destination", "path"),
    [
        ("h:p", "h", "p"),
        ("u@h:", "u@h", ""),
        ("./h:p", None, "./h:p"),
        (":p", None, ":p"),
        ("d/h:p", None, "d/h:p"),
        ("[::1]:p", "::1", "p"),
        ("u@[fe80::1%lo]:p:q", "u@fe80::1%lo", "p:q"),
        ("a@b@h:p", "a@b@h", "p"),
        ("scp://u@h:99/a%20b", "ssh://u@h:99", "a b"),
        ("scp://h//abs", "ssh://h", "/abs"),
        ("h", None, "h"),
    ],
)
def test_sources_and_destinations_are_parsed_as_by_scp(word: str, destination: str | None, path: str) -> None:
    from pmitogen.cli.cp.command_line import Place, place

    assert place(word) == Place(destination, path)
