"""Programs and flags of become: become_exe of several words, flags, forwarded agents, other plugins, hosts without Python."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import programs
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.becoming import DOAS, FILES, ID_TASK, PLUGINS, People, becoming
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


@pytest.mark.newest_core
def test_become_exe_and_flags_are_honoured(ansible: Ansible, sshd: Sshd, people: People, short_path: Path) -> None:
    shim = short_path / "become"  # a program of the user, with an option that sudo does not have
    shim.write_text('#!/bin/sh\nuser=$2\nshift 2\nexec sudo -n -u "$user" sudo "$@"\n')
    shim.chmod(0o755)
    asked, free, other = people.password_sudo, people.nopasswd, people.others[0]
    show: dict[str, Any] = {"ansible.builtin.command": "sh -c 'echo `id -un` $HOME ${WORD:--} `pwd`'"}
    sudo, su, doas = programs.find_program("sudo"), programs.find_program("su"), programs.find_program("doas")
    options: dict[str, tuple[Account, dict[str, Any], str]] = {
        "path": (free, becoming("sudo", other.name, ansible_become_exe=sudo), f"{other.name} {other.home} - {free.home}"),
        "options": (free, becoming("sudo", other.name, ansible_become_exe="sudo -k"), f"{other.name} {other.home} - {free.home}"),
        "env": (
            free,
            becoming("sudo", other.name, ansible_become_exe="env WORD=word sudo", ansible_become_flags="-H -E"),
            f"{other.name} {other.home} word {free.home}",
        ),
        "sudo su -": (
            free,
            becoming("su", other.name, ansible_become_exe="sudo su -"),
            f"{other.name} {other.home} - {other.home}",
        ),
        "asked sudo su -": (
            asked,
            becoming("sudo", other.name, asked.password, ansible_become_exe="sudo su -", ansible_become_flags=""),
            f"{other.name} {other.home} - {other.home}",
        ),
        "login": (free, becoming("sudo", other.name, ansible_become_flags="-i"), f"{other.name} {other.home} - {other.home}"),
        "assignment": (
            free,
            becoming("sudo", other.name, ansible_become_flags="-H -n WORD=said"),
            f"{other.name} {other.home} said {free.home}",
        ),
        "su": (
            asked,
            becoming("su", other.name, other.password, ansible_become_exe=su, ansible_become_flags="-l -s /bin/dash"),
            f"{other.name} {other.home} - {other.home}",
        ),
        "doas": (
            asked,
            becoming(DOAS, other.name, asked.password, ansible_become_exe=doas, ansible_become_flags="-n"),
            f"{other.name} {other.home} - {asked.home}",
        ),
        "shim": (
            free,
            becoming("sudo", other.name, ansible_become_exe=str(shim), ansible_become_flags=f"--by {free.name} -H -n"),
            f"{other.name} {other.home} - {free.home}",
        ),
    }
    hosts = {name: ansible.target(sshd, login, **variables) for name, (login, variables, _) in options.items()}
    run = ansible.tasks([{"name": "show", **show}], hosts, play={"become": True}, files=FILES, args=["-f", "5"]).check()
    assert {name: run.task("show", name)["stdout"] for name in options} == {
        name: output for name, (_, _, output) in options.items()
    }


@pytest.mark.newest_core
def test_modules_run_through_su_without_temporary_files(
    ansible: Ansible, sshd: Sshd, people: People, make_account: Callable[..., Account]
) -> None:
    """Modules are piped through su even where ansible-core would write a file; nothing is written."""
    others = [make_account(password="others own") for _ in range(2)]
    loop = [{"user": other.name} for other in others]
    tasks: list[dict[str, Any]] = [
        {"name": "who", **ID_TASK, "loop": loop, "become_user": "{{ item.user }}"},
        {"name": "wrong", **ID_TASK, "vars": {"ansible_become_password": "n0t-th1s"}, "ignore_errors": True},
    ]
    hosts = {"h": ansible.target(sshd, people.password_sudo, **becoming("su", others[0].name, "others own"))}
    hosts["h"].pop("ansible_become_user")
    run = ansible.tasks(tasks, hosts, play={"become": True, "become_user": others[0].name}, args=["-vvv"]).check()
    assert [item["stdout"] for item in run.task("who")["results"]] == [other.name for other in others]
    assert "password is wrong" in run.task("wrong").message
    assert len(re.findall(r"EXEC ansible\.modules\.command IN \S+ AS \S+ BY su", run.output)) == 3
    assert not [other.name for other in others if (other.home / ".ansible").exists()]


@pytest.mark.one_core
def test_unsupported_become_flags_fail_before_any_attempt(ansible: Ansible, sshd: Sshd, people: People) -> None:
    """The one-line message names the flag."""
    flags = {"list": "-H -l", "askpass": "-A", "unknown": "--no-such-flag", "quote": "-H 'open"}
    options = {name: becoming("sudo", "root", ansible_become_flags=text) for name, text in flags.items()}
    hosts = {name: ansible.target(sshd, people.nopasswd, **variables) for name, variables in options.items()}
    uses = people.nopasswd.sudo_uses()
    run = ansible.tasks([{"name": "who", **ID_TASK, "become": True}], hosts)
    for name, text in flags.items():
        result = run.task("who", name)
        assert result.kind == "failed" and "become_flags" in result.message and "\n" not in result.message, result.message
        assert name == "quote" or text.split()[-1].lstrip("-") in result.message
    assert people.nopasswd.sudo_uses() == uses


# -- agents -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ssh_agent(sshd: Sshd, short_path: Path) -> Iterator[Path]:
    """The socket of an agent that holds the test run's key."""
    path = short_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    while not path.exists():
        assert agent.poll() is None
    subprocess.run(["ssh-add", "-q", str(sshd.key.path)], env={**os.environ, "SSH_AUTH_SOCK": str(path)}, check=True, timeout=20)
    yield path
    agent.terminate()
    agent.wait()


