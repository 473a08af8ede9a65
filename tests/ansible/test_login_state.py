"""Changes that the login's Python makes to its process at its start affect no other account and no command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support import programs
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.becoming import PLUGINS, SYSTEM_PYTHON, becoming
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

CUSTOMIZE = """
import os, resource, signal
os.umask(0o77)
os.chdir("/usr")
os.environ["LEFT"] = "behind"
os.environ["PATH"] = "/nowhere:" + os.environ["PATH"]
os.environ.pop("KEPT", None)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
"""
LOST = """
import os, resource
os.nice(5)
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
"""
LOOK = (
    "umask; pwd; echo ${LEFT:-none} ${KEPT:-none} $PATH; ulimit -S -a; nice; "
    "grep -E '^(Sig(Ign|Blk)|Cpus_allowed_list)' /proc/self/status"
)


def customized(make_account: Callable[..., Account], code: str) -> Account:
    login = make_account(sudo="nopasswd", password="login s3cret")
    login.write("site/sitecustomize.py", code)
    login.write(".bashrc", f"export PYTHONPATH={login.home}/site KEPT=kept\n")
    return login


def look(ansible: Ansible, login: Account, other: Account, sshd: Sshd, connection: str, path: str) -> list[Any]:
    """Return the state that a command and a file show in every account that can be entered."""
    ways = {
        "sudo": becoming("sudo", "root"),
        "kept": becoming("sudo", other.name, ansible_become_flags="-E"),
        "su": becoming("su", other.name, "other s3cret"),
        "own": becoming("silent", other.name),
    }
    python = {"ansible_python_interpreter": SYSTEM_PYTHON, "ansible_pmitogen_boot_python": [SYSTEM_PYTHON]}
    hosts = {name: ansible.target(sshd, login, **options, **python) for name, options in ways.items()}
    tasks = [
        {"name": "raw", "ansible.builtin.raw": LOOK, "become": True},
        {"name": "shell", "ansible.builtin.shell": LOOK, "become": True},
        {
            "name": "copy",
            "ansible.builtin.copy": {"content": "x", "dest": f"{path}-{{{{ inventory_hostname }}}}"},
            "become": True,
        },
        {"name": "login raw", "ansible.builtin.raw": LOOK},
        {
            "name": "gone",
            "ansible.builtin.file": {"path": f"{path}-{{{{ inventory_hostname }}}}", "state": "absent"},
            "become": True,
        },
    ]
    env = {"ANSIBLE_BECOME_PLUGINS": str(PLUGINS), "ANSIBLE_SSH_PIPELINING": "1"}
    run = ansible.tasks(tasks, hosts, env=env, connection=connection).check()
    # Over ssh, copy of ansible-core 2.16 removes the ACL through which the account reads, and the group's permissions with it.
    modes = [name for name in ways if name != "kept" or ansible.release >= (2, 17)]
    found: list[Any] = [run.task("copy", name)["mode"] for name in modes]
    for task in ("raw", "shell", "login raw"):
        for name in ways:
            found += [(name, task, line.strip()) for line in run.task(task, name)["stdout_lines"] if line.strip()]
    return found


@pytest.mark.newest_core
@pytest.mark.needs_program("ssh")
@pytest.mark.parametrize("code", [CUSTOMIZE, pytest.param(LOST, marks=pytest.mark.slow)], ids=["changed", "lost"])
def test_every_account_has_the_state_that_it_has_over_ssh(
    code: str, ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]
) -> None:
    assert programs.find_program("ssh")
    login, other = customized(make_account, code), make_account(password="other s3cret")
    found = {name: look(ansible, login, other, sshd, name, f"/tmp/{other.name}") for name in ("ssh", "pmitogen")}
    assert not [pair for pair in zip(found["pmitogen"], found["ssh"], strict=True) if pair[0] != pair[1]]
