"""Files that a task of an unprivileged account creates or transfers belong to that account, and no other can read them."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import Account, owned_files
from tests.support.ansible import Ansible
from tests.support.becoming import People, becoming
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

# The owners of a running script and of its directory; "+" marks an access control list.
SCRIPT = """#!/bin/sh
id -un
for path in "$0" "`dirname "$0"`"; do ls -ld "$path" | cut -d' ' -f1,3; done
touch ~/by-script
"""
AS_ROOT = {"vars": {"ansible_become_user": "root"}}
TASKS: list[dict[str, Any]] = [
    {"name": "copy", "ansible.builtin.copy": {"src": "given.txt", "dest": "~/copied"}},
    {"name": "large", "ansible.builtin.copy": {"src": "large.bin", "dest": "~/large"}},
    {"name": "template", "ansible.builtin.template": {"src": "given.txt", "dest": "~/templated", "mode": "0600"}},
    {"name": "script", "ansible.builtin.script": "s.sh"},
    {"name": "fetch", "ansible.builtin.fetch": {"src": "~/secret", "dest": "got", "flat": True}},
    {"name": "slurp", "ansible.builtin.slurp": {"src": "~/secret"}},
    {"name": "async", "ansible.builtin.shell": "id -un; echo $HOME", "async": 20, "poll": 1},
    {"name": "home", "ansible.builtin.stat": {"path": "~"}},
    {"name": "named", "ansible.builtin.copy": {"content": "x", "dest": "~{{ other }}/named"}},
    {"name": "shell", "ansible.builtin.shell": "echo $HOME ~ $USER; umask", "args": {"chdir": "~"}},
    {"name": "unarchive", "ansible.builtin.unarchive": {"src": "parts.tar", "dest": "~"}},
    {"name": "mine", "ansible.builtin.copy": {"content": "x", "dest": "~/mine"}, "become": False},
    {"name": "root", "ansible.builtin.copy": {"content": "x", "dest": "{{ directory }}/root"}, **AS_ROOT},
    {"name": "root-home", "ansible.builtin.stat": {"path": "~"}, **AS_ROOT},
]


class Watch:
    """Watches the temporary directories of accounts while a play runs."""

    def __init__(self, *accounts: Account) -> None:
        self._accounts = accounts
        self._over = threading.Event()
        self.seen: set[Path] = set()
        self.open: set[str] = set()  # those that other accounts may enter

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.01):
            for account in self._accounts:
                directory = account.home / ".ansible/tmp"
                for path in [*(directory.iterdir() if directory.exists() else ()), *owned_files({account.uid})]:
                    self._look(path, account)

    def _look(self, path: Path, account: Account) -> None:
        try:
            state = path.lstat()
            more = "system.posix_acl_access" in os.listxattr(path, follow_symlinks=False)
        except OSError:
            return  # removed meanwhile
        self.seen.add(path)
        if state.st_mode & 0o077 and stat.S_ISDIR(state.st_mode) or state.st_uid != account.uid or more:
            self.open.add(f"{path} {stat.filemode(state.st_mode)} {state.st_uid} {more}")


@pytest.mark.newest_core
def test_files_of_become_tasks_belong_to_the_target_account(
    ansible: Ansible, sshd: Sshd, people: People, short_path: Path, tmp_path: Path
) -> None:
    import tarfile

    login, other = people.nopasswd, people.others[0]
    other.write("secret", "secret words\n", 0o600)
    (tmp_path / "inside").write_text("from the archive\n")
    with tarfile.open(tmp_path / "parts.tar", "w") as tar:
        tar.add(tmp_path / "inside", "inside")
    files: dict[str, str | bytes] = {
        "given.txt": "given {{ inventory_hostname }}\n", "s.sh": SCRIPT, "large.bin": os.urandom(3 << 20),
        "parts.tar": (tmp_path / "parts.tar").read_bytes(),
    }  # fmt: skip
    short_path.chmod(0o755)
    host = ansible.target(sshd, login, other=other.name, directory=str(short_path), **becoming("sudo", other.name))
    watch = Watch(login, other)
    with watch.running():
        run = ansible.tasks(TASKS, {"h": host}, play={"become": True}, files=files).check()
    assert not watch.open and len(watch.seen) > 5
    for name in ("copied", "large", "templated", "by-script", "named", "inside", ".ansible_async"):
        assert (other.home / name).owner() == other.name, name
        assert not (login.home / name).exists()
    assert (other.home / "templated").read_text() == "given h\n"
    assert (other.home / "large").stat().st_size == 3 << 20
    assert (other.home / "templated").stat().st_mode & 0o777 == 0o600
    assert (login.home / "mine").owner() == login.name and (short_path / "root").owner() == "root"
    who, file, directory = run.task("script")["stdout_lines"]
    assert who == other.name and file.startswith("-rwx") and "+" not in file and directory == f"drwx------ {other.name}"
    assert next(ansible.directory.rglob("got")).read_text() == "secret words\n"
    assert run.task("async")["stdout_lines"] == [other.name, str(other.home)]
    assert run.task("home")["stat"]["path"] == str(other.home)
    assert run.task("root-home")["stat"]["path"] == "/root"
    assert run.task("shell")["stdout_lines"][0] == f"{other.home} {other.home} {other.name}"
    until = time.monotonic() + 5  # async_wrapper removes its own directory some seconds after the job
    while list((other.home / ".ansible/tmp").iterdir()) and time.monotonic() < until:
        time.sleep(0.1)
    assert not list((other.home / ".ansible/tmp").iterdir()), "temporary directories are left"
    for account in (login, other):
        for path in list(account.home.iterdir()):
            if not path.name.startswith(".") and not path.is_dir():
                path.unlink()


@pytest.mark.newest_core
def test_a_script_runs_for_an_account_whose_home_contains_a_space(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]
) -> None:
    """Ansible's script action does not quote the path of its copy; over ssh that copy is in a directory of the system's."""
    login, other = make_account(sudo="nopasswd"), make_account()
    spaced = other.home.with_name(f"{other.name} s")
    other.home.rename(spaced)
    subprocess.run(["usermod", "-d", str(spaced), other.name], check=True, timeout=20)
    hosts = {"h": ansible.target(sshd, login, **becoming("sudo", other.name))}
    tasks: list[dict[str, Any]] = [
        {"name": "script", "ansible.builtin.script": "who.sh a 'b c'"},
        {"name": "again", "ansible.builtin.script": {"cmd": "who.sh", "chdir": "/"}},
        {"name": "copy", "ansible.builtin.copy": {"content": "x", "dest": "~/for-ansible"}},
    ]
    files = {"who.sh": "#!/bin/sh\nid -un; echo $#; pwd\n"}
    run = ansible.tasks(tasks, hosts, play={"become": True}, files=files).check()
    assert run.task("script")["stdout_lines"][:2] == [other.name, "2"] and run.task("again")["stdout_lines"][2] == "/"
    assert (spaced / "for-ansible").read_text() == "x"
