"""A controller without OpenSSH's client: plays, pmitogen's commands, and git and rsync with pmitogen's programs.

Everything except sshd and its sessions runs in the root of tests/support/no_openssh.py. With the option --no-openssh,
the plays of all tests run there.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import no_openssh
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.needs_no_openssh]
PMITOGEN = (sys.executable, "-m", "pmitogen")
PLAY = [
    {"name": "ping", "ansible.builtin.ping": {}},
    {"name": "copy", "ansible.builtin.copy": {"content": "text\n", "dest": "~/no-openssh.txt"}},
    {"name": "template", "ansible.builtin.template": {"src": "t.j2", "dest": "~/no-openssh.txt"}},
    {"name": "become", "ansible.builtin.command": "id -un", "become": True},
    {"name": "gone", "ansible.builtin.file": {"path": "~/no-openssh.txt", "state": "absent"}},
]


@pytest.fixture
def host(sshd: Sshd, account: Account, home: Path) -> str:
    """The name of a host in HOME's ssh_config; "keyless" is the same host with keys of an agent only."""
    (home / ".ssh").mkdir(mode=0o700)
    (home / ".ssh/config").write_text(
        f"Host target\n IdentityFile {home}/id\n IdentitiesOnly yes\nHost keyless\n IdentityFile none\n BatchMode yes\n"
        f"Host *\n HostName {sshd.host}\n Port {sshd.port}\n User {account.name}\n UserKnownHostsFile {home}/known_hosts\n"
    )
    (home / "id").touch(mode=0o600)
    (home / "id").write_bytes(sshd.key.path.read_bytes())
    (home / "known_hosts").write_text(sshd.known_hosts.read_text())
    return "target"


def run(*argv: str | Path, status: int = 0, **more: object) -> str:
    """Run a command of pmitogen there, check its exit status, and return its output."""
    done = no_openssh.run(*PMITOGEN, *argv, **more)  # type: ignore[arg-type]
    assert done.returncode == status, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose PATH begins with pmitogen's programs."""
    programs = tmp_path / "programs"
    run("setup", "--shims", programs)
    yield {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}


def test_the_root_has_no_client() -> None:
    names = " ".join(no_openssh.PROGRAMS)
    script = f"for name in {names}; do command -v $name; ls /usr/bin/$name; done; ls -A /usr/lib/openssh"
    assert no_openssh.run("sh", "-c", script).stdout == ""
    assert no_openssh.run("ssh").returncode == 127


