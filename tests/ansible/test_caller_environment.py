"""Each run uses its own directory, environment, log and timeline, also on a connection that an earlier run made."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pmitogen.flags.ansible import DEFAULT_SSH_ARGS
from tests.integration._login import ssh_agent
from tests.support import processes
from tests.support.accounts import Account
from tests.support.ansible import Ansible, Run
from tests.support.keys import KeyFile
from tests.support.sshd import Sshd

from .test_hubs_command import hubs

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.one_core]

PERSIST = "-o ControlMaster=auto -o ControlPersist=60s"
THROUGH = """
import select, socket, sys, os
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
while True:
    ready = select.select([0, sock], [], [])[0]
    data = os.read(0 if 0 in ready else sock.fileno(), 65536)
    if not data:
        break
    sock.sendall(data) if 0 in ready else os.write(1, data)
"""
ID_TASK = {"name": "who", "ansible.builtin.command": "id -un"}


def _wait_for_standby() -> None:
    """Wait until the hub has noticed the end of its run."""
    processes.wait_until(lambda: None in {hub["run"] for hub in json.loads(hubs("--json"))}, 5)


@pytest.fixture
def stopped(account: Account) -> Iterator[None]:
    """Stop the test's hubs after it."""
    yield
    hubs("--stop")
    processes.wait_until(lambda: not account.processes(), 5)


# -- relative paths ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(sshd: Sshd, account: Account, client_key: KeyFile) -> dict[str, str | bytes]:
    """Files beside a playbook, as in many repositories."""
    ssh_config = f"""
Host h
    HostName {sshd.host}
    Port {sshd.port}
    User {account.name}
    UserKnownHostsFile ./known_hosts
    StrictHostKeyChecking yes
    IdentitiesOnly yes
Match exec "test -f keys/id"
    IdentityFile keys/id
"""
    return {
        "ssh.cfg": ssh_config,
        "keys/id": client_key.path.read_text(),
        "known_hosts": sshd.known_hosts.read_bytes(),
        "through.py": THROUGH,
        "bare.cfg": ssh_config.partition("Match")[0],
    }


def _play(ansible: Ansible, files: dict[str, str | bytes], variables: dict[str, Any], **more: Any) -> Run:
    """Run the play in its own directory; its first task makes the keys private."""
    private = {"name": "private", "ansible.builtin.command": "chmod 600 keys/id", "delegate_to": "localhost"}
    local = {"localhost": {"ansible_connection": "local"}, "h": variables}
    tasks = [{**private, "run_once": True}, {**ID_TASK, "when": "inventory_hostname == 'h'"}]
    return ansible.tasks(tasks, local, files=files, play={"hosts": "h"}, **more)


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"ansible_ssh_common_args": "-F ./ssh.cfg"}, marks=pytest.mark.slow),
        {"ansible_ssh_common_args": "-F bare.cfg", "ansible_ssh_private_key_file": "keys/id"},
        pytest.param({"ansible_ssh_common_args": "-F bare.cfg -i ./keys/../keys/id"}, marks=pytest.mark.slow),
        {"ansible_ssh_common_args": "-F bare.cfg -i keys/id -E ssh.log -o ProxyCommand='python3 ./through.py $DOOR'"},
    ],
    ids=["config", "variable", "flag", "proxy"],
)
def test_relative_paths_start_at_the_directory_of_the_run(
    ansible: Ansible, sshd: Sshd, account: Account, checkout: dict[str, str | bytes], variables: dict[str, Any]
) -> None:
    run = _play(ansible, checkout, variables, env={"DOOR": str(sshd.port)}).check()
    assert run.task("who")["stdout"] == account.name
    if "-E" in variables["ansible_ssh_common_args"]:
        (log,) = ansible.directory.glob("*/ssh.log")
        assert log.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    os.umask(umask := os.umask(0))
    return umask


# -- connections that outlive their run -------------------------------------------------------------------------------------


@pytest.fixture
def server(make_sshd: Callable[..., Sshd]) -> Sshd:
    return make_sshd(config=["AcceptEnv WHICH"])


