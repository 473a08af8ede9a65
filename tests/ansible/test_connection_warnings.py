"""Warnings about host keys and algorithms: shown where ssh prints them, once for each host and run, and not in results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pmitogen.hub.daemon import socket_paths
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.keys import KeyFile
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.newest_core]
PING = {"ansible.builtin.ping": {}}
TASKS: list[dict[str, Any]] = [
    {**PING, "no_log": True, "register": "first"},
    {"ansible.builtin.meta": "reset_connection"},
    {"ansible.builtin.command": "id -un", "become": True},
    {"ansible.builtin.assert": {"that": "first.warnings is not defined"}},
]


def _with_known_hosts(variables: dict[str, Any], path: Path | str, more: str) -> dict[str, Any]:
    options = f"-o UserKnownHostsFile={path} -o GlobalKnownHostsFile=/dev/null -o IdentitiesOnly=yes {more}"
    return {**variables, "ansible_ssh_common_args": options}


def test_a_changed_key_is_warned_about_once(
    ansible: Ansible, sshd: Sshd, account: Account, short_path: Path, make_key: Callable[..., KeyFile]
) -> None:
    """LogLevel ERROR does not hide it, and it is shown even if the login fails or no_log is set; LogLevel QUIET hides it."""
    known = short_path / "known"
    known.write_text(f"[{sshd.host}]:{sshd.port} {make_key().public}\n")
    line = f"[WARNING]: [{sshd.host}]:{sshd.port}: ED25519 SHA256:"
    unchecked = {"ANSIBLE_HOST_KEY_CHECKING": "False"}

    def variables(loglevel: str, **more: Any) -> dict[str, Any]:
        plain = _with_known_hosts(ansible.target(sshd, account), known, f"-o LogLevel={loglevel}")
        return {**plain, "ansible_become_exe": "sudo", **more}

    two_names = {"web": variables("ERROR"), "same": variables("ERROR", ansible_timeout=20)}  # one connection each
    run = ansible.tasks(TASKS, two_names, env=unchecked).check()
    assert run.stderr.count("[WARNING]") == run.stderr.count(line) == 1 and "does not match" in run.stderr, run.output

    run = ansible.tasks([PING], {"web": variables("INFO", ansible_user="nobody-here")}, env=unchecked)
    assert [task.kind for task in run.tasks] == ["unreachable"] and run.stderr.count(line) == 1, run.output

    run = ansible.tasks([PING], {"web": variables("QUIET")}, env=unchecked).check()
    assert "[WARNING]" not in run.output


def test_a_new_key_is_announced_when_it_is_recorded(ansible: Ansible, sshd: Sshd, account: Account, short_path: Path) -> None:
    """The text is that of ssh. With /dev/null as known_hosts every run would repeat it, so it is printed at -vvv only."""
    plain = ansible.target(sshd, account)
    text = f"Permanently added '[{sshd.host}]:{sshd.port}' (ED25519) to the list of known hosts."
    new = _with_known_hosts(plain, short_path / "known", "-o StrictHostKeyChecking=accept-new")
    run = ansible.tasks(TASKS, {"web": new}).check()
    assert run.stderr.count("[WARNING]") == run.stderr.count(f"[WARNING]: {text}\n") == 1, run.output
    run = ansible.tasks([PING], {"web": new}).check()
    assert "Permanently" not in run.output and "[WARNING]" not in run.output

    unrecorded = _with_known_hosts(plain, "/dev/null", "-o StrictHostKeyChecking=no")
    run = ansible.tasks([PING], {"web": unrecorded}, args=["-vvv"]).check()
    assert run.output.count(text) == 1 and "[WARNING]" not in run.output


def test_several_hubs_warn_once_about_a_shared_bastion(
    ansible: Ansible, make_sshd: Callable[..., Sshd], account: Account, short_path: Path
) -> None:
    """Each hub connects to a bastion whose key cannot be recorded; weak algorithms of each host are also warned about once."""
    addresses = [f"127.0.0.{number}" for number in range(2, 6)]
    assert {socket_paths.hub_index_for(address, 2) for address in addresses} == {0, 1}
    bastion, target = make_sshd(), make_sshd(addresses=addresses)
    lines = ["Host gate", "HostName 127.0.0.1", f"Port {bastion.port}", f"User {account.name}", f"IdentityFile {bastion.key}"]
    lines += ["StrictHostKeyChecking accept-new", f"UserKnownHostsFile {bastion.known_hosts}/nowhere"]
    (short_path / "config").write_text("\n".join(lines) + "\n")
    options = f"-F {short_path}/config -J gate -o WarnWeakCrypto=yes -o KexAlgorithms=curve25519-sha256"
    hosts = {
        address: {**_with_known_hosts(ansible.target(target, account), target.known_hosts, options), "ansible_host": address}
        for address in addresses
    }
    run = ansible.tasks([PING, PING], hosts, env={"PMITOGEN_HUBS": "2"}).check()
    assert bastion.connections() == 2
    assert run.stderr.count("accepted, but not written") == 1, run.output
    assert [run.stderr.count(f"@{address} port {target.port}: the key exchange curve25519") for address in addresses] == [1] * 4
    assert run.stderr.count("[WARNING]") == 1 + len(addresses)
