"""A control node on which OpenSSH's client is not installed: plays, our commands, and git and rsync by our programs.

Everything but sshd and its sessions runs in the root of tests/support/no_openssh.py.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import no_openssh
from tests.support.accounts import Account
from tests.support.ansible import Ansible, Run
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
    """The name of the host in HOME's ssh_config, which says how to reach it; "keyless": the same with keys of an agent only."""
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
    """Run one of our commands there; return its output, after a check of its exit status."""
    done = no_openssh.run(*PMITOGEN, *argv, **more)  # type: ignore[arg-type]
    assert done.returncode == status, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose PATH begins with our programs."""
    programs = tmp_path / "programs"
    run("setup", "--shims", programs)
    yield {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}


def test_the_root_has_no_client() -> None:
    names = " ".join(no_openssh.PROGRAMS)
    script = f"for name in {names}; do command -v $name; ls /usr/bin/$name; done; ls -A /usr/lib/openssh"
    assert no_openssh.run("sh", "-c", script).stdout == ""
    assert no_openssh.run("ssh").returncode == 127


def play(ansible: Ansible, sshd: Sshd, account: Account, directory: Path) -> Run:
    """The main play with this core, there."""
    inside = Ansible(ansible.core, no_openssh.wrapper(directory / "python", [ansible.python]), ansible.directory)
    host = inside.target(sshd, account)
    return inside.tasks(PLAY, {"h": host}, files={"t.j2": "host {{ inventory_hostname }}\n"}, ssh_programs=True)


@pytest.mark.one_core
def test_a_play(ansible: Ansible, sshd: Sshd, account: Account, short_path: Path) -> None:
    done = play(ansible, sshd, account, short_path).check()
    assert {task.kind for task in done.tasks} == {"ok"} and len(done.tasks) == len(PLAY)
    assert done.task("become")["stdout"] == "root"


@pytest.mark.needs_program("git")
def test_git(host: str, account: Account, environment: dict[str, str], tmp_path: Path) -> None:
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
def test_the_demo() -> None:
    assert "passed" in run("demo")


@pytest.mark.slow
@pytest.mark.needs_program("rsync")
def test_rsync_both_ways(host: str, account: Account, environment: dict[str, str], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub/binary").write_bytes(bytes(range(256)) * 4096)
    (tree / "link").symlink_to("sub/binary")
    remote_shell = f"ssh -F {os.environ['HOME']}/.ssh/config"
    for source, target in ((f"{tree}/", f"{host}:tree"), (f"{host}:tree/", f"{tmp_path}/back")):
        done = no_openssh.run("rsync", "-a", "-e", remote_shell, source, target, env=environment)
        assert done.returncode == 0, done.stderr
    assert subprocess.run(["diff", "-r", "--no-dereference", tree, tmp_path / "back"]).returncode == 0


@pytest.mark.slow
def test_keys_and_agents(host: str, account: Account, home: Path) -> None:
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
def test_host_keys(host: str, sshd: Sshd, account: Account, home: Path) -> None:
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
def test_a_password(ansible: Ansible, sshd: Sshd, account: Account, short_path: Path) -> None:
    """A password, for which Ansible's ssh would start sshpass."""
    inside = Ansible(ansible.core, no_openssh.wrapper(short_path / "python", [ansible.python]), ansible.directory)
    host = inside.target(sshd, account, ansible_password=account.password)
    del host["ansible_ssh_private_key_file"]
    inside.tasks([{"name": "ping", "ansible.builtin.ping": {}}], {"h": host}, ssh_programs=True).check()
