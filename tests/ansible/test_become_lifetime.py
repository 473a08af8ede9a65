"""Lifetime of an account's interpreter, restarts after its death, and the error kinds of the library's become()."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pmitogen
from pmitogen.hub.host import accounts
from tests.support import processes
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.becoming import ID_TASK, SYSTEM_PYTHON, People, becoming
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

# The shell of a task is a child of the module, and the module a child of the account's interpreter.
_BROKEN = """#!/bin/sh
[ `id -u` = {uid} ] || exec {python} "$@"
printf 'PMITOGEN-%s ready\\n' "$3"
echo 'no module named select' >&2
exit 3
"""
KILL_INTERPRETER = "kill -9 $(ps -o ppid= -p $PPID)"
# The agent is the first child of the login's interpreter; while stopped, it sees the interpreter's end only after sshd has.
KILL_BEFORE_AGENT_NOTICES = (
    "me=$(ps -o ppid= -p $PPID); agent=$(pgrep -o -P $me); kill -STOP $agent; kill -9 $me; sleep 0.5; kill -CONT $agent"
)


def _wait_until(true: Callable[[], bool], seconds: float = 5) -> bool:
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    return true()


@pytest.mark.one_core
@pytest.mark.usefixtures("still_accounts")
def test_a_killed_interpreter_is_replaced_for_the_next_task(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], people: People
) -> None:
    account, other = make_account(sudo="nopasswd"), people.others[0]
    as_other = {"become": True, "become_user": other.name}
    tasks: list[dict[str, Any]] = [
        {"name": "first", **ID_TASK, **as_other},
        {"name": "kill idle", "ansible.builtin.command": f"pkill -9 -u {other.name}", "become": True},
        {"name": "second", **ID_TASK, **as_other},
        {"name": "kill busy", "ansible.builtin.shell": KILL_INTERPRETER, "ignore_errors": True, **as_other},
        {"name": "third", **ID_TASK, **as_other},
        {"name": "me", **ID_TASK},
    ]
    run = ansible.tasks(tasks, {"h": ansible.target(sshd, account)}).check()
    for name in ("first", "second", "third"):
        assert run.task(name)["stdout"] == other.name
    assert run.task("me")["stdout"] == account.name
    killed = run.task("kill busy")
    assert killed.kind == "failed" and "interpreter" in killed.message and "\n" not in killed.message
    assert account.sudo_uses() == 4  # three of the other's, one of root's


@pytest.mark.one_core
@pytest.mark.parametrize("death", [KILL_INTERPRETER, KILL_BEFORE_AGENT_NOTICES], ids=["seen", "unseen"])
def test_a_killed_login_interpreter_ends_the_connection_and_the_next_task_reconnects(
    death: str, ansible: Ansible, sshd: Sshd, people: People
) -> None:
    """The reported reason is the end of the process.

    Without a named interpreter, ansible-core 2.16 chooses another than the one that started first, which is the login account's.
    """
    tasks: list[dict[str, Any]] = [
        {"name": "kill", "ansible.builtin.shell": death, "ignore_unreachable": True},
        {"name": "next", **ID_TASK},
    ]
    host = ansible.target(sshd, people.nopasswd, ansible_python_interpreter=SYSTEM_PYTHON)
    run = ansible.tasks(tasks, {"h": host})
    killed = run.task("kill")
    assert killed.kind == "unreachable" and "the interpreter of the login account has ended" in killed.message, killed.message
    assert run.task("next")["stdout"] == people.nopasswd.name


@pytest.mark.one_core
def test_an_interpreter_that_fails_after_its_hello_is_reported_with_its_output(
    ansible: Ansible, sshd: Sshd, people: People, short_path: Path
) -> None:
    """It announces itself and then fails; the task's result contains its error output."""
    broken, other = short_path / "python3", people.others[0]
    broken.write_text(_BROKEN.format(uid=other.uid, python=SYSTEM_PYTHON))
    broken.chmod(0o755)
    variables = becoming("sudo", other.name, ansible_python_interpreter=str(broken))
    run = ansible.tasks([{"name": "who", **ID_TASK, "become": True}], {"h": ansible.target(sshd, people.nopasswd, **variables)})
    result = run.task("who")
    assert result.kind == "failed" and "no module named select" in str(result.result)


