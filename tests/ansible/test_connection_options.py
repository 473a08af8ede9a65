"""Every connection option in real plays: each host of one run uses one option."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.keys import KeyFile
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.newest_core]

ID_TASKS = [{"name": "who", "ansible.builtin.command": "id -un", "changed_when": False}]


def _files(sshd: Sshd) -> str:
    """Arguments that exclude all files of this machine."""
    return f"-o UserKnownHostsFile={sshd.known_hosts} -o GlobalKnownHostsFile=/dev/null -F none"


def _ways(sshd: Sshd, account: Account, locked: KeyFile) -> dict[str, dict[str, Any]]:
    """Name -> variables of a host that must be able to log in."""
    files, key, no_key = _files(sshd), str(sshd.key.path), "-o IdentityFile=none -o IdentitiesOnly=yes"
    here = {"ansible_host": sshd.host, "ansible_port": sshd.port}
    user = {"ansible_user": account.name}
    rest = {"ansible_ssh_common_args": files}
    with_key = {"ansible_ssh_private_key_file": key}
    ansibles_old = {"ansible_ssh_host": sshd.host, "ansible_ssh_port": sshd.port, "ansible_ssh_user": account.name}
    return {
        "ansibles-old-names": {**ansibles_old, **with_key, **rest},
        "bare-names-are-not-read": {
            **here,
            **user,
            **with_key,
            **rest,
            "ssh_port": 1,
            "ssh_args": "-o User=nobody",
            "ssh_common_args": "-o User=nobody",
            "ssh_extra_args": "-p 1",
            "ssh_executable": "/nonexistent",
        },
        "password": {**here, **user, "ansible_password": account.password, "ansible_ssh_common_args": f"{files} {no_key}"},
        "ssh-pass": {**here, **user, "ansible_ssh_pass": account.password, "ansible_ssh_common_args": f"{files} {no_key}"},
        "ssh-args-before-user": {
            **here,
            **with_key,
            "ansible_user": "nobody",
            "ansible_ssh_args": f"-o User={account.name} {files}",
        },
        "port-before-common-args": {**here, **user, **with_key, "ansible_ssh_common_args": f"-p 1 {files}"},
        "extra-args": {**here, **user, **with_key, "ansible_ssh_extra_args": files},
        "key-in-common-args": {**here, **user, "ansible_ssh_common_args": f"{files} -i {key}"},
        "key-as-value": {
            **here,
            **user,
            **rest,
            "ansible_ssh_private_key": "{{ lookup('ansible.builtin.file', key_path) }}",
            "key_path": key,
        },
        "locked-key-as-value": {
            **here,
            **user,
            **rest,
            "ansible_ssh_private_key": locked.path.read_text(),
            "ansible_ssh_private_key_passphrase": locked.passphrase,
        },
        "locked-key-file": {
            **here,
            **user,
            **rest,
            "ansible_ssh_private_key_file": str(locked.path),
            "ansible_ssh_private_key_passphrase": locked.passphrase,
        },
        "templates": {
            **with_key,
            **rest,
            "ansible_host": "{{ where }}",
            "ansible_user": "{{ ['x', who] | last }}",
            "ansible_port": "{{ 1 + port_below }}",
            "where": sshd.host,
            "who": account.name,
            "port_below": sshd.port - 1,
        },
        "no-host-key-checking": {
            **here,
            **user,
            **with_key,
            "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=none -o GlobalKnownHostsFile=none",
        },
        "without-effect": {
            **here,
            **user,
            **with_key,
            **rest,
            "ansible_ssh_executable": "/nonexistent",
            "ansible_scp_if_ssh": True,
            "ansible_ssh_transfer_method": "scp",
            "ansible_control_path": "/nonexistent/%C",
            "ansible_ssh_use_tty": False,
            "ansible_ssh_password_mechanism": "sshpass",
            "ansible_pipelining": False,
            "ansible_sftp_batch_mode": False,
        },
    }


def test_every_variable_means_what_it_means_for_ssh(
    ansible: Ansible, sshd: Sshd, account: Account, make_key: Callable[..., KeyFile]
) -> None:
    locked = make_key("ed25519", passphrase="open sesame")
    sshd.authorize(locked.public)
    ways = _ways(sshd, account, locked)
    run = ansible.tasks(ID_TASKS, ways, args=["-f", "4"])
    failed = {task.host: task.message for task in run.tasks if task.kind != "ok"}
    assert not failed
    assert {task.host: task["stdout"] for task in run.tasks} == dict.fromkeys(ways, account.name)
    run.check()


def test_command_line_environment_and_ansible_cfg_set_connection_options(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    env = {"ANSIBLE_REMOTE_PORT": str(sshd.port), "ANSIBLE_SSH_ARGS": _files(sshd), "ANSIBLE_CONFIG": "ansible.cfg"}
    config = "[defaults]\nremote_user = nobody\nremote_port = 1\n[ssh_connection]\nssh_extra_args = -o Port=1\n"
    args = ["-u", account.name, "--private-key", str(sshd.key.path), "--ssh-common-args", "-o AddressFamily=inet", "-T", "20"]
    run = ansible.tasks(ID_TASKS, {"h": {"ansible_host": sshd.host}}, args=args, env=env, files={"ansible.cfg": config}).check()
    assert run.task("who")["stdout"] == account.name


def test_play_keywords_set_connection_options(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    variables = {"ansible_host": sshd.host, "ansible_ssh_private_key_file": str(sshd.key.path), "ansible_ssh_args": _files(sshd)}
    run = ansible.tasks(ID_TASKS, {"h": variables}, play={"remote_user": account.name, "port": sshd.port}).check()
    assert run.task("who")["stdout"] == account.name


# Variables added to a host that can log in, and a text that the message must contain.
REFUSALS = {
    "forwarding": ({"ansible_ssh_extra_args": "-L 1:h:2"}, ["ssh_extra_args: -l:"]),
    "no-such-keyword": ({"ansible_ssh_extra_args": "-o Nonsense=1"}, ["ssh_extra_args", "nonsense"]),
    "no-such-flag": ({"ansible_ssh_extra_args": "-@"}, ["ssh_extra_args", "-@"]),
    "open-quote": ({"ansible_ssh_extra_args": "-o 'User=x"}, ["ssh_extra_args", "quot"]),
    "space-in-host": ({"ansible_host": "127.0.0.1 "}, ["destination", "invalid characters"]),
    "shell-in-host": ({"ansible_host": "127.0.0.1;id"}, ["destination", "invalid characters"]),
    "shell-in-user": ({"ansible_user": "a`id`"}, ["remote_user", "invalid characters"]),
    "two-proxies": ({"ansible_ssh_extra_args": "-o ProxyCommand=b -J a"}, ["ssh_extra_args", "proxycommand"]),
}


def test_an_option_that_cannot_be_honoured_is_named_in_an_error(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    mark = sshd.mark()
    hosts = {name: ansible.target(sshd, account, **variables) for name, (variables, _) in REFUSALS.items()}
    run = ansible.tasks(ID_TASKS, hosts, args=["-f", "4"])
    messages = {task.host: task.message.lower() for task in run.tasks if task.kind == "unreachable"}  # as for rc 255
    for name, (_, options) in REFUSALS.items():
        assert all(word in messages[name] for word in options), messages[name]
    assert sshd.connections(mark) == 0, "no connection may be attempted"
    assert "Traceback" not in run.output


def test_no_secret_is_shown_at_the_highest_verbosity(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    """With a wrong password, and with the hub's own log on."""
    secret = "S3cret-that-nobody-may-see"
    host = ansible.target(sshd, account, ansible_password=secret, ansible_ssh_private_key_file="/nonexistent")
    run = ansible.tasks(ID_TASKS, {"h": host}, args=["-vvvvv"], env={"PMITOGEN_LOG": "trace"})
    assert run.tasks[0].kind == "unreachable"
    assert secret not in run.output


@pytest.mark.one_core
def test_a_log_file_may_have_a_more_detailed_level_than_the_screen(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], tmp_path: Path
) -> None:
    if ansible.release < (2, 17):
        pytest.skip("ANSIBLE_LOG_VERBOSITY came with ansible-core 2.17")
    account, log = make_account(sudo="nopasswd"), tmp_path / "log"
    env = {"ANSIBLE_LOG_PATH": str(log), "ANSIBLE_LOG_VERBOSITY": "3"}
    tasks = [{"name": "who", "ansible.builtin.command": "id -un", "become": True}]
    run = ansible.tasks(tasks, {"h": ansible.target(sshd, account)}, env=env).check()
    assert "EXEC ansible.modules.command IN" in log.read_text() and "AS root BY sudo -H -S -n" in log.read_text()
    assert "EXEC" not in run.output
