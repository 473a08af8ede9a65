"""Another user of the controller who has created files in its shared directories before pmitogen."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.keys import KeyFile
from tests.support.sshd import Sshd

from .local_users import User, as_user, make_user

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.needs_ansible, pytest.mark.needs_program("setpriv")]

PING = {"name": "ping", "ansible.builtin.ping": {}}
NONE = "no hub is running\n"


@pytest.fixture
def user(make_account: Callable[..., Account], short_path: Path) -> User:
    return make_user(make_account(), short_path)


@pytest.fixture
def attacker(make_account: Callable[..., Account]) -> Account:
    return make_account()


@pytest.fixture
def target(user: User, sshd: Sshd, account: Account, client_key: KeyFile) -> dict[str, Any]:
    key = user.account.home / "key"
    shutil.copy(client_key.path, key)
    os.chown(key, user.account.uid, user.account.gid)
    return {
        "ansible_connection": "pmitogen",
        "ansible_host": sshd.host,
        "ansible_port": sshd.port,
        "ansible_user": account.name,
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={sshd.known_hosts}",
    }


def _directory(path: Path, user: User, attacker: Account) -> None:
    path.mkdir(mode=0o700)


def _open_directory(path: Path, user: User, attacker: Account) -> None:
    path.mkdir()
    path.chmod(0o1777)


def _link_to_attackers_directory(path: Path, user: User, attacker: Account) -> None:
    (attacker.home / "run").mkdir()
    path.symlink_to(attacker.home / "run")


def _link_to_users_directory(path: Path, user: User, attacker: Account) -> None:
    """A private directory that was not made for sockets."""
    (user.account.home / ".ssh").mkdir(mode=0o700)
    os.chown(user.account.home / ".ssh", user.account.uid, user.account.gid)
    path.symlink_to(user.account.home / ".ssh")


def _dangling_link(path: Path, user: User, attacker: Account) -> None:
    path.symlink_to(user.account.home / "made-by-the-victim")


def _file(path: Path, user: User, attacker: Account) -> None:
    path.write_text("")


def _pipe(path: Path, user: User, attacker: Account) -> None:
    os.mkfifo(path)


SQUATS = [_directory, _open_directory, _link_to_attackers_directory, _link_to_users_directory, _dangling_link, _file, _pipe]


@pytest.fixture
def squatted(request: pytest.FixtureRequest, user: User, attacker: Account) -> Iterator[Path]:
    """The directory in /tmp for the user's sockets, created by the attacker."""
    path = Path(f"/tmp/pmitogen-{user.account.uid}")
    request.param(path, user, attacker)
    os.chown(path, attacker.uid, attacker.gid, follow_symlinks=False)
    yield path
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.mark.parametrize("squatted", SQUATS, indirect=True, ids=lambda squat: squat.__name__.strip("_"))
def test_a_directory_created_by_another_user_is_not_used(squatted: Path, user: User, target: dict[str, Any]) -> None:
    before = os.lstat(squatted)
    listed = sorted(os.listdir(squatted)) if squatted.is_dir() else []
    run = user.play([PING, PING], target)
    assert run.returncode == 0 and "ok=2" in run.stdout and "WARNING" not in run.stdout + run.stderr, run.stdout + run.stderr
    assert user.pmitogen("hubs").stdout == NONE
    after = os.lstat(squatted)
    assert (before.st_mode, before.st_uid, before.st_mtime_ns) == (after.st_mode, after.st_uid, after.st_mtime_ns)
    assert listed == (sorted(os.listdir(squatted)) if squatted.is_dir() else [])
    assert not (user.account.home / "made-by-the-victim").exists()


