"""Modules that start OpenSSH's programs, on a controller that has pmitogen's instead (``pmitogen setup --shims``).

All run in the root of tests/support/no_openssh.py, in which OpenSSH's client is not installed; synchronize also runs with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.session import repository
from tests.support.sshd import Sshd

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_sshd,
    pytest.mark.needs_no_openssh,
    pytest.mark.slow,
    pytest.mark.one_core,
]


@pytest.fixture
def programs(short_path: Path) -> Path:
    """A directory with pmitogen's programs under OpenSSH's names."""
    directory = short_path / "programs"
    subprocess.run([sys.executable, "-m", "pmitogen", "setup", "--shims", directory], check=True, stdout=subprocess.DEVNULL)
    return directory


def collections() -> str:
    """The directory into which ``tools/prepare.py others`` installs the collection ansible.posix."""
    prefixes = [repository / ".venv-others", *map(Path, filter(None, os.environ.get("PMITOGEN_VENVS", "").split(":")))]
    for prefix in prefixes:
        if (prefix / "collections/ansible_collections/ansible/posix").is_dir():
            return str(prefix / "collections")
    pytest.skip("the collection ansible.posix is not installed: tools/prepare.py others")


def files_of(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.needs_program("rsync")
@pytest.mark.parametrize("has_openssh", [False, True])
def test_synchronize_copies_with_pmitogens_ssh(
    ansible: Ansible, sshd: Sshd, account: Account, programs: Path, tmp_path: Path, has_openssh: bool
) -> None:
    """Push, pull, on the target itself, and into another account on the target."""
    ansible = Ansible(ansible.core, ansible.python, ansible.directory, has_openssh)
    path = os.environ["PATH"] if has_openssh else f"{programs}:{os.environ['PATH']}"
    host = ansible.target(sshd, account)
    root = ansible.target(sshd, "root")
    source = {"src/a": "one", "src/sub/b c": "two"}
    home = account.home

    def synchronize(name: str, **options: Any) -> dict[str, Any]:
        keywords = {key: options.pop(key) for key in ("delegate_to", "become", "become_user") if key in options}
        return {"name": name, "ansible.posix.synchronize": {"compress": False, **options}, **keywords}

    tasks = [
        synchronize("push", src="src/", dest=f"{home}/copy/"),
        synchronize("again", src="src/", dest=f"{home}/copy/", use_ssh_args=True),
        synchronize("pull", src=f"{home}/copy/", dest=f"{tmp_path}/back/", mode="pull"),
        synchronize("there", src=f"{home}/copy/", dest=f"{home}/second/", delegate_to="{{ inventory_hostname }}"),
    ]
    env = {"ANSIBLE_COLLECTIONS_PATH": collections(), "PATH": path}
    run = ansible.tasks(tasks, {"h": host}, files=source, env=env, ssh_programs=True).check()
    assert [(task.kind, task.changed) for task in run.tasks] == [("ok", True), ("ok", False), ("ok", True), ("ok", True)]
    wanted = {name.partition("/")[2]: text for name, text in source.items()}
    assert files_of(home / "copy") == files_of(home / "second") == files_of(tmp_path / "back") == wanted
    become = synchronize(
        "become", src="src/", dest=f"{home}/third/", become=True, become_user=account.name, owner=False, group=False
    )
    ansible.tasks([become], {"h": root}, files=source, env=env, ssh_programs=True).check()
    assert files_of(home / "third") == wanted and (home / "third/a").stat().st_uid == account.uid


@pytest.mark.needs_program("git")
def test_modules_git_galaxy_and_known_hosts_work_with_pmitogens_programs(
    ansible: Ansible, sshd: Sshd, account: Account, programs: Path, tmp_path: Path
) -> None:
    work, bare = tmp_path / "work", account.home / "repo.git"
    work.mkdir()
    (work / "galaxy.yml").write_text("namespace: test\nname: fromgit\nversion: 1.0.0\nreadme: README.md\nauthors: [a]\n")
    (work / "README.md").write_text("text\n")
    for args in (("init", "-qb", "main"), ("add", "."), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "1")):
        subprocess.run(["git", *args], cwd=work, check=True)
    subprocess.run(["git", "clone", "-q", "--bare", work, bare], check=True)
    subprocess.run(["chown", "-R", account.name, bare], check=True)
    url = f"ssh://{account.name}@{sshd.host}:{sshd.port}{bare}"
    options = f"-o UserKnownHostsFile={sshd.known_hosts} -o GlobalKnownHostsFile=/dev/null"
    name, key = f"[{sshd.host}]:{sshd.port}", sshd.known_hosts.read_text().splitlines()[0]
    known = {"name": name, "path": str(tmp_path / "known"), "key": key, "hash_host": True}
    tasks: list[dict[str, Any]] = [
        {"name": "git", "git": {"repo": url, "dest": f"{tmp_path}/clone", "key_file": str(sshd.key.path), "ssh_opts": options}},
        {"name": "known", "known_hosts": known},
        {"name": "again", "known_hosts": known},
        {"name": "absent", "known_hosts": {**known, "state": "absent"}},
    ]
    env = {"PATH": f"{programs}:{os.environ['PATH']}", "GIT_CONFIG_NOSYSTEM": "1"}
    inside = Ansible(ansible.core, ansible.python, ansible.directory, has_openssh=False)
    run = inside.tasks(
        tasks,
        {"localhost": {"ansible_connection": "local", "ansible_python_interpreter": str(ansible.python)}},
        env=env,
        ssh_programs=True,
    ).check()
    assert [task.changed for task in run.tasks] == [True, True, False, True]
    assert (tmp_path / "clone/README.md").read_text() == "text\n" and not (tmp_path / "known").read_text()
    command = inside.ansible("galaxy", "collection", "install", "-p", tmp_path, f"git+{url},main")
    more = {**env, "GIT_SSH_COMMAND": f"ssh -i {sshd.key.path} {options}"}
    done = subprocess.run(command, env={**inside.environment(), **more}, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "ansible_collections/test/fromgit/README.md").exists()
