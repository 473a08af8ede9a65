"""``ansible_connection: pmitogen.core.ssh`` works wherever the package is installed, without configuration."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
import yaml

from pmitogen.ansible.options import generate
from pmitogen.ansible.options.register import options_for
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.session import repository
from tests.support.sshd import Sshd

TASKS: list[dict[str, Any]] = [
    {"name": "module", "ansible.builtin.command": "id -un"},
    {"name": "become", "ansible.builtin.command": "id -un", "become": True},
]
COLLECTION = repository / "ansible_collections/pmitogen/core"
LOOP = """
- hosts: all
  gather_facts: false
  tasks:
    - pmitogen.core.loop:
        module: ansible.builtin.command
        args: {cmd: "echo {{ item }}"}
        items: [1, 2]
"""
NO_PATH = {"ANSIBLE_CONNECTION_PLUGINS": "/nowhere"}

PARSED = """
import json
from ansible import constants
from ansible.plugins.loader import connection_loader, init_plugin_loader
from ansible.playbook.play_context import PlayContext
import ansible.plugins.loader as loader
init_plugin_loader()
parsed = []
real = loader.AnsibleLoader
def spy(stream, *args, **kwargs):
    parsed.append(str(stream)[:40])
    return real(stream, *args, **kwargs)
loader.AnsibleLoader = spy
plugin = connection_loader.get("pmitogen.core.ssh", PlayContext(), None)
plugin.set_options(direct={"port": "2222"})
print(json.dumps([plugin.get_option("port"), [text for text in parsed if "name: ssh" in text], plugin.ansible_name]))
"""


def test_the_collections_plugin_is_generated_from_the_packages_plugin() -> None:
    assert generate.main(["--check"]) == 0
    ours, theirs = map(generate.load_documentation, (generate.PLUGIN, generate.COLLECTION_PLUGIN))
    assert {**ours, "name": "ssh", "options": options_for("pmitogen.core.ssh")} == theirs


def test_options_of_the_collections_plugin_are_read_without_parsing_its_documentation(ansible: Ansible) -> None:
    env = {**ansible.environment(), **NO_PATH}
    done = subprocess.run(
        [ansible.python, "-c", PARSED], capture_output=True, text=True, timeout=60, env=env, cwd=ansible.directory
    )
    assert json.loads(done.stdout) == [2222, [], "pmitogen.core.ssh"], done.stderr


def test_ansible_doc_shows_the_collections_plugin(ansible: Ansible) -> None:
    env = {**ansible.environment(), **NO_PATH}
    command = [ansible.python, "-m", "ansible", "doc", "-t", "connection", "--json", "pmitogen.core.ssh"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env, cwd=ansible.directory)
    (shown,) = json.loads(done.stdout).values()
    assert set(shown["doc"]["options"]) == set(generate.load_documentation()["options"])
    assert "connection: pmitogen.core.ssh" in shown["examples"]


@pytest.mark.newest_core
@pytest.mark.needs_root
@pytest.mark.needs_sshd
@pytest.mark.parametrize("how", ["-c", "variable"])
def test_a_play_by_its_qualified_name(how: str, ansible: Ansible, sshd: Sshd, account: Account) -> None:
    variables = ansible.target(sshd, account)
    connection = "pmitogen.core.ssh"
    if how == "variable":
        variables["ansible_connection"], connection = connection, "local"
    run = ansible.tasks(TASKS, {"web": variables}, env=NO_PATH, connection=connection)
    assert run.rc == 0, run.stdout
    assert [task["stdout"] for task in run.tasks[:2]] == [account.name, "root"]


# -- without the Python package ---------------------------------------------------------------------------------------------


def run_without_package(ansible: Ansible, tmp_path: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run an Ansible command with the collection of a tarball, on a Python that has no pmitogen (-S: no editable installs)."""
    collections = tmp_path / "collections"
    if not collections.exists():
        built = ansible.run_python(
            "-m", "ansible", "galaxy", "collection", "build", "--output-path", str(tmp_path), str(COLLECTION)
        )
        assert built.returncode == 0, built.stderr
        (tarball,) = tmp_path.glob("pmitogen-core-*.tar.gz")
        done = ansible.run_python(
            "-m", "ansible", "galaxy", "collection", "install", "--force", str(tarball), "-p", str(collections)
        )
        assert done.returncode == 0, done.stderr
    packages = ansible.answer("import json, sysconfig; print(json.dumps(sysconfig.get_path('purelib')))")
    env = {**os.environ, "PYTHONPATH": packages, "ANSIBLE_COLLECTIONS_PATH": str(collections)}
    command = [str(ansible.python), "-S", "-m", "ansible", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL, env=env, cwd=tmp_path)