@pytest.mark.one_core
def test_a_play_runs_without_openssh(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    inside = Ansible(ansible.core, ansible.python, ansible.directory, has_openssh=False)
    host = {"h": inside.target(sshd, account)}
    done = inside.tasks(PLAY, host, files={"t.j2": "host {{ inventory_hostname }}\n"}, ssh_programs=True).check()
    assert {task.kind for task in done.tasks} == {"ok"} and len(done.tasks) == len(PLAY)
    assert done.task("become")["stdout"] == "root"


@pytest.mark.slow
@pytest.mark.newest_core
@pytest.mark.timeout(360)  # without pipelining, each task starts several programs in Python
@pytest.mark.parametrize("how", ["sftp", "scp", "piped", "password", "no sharing"])
def test_ansibles_ssh_connection_works_with_pmitogens_programs(
    ansible: Ansible, sshd: Sshd, account: Account, environment: dict[str, str], how: str
) -> None:
    """ansible_connection=ssh, where ssh, scp and sftp are pmitogen's programs."""
    inside = Ansible(ansible.core, ansible.python, ansible.directory, has_openssh=False)
    host = inside.target(sshd, account, ansible_ssh_transfer_method=how if how in ("sftp", "scp", "piped") else "smart")
    if how == "password":
        host |= {"ansible_password": account.password, "ansible_ssh_password_mechanism": "ssh_askpass"}
        del host["ansible_ssh_private_key_file"]
    elif how == "no sharing":
        host["ansible_ssh_args"] = "-o ControlMaster=no"
    files, mark = {"t.j2": "host {{ inventory_hostname }}\n"}, sshd.mark()
    env = {"PATH": f"{environment['PATH']}:{ansible.python.parent}"}  # ansible-core's ssh_askpass is the program ansible
    done = inside.tasks(PLAY, {"h": host}, files=files, ssh_programs=True, connection="ssh", env=env, timeout=300)
    if how == "password" and ansible.release < (2, 19):
        assert "sshpass" in done.output  # the only way to send a password
        return
    done.check()
    assert {task.kind for task in done.tasks} == {"ok"} and len(done.tasks) == len(PLAY)
    assert done.task("become")["stdout"] == "root"
    if how == "no sharing":
        assert sshd.connections(mark) > 1  # otherwise one, unless the machine is slower than ControlPersist


@pytest.mark.needs_program("git")
def test_git_clones_and_pushes_without_openssh(host: str, account: Account, environment: dict[str, str], tmp_path: Path) -> None:
    def git(*argv: str | Path) -> None:
        config = ("-c", "user.name=n", "-c", "user.email=e@x", "-c", f"core.sshCommand=ssh -F {os.environ['HOME']}/.ssh/config")
        done = no_openssh.run("git", *config, *argv, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    assert account.run("git", "init", "-q", "--bare", "origin.git").returncode == 0
    git("clone", "-q", f"{host}:origin.git", "first")
    (tmp_path / "first/file").write_text("text")
    git("-C", "first", "add", "file")
    git("-C", "first", "commit", "-qm", "one")
    git("-C", "first", "push", "-q", "origin", "HEAD:refs/heads/main")
    git("clone", "-q", "-b", "main", f"ssh://{host}{account.home}/origin.git", "second")
    assert (tmp_path / "second/file").read_text() == "text"


@pytest.mark.slow
def test_the_demo_runs_without_openssh() -> None:
    assert "passed" in run("demo")


@pytest.mark.slow
@pytest.mark.needs_program("rsync")
def test_rsync_copies_in_both_directions(host: str, account: Account, environment: dict[str, str], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/binary").write_bytes(bytes(range(256)) * 4096)
    (tree / "link").symlink_to("sub/binary")
    (tree / "a file").write_text("text")
    (tree / "a file").chmod(0o4750)
    for path in (tree / "a file", tree / "sub/binary", tree / "sub"):  # rsync leaves a time that differs in its fraction only
        os.utime(path, ns=(1, 1_600_000_000_123_456_789))
    remote_shell = f"ssh -F {os.environ['HOME']}/.ssh/config"
    for source, target in ((f"{tree}/", f"{host}:tree"), (f"{host}:tree/", f"{tmp_path}/back")):
        done = no_openssh.run("rsync", "-a", "-e", remote_shell, source, target, env=environment)
        assert done.returncode == 0, done.stderr
    assert digest(tree) == digest(account.home / "tree") == digest(tmp_path / "back")


def digest(tree: Path) -> str:
    """A digest of names, types, modes, times, links and contents."""
    total = hashlib.sha256()
    for path in sorted(tree.rglob("*")):
        status = path.lstat()
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        time = 0 if path.is_symlink() else status.st_mtime_ns
        total.update(repr((str(path.relative_to(tree)), status.st_mode, time, content)).encode())
    return total.hexdigest()


@pytest.mark.slow
def test_keygen_copy_id_and_add_work_without_openssh(host: str, account: Account, home: Path) -> None:
    config = ("-F", str(home / ".ssh/config"))
    assert "ok" in run("ping", *config, host)
    key = home / "new"
    run("keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    assert run("keygen", "-l", "-f", key).startswith("256 SHA256:")
    assert "added: 1" in run("copy-id", "-i", key, *config, host)
    agent = dict(re.findall(r"(SSH_\w+)=([^;]+);", run("agent", "-s", "-a", home / "agent")))
    environment = {**os.environ, **agent}
    try:
        run("add", key, env=environment)
        assert run("add", "-L", env=environment).split()[1] == (home / "new.pub").read_text().split()[1]
        assert run("ssh", *config, "keyless", "id -un", env=environment).strip() == account.name
        run("add", "-D", env=environment)
        assert run("ssh", *config, "keyless", "true", status=255, env=environment) == ""
    finally:
        run("agent", "-k", env=environment)


@pytest.mark.slow
def test_host_keys_are_recorded_and_found_without_openssh(host: str, sshd: Sshd, account: Account, home: Path) -> None:
    config = ("-F", str(home / ".ssh/config"))
    scanned = run("keyscan", "-p", str(sshd.port), sshd.host)
    assert sshd.known_hosts.read_text().split()[2] in scanned
    fingerprint = run("keygen", "-l", "-f", home / "known_hosts").split()[1]
    (home / "known_hosts").unlink()
    assert run("ssh", *config, host, "true", status=255) == ""
    run("trust", "--fingerprint", fingerprint, *config, host)
    assert run("ssh", *config, host, "id -un").strip() == account.name
    assert run("keygen", "-F", f"[{sshd.host}]:{sshd.port}", "-f", home / "known_hosts")


@pytest.mark.slow
def test_a_play_logs_in_with_a_password_without_sshpass(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    """Ansible's ssh connection would start sshpass."""
    inside = Ansible(ansible.core, ansible.python, ansible.directory, has_openssh=False)
    host = inside.target(sshd, account, ansible_password=account.password)
    del host["ansible_ssh_private_key_file"]
    inside.tasks([{"name": "ping", "ansible.builtin.ping": {}}], {"h": host}, ssh_programs=True).check()
