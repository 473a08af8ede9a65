"""become in plays: every method, every place for its keywords and password, and one session for each account."""

from __future__ import annotations

import os
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.becoming import DOAS, FILES, ID_TASK, SYSTEM_PYTHON, People, becoming, counting_wrapper
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


def _ways(ansible: Ansible, sshd: Sshd, people: People) -> dict[str, tuple[dict[str, Any], str]]:
    """name -> (variables of a host, its become user): both logins, each method, with and without a password, root and others."""
    asked, free, other = people.password_sudo, people.nopasswd, people.others[0]
    system = {"ansible_python_interpreter": SYSTEM_PYTHON}  # root's PATH may lead to a Python in root's home
    found: dict[str, tuple[dict[str, Any], str]] = {}

    def add(name: str, login: Account | str, user: str, *args: Any, by_password: bool = False, **more: Any) -> None:
        target = ansible.target(sshd, login, **becoming(args[0], user, *args[1:], **more))
        if by_password:
            assert isinstance(login, Account)
            target.update(ansible_ssh_private_key_file="/nonexistent/key", ansible_password=login.password)
        found[name] = target, user

    for login, by_password in (("key", False), ("password", True)):
        for user in ("root", other.name):
            kind = "root" if user == "root" else "other"
            add(f"sudo-{login}-{kind}-asked", asked, user, "sudo", asked.password, by_password=by_password)
            add(f"sudo-{login}-{kind}-free", free, user, "sudo", by_password=by_password)
        add(f"su-{login}-other", free, other.name, "su", other.password, by_password=by_password)
    add("su-root-other", "root", other.name, "su", **system)
    add("sudo-root-other", "root", other.name, "sudo", **system)
    for kind, user in (("root", "root"), ("other", other.name)):
        add(f"doas-{kind}-asked", asked, user, DOAS, asked.password)
        add(f"doas-{kind}-free", free, user, DOAS, by_password=True)
    return found


@pytest.mark.newest_core
def test_every_become_method_enters_the_account(
    ansible: Ansible, sshd: Sshd, people: People, request: pytest.FixtureRequest
) -> None:
    option = request.config.getoption
    ways = _ways(ansible, sshd, people)
    tasks: list[dict[str, Any]] = [
        {"name": "first", "ansible.builtin.raw": "id -un"},  # no Python
        {"name": "who", **ID_TASK},
        {"name": "copy", "ansible.builtin.copy": {"content": "x", "dest": "~/way-{{ inventory_hostname }}"}},
        {"name": "me", **ID_TASK, "become": False},
    ]
    hosts = {name: options for name, (options, _) in ways.items()}
    if not (option("--all") or option("--core")):  # by default only the most different ones
        hosts = {name: options for name, options in hosts.items() if "asked" in name or "root-other" in name}
    run = ansible.tasks(tasks, hosts, play={"become": True}, files=FILES, args=["-f", "6"]).check()
    for name, options in hosts.items():
        user = ways[name][1]
        assert run.task("first", name)["stdout_lines"] == run.task("who", name)["stdout_lines"] == [user]
        written = Path(os.path.expanduser(f"~{user}")) / f"way-{name}"
        assert written.owner() == user
        written.unlink()
        assert run.task("me", name)["stdout"] == options["ansible_user"]
    assert not [text for text in run.warnings if "remote_tmp" not in text], run.output  # a new home always causes this one


# -- places for become keywords ---------------------------------------------------------------------------------------------