@pytest.mark.newest_core
@pytest.mark.usefixtures("still_accounts")
def test_modules_can_change_and_remove_an_account_that_was_entered(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]
) -> None:
    """userdel and usermod refuse an account that has a process, so pmitogen ends its interpreter first."""
    account, one, two = make_account(sudo="nopasswd"), make_account(), make_account()
    who = {"ansible.builtin.command": "id -un", "become": True}
    tasks: list[dict[str, Any]] = [
        {"name": "one", **who, "become_user": one.name},
        {"name": "two", **who, "become_user": two.name},
        {"name": "changed", "ansible.builtin.user": {"name": one.name, "uid": 64900 + one.uid % 100}, "become": True},
        {"name": "again", **who, "become_user": one.name},
        {"name": "removed", "ansible.builtin.user": {"name": one.name, "state": "absent", "remove": True}, "become": True},
        {"name": "other", "ansible.builtin.shell": f"userdel -r {two.name} 2>&1", "become": True},
    ]
    run = ansible.tasks(tasks, {"h": ansible.target(sshd, account)}).check()
    assert run.task("again")["stdout"] == one.name
    assert account.sudo_uses() == 4  # one's twice, two's, root's


@pytest.mark.one_core
@pytest.mark.usefixtures("still_accounts")
def test_escalated_interpreters_end_with_the_run(ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]) -> None:
    """If ControlPersist holds the connection for the next run, only the login's interpreter stays."""
    account, other = make_account(sudo="nopasswd"), make_account()
    hosts = {"h": ansible.target(sshd, account, ansible_ssh_args="-o ControlMaster=auto -o ControlPersist=30s")}
    tasks = [{"name": "who", **ID_TASK, "become": True, "become_user": other.name}]
    mark = sshd.mark()
    for count in (1, 2):
        ansible.tasks(tasks, hosts).check()
        assert _wait_until(lambda: not other.processes(), 10), other.processes()
        assert account.processes()
        assert (sshd.connections(mark), account.sudo_uses()) == (1, count)
    for process in account.processes():
        processes.kill_family(process.pid)


# -- the library ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def login(sshd: Sshd) -> Iterator[Callable[[Account], pmitogen.Host]]:
    made: list[pmitogen.Host] = []

    def connect(account: Account) -> pmitogen.Host:
        args = ["-o", f"UserKnownHostsFile={sshd.known_hosts}", "-p", str(sshd.port), "-i", str(sshd.key.path)]
        made.append(pmitogen.connect(f"{account.name}@{sshd.host}", ssh_args=args))
        return made[-1]

    yield connect
    for host in made:
        host.close()


@pytest.mark.usefixtures("still_accounts")
def test_the_least_recently_used_account_is_closed_beyond_the_limit(
    login: Callable[[Account], pmitogen.Host], make_account: Callable[..., Account]
) -> None:
    """The limit is accounts.MAX_ACCOUNTS interpreters for each host."""
    most = accounts.MAX_ACCOUNTS
    account, other = make_account(sudo="ALL=(ALL:ALL) NOPASSWD: SETENV: ALL"), make_account()
    host = login(account)
    hosts = [host.become(other.name, flags=f"-H NUMBER={index}") for index in range(most + 3)]
    for index, each in enumerate(hosts):
        assert each.run("echo $NUMBER").stdout == b"%d\n" % index
    assert account.sudo_uses() == most + 3
    assert _wait_until(lambda: len(_interpreters(other)) <= most), len(_interpreters(other))
    assert hosts[-1].run("echo $NUMBER").stdout == b"%d\n" % (most + 2)
    assert hosts[3].run("echo $NUMBER").stdout == b"3\n"
    assert account.sudo_uses() == most + 3, "both interpreters were still running"
    assert hosts[0].run("echo $NUMBER").stdout == b"0\n"
    assert account.sudo_uses() == most + 4
    host.close()
    assert _wait_until(lambda: not other.processes()), other.processes()


def _interpreters(account: Account) -> list[processes.Process]:
    """Return the account's Python processes; each has its starting shell beside it."""
    return [process for process in account.processes() if "python" in process.command.split()[0]]


def test_become_errors_of_the_library_have_their_kind(
    login: Callable[[Account], pmitogen.Host], make_account: Callable[..., Account], people: People, short_path: Path
) -> None:
    asked, free = login(people.password_sudo), login(people.nopasswd)
    closed, stranger = make_account(shell="/usr/sbin/nologin"), make_account()
    mute = short_path / "sudo"
    mute.write_text("#!/bin/sh\nexec sleep 600\n")
    mute.chmod(0o755)
    cases = {
        "password-missing": asked.become(),
        "password-wrong": asked.become(password="n0t-th1s"),
        "unknown-user": free.become("nobody-of-that-name"),
        "not-permitted": login(stranger).become(password=stranger.password),
        "not-installed": free.become(exe="/nonexistent/sudo"),
        "shell": free.become(closed.name, flags="-i"),
        "python": free.become(flags="-H PYTHONHOME=/nonexistent"),
        "timeout": free.become(exe=str(mute), timeout=1),
    }
    for kind, host in cases.items():
        with pytest.raises(pmitogen.BecomeError) as failure:
            host.run("id")
        assert failure.value.kind == kind, failure.value.message
        assert "\n" not in failure.value.message and "n0t-th1s" not in failure.value.message
    assert free.become().run("id -un").stdout == b"root\n"
