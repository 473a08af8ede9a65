"""No secret of a play appears in its log at any level, in an argument list or in an environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support import processes
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.newest_core]
OTP = "otp-739154-otp"
PASSPHRASE = "pass phrase of a key"


def test_no_secret_is_logged(
    ansible: Ansible, sshd: Sshd, make_account: Any, make_key: Any, tmp_path: Path, short_path: Path
) -> None:
    account = make_account(password="login's $ecret", sudo="password")
    other = make_account(password='be"come\\ secret')
    key = make_key("ed25519", passphrase=PASSPHRASE)
    sshd.authorize(key.public)
    base = ansible.target(sshd, account)
    del base["ansible_ssh_private_key_file"]
    plain = {**base, "ansible_ssh_common_args": base["ansible_ssh_common_args"] + " -o IdentityFile=none"}
    text = {"ansible_ssh_private_key": key.path.read_text(), "ansible_ssh_private_key_passphrase": PASSPHRASE}
    targets = {
        "password": {**plain, "ansible_password": account.password, "ansible_pmitogen_otp": OTP},
        "key": {**plain, **text, "ansible_become_password": account.password},
        "refused": {**plain, "ansible_password": "wr0ng login word"},
    }
    sudo = {"ansible_become_password": "{{ login }}", "login": account.password}
    su = {"ansible_become_method": "su", "ansible_become_user": other.name, "ansible_become_password": other.password}
    wrong = {"ansible_become_password": "wr0ng become word"}
    tasks = [
        {"name": "login", "ansible.builtin.command": "id -un"},
        {"name": "sudo", "ansible.builtin.command": "id -un", "become": True, "vars": sudo},
        {"name": "su", "ansible.builtin.command": "id -un", "become": True, "vars": su},
        {"name": "wrong", "ansible.builtin.command": "id -un", "become": True, "vars": wrong, "ignore_errors": True},
    ]
    log = tmp_path / "log"
    env = {"PMITOGEN_LOG": "trace", "PMITOGEN_LOG_FILE": str(log)}
    run = ansible.tasks(tasks, targets, env=env, args=["-vvv"])
    kinds = {(task.host, task.task): task.kind for task in run.tasks}
    for host in ("password", "key"):
        assert [kinds[host, name] for name in ("login", "sudo", "su", "wrong")] == ["ok", "ok", "ok", "failed"], run.stdout
    assert kinds["refused", "login"] == "unreachable"

    secrets = [account.password, other.password, OTP, PASSPHRASE, "wr0ng login word", "wr0ng become word"]
    secrets += [line for line in key.path.read_text().splitlines() if not line.startswith("-----")]
    logged = log.read_text()
    assert "auth" in logged and len(logged.splitlines()) > 50
    message = "\n".join(task.message for task in run.tasks)
    for secret in secrets:
        for written in (secret, repr(secret)[1:-1], secret.replace("\\", "\\\\").replace('"', '\\"')):
            assert written not in logged and written not in run.stderr and written not in message, secret


def test_no_secret_is_in_an_argument_list_or_environment(ansible: Ansible, sshd: Sshd, make_account: Any) -> None:
    account: Account = make_account(password="visible-to-nobody", sudo="password")
    target = {**ansible.target(sshd, account), "ansible_become_password": account.password, "ansible_password": account.password}
    play = {"hosts": "all", "gather_facts": False, "become": True, "tasks": [{"ansible.builtin.command": "sleep 1"}]}
    running = ansible.start([play], {"web": target})
    seen = 0
    while running.process.poll() is None:
        for process in processes.all_processes():
            for name in ("cmdline", "environ"):
                try:
                    data = Path(f"/proc/{process.pid}/{name}").read_bytes()
                except OSError:
                    continue
                seen += 1
                assert b"visible-to-nobody" not in data or process.pid == os.getpid(), process
    assert seen and running.finish(60).rc == 0


MASKS = """
#!/usr/bin/python
import binascii
from ansible.module_utils.basic import AnsibleModule
try:
    from ansible.module_utils.secrets import mask_secrets
except ImportError:  # before ansible-core 2.22
    mask_secrets = str
module = AnsibleModule(argument_spec={"text": {"type": "str"}})
masked = mask_secrets(module.params["text"])
module.exit_json(masked_there=binascii.hexlify(masked.encode()).decode())
"""


def test_secrets_that_ansible_masks_are_masked_on_the_target_too(
    ansible: Ansible, sshd: Sshd, make_account: Any, make_key: Any, tmp_path: Path
) -> None:
    """Secrets of the connection and of a module are registered in the module's process, and logged nowhere on the way."""
    account = make_account(password="login's $ecret", sudo="password")
    key = make_key("ed25519", passphrase=PASSPHRASE)
    sshd.authorize(key.public)
    target = {
        **ansible.target(sshd, account),
        "ansible_password": account.password,
        "ansible_ssh_private_key": key.path.read_text(),
        "ansible_ssh_private_key_passphrase": PASSPHRASE,
        "ansible_pmitogen_otp": OTP,
        "ansible_pmitogen_jump_credentials": {"bastion": {"password": "jump-password", "otp": 739155}},
        "ansible_become_password": account.password,
    }
    secrets = [account.password, PASSPHRASE, OTP, "jump-password", "739155"]
    text = " - ".join(secrets)
    tasks = [
        {"name": "connect", "ansible.builtin.ping": {}},
        {"name": "login", "masks": {"text": text}},
        {"name": "become", "masks": {"text": text}, "become": True},
        {"name": "in a process", "masks": {"text": text}, "async": 30, "poll": 1},
    ]
    log = tmp_path / "log"
    env = {"PMITOGEN_LOG": "trace", "PMITOGEN_LOG_FILE": str(log), "PMITOGEN_TRACE": str(tmp_path / "trace")}
    run = ansible.tasks(tasks, {"web": target}, env=env, args=["-vvvv"], files={"library/masks.py": MASKS.lstrip()}).check()
    is_masked = ansible.core >= "2.22"
    for name in ("login", "become", "in a process"):
        masked = bytes.fromhex(run.task(name)["masked_there"]).decode()
        assert masked == (" - ".join(["$REDACTED$"] * len(secrets)) if is_masked else text)
    written = log.read_text() + run.stderr + "".join(path.read_text() for path in tmp_path.glob("trace*"))
    assert not [secret for secret in secrets if secret in written or is_masked and secret in run.stdout]