SCOPES = """
- hosts: all
  gather_facts: false
  become: true
  become_user: "{{ a }}"
  roles:
    - {role: who, vars: {label: "role play a"}}
    - {role: who, vars: {label: "role own b"}, become_user: "{{ b }}"}
    - {role: who, vars: {label: "role no me"}, become: false}
  tasks:
    - {name: play a, command: id -un}
    - {name: task b, command: id -un, become_user: "{{ b }}"}
    - {name: task no me, command: id -un, become: false}
    - become_user: "{{ c }}"
      block:
        - {name: block c, command: id -un}
        - {name: block no me, command: id -un, become: false}
        - {name: block task root, command: id -un, become_user: root}
        - become: false
          block:
            - {name: inner no me, command: id -un}
            - {name: inner yes c, command: id -un, become: true}
        - {name: stumbles, command: "false"}
      rescue:
        - {name: rescue c, command: id -un}
      always:
        - {name: always b, command: id -un, become_user: "{{ b }}"}
    - include_role: {name: who, apply: {become_user: "{{ b }}"}}
      vars: {label: include_role b}
    - include_tasks: {file: who.yml, apply: {become_user: "{{ c }}"}}
      vars: {label: include_tasks c}
    - import_tasks: who.yml
      become: false
      vars: {label: import_tasks me}
    - {name: variable root, command: id -un, vars: {ansible_become_user: root}}
    - {name: again a, command: id -un}
    - {name: loop, command: id -un, become_user: "{{ item }}", loop: ["{{ b }}", "{{ c }}", root, "{{ a }}"], register: looped}
    - {name: looped, debug: {msg: "{{ looped.results | map(attribute='stdout') | list }}"}}
- hosts: all
  gather_facts: false
  tasks:
    - {name: new play me, command: id -un}
    - {name: new play root, command: id -un, become: true}
    - {name: task method b, command: id -un, become: true, become_user: "{{ b }}"}
"""
ID_TASKS = "- {name: '{{ label }}', command: id -un}\n"


@pytest.mark.newest_core
@pytest.mark.usefixtures("still_accounts")
def test_become_keywords_count_on_every_level(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], people: People
) -> None:
    """Play, role, block, task, include, variable; ``become: false`` inside; four accounts in turn, each entered once."""
    account = make_account(sudo="nopasswd")
    names = {**dict(zip("abc", (other.name for other in people.others), strict=True)), "root": "root", "me": account.name}
    files = {"roles/who/tasks/main.yml": ID_TASKS, "who.yml": ID_TASKS}
    host = ansible.target(sshd, account, **{key: names[key] for key in "abc"})
    run = ansible.playbook(SCOPES, {"h": host}, files=files).check()
    seen = {task.task.partition(" : ")[2] or task.task: task for task in run.tasks}
    labelled = {label: task for label, task in seen.items() if label.rpartition(" ")[2] in names}
    assert len(labelled) == 21, sorted(seen)
    for label, task in labelled.items():
        assert task["stdout"] == names[label.rpartition(" ")[2]], label
    assert run.task("looped").message == str([names[key] for key in ("b", "c", "root", "a")])
    assert account.sudo_uses() == 4, account.sudo_log.read_text()


# -- sources of the become password -----------------------------------------------------------------------------------------

# Runs its command line on a terminal of its own and answers the first prompt.
_TYPIST = """
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
said, answered = b"", False
while True:
    try:
        data = os.read(fd, 4096)
    except OSError:
        break
    if not data:
        break
    os.write(1, data)
    said += data
    if not answered and b"BECOME password" in said:
        answered = True
        os.write(fd, sys.argv[1].encode() + b"\\n")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""".replace("\\\\n", "\\n")


@pytest.mark.newest_core
@pytest.mark.parametrize(
    "source", ["variables", "keyboard", *(pytest.param(name, marks=pytest.mark.slow) for name in ("option", "configuration"))]
)
def test_become_password_from_each_source(source: str, ansible: Ansible, sshd: Sshd, people: People, short_path: Path) -> None:
    asked, options = people.password_sudo, {}
    assert asked.password is not None
    hosts = {"h": ansible.target(sshd, asked)}
    secret = short_path / "secret"
    secret.write_text(asked.password + "\n")
    secret.chmod(0o600)
    if source == "variables":
        hosts = {name: ansible.target(sshd, asked, **more) for name, more in _variables(ansible, asked.password, secret).items()}
        options = {"args": ["--vault-password-file", str(_vault_file(short_path))]}
    elif source == "keyboard":
        ansible = _typing(ansible, asked.password, short_path)
        options = {"args": ["-K"]}
    elif source == "option":
        options = {"args": ["--become-password-file", str(secret)]}
    else:
        options = {"files": {"ansible.cfg": f"[defaults]\nbecome_password_file = {secret}\n"}}
    run = ansible.tasks([{"name": "who", **ID_TASK, "become": True}], hosts, **options).check()
    assert [task["stdout"] for task in run.tasks] == ["root"] * len(hosts)
    assert asked.password not in run.output


def _vault_file(directory: Path) -> Path:
    path = directory / "vault"
    path.write_text("vault word\n")
    return path