@pytest.mark.parametrize("squatted", [_directory], indirect=True)
def test_the_second_socket_directory_is_private_and_may_have_a_long_name(
    squatted: Path, user: User, target: dict[str, Any], attacker: Account
) -> None:
    """The hub is listed and stopped there too, and no other user can connect."""
    long = user.account.home / ("long" * 20) / ("longer" * 10)
    user.run("mkdir", "-p", str(long))
    user.env["HOME"] = str(long)
    persists = {**target, "ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=60s"}
    for _ in range(2):
        run = user.play([PING], persists)
        assert run.returncode == 0, run.stdout + run.stderr
        (directory,) = (long / ".ansible").glob("pmitogen-hubs-*")
        until = time.monotonic() + 5
        while "kept for a later run" not in user.pmitogen("hubs").stdout and time.monotonic() < until:
            time.sleep(0.05)
    assert directory.stat().st_mode & 0o7777 == 0o700 and directory.stat().st_uid == user.account.uid
    (path,) = directory.glob("*.sock")
    assert len(str(path)) > 107
    assert _connect_as(attacker, path, ()) == "PermissionError"
    # Even with root's right to open the socket, an attacker is refused.
    assert _connect_as(attacker, path, ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")) == "closed"
    # Other processes of the account cannot read its memory, which contains passwords.
    (hub,) = json.loads(user.pmitogen("hubs", "--json").stdout)
    assert "Permission denied" in user.run("cat", f"/proc/{hub['pid']}/environ").stderr
    assert "Permission denied" in user.run("cat", f"/proc/{hub['pid']}/mem").stderr
    assert user.pmitogen("hubs", "--stop").stdout == "1 hub ended\n"
    assert user.pmitogen("hubs").stdout == NONE


LISTEN = """
import socket, sys, time
sock = socket.socket(socket.AF_UNIX)
sock.bind(sys.argv[1])
sock.listen()
print("ready", flush=True)
sock.accept()
time.sleep(9)
"""

CONNECT = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX)
try:
    os.chdir(os.path.dirname(sys.argv[1]))
    sock.connect(os.path.basename(sys.argv[1]))
    sock.sendall(b'\\0\\0\\0\\x17\\0\\0\\0\\0{"op":"status","id": 1 }')
    print("closed" if not sock.recv(9) else "served")
except OSError as error:
    print("closed" if isinstance(error, (ConnectionError)) else type(error).__name__)
"""


def _connect_as(account: Account, path: Path, capabilities: tuple[str, ...]) -> str:
    args = as_user(account, "/usr/bin/python3", "-c", CONNECT, str(path), capabilities=capabilities)
    return subprocess.run(args, capture_output=True, text=True, timeout=30, cwd="/").stdout.strip()


def test_a_run_fails_if_no_socket_directory_is_safe(user: User, target: dict[str, Any], attacker: Account) -> None:
    squat = Path(f"/tmp/pmitogen-{user.account.uid}")
    squat.mkdir()
    os.chown(squat, attacker.uid, attacker.gid)
    try:
        user.account.home.chmod(0o777)  # a user who can rename .ansible can put another in its place
        run = user.play([PING], target)
        assert run.returncode in (2, 4) and "Traceback" not in run.stdout + run.stderr
        assert f"no directory is safe for the hub's socket: {squat} belongs to uid {attacker.uid}; " in run.stdout
        assert f"{user.account.home} can be written by others (mode 0777)" in run.stdout
        assert user.pmitogen("hubs").stdout == NONE
    finally:
        squat.rmdir()


@pytest.mark.parametrize("squatted", [_open_directory], indirect=True)
def test_hubs_connects_to_no_socket_in_a_directory_of_another_user(squatted: Path, user: User, attacker: Account) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(squatted / "1-1.sock"))
        os.chown(squatted / "1-1.sock", user.account.uid, user.account.gid)
        sock.listen()
        sock.settimeout(0.2)
        for args in ([], ["--json"], ["--stop"], ["--stop", "--all"], ["--stop", "1"]):
            done = user.pmitogen("hubs", *args)
            assert "\x1b" not in done.stdout + done.stderr
        with pytest.raises(TimeoutError):
            sock.accept()


def test_hubs_ignores_a_socket_of_another_user(user: User, attacker: Account) -> None:
    """The attacker listens in the private directory; the listener's credentials are checked."""
    directory = Path(f"/tmp/pmitogen-{user.account.uid}")
    directory.mkdir(mode=0o700)
    os.chown(directory, user.account.uid, user.account.gid)
    rights = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    args = as_user(attacker, "/usr/bin/python3", "-c", LISTEN, str(directory / "1-1.sock"), capabilities=rights)
    with subprocess.Popen(args, stdout=subprocess.PIPE, cwd="/") as process:
        try:
            assert process.stdout and process.stdout.readline()
            os.chmod(directory / "1-1.sock", 0o666)
            done = user.pmitogen("hubs")
            assert done.stdout == NONE and done.returncode == 1
            assert done.stderr == (
                f"pmitogen hubs: {directory}/1-1.sock: uid {attacker.uid} listens there, not a hub of this account\n"
            )
        finally:
            process.kill()
            shutil.rmtree(directory)