def _target(server: Sshd, account: Account, args: str = "", **more: Any) -> dict[str, Any]:
    """Variables of a host whose keys come from the agent only."""
    options = f"-F none -o UserKnownHostsFile={server.known_hosts} {args}"
    return {
        "ansible_host": server.host,
        "ansible_port": server.port,
        "ansible_user": account.name,
        "ansible_ssh_common_args": options,
        "ansible_ssh_args": PERSIST,
        **more,
    }


def _fingerprint(key: KeyFile) -> str:
    args = ["ssh-keygen", "-lf", f"{key.path}.pub"]
    return subprocess.run(args, capture_output=True, text=True, check=True, timeout=20).stdout.split()[1]


SEE = {"name": "see", "ansible.builtin.raw": "echo $WHICH; ssh-add -l 2>&1"}


def test_each_run_uses_its_own_agent_and_environment(
    ansible: Ansible, server: Sshd, account: Account, make_key: Callable[..., KeyFile], short_path: Path, stopped: None
) -> None:
    """The second run's agent has no valid key, and the first run's connection is not used; the third run is like the first."""
    other = make_key("ed25519")
    server.authorized_keys.write_text(server.authorized_keys.read_text())
    directories = [short_path / name for name in ("a", "b")]
    for directory in directories:
        directory.mkdir()
    target = _target(server, account, "-A -o SendEnv=WHICH")
    with ssh_agent(directories[0], server.key.path) as first, ssh_agent(directories[1], other.path) as second:
        mark = server.mark()

        def play(agent: str, which: str) -> Run:
            run = ansible.tasks([SEE], {"h": target}, env={"SSH_AUTH_SOCK": agent, "WHICH": which})
            _wait_for_standby()
            return run

        run = play(first, "one").check()
        assert run.task("see")["stdout_lines"][0] == "one" and "ED25519" in run.task("see")["stdout"]
        assert play(second, "one").task("see").kind == "unreachable"
        assert play(first, "one").check().task("see")["stdout_lines"][0] == "one"
        assert len(server.accepted(mark)) == 1, "the first and the third run share a connection"
        run = play(first, "two").check()
        assert run.task("see")["stdout_lines"][0] == "two" and len(server.accepted(mark)) == 2

        server.authorized_keys.write_text(server.authorized_keys.read_text() + other.public + "\n")
        run = play(second, "one").check()
        seen = run.task("see")["stdout"]
        assert len(server.accepted(mark)) == 3 and _fingerprint(other) in seen and _fingerprint(server.key) not in seen


def test_a_run_without_controlpersist_uses_no_earlier_connection(
    ansible: Ansible, server: Sshd, account: Account, stopped: None
) -> None:
    """As with ssh, where such a run has no ControlPath."""
    key = {"ansible_ssh_private_key_file": str(server.key.path)}
    mark = server.mark()
    for args, logins in ((PERSIST, 1), (PERSIST, 1), (DEFAULT_SSH_ARGS, 2), (PERSIST, 2), (f"{PERSIST} -o User=root", 3)):
        ansible.tasks([ID_TASK], {"h": _target(server, account, ansible_ssh_args=args, **key)}).check()
        _wait_for_standby()
        assert len(server.accepted(mark)) == logins, args
    again = {"ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=30s -o ConnectTimeout=7"}
    ansible.tasks([ID_TASK], {"another name": _target(server, account, **key, **again)}).check()
    assert len(server.accepted(mark)) == 3, "ControlPersist, ConnectTimeout and the inventory name do not matter"


