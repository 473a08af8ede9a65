"""ansible-runner, which starts the jobs of AWX, on a controller without OpenSSH's client.

ansible-runner starts ``ssh-agent`` and ``ssh-add`` for ``env/ssh_key``; here ``pmitogen setup --shims`` creates these programs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ansible.test_entry_points import OtherPrograms
from tests.support import no_openssh
from tests.support.accounts import Account
from tests.support.ansible import PLUGINS
from tests.support.keys import make_key
from tests.support.session import repository
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.slow, pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.needs_no_openssh]
COLLECTION = repository / "ansible_collections/pmitogen/core"
# As in AWX. ansible-runner looks for a prompt in the last 100 characters of the output, so the path of a job must be short.
ASK, ASK_AGAIN = r"Enter passphrase for .*:\s*?$", r"Bad passphrase, try again for .*:\s*?$"
PROMPTS = {ASK: "a passphrase", ASK_AGAIN: ""}
# A uid without a passwd entry may read this checkout and its Python, wherever they are, and write only to its own files.
ODD_UID = 1000720000
ODD = f"setpriv --reuid {ODD_UID} --regid 0 --clear-groups --inh-caps=+dac_read_search --ambient-caps=+dac_read_search --".split()
PLAY = [{"hosts": "all", "gather_facts": False, "tasks": [{"name": "who", "ansible.builtin.command": "id -un"}]}]


@pytest.fixture
def others() -> Path:
    """The environment with ansible-runner and ansible-builder."""
    return OtherPrograms("ansible_runner").bin.parent


@pytest.fixture
def environment(others: Path, short_path: Path) -> dict[str, str]:
    """An environment in which pmitogen's programs have OpenSSH's names."""
    programs = short_path / "programs"
    done = no_openssh.run(others / "bin/python", "-m", "pmitogen", "setup", "--shims", programs)
    assert done.returncode == 0, done.stderr
    return {
        **os.environ,
        "PATH": f"{programs}:{others}/bin:{os.environ['PATH']}",
        "ANSIBLE_CONNECTION_PLUGINS": str(PLUGINS),
        "ANSIBLE_LOCALHOST_WARNING": "0",
    }


def job(directory: Path, sshd: Sshd, account: Account, key: str, hosts: int = 1, passwords: dict[str, str] | None = None) -> Path:
    """Write the directory of one job for ansible-runner."""
    known = f"-o UserKnownHostsFile={sshd.known_hosts} -o GlobalKnownHostsFile=/dev/null"
    variables = {"ansible_host": sshd.host, "ansible_port": sshd.port, "ansible_user": account.name}
    variables |= {"ansible_connection": "pmitogen", "ansible_ssh_common_args": known}
    inventory = {"all": {"hosts": {f"h{index}": variables for index in range(hosts)}}}
    files: dict[str, Any] = {"project/play.yml": PLAY, "inventory/hosts.json": inventory}
    if passwords:
        files["env/passwords"] = passwords
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    (directory / "env").mkdir(exist_ok=True)
    (directory / "env/ssh_key").write_text(key)
    (directory / "env/ssh_key").chmod(0o600)
    return directory


def ran(directory: Path) -> list[str]:
    """The hosts on which the task has run, according to the events recorded by ansible-runner."""
    events = [json.loads(path.read_text()) for path in directory.glob("artifacts/**/job_events/*.json")]
    return sorted(event["event_data"]["host"] for event in events if event["event"] == "runner_on_ok")


def test_a_job_with_an_encrypted_key_runs(
    sshd: Sshd, account: Account, environment: dict[str, str], others: Path, short_path: Path
) -> None:
    key = make_key(short_path / "key", passphrase="a passphrase")
    sshd.authorize(key.public)
    directory = job(short_path / "job", sshd, account, key.path.read_text(), 2, PROMPTS)
    done = no_openssh.run(
        others / "bin/ansible-runner", "run", directory, "-p", "play.yml", "--ident", "1", env=environment, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ran(directory) == ["h0", "h1"]
    assert "a passphrase" not in done.stdout


def test_a_wrong_passphrase_fails_the_job(
    sshd: Sshd, account: Account, environment: dict[str, str], others: Path, short_path: Path
) -> None:
    key = make_key(short_path / "key", passphrase="a passphrase")
    directory = job(short_path / "job", sshd, account, key.path.read_text(), 1, {**PROMPTS, ASK: "wrong"})
    done = no_openssh.run(
        others / "bin/ansible-runner", "run", directory, "-p", "play.yml", "--ident", "1", env=environment, timeout=110
    )
    assert done.returncode != 0 and ran(directory) == []


def test_a_job_runs_with_a_uid_without_a_passwd_entry_and_a_read_only_home(
    sshd: Sshd, account: Account, environment: dict[str, str], others: Path, short_path: Path
) -> None:
    """As in an OpenShift container: only the directory of the job is writable."""
    key = make_key(short_path / "key")
    sshd.authorize(key.public)
    directory = job(short_path / "job", sshd, account, key.path.read_text())
    home = short_path / "home"
    home.mkdir(mode=0o555)
    subprocess.run(["chown", "-R", f"{ODD_UID}:0", directory, home], check=True)
    more = {
        "HOME": str(home),
        "TMPDIR": str(directory),
        "XDG_RUNTIME_DIR": str(directory),
        "ANSIBLE_LOCAL_TEMP": str(directory / "tmp"),
    }
    argv = (*ODD, others / "bin/ansible-runner", "run", directory, "-p", "play.yml", "--ident", "1")
    done = no_openssh.run(*argv, env={**environment, **more}, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ran(directory) == ["h0"]


def test_job_slices_run_in_worker_processes(
    sshd: Sshd, account: Account, environment: dict[str, str], others: Path, tmp_path: Path
) -> None:
    """Four slices of an inventory in two worker processes at a time: transmit | worker | process, as with receptor."""
    runner, key = others / "bin/ansible-runner", sshd.key.path.read_text()
    slices = [job(tmp_path / f"slice{index}", sshd, account, key, 2) for index in range(4)]
    for first in (0, 2):
        workers = []
        for index in (first, first + 1):
            sent = tmp_path / f"sent{index}"
            with sent.open("wb") as file:
                command = no_openssh.command(runner, "transmit", slices[index], "-p", "play.yml")
                subprocess.run(command, stdout=file, env=environment, check=True, timeout=60)
            command = no_openssh.command(runner, "worker", "--private-data-dir", tmp_path / f"worker{index}")
            with sent.open("rb") as source, (tmp_path / f"back{index}").open("wb") as target:
                workers.append(subprocess.Popen(command, stdin=source, stdout=target, env=environment, start_new_session=True))
        assert [worker.wait(100) for worker in workers] == [0, 0]
    for index, directory in enumerate(slices):
        result = tmp_path / f"result{index}"
        result.mkdir()
        with (tmp_path / f"back{index}").open("rb") as source:
            command = no_openssh.command(runner, "process", result)
            subprocess.run(command, stdin=source, env=environment, check=True, timeout=60, stdout=subprocess.DEVNULL)
        assert ran(result) == ["h0", "h1"], directory


def test_the_documented_execution_environment_is_valid(others: Path, tmp_path: Path) -> None:
    """ansible-builder reads the definition of docs/scaling.md; no image is built."""
    page = (repository / "docs/scaling.md").read_text()
    definition = tmp_path / "execution-environment.yml"
    definition.write_text(page.partition("```yaml\n# execution-environment.yml\n")[2].partition("```")[0])
    builder = others / "bin/ansible-builder"
    command = [builder, "create", "-f", definition, "-c", tmp_path / "context", "--output-filename", "Containerfile"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "context/Containerfile").read_text()
    assert "pmitogen setup --shims" in text and "openssh" not in text
    assert "pmitogen" in (tmp_path / "context/_build/requirements.txt").read_text()


def test_ansible_builder_finds_the_requirements_of_the_collection(others: Path, tmp_path: Path) -> None:
    """ansible-builder reads the requirements of a collection in an image."""
    target = tmp_path / "ansible_collections/pmitogen/core"
    shutil.copytree(COLLECTION, target)
    command = [others / "bin/ansible-builder", "introspect", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)
    assert any(line.startswith("pmitogen") for line in found["python"]), done.stdout