@pytest.mark.one_core
@pytest.mark.needs_program("ssh-agent", "ssh-add")
def test_a_forwarded_agent_is_reachable_only_if_sudo_preserves_its_variable(
    ansible: Ansible, sshd: Sshd, people: People, ssh_agent: Path
) -> None:
    """root can use it with sudo -E and --preserve-env; not if sudo drops the variable or nothing is forwarded."""
    keep = {"whole": "-H -E", "one": "-H --preserve-env=SSH_AUTH_SOCK", "none": "-H", "unforwarded": "-H -E"}
    forward = {"whole": "-A", "one": "-o ForwardAgent=yes", "none": "-A", "unforwarded": "-a"}
    hosts = {
        name: ansible.target(
            sshd, people.nopasswd, ansible_ssh_extra_args=forward[name], **becoming("sudo", "root", ansible_become_flags=flags)
        )
        for name, flags in keep.items()
    }
    tasks = [{"name": "keys", "ansible.builtin.command": "ssh-add -L", "become": True, "failed_when": False}]
    run = ansible.tasks(tasks, hosts, env={"SSH_AUTH_SOCK": str(ssh_agent)}).check()
    key = sshd.key.public.split()[1]
    assert {name for name in hosts if key in run.task("keys", name)["stdout"]} == {"whole", "one"}, run.output


# -- become plugins of other authors ----------------------------------------------------------------------------------------


@pytest.mark.newest_core
@pytest.mark.parametrize("by_password", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["key", "password"])
def test_a_become_plugin_unknown_to_pmitogen_works(ansible: Ansible, sshd: Sshd, people: People, by_password: bool) -> None:
    asked, free, other = people.password_sudo, people.nopasswd, people.others[0]
    options = {
        "asking": (asked, becoming("asking", other.name, other.password)),
        "silent": (free, becoming("silent", other.name)),
        "wrong": (asked, becoming("asking", other.name, "n0t-th1s")),
    }
    login = {"ansible_ssh_private_key_file": "/nonexistent/key"} if by_password else {}
    hosts = {
        name: ansible.target(sshd, account, **variables, **login, ansible_password=account.password if by_password else "")
        for name, (account, variables) in options.items()
    }
    tasks: list[dict[str, Any]] = [
        {"name": "module", **ID_TASK},
        {"name": "raw", "ansible.builtin.raw": "id -un"},
        {"name": "copy", "ansible.builtin.copy": {"content": "x", "dest": "~/{{ inventory_hostname }}"}},
        {"name": "gone", "ansible.builtin.file": {"path": "~/{{ inventory_hostname }}", "state": "absent"}},
    ]
    run = ansible.tasks(tasks, hosts, play={"become": True}, env={"ANSIBLE_BECOME_PLUGINS": str(PLUGINS)})
    for name in ("asking", "silent"):
        assert run.task("module", name)["stdout"] == other.name
        assert run.task("raw", name)["stdout_lines"][-1] == other.name  # the line before answered the prompt
        assert run.task("gone", name).changed
    assert run.task("module", "wrong").kind == "failed" and "Incorrect asking password" in run.task("module", "wrong").message
    assert "n0t-th1s" not in run.output and str(other.password) not in run.output


