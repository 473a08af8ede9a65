"""Debugging of tasks: ANSIBLE_KEEP_REMOTE_FILES, -vvv and -vvvv, ANSIBLE_DEBUG, and host names in the log."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


@pytest.mark.newest_core
def test_keep_remote_files_leaves_each_module_as_a_file(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]
) -> None:
    """The file belongs to the account that ran the module and can be run by itself."""
    account, other = make_account(sudo="nopasswd"), make_account()
    tasks = [
        {"name": "mine", "ansible.builtin.ping": {"data": "kept"}},
        {"name": "other's", "ansible.builtin.command": "id -un", "become": True, "become_user": other.name},
    ]
    run = ansible.tasks(tasks, {"h": ansible.target(sshd, account)}, env={"ANSIBLE_KEEP_REMOTE_FILES": "1"}).check()
    assert run.task("other's")["stdout"] == other.name
    (mine,) = (account.home / ".ansible/tmp").glob("ansible-tmp-*/AnsiballZ_ping.py")
    assert '"ping": "kept"' in account.run("/usr/bin/python3", str(mine)).stdout
    (others,) = (other.home / ".ansible/tmp").glob("ansible-tmp-*/AnsiballZ_command.py")
    assert others.stat().st_uid == other.uid


@pytest.mark.one_core
def test_vvvv_shows_connections_accounts_and_output(ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]) -> None:
    """-vvvv shows the connection, and for each command its account and output."""
    account = make_account(sudo="nopasswd")
    tasks = [
        {"name": "raw", "ansible.builtin.raw": "echo raw words"},
        {"name": "root", "ansible.builtin.command": "id -un", "become": True},
        {"name": "copy", "ansible.builtin.copy": {"content": "x" * 400000, "dest": "~/x"}},
    ]
    run = ansible.tasks(tasks, {"h": ansible.target(sshd, account)}, args=["-vvvv"]).check()
    for text in (
        f"<{sshd.host}> ESTABLISH PMITOGEN CONNECTION FOR USER: {account.name}",
        f"<{sshd.host}> EXEC 'echo raw words' ON A TERMINAL",
        f"<{sshd.host}> rc=0" if _core(ansible) >= (2, 22) else f"<{sshd.host}> (0, b'raw words\\r\\n', b'')",
        "Using module file ",
        " AS root BY sudo",
        f" TO {account.home}/.ansible/tmp/ansible-tmp-",
        f" {sshd.host} hub: logged in",
        f"account 0 is up: user {account.name}",
        "account 1 is up: user root",
    ):
        assert text in run.output, (text, run.output)
    assert re.search(r"<\S+> EXEC ansible\.modules\.command IN \S*python\S* AS root BY sudo .*\n", run.stdout)


SECRET = "only-known-when-the-result-is-read"
NEW_SECRET = """
#!/usr/bin/python
import json
from ansible.module_utils.basic import AnsibleModule
AnsibleModule(argument_spec={})
print(json.dumps({"changed": False, "told": "%s", "_ansible_new_secrets": ["%s"]}))
raise SystemExit(0)
""" % (SECRET, SECRET)


def _core(ansible: Ansible) -> tuple[int, ...]:
    return tuple(map(int, ansible.core.split(".")))


@pytest.mark.newest_core
def test_results_are_shown_as_over_ssh(ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]) -> None:
    """All of a result at -vvv; since ansible-core 2.22 only the exit code, because results may hold new secrets."""
    account = make_account()
    target = ansible.target(sshd, account, ansible_pipelining=True, ansible_python_interpreter="/usr/bin/python3")
    tasks = [
        {"name": "told", "tells": {}},
        {"name": "silent", "tells": {}, "no_log": True},
        {"name": "raw", "ansible.builtin.raw": "echo out; echo err >&2; exit 3", "ignore_errors": True},
    ]
    shown = {}
    for connection in ("ssh", "pmitogen"):
        files = {"library/tells.py": NEW_SECRET.lstrip()}
        run = ansible.tasks(tasks, {"h": target}, connection=connection, args=["-vvv"], files=files)
        ends = re.findall(r"^<\S+> (\(\d+, b.*|rc=\d.*)$", run.stdout, re.M)
        shown[connection] = {re.sub(r"Shared connection to \S+ closed\.(\\r)?\\n", "", line) for line in ends}
        assert (SECRET in run.output) == (_core(ansible) < (2, 22)), run.output
    if not (2, 17) <= _core(ansible) <= (2, 18):  # these run the ssh program itself with -vvv
        assert shown["pmitogen"] <= shown["ssh"]
    assert any(line.startswith("rc=3" if _core(ansible) >= (2, 22) else "(3, ") for line in shown["pmitogen"])


@pytest.mark.one_core
def test_ansible_debug_changes_no_result(ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]) -> None:
    """ANSIBLE_DEBUG changes no result, and its output contains no secret."""
    account = make_account(password="login-secret", sudo="password")
    tasks = [
        {"name": "mine", "ansible.builtin.command": "id -un"},
        {"name": "root", "ansible.builtin.command": "id -un", "become": True},
        {"name": "copy", "ansible.builtin.copy": {"content": "x", "dest": "~/x"}},
    ]
    target = ansible.target(sshd, account, ansible_password="login-secret", ansible_become_password="login-secret")
    del target["ansible_ssh_private_key_file"]
    run = ansible.tasks(tasks, {"h": target}, env={"ANSIBLE_DEBUG": "1"}).check()
    assert [run.task(name)["stdout"] for name in ("mine", "root")] == [account.name, "root"]
    assert "RUNNING CLEANUP" in run.output  # it did debug
    assert "Traceback" not in run.output and "login-secret" not in run.output


@pytest.mark.one_core
@pytest.mark.parametrize("level", ["debug", "trace"])
def test_log_lines_name_their_host_and_task(
    level: str, ansible: Ansible, make_sshd: Callable[..., Sshd], account: Account, tmp_path: Path
) -> None:
    """Paramiko's lines appear at level trace only."""
    addresses = ["127.0.0.1", "127.0.0.2"]
    sshd = make_sshd(addresses=addresses)
    log = tmp_path / "log"
    hosts = {
        name: {**ansible.target(sshd, account), "ansible_host": address} for name, address in zip("ab", addresses, strict=True)
    }
    for variables in hosts.values():
        variables["ansible_ssh_common_args"] += " -o StrictHostKeyChecking=no"
    env = {"PMITOGEN_LOG": level, "PMITOGEN_LOG_FILE": str(log)}
    ansible.tasks([{"name": "Say who", "ansible.builtin.command": "id -un"}], hosts, env=env).check()
    line = re.compile(r'\d\d:\d\d:\d\d\.\d{3} hub\[\d+\] \+\d+\.\d{3} (?:(\S+) )?(?:"(.*?)" )?(?:[A-Z]+ )?([\w.]+): (.*)')
    found = [match for text in log.read_text().splitlines() if (match := line.fullmatch(text))]
    by_host = {address: [match for match in found if match[1] == address] for address in addresses}
    for address in addresses:
        texts = [match[4] for match in by_host[address]]
        assert "logged in" in texts
        assert any(match[2] == "Say who" and "run ansible.modules.command" in match[4] for match in by_host[address]), texts
        paramiko = [text for text in log.read_text().splitlines() if f"{address} port {sshd.port} paramiko.pmitogen: " in text]
        assert bool(paramiko) == (level == "trace")
    ours = [match for match in found if match[3] == "hub"]
    assert ours and all(match[1] for match in ours), "each line of pmitogen names a host"