@pytest.mark.parametrize(
    "kind", ["link", "pipe", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("hard link", "file"))]
)
def test_log_timeline_and_known_hosts_are_not_written_through_planted_files(
    user: User, target: dict[str, Any], attacker: Account, kind: str
) -> None:
    """In a directory like /tmp, on a system without fs.protected_symlinks."""
    shared = user.cwd / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    precious = user.account.write("precious", "precious")
    for name in ("log", "run.json", "hosts"):
        path = shared / name
        if kind == "link":
            path.symlink_to(precious)
        elif kind == "hard link":
            path.hardlink_to(precious)
        elif kind == "pipe":  # a pipe would be neither read nor written
            os.mkfifo(path)
            path.chmod(0o666)
        else:
            path.touch()
            path.chmod(0o666)
        if kind != "hard link":
            os.chown(path, attacker.uid, attacker.gid, follow_symlinks=False)
    run = user.play([PING], target, {"PMITOGEN_LOG_FILE": str(shared / "log"), "PMITOGEN_LOG": "debug"})
    assert run.returncode != 0 and f"the hub cannot start: PMITOGEN_LOG_FILE: {shared}/log: " in run.stdout, run.stdout
    run = user.play([PING], target, {"PMITOGEN_TRACE": str(shared / "run.json")})
    assert run.returncode == 0, run.stdout + run.stderr
    if kind == "pipe":  # the user may use a pipe as known_hosts, as with ssh
        return
    learning = (
        target["ansible_ssh_common_args"] + f" -o UserKnownHostsFile={shared / 'hosts'} -o StrictHostKeyChecking=accept-new"
    )
    learning = learning.replace(f"-o UserKnownHostsFile={target['ansible_ssh_common_args'].rpartition('=')[2]} ", "")
    run = user.play([PING], {**target, "ansible_ssh_common_args": learning})
    assert run.returncode == 0, run.stdout + run.stderr
    assert precious.read_text() == "precious"
    if kind == "file":
        assert all(path.read_text() == "" for path in shared.iterdir())


def test_a_known_hosts_file_that_the_user_has_linked_is_written(user: User, target: dict[str, Any]) -> None:
    """In the user's own directory, as with ssh: many users have such files in a repository."""
    user.account.write("dotfiles/known_hosts", "# mine\n", 0o600)
    user.account.write(".ssh/config", "", 0o600)
    (user.account.home / ".ssh/known_hosts").symlink_to("../dotfiles/known_hosts")
    learning = "-F none -o StrictHostKeyChecking=accept-new"
    run = user.play([PING], {**target, "ansible_ssh_common_args": learning})
    assert run.returncode == 0, run.stdout + run.stderr
    assert (user.account.home / ".ssh/known_hosts").is_symlink()
    text = (user.account.home / "dotfiles/known_hosts").read_text()
    assert text.startswith("# mine\n") and "ssh-ed25519" in text
