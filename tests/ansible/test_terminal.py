"""The terminal of raw and script is the same over ssh, over pmitogen, and over pmitogen on a host without Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.sshd import Sshd

from .test_become_programs import _HIDE

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.needs_ansible]

LOOK = """
for fd in 0 1 2; do test -t $fd && echo $fd is a terminal; done
stty size
stty -a | tr ";" "\\n" | grep -v "speed\\|rows\\|columns"
echo "TERM=$TERM"
printf 'one\\ntwo\\n'
echo err >&2
exit 3
"""


@pytest.mark.newest_core
@pytest.mark.needs_program("unshare", "ssh")
@pytest.mark.parametrize("term", ["xterm-kitty", None])
def test_raw_and_script_have_the_terminal_that_they_have_over_ssh(
    ansible: Ansible, make_sshd: Callable[..., Sshd], account: Account, tmp_path: Path, term: str | None
) -> None:
    server = make_sshd()
    hidden = make_sshd(config=["SetEnv PATH=/usr/bin:/bin:/usr/sbin:/sbin"], wrapper=["unshare", "-m", "sh", "-c", _HIDE, "sh"])
    script = tmp_path / "look.sh"
    script.write_text("#!/bin/sh" + LOOK)
    hosts = {
        "ssh": ansible.target(server, account, ansible_connection="ssh", ansible_ssh_executable="/usr/bin/ssh"),
        "python": ansible.target(server, account),
        "none": ansible.target(hidden, account),
    }
    tasks = [
        {"name": "raw", "ansible.builtin.raw": LOOK, "ignore_errors": True},
        {"name": "script", "ansible.builtin.script": str(script), "ignore_errors": True},
    ]
    run = ansible.tasks(tasks, hosts, env={"TERM": term} if term else {"TERM": ""})
    for name in ("raw", "script"):
        over_ssh = run.task(name, "ssh")
        assert "0 is a terminal\r\n" in over_ssh["stdout"] and over_ssh["rc"] == 3
        for host in ("python", "none"):
            assert run.task(name, host)["stdout"] == over_ssh["stdout"], (name, host)
            assert run.task(name, host)["rc"] == 3
            assert run.task(name, host)["stderr"] == ""
