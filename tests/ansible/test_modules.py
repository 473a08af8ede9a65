"""Every style of module runs, and async, reset_connection and waiting work as with Ansible's own connections."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import session
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.sshd import Sshd
from tests.support.watch import Watch

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

NEW_STYLE = """#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.mine import shout
module = AnsibleModule(argument_spec={"word": {"type": "str"}})
module.exit_json(said=shout(module.params["word"]), file=__file__, name=__name__)
"""
MODULE_UTIL = "def shout(word):\n    return word.upper()\n"
WANT_JSON = """#!/usr/bin/python3
# WANT_JSON
import json, sys
print(json.dumps({"said": json.load(open(sys.argv[1]))["word"].upper()}))
"""
JSON_ARGS = """#!/usr/bin/python3
import json
args = json.loads('''<<INCLUDE_ANSIBLE_MODULE_JSON_ARGS>>''')
print(json.dumps({"said": args["word"].upper()}))
"""
OLD_STYLE = """#!/bin/sh
. "$1"
printf '{"said": "%s"}\\n' "$(echo "$word" | tr a-z A-Z)"
"""
BINARY = b"""#!/bin/sh
word=$(sed 's/.*"word": *"\\([^"]*\\)".*/\\1/' "$1")
printf '{"said": "%s"}\\n' "$(echo "$word" | tr a-z A-Z)"
exit 0
\0\1\2\3\0\0\0\0
"""
LIBRARY: dict[str, str | bytes] = {
    "library/new_style.py": NEW_STYLE,
    "module_utils/mine.py": MODULE_UTIL,
    "library/want_json.py": WANT_JSON,
    "library/json_args.py": JSON_ARGS,
    "library/old_style": OLD_STYLE,
    "library/binary": BINARY,
}
STYLES = ("new_style", "want_json", "json_args", "old_style", "binary")


@pytest.mark.usefixtures("still_accounts")
def test_modules_of_every_style_run(ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]) -> None:
    account = make_account(sudo="nopasswd")
    tasks = [{"name": style, style: {"word": "hello"}} for style in STYLES]
    tasks += [{"name": f"root-{style}", style: {"word": "hello"}, "become": True} for style in STYLES]
    mark = sshd.mark()
    run = ansible.tasks(tasks, {"h": ansible.target(sshd, account)}, files=LIBRARY).check()
    assert {task.task: task["said"] for task in run.tasks} == {task["name"]: "HELLO" for task in tasks}
    assert run.task("new_style")["name"] == "__main__"
    assert (sshd.connections(mark), sshd.sessions(mark), account.sudo_uses()) == (1, 1, 1)
    assert not list((account.home / ".ansible/tmp").iterdir())


@pytest.mark.one_core
def test_async_tasks_are_polled_awaited_and_ended(ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]) -> None:
    account = make_account(sudo="nopasswd")
    tasks: list[dict[str, Any]] = [
        {"name": "polled", "ansible.builtin.command": "echo polled", "async": 20, "poll": 1},
        {"name": "start", "ansible.builtin.shell": "sleep 1; echo fired", "async": 20, "poll": 0, "register": "job"},
        {"name": "root", "ansible.builtin.command": "id -un", "async": 20, "poll": 1, "become": True},
        {
            "name": "status",
            "ansible.builtin.async_status": {"jid": "{{ job.ansible_job_id }}"},
            "register": "state",
            "until": "state is finished",
            "retries": 40,
            "delay": 0.2,
        },
        {"name": "slow", "ansible.builtin.command": "sleep 30", "async": 1, "poll": 1, "ignore_errors": True},
        {"name": "survivor", "ansible.builtin.shell": "sleep 3; echo done > ~/survived", "async": 30, "poll": 0},
    ]
    run = ansible.tasks(tasks, {"h": ansible.target(sshd, account)})
    assert run.rc == 0, run.output
    assert run.task("polled")["stdout"] == "polled" and run.task("root")["stdout"] == "root"
    assert run.task("status")["stdout"] == "fired"
    assert run.task("slow").kind == "failed" and "async task" in run.task("slow").message
    survived = account.home / "survived"
    assert not survived.exists(), "too slow a machine for this test"
    until = time.monotonic() + 20
    while not survived.exists():
        assert time.monotonic() < until
        time.sleep(0.1)
    assert survived.read_text() == "done\n"
    until = time.monotonic() + 5
    while account.processes() and time.monotonic() < until:
        time.sleep(0.1)


@pytest.mark.newest_core
@pytest.mark.usefixtures("still_accounts")
def test_reset_connection_makes_a_new_login(ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]) -> None:
    """The new login sees a group that was added after the first."""
    account = make_account(sudo="nopasswd")
    groups = {"ansible.builtin.command": "id -Gn"}
    tasks = [
        {"name": "before", **groups},
        {"name": "join", "ansible.builtin.user": {"name": account.name, "groups": "games", "append": True}, "become": True},
        {"name": "same", **groups},
        {"name": "reset", "ansible.builtin.meta": "reset_connection"},
        {"name": "after", **groups},
        {"name": "root", "ansible.builtin.command": "id -un", "become": True},
    ]
    mark = sshd.mark()
    run = ansible.tasks(tasks, {"h": ansible.target(sshd, account)}).check()
    assert "games" not in run.task("same")["stdout"] and "games" in run.task("after")["stdout"]
    assert run.task("root")["stdout"] == "root"
    assert (sshd.connections(mark), account.sudo_uses()) == (2, 2)
    assert not run.warnings


@pytest.mark.one_core
def test_wait_for_connection_waits_for_a_server_that_restarts(
    ansible: Ansible, make_sshd: Callable[..., Sshd], account: Account
) -> None:
    """The server stops and starts again."""
    server = make_sshd()
    server.stop()
    tasks = [
        {"name": "wait", "ansible.builtin.wait_for_connection": {"timeout": 30, "sleep": 1, "connect_timeout": 3}},
        {"name": "ping", "ansible.builtin.ping": {}},
    ]
    running = ansible.start([{"hosts": "all", "gather_facts": False, "tasks": tasks}], {"h": ansible.target(server, account)})
    time.sleep(5)
    assert not running.tasks()
    server.start()
    run = running.finish().check()
    assert run.task("wait")["elapsed"] >= 1


@pytest.mark.one_core
def test_raw_and_script_run_without_python(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    files = {
        "say.sh": '#!/bin/sh\necho "script $1"; echo err >&2; exit 3\n',
        "say.py": "#!/usr/bin/python3\nprint('python script')\n",
    }
    tasks: list[dict[str, Any]] = [
        {"name": "raw", "ansible.builtin.raw": "echo out; exit 4", "failed_when": False},
        {"name": "script", "ansible.builtin.script": "say.sh 'two words'", "failed_when": False},
        {"name": "python", "ansible.builtin.script": "say.py"},
        {"name": "executable", "ansible.builtin.raw": "echo $0", "args": {"executable": "/bin/bash"}},
    ]
    run = ansible.tasks(tasks, {"h": ansible.target(sshd, account)}, files=files).check()
    assert (run.task("raw")["stdout"].strip(), run.task("raw")["rc"]) == ("out", 4)
    assert run.task("script")["rc"] == 3 and "script two words" in run.task("script")["stdout"]
    assert run.task("python")["stdout"].strip() == "python script"
    assert "bash" in run.task("executable")["stdout"]


# A server with its own temporary directories, so that all changes there come from its sessions.
PRIVATE = """
set -e
mount --bind {directory} /mnt
for place in /tmp /var/tmp /dev/shm; do mount -t tmpfs -o mode=1777 none $place; done
mkdir -m 711 {directory}
mount --move /mnt {directory}
exec "$@"
"""


@pytest.mark.one_core
def test_a_hundred_tasks_write_only_requested_files(
    ansible: Ansible, make_sshd: Callable[..., Sshd], make_account: Callable[..., Account]
) -> None:
    """inotify watches the homes and the common temporary directories."""
    server = make_sshd(wrapper=["unshare", "-m", "sh", "-c", PRIVATE.format(directory=session.directory), "sh"])
    account, other = make_account(sudo="nopasswd"), make_account()
    asked = account.home / "asked"
    tasks: list[dict[str, Any]] = []
    for index in range(34):
        state = "touch" if index == 0 else "file"
        tasks += [
            {"name": f"c{index}", "ansible.builtin.command": "echo hello"},
            {
                "name": f"s{index}",
                "ansible.builtin.stat": {"path": "/etc"},
                "become": index % 2 == 0,
                "become_user": other.name,
            },
            {"name": f"f{index}", "ansible.builtin.file": {"path": str(asked), "state": state, "mode": "0600"}},
        ]
    root = Path(f"/proc/{server.pid}/root")
    assert not list((root / "var/tmp").iterdir()), "the server's temporary directories are not its own"
    with Watch(account.home, other.home, root / "tmp", root / "var/tmp", root / "dev/shm") as watch:
        (root / "var/tmp/seen").touch()
        run = ansible.tasks(tasks[:100], {"h": ansible.target(server, account)}).check()
    assert len(run.tasks) == 100
    assert [event.path.name for event in watch.events if event.path != asked] == ["seen"], watch.events
    assert any(event.path == asked for event in watch.events)