def test_a_connection_by_proxycommand_is_shared_only_in_an_equal_environment(
    ansible: Ansible, make_sshd: Callable[..., Sshd], account: Account, tmp_path: Path, stopped: None
) -> None:
    """A variable chooses the server that it leads to; variables of the shell itself (SHLVL) are not compared."""
    (tmp_path / "through.py").write_text(THROUGH)
    (tmp_path / "play.json").write_text(json.dumps([{"hosts": "h", "gather_facts": False, "tasks": [ID_TASK]}]))
    servers = [make_sshd(), make_sshd()]
    proxy = "-o StrictHostKeyChecking=no -o ProxyCommand='python3 through.py $DOOR'"
    target = _target(servers[0], account, proxy, ansible_ssh_private_key_file=str(servers[0].key.path))
    marks = [server.mark() for server in servers]

    def logins(door: int, level: str) -> list[int]:
        env = {"DOOR": str(servers[door].port), "SHLVL": level}
        ansible.start_beside(tmp_path, "play.json", {"h": target}, {}, connection="pmitogen", env=env).finish().check()
        _wait_for_standby()
        return [server.connections(mark) for server, mark in zip(servers, marks, strict=True)]

    assert [logins(0, "1"), logins(0, "2"), logins(1, "1"), logins(0, "1")] == [[1, 0], [1, 0], [1, 1], [1, 1]]


def test_each_run_writes_its_own_log_and_timeline(
    ansible: Ansible, server: Sshd, account: Account, tmp_path: Path, stopped: None
) -> None:
    target = _target(server, account, ansible_ssh_private_key_file=str(server.key.path))
    sizes = []
    for index in (1, 2):
        env = {
            "PMITOGEN_LOG": "debug",
            "PMITOGEN_LOG_FILE": f"{tmp_path}/{index}.log",
            "PMITOGEN_TRACE": f"{tmp_path}/{index}.json",
        }
        ansible.tasks([ID_TASK], {"h": target}, env=env).check()
        _wait_for_standby()
        events = json.loads((tmp_path / f"{index}.json").read_text())["traceEvents"]
        assert sum(event["name"].startswith("run ") for event in events if event["ph"] == "X") == 1, "this run's task only"
        sizes.append((tmp_path / f"{index}.log").stat().st_size)
    assert sizes[1] and (tmp_path / "1.log").stat().st_size == sizes[0]
    (hub,) = json.loads(hubs("--json"))
    held = {os.readlink(f"/proc/{hub['pid']}/fd/{name}") for name in os.listdir(f"/proc/{hub['pid']}/fd")}
    assert not [name for name in held if str(tmp_path) in name or str(ansible.directory) in name]
    assert os.readlink(f"/proc/{hub['pid']}/fd/2") == "/dev/null"


def test_a_hub_started_with_other_process_settings_is_not_adopted(
    ansible: Ansible, server: Sshd, account: Account, stopped: None
) -> None:
    """tests/unit/test_compatibility.py lists the settings."""
    target = _target(server, account, ansible_ssh_private_key_file=str(server.key.path))
    ansible.tasks([ID_TASK], {"h": target}).check()
    _wait_for_standby()
    (hub,) = json.loads(hubs("--json"))
    ansible.tasks([ID_TASK], {"h": target}, env={"RES_OPTIONS": "rotate"}).check()
    processes.wait_until(lambda: [hub["run"] for hub in json.loads(hubs("--json"))] == [None, None], 5)
    assert hub["pid"] in {hub["pid"] for hub in json.loads(hubs("--json"))}
    assert server.connections() == 2


def test_a_hub_exposes_no_secret_to_other_processes(ansible: Ansible, server: Sshd, account: Account, stopped: None) -> None:
    """Its environment and arguments contain none, it dumps no core, and other processes of its account cannot read it."""
    target = _target(server, account, ansible_password=account.password)
    ansible.tasks([ID_TASK], {"h": target}, env={"SECRET_OF_THE_RUN": "in the environment"}).check()
    _wait_for_standby()
    (hub,) = json.loads(hubs("--json"))
    proc = Path(f"/proc/{hub['pid']}")
    text = proc.joinpath("environ").read_bytes() + proc.joinpath("cmdline").read_bytes()
    assert b"PATH=" in text and b"SECRET_OF_THE_RUN" not in text
    assert account.password and account.password.encode() not in text
    limits = proc.joinpath("limits").read_text()
    assert next(line for line in limits.splitlines() if "core file" in line).split()[4] == "0"