@pytest.mark.newest_core
def test_the_collection_without_the_package_names_the_package_to_install(ansible: Ansible, tmp_path: Path) -> None:
    done = run_without_package(ansible, tmp_path, "adhoc", "-i", "web,", "-c", "pmitogen.core.ssh", "web", "-m", "ping")
    output = done.stdout + done.stderr
    assert done.returncode != 0 and "Traceback" not in output
    assert "package pmitogen is not installed" in output and f"{ansible.python} -m pip install pmitogen" in output
    looped = run_without_package(
        ansible, tmp_path, "adhoc", "-i", "web,", "-c", "local", "web", "-m", "pmitogen.core.loop", "-a", "module=ping items=1"
    )
    output = looped.stdout + looped.stderr
    assert looped.returncode != 0 and "Traceback" not in output and "-m pip install pmitogen" in output
    if ansible.release >= (2, 19):  # before, Ansible looks for the variable item first
        (tmp_path / "items.yml").write_text(LOOP)
        looped = run_without_package(ansible, tmp_path, "playbook", "-i", "web,", "-c", "local", "items.yml")
        output = looped.stdout + looped.stderr
        assert looped.returncode != 0 and "Traceback" not in output and "-m pip install pmitogen" in output, output
    shown = run_without_package(ansible, tmp_path, "doc", "-t", "connection", "pmitogen.core.ssh")
    assert shown.returncode == 0 and "remote_user" in shown.stdout, shown.stderr


def test_changelog_and_requirements_of_the_collection_have_this_version() -> None:
    metadata = yaml.safe_load((COLLECTION / "galaxy.yml").read_text())
    changes = yaml.safe_load((COLLECTION / "changelogs/changelog.yaml").read_text())
    assert metadata["version"] in changes["releases"] and f"v{metadata['version']}" in (COLLECTION / "CHANGELOG.rst").read_text()
    needed = yaml.safe_load((COLLECTION / "meta/execution-environment.yml").read_text())["dependencies"]["python"]
    assert f"pmitogen>={metadata['version']}" in (COLLECTION / needed).read_text().splitlines()


# -- installed --------------------------------------------------------------------------------------------------------------

PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.command: id -un
      become: true
"""


@pytest.mark.slow
@pytest.mark.needs_root
@pytest.mark.needs_sshd
@pytest.mark.timeout(600)
def test_a_play_works_with_an_installed_wheel(sshd: Sshd, account: Account, tmp_path: Path) -> None:
    """In a new environment, with dependencies from the package index: by the qualified name, and after ``pmitogen setup``."""
    place = tmp_path / "venv"
    venv.create(place, with_pip=True)
    python, bin_ = str(place / "bin/python"), place / "bin"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env["PATH"] = f"{bin_}:{env['PATH']}"

    def run(*command: object, timeout: float = 300) -> str:
        args = list(map(str, command))
        null = subprocess.DEVNULL
        done = subprocess.run(args, stdin=null, capture_output=True, text=True, timeout=timeout, env=env, cwd=tmp_path)
        assert done.returncode == 0, f"{args}:\n{done.stdout}{done.stderr}"
        return done.stdout

    # A copy, so that building leaves nothing in the checkout.
    source = tmp_path / "source"
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "pmitogen", "ansible_collections"):
        copy = shutil.copytree if (repository / name).is_dir() else shutil.copy2
        source.mkdir(exist_ok=True)
        copy(repository / name, source / name)
    core = "ansible-core>=2.21,<2.22" if sys.version_info >= (3, 12) else "ansible-core<2.20"
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", source, core)
    known, key = sshd.known_hosts, sshd.key.path
    options = f"-o UserKnownHostsFile={known} -o GlobalKnownHostsFile=/dev/null"
    variables = f"ansible_port={sshd.port} ansible_user={account.name} ansible_ssh_private_key_file={key}"
    (tmp_path / "hosts").write_text(f"{sshd.host} {variables} ansible_ssh_common_args='{options}'\n")
    (tmp_path / "play.yml").write_text(PLAY)
    assert "pmitogen.core.ssh" in run("ansible-doc", "-t", "connection", "pmitogen.core.ssh")
    assert "pmitogen.core" in run("ansible-galaxy", "collection", "list")
    run("ansible-playbook", "-i", "hosts", "-c", "pmitogen.core.ssh", "play.yml")
    assert "plugin found" in run("pmitogen", "setup")
    run("ansible-playbook", "-i", "hosts", "-c", "pmitogen", "play.yml")
    run("pmitogen", "setup", "--remove")
    mark = sshd.mark()
    run("pmitogen", "ping", *sshd.ssh_args(), f"{account.name}@{sshd.host}")
    assert sshd.accepted(mark) == [("publickey", account.name)]