def _variables(ansible: Ansible, password: str, secret: Path) -> dict[str, dict[str, Any]]:
    """Hosts with the password in each possible variable."""
    command = [str(ansible.python), "-m", "ansible", "vault", "encrypt_string"]
    command += ["--vault-password-file", str(_vault_file(secret.parent))]
    done = subprocess.run(command, input=password, capture_output=True, text=True, timeout=60, env=ansible.environment())
    assert done.returncode == 0, done.stderr
    vault = textwrap.dedent(done.stdout.split("|", 1)[1]).strip() + "\n"
    return {
        "plain": {"ansible_become_password": password},
        "short": {"ansible_become_pass": password},
        "method": {"ansible_sudo_pass": password},
        "vault": {"ansible_become_password": {"__ansible_vault": vault}},
        "lookup": {"ansible_become_password": "{{ lookup('file', '%s') }}" % secret},
    }


def _typing(ansible: Ansible, password: str, directory: Path) -> Ansible:
    """The same core, run on a terminal where *password* is typed."""
    typist, wrapper = directory / "typist.py", directory / "python"
    typist.write_text(_TYPIST)
    wrapper.write_text(f"#!/bin/sh\nexec {ansible.python} {typist} '{password}' {ansible.python} \"$@\"\n")
    wrapper.chmod(0o700)
    return Ansible(ansible.core, wrapper, ansible.directory)


# -- one session for each account -------------------------------------------------------------------------------------------

_SLOWLY = ("linear", "host_pinned")


def _three_ways(people: People, login: Account, directory: Path) -> tuple[dict[str, dict[str, Any]], list[Callable[[], int]]]:
    """Task keywords to become each of three accounts, by sudo, su and doas, and counters of the sessions."""
    one, two, three = people.others
    (su, su_uses), (doas, doas_uses) = counting_wrapper(directory, "su"), counting_wrapper(directory, "doas")
    ours, theirs = ({"vars": {"ansible_become_password": each.password}} for each in (login, two))
    sudo = {"become_user": one.name, **ours}
    by_su = {"become_user": two.name, "become_method": "su", "become_exe": str(su), **theirs}
    by_doas = {"become_user": three.name, "become_method": DOAS, "become_exe": str(doas), **ours}
    return {one.name: sudo, two.name: by_su, three.name: by_doas}, [login.sudo_uses, su_uses, doas_uses]


@pytest.mark.one_core
@pytest.mark.usefixtures("still_accounts")
def test_a_hundred_tasks_take_one_session_for_each_account(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], people: People, short_path: Path
) -> None:
    account = make_account(sudo="password", doas="password", sudo_defaults=["timestamp_timeout=0"])
    ways, counters = _three_ways(people, account, short_path)
    ways[account.name] = {"become": False}
    tasks = [{"name": user, **ID_TASK, "become": True, **args} for user, args in list(ways.items()) * 25]
    run = ansible.tasks(tasks, {"h": ansible.target(sshd, account)}, files=FILES).check()
    assert [task["stdout"] for task in run.tasks] == [task.task for task in run.tasks] and len(run.tasks) == 100
    assert [count() for count in counters] == [1, 1, 1]


@pytest.mark.one_core
@pytest.mark.parametrize("strategy", ["free", *(pytest.param(name, marks=pytest.mark.slow) for name in _SLOWLY)])
@pytest.mark.usefixtures("still_accounts")
def test_twenty_workers_share_one_session_for_each_account(
    strategy: str, ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], people: People, short_path: Path
) -> None:
    account = make_account(sudo="password", doas="password", sudo_defaults=["timestamp_timeout=0"])
    ways, counters = _three_ways(people, account, short_path)
    tasks = [{"name": user, **ID_TASK, "become": True, **options} for user, options in ways.items()]
    host = ansible.target(sshd, account)
    hosts = {f"h{index}": host for index in range(20)}
    mark = sshd.mark()
    run = ansible.tasks(tasks, hosts, play={"strategy": strategy}, files=FILES, args=["-f", "20"]).check()
    assert [task["stdout"] for task in run.tasks] == [task.task for task in run.tasks] and len(run.tasks) == 60
    assert [count() for count in counters] == [1, 1, 1]
    assert sshd.sessions(mark) == 1
