"""Plays over hosts behind a bastion: one connection to the bastion, in each notation for it, and no ssh program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pmitogen.ansible.options.table import OPTIONS
from tests.support.accounts import Account
from tests.support.ansible import PLUGINS, Ansible
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.one_core]
WHERE = [{"name": "where", "ansible.builtin.command": "printenv SSH_CONNECTION"}]


def _files(server: Sshd, alias: str, directory: Path) -> str:
    """ssh_config lines for *server*'s host key under any address."""
    known = directory / alias
    known.write_text(f"{alias} {server.host_keys[0].public}\n")
    return f"-o UserKnownHostsFile={known} -o GlobalKnownHostsFile=none -o HostKeyAlias={alias} -o IdentitiesOnly=yes"


@pytest.mark.parametrize("form", ["ProxyCommand", pytest.param("ProxyJump", marks=pytest.mark.slow)])
@pytest.mark.parametrize("count", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_all_hosts_share_one_connection_to_the_bastion(
    form: str, count: int, ansible: Ansible, make_sshd: Callable[..., Sshd], account: Account, short_path: Path
) -> None:
    bastion, addresses = make_sshd(), [f"127.0.1.{index}" for index in range(1, 11)]
    servers = [make_sshd(addresses=addresses) for _ in range(0, count, 10)]
    of_bastion = f"-p {bastion.port} -i {bastion.key} {_files(bastion, 'gate', short_path)} {account.name}@127.0.0.1"
    if form == "ProxyCommand":
        text = f"-o ProxyCommand='ssh -F none -W %h:%p {of_bastion}'"
    else:
        lines = ["Host gate", "HostName 127.0.0.1", f"Port {bastion.port}", f"User {account.name}", f"IdentityFile {bastion.key}"]
        lines += [f"UserKnownHostsFile {short_path}/gate", "HostKeyAlias gate"]
        (short_path / "config").write_text("\n".join(lines) + "\n")
        text = f"-F {short_path}/config -J gate"
    hosts: dict[str, dict[str, Any]] = {}
    for index in range(count):
        server = servers[index // 10]
        words_here = f"{text} {_files(server, f'target{index // 10}', short_path)}"
        more = {"ansible_host": server.addresses[index % 10], "ansible_ssh_common_args": words_here, "ansible_timeout": 60}
        hosts[f"h{index}"] = ansible.target(server, account, **more)
    run = ansible.tasks([*WHERE, *WHERE], hosts, args=["-f", str(count)]).check()
    reached = {(task.host, *task["stdout"].split()[2:]) for task in run.tasks}
    assert reached == {(name, host["ansible_host"], str(host["ansible_port"])) for name, host in hosts.items()}
    assert (bastion.connections(), bastion.sessions()) == (1, 0)
    assert sum(server.connections() for server in servers) == sum(server.sessions() for server in servers) == count


@pytest.mark.parametrize("form", ["ProxyCommand", "ProxyJump"])
def test_password_of_a_bastion_is_sent_only_if_the_variable_allows_it(
    form: str, ansible: Ansible, make_sshd: Callable[..., Sshd], make_account: Callable[..., Account], short_path: Path
) -> None:
    """By default the password is withheld, and the message names the variable; no target can set it and no log shows it."""
    gatekeeper, someone = make_account(password="gate keeper's"), make_account()
    bastion, target = make_sshd(config=["AuthenticationMethods password"]), make_sshd(config=["AuthenticationMethods password"])
    where = f"-p {bastion.port} {_files(bastion, 'gate', short_path)}"
    if form == "ProxyCommand":
        text = f"-o ProxyCommand='ssh -F none {where} -W %h:%p {gatekeeper.name}@127.0.0.1'"
        name = "127.0.0.1"
    else:
        options = [word for word in where.split() if "=" in word]
        config = ["Host gate", "HostName 127.0.0.1", *[word.replace("=", " ") for word in options]]
        (short_path / "config").write_text("\n".join(config) + "\n")
        text = f"-F {short_path}/config -J {gatekeeper.name}@gate:{bastion.port}"
        name = f"{gatekeeper.name}@gate:{bastion.port}"
    host = ansible.target(target, someone, ansible_password=someone.password)
    host["ansible_ssh_common_args"] = f"{text} {_files(target, 'target', short_path)}"
    del host["ansible_ssh_private_key_file"]
    run = ansible.tasks(WHERE, {"h": host})
    assert run.rc != 0 and "ansible_pmitogen_jump_credentials" in run.output
    assert str(bastion.port) in run.tasks[0].message and "Failed password" not in bastion.log()
    host["ansible_pmitogen_jump_credentials"] = {name: {"password": "{{ ('gate keeper', 's') | join(\"'\") }}"}}
    run = ansible.tasks(WHERE, {"h": host}, args=["-vvvv"], env={"PMITOGEN_LOG": "trace"}).check()
    assert [user for _, user in bastion.accepted()] == [gatekeeper.name]
    assert "gate keeper" not in run.output and str(someone.password) not in run.output


def test_facts_cannot_set_the_credentials_of_a_bastion(ansible: Ansible) -> None:
    names = [entry["name"] for entry in OPTIONS["jump_credentials"]["vars"]]
    code = (
        "import json; from ansible.vars.clean import clean_facts; from ansible.plugins.loader import connection_loader as c;"
        f"c.add_directory({str(PLUGINS)!r}); print(json.dumps(sorted(clean_facts(dict.fromkeys({names!r}, 1)))))"
    )
    assert ansible.answer(code) == []


def test_a_wrong_value_of_jump_credentials_is_reported_without_the_value(ansible: Ansible) -> None:
    values = ["hunter22", ["hunter22"], {"b": "hunter22"}, {"b": {"pasword": "hunter22"}}, {"b": {"otp": ["hunter22"]}}]
    where = {"ansible_host": "127.0.0.1", "ansible_port": 1}
    run = ansible.tasks(
        WHERE, {f"h{n}": {**where, "ansible_pmitogen_hops": value} for n, value in enumerate(values)}, args=["-vvvv"]
    )
    assert len(run.tasks) == len(values) and all("jump_credentials: " in task.message for task in run.tasks)
    assert "hunter22" not in run.output and "Traceback" not in run.output