@pytest.mark.newest_core
def test_a_host_is_unreachable_if_no_socket_directory_is_safe(
    ansible: Ansible, sshd: Sshd, people: People, tmp_path: Path
) -> None:
    """The message is one line, whichever plugin wraps the command."""
    (tmp_path / f"pmitogen-{os.getuid()}").mkdir()
    tmp_path.chmod(0o700)
    (tmp_path / f"pmitogen-{os.getuid()}").chmod(0o755)
    other = people.others[0].name
    hosts = {"h": ansible.target(sshd, people.nopasswd, **becoming("silent", other))}
    tasks = [{"name": "raw", "ansible.builtin.raw": "id -un"}]
    env = {"ANSIBLE_BECOME_PLUGINS": str(PLUGINS), "XDG_RUNTIME_DIR": str(tmp_path)}
    for play in ({}, {"become": True}):
        result = ansible.tasks(tasks, hosts, play=play, env=env).task("raw")
        assert result.kind == "unreachable" and "no directory is safe for the hub's socket" in result.message, result


# -- hosts without Python ---------------------------------------------------------------------------------------------------


_HIDE = """for p in /usr/bin/python[23]* /usr/local/bin/python[23]*; do
    [ -h "$p" ] || [ ! -f "$p" ] || mount --bind /dev/null "$p"
done; exec "$@" """


@pytest.fixture
def sshd_without_python(make_sshd: Callable[..., Sshd]) -> Sshd:
    """A server without Python: in its mount namespace, an empty file covers each interpreter."""
    hide = ["unshare", "-m", "sh", "-c", _HIDE, "sh"]
    return make_sshd(config=["SetEnv PATH=/usr/bin:/bin:/usr/sbin:/sbin"], wrapper=hide)


@pytest.mark.newest_core
@pytest.mark.needs_program("unshare")
def test_raw_with_become_works_on_a_host_without_python(ansible: Ansible, sshd_without_python: Sshd, people: People) -> None:
    """The become plugin's own command runs in a session of its own; modules fail with the name of the missing Python."""
    asked, free, other = people.password_sudo, people.nopasswd, people.others[0]
    hosts = {
        "asked": ansible.target(sshd_without_python, asked, **becoming("sudo", other.name, asked.password)),
        "free": ansible.target(sshd_without_python, free, **becoming("sudo", other.name)),
        "su": ansible.target(sshd_without_python, asked, **becoming("su", other.name, other.password)),
        "wrong": ansible.target(sshd_without_python, asked, **becoming("su", other.name, "n0t-th1s")),
    }
    tasks: list[dict[str, Any]] = [
        {"name": "raw", "ansible.builtin.raw": "id -un"},
        {"name": "module", **ID_TASK, "vars": {"ansible_python_interpreter": "/usr/bin/python3"}},
    ]
    run = ansible.tasks(tasks, hosts, play={"become": True})
    for name in ("asked", "free", "su"):
        assert run.task("raw", name)["stdout_lines"][-1] == other.name
        assert run.task("module", name).kind == "failed"
        assert re.search("[Pp]ython", run.task("module", name).message)
    assert run.task("raw", "wrong").kind == "failed" and "Incorrect su password" in run.task("raw", "wrong").message
    assert "n0t-th1s" not in run.output and str(other.password) not in run.output
