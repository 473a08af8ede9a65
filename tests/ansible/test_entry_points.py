"""Every program that starts Ansible finds the plugin, works with it, and leaves nothing behind."""

from __future__ import annotations

import difflib
import json
import os
import pty
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.ansible import PLUGINS, Ansible
from tests.support.session import repository
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.newest_core]
NOBODY = "nobody-of-that-name"


def inventory(directory: Path, target: Mapping[str, Any], connection: str = "pmitogen", host: str = "web") -> Path:
    """An inventory file of one host."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "hosts.json"
    path.write_text(json.dumps({"all": {"hosts": {host: {**target, "ansible_connection": connection}}}}))
    return path


def start(ansible: Ansible, program: str, *args: object, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``ansible-PROGRAM ARGS`` by its own script, as a user starts it."""
    command = [str(ansible.python.parent / program), *map(str, args)]
    env = {**ansible.environment(), "PATH": f"{ansible.python.parent}:{os.environ['PATH']}"}
    return subprocess.run(command, input=typed, capture_output=True, text=True, timeout=100, env=env, cwd=ansible.directory)


def test_ansible(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    hosts = inventory(ansible.directory, ansible.target(sshd, account))
    done = start(ansible, "ansible", "-i", hosts, "all", "-m", "command", "-a", "id -un", "-b", "--one-line")
    assert done.returncode == 0 and "web | CHANGED" in done.stdout and "root" in done.stdout, done.stdout + done.stderr
    done = start(ansible, "ansible", "-i", hosts, "all", "-m", "ping", "-u", NOBODY, "-e", f"ansible_user={NOBODY}")
    assert done.returncode == 4 and "UNREACHABLE" in done.stdout, done.stdout + done.stderr


def test_ansible_with_connection_options_on_the_command_line(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    ansible.directory.mkdir(parents=True, exist_ok=True)
    options = f"-o UserKnownHostsFile={sshd.known_hosts} -o GlobalKnownHostsFile=/dev/null -p {sshd.port}"
    args = ["-i", f"{sshd.host},", "all", "-c", "pmitogen", "-u", account.name, "--private-key", sshd.key.path]
    done = start(ansible, "ansible", *args, f"--ssh-common-args={options}", "-T", "20", "-m", "ping", "-o")
    assert done.returncode == 0 and '"ping": "pong"' in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_ansible_runs_a_job_in_the_background(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    hosts = inventory(ansible.directory, ansible.target(sshd, account))
    done = start(ansible, "ansible", "-i", hosts, "all", "-B", "30", "-P", "1", "-m", "command", "-a", "echo done")
    assert done.returncode == 0 and "done" in done.stdout, done.stdout + done.stderr
    account.run("rm", "-rf", f"{account.home}/.ansible_async")


def test_ansible_playbook(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    hosts = inventory(ansible.directory, ansible.target(sshd, account))
    play = [{"hosts": "all", "tasks": [{"ansible.builtin.command": "id -un"}]}]
    (ansible.directory / "play.yml").write_text(json.dumps(play))
    stranger = ["-e", f"ansible_user={NOBODY}"]
    for args, code in (([], 0), (["--check"], 0), (["--list-tasks"], 0), (["--syntax-check"], 0), (stranger, 4)):
        done = start(ansible, "ansible-playbook", "-i", hosts, "play.yml", *args)
        assert done.returncode == code, done.stdout + done.stderr


@pytest.mark.slow
def test_ansible_console(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    hosts = inventory(ansible.directory, ansible.target(sshd, account))
    mark = sshd.mark()
    typed = "command id -un\nbecome yes\ncommand id -un\nshell echo $((40 + 2))\nexit\n"
    done = start(ansible, "ansible-console", "-i", hosts, "all", typed=typed)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [line for line in done.stdout.splitlines() if line in (account.name, "root", "42")]
    assert answers == [account.name, "root", "42"], done.stdout
    assert sshd.connections(mark) == 1  # for the whole session


@pytest.mark.slow
@pytest.mark.needs_program("git")
def test_ansible_pull(ansible: Ansible, sshd: Sshd, account: Account, tmp_path: Path) -> None:
    # The implicit localhost has a connection and an interpreter of its own.
    target = ansible.target(sshd, account, ansible_connection="pmitogen", ansible_python_interpreter="auto_silent")
    say = {"ansible.builtin.debug": {"msg": "as {{ said.stdout }}"}}
    tasks = [{"ansible.builtin.command": "id -un", "register": "said"}, say]
    play = [{"hosts": "localhost", "gather_facts": False, "vars": target, "tasks": tasks}]
    source = tmp_path / "source"
    source.mkdir()
    (source / "local.yml").write_text(json.dumps(play))
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for args in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *args], cwd=source, check=True, timeout=20)
    done = start(ansible, "ansible-pull", "-U", f"file://{source}", "-d", tmp_path / "checkout", "local.yml")
    assert done.returncode == 0 and f"as {account.name}" in done.stdout, done.stdout + done.stderr


def test_ansible_inventory(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    for connection in ("pmitogen", "pmitogen.core.ssh"):
        hosts = inventory(ansible.directory, ansible.target(sshd, account), connection)
        done = start(ansible, "ansible-inventory", "-i", hosts, "--list")
        assert json.loads(done.stdout)["_meta"]["hostvars"]["web"]["ansible_connection"] == connection, done


# The output of ansible-core's callbacks, which does not depend on the connection.
CALLBACKS = {
    "default": {},
    "in YAML": {"ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"},
    "minimal": {"ANSIBLE_STDOUT_CALLBACK": "minimal"},
    "oneline": {"ANSIBLE_STDOUT_CALLBACK": "oneline"},
    "tree and junit": {
        "ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.tree,ansible.builtin.junit",
        "ANSIBLE_CALLBACK_TREE_DIR": "tree",
        "JUNIT_OUTPUT_DIR": "junit",
    },
}
VARIES = r"\d+:\d\d:\d\d\.\d+|\d{4}-\d\d-\d\dT?.?\d\d:\d\d:\d\d(\.\d+)?|ansible-tmp-[\d.-]+|(?<=time=)\"[\d.]+\""


@pytest.mark.one_core
@pytest.mark.parametrize(
    "callback", ["default", *(pytest.param(name, marks=pytest.mark.slow) for name in CALLBACKS if name != "default")]
)
def test_callbacks_print_the_same_as_over_ssh(callback: str, ansible: Ansible, sshd: Sshd, account: Account) -> None:
    tasks = [
        {"name": "well", "ansible.builtin.command": "echo one two", "loop": [1, 2]},
        {"name": "badly", "ansible.builtin.command": "sh -c 'echo out; echo err >&2; exit 3'", "ignore_errors": True},
        {"name": "changed", "ansible.builtin.copy": {"content": "new\n", "dest": "~/f"}, "diff": True},
        {"name": "raw", "ansible.builtin.raw": "echo raw", "become": True, "vars": {"ansible_ssh_use_tty": False}},
        {"name": "removed", "ansible.builtin.file": {"path": "~/f", "state": "absent"}},
    ]
    if ansible.release < (2, 19):  # there, the result of raw has the debug lines of ssh -v
        tasks = [task for task in tasks if task["name"] != "raw"]
    output = []
    for connection in ("ssh", "pmitogen"):
        directory = ansible.directory / connection
        hosts = inventory(directory, ansible.target(sshd, account), connection)
        (directory / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        args = ["ansible-playbook", "-i", str(hosts), "play.yml", "-v"]
        env = {**ansible.environment(), **CALLBACKS[callback], "PATH": f"{ansible.python.parent}:{os.environ['PATH']}"}
        env.update(
            ANSIBLE_PIPELINING="1", ANSIBLE_HOME=str(directory), ANSIBLE_SSH_CONTROL_PATH_DIR=str(ansible.directory / "cp")
        )
        done = subprocess.run(
            [str(ansible.python.parent / args[0]), *args[1:]], capture_output=True, text=True, timeout=100, env=env, cwd=directory
        )
        assert done.returncode == 0, done.stdout + done.stderr
        written = [path.read_text() for name in ("tree", "junit") for path in sorted((directory / name).glob("*"))]
        assert bool(written) == ("tree" in callback)
        texts = (done.stdout, done.stderr, *written)
        output.append(re.sub(VARIES, "...", "\n".join(texts).replace(str(directory), "FOLDER")).splitlines())
    assert output[0] == output[1], "\n".join(difflib.unified_diff(*output, "ssh", "pmitogen", n=0))


@pytest.mark.one_core
def test_ansible_test_runs_an_integration_target(ansible: Ansible, sshd: Sshd, account: Account, tmp_path: Path) -> None:
    """ansible-test runs an integration target of another collection, with pmitogen's collection beside it."""
    collections = tmp_path / "ansible_collections"
    target = collections / "some/where/tests/integration/targets/over"
    inventory(target, ansible.target(sshd, account, ansible_python_interpreter="auto_silent"), "pmitogen.core.ssh")
    galaxy = {"namespace": "some", "name": "where", "version": "1.0.0", "readme": "README.md", "authors": ["a"]}
    (collections / "some/where/galaxy.yml").write_text(json.dumps(galaxy))
    (target / "runme.sh").write_text('#!/usr/bin/env bash\nset -eux\nansible-playbook -i hosts.json play.yml "$@"\n')
    (target / "runme.sh").chmod(0o755)
    (target / "aliases").write_text("posix\n")
    command = {"ansible.builtin.command": "id -un", "register": "said"}
    says = {"ansible.builtin.assert": {"that": [f"said.stdout == '{account.name}'"]}}
    (target / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [command, says]}]))
    (collections / "pmitogen").mkdir()
    (collections / "pmitogen/core").symlink_to(repository / "ansible_collections/pmitogen/core")
    env = {**ansible.environment(), "PATH": f"{ansible.python.parent}:{os.environ['PATH']}"}
    mark = sshd.mark()
    done = subprocess.run(
        [str(ansible.python.parent / "ansible-test"), "integration", "over", "--color", "no"],
        capture_output=True, text=True, timeout=100, env=env, cwd=collections / "some/where", stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0 and "ok=2" in done.stdout, done.stdout + done.stderr
    assert sshd.connections(mark) == 1


# ansible-test downloads get-pip.py unless it is in its cache. This one installs pip from the wheel that comes with Python.
GET_PIP = """\
import ensurepip, glob, os, sys
sys.path.insert(0, glob.glob(os.path.join(os.path.dirname(ensurepip.__file__), "_bundled", "pip-*.whl"))[0])
from pip._internal.cli.main import main
sys.exit(main(["install", "--upgrade", "--force-reinstall", *[arg for arg in sys.argv[1:] if not arg.startswith("--no-")]]))
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_collection_passes_ansible_test_sanity(ansible: Ansible, home: Path, tmp_path: Path) -> None:
    """The same check as that of Galaxy and Automation Hub."""
    if ansible.release < (2, 19):
        pytest.skip("the collection is tested with ansible-core 2.19 and later")
    internal = next(ansible.python.parent.parent.glob("lib/python3*/site-packages/ansible_test/_internal"))
    cache = home / ".ansible/test/cache"
    cache.mkdir(parents=True)
    for version in re.findall(r"'(\d+\.[\d.]+)'", (internal / "python_requirements.py").read_text()):
        (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(GET_PIP)
    collection = tmp_path / "ansible_collections/pmitogen/core"
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(repository / "ansible_collections/pmitogen/core", collection, ignore=skipped)
    (collection / ".gitignore").write_text("/tests/output/\n")
    for args in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *args], cwd=collection, check=True)
    env = {**ansible.environment(), "PATH": f"{ansible.python.parent}:{os.environ['PATH']}", "HOME": str(home)}
    show = "import sys; print('%d.%d' % sys.version_info[:2])"
    python = subprocess.run([ansible.python, "-c", show], capture_output=True, text=True, check=True).stdout.strip()
    command = [str(ansible.python.parent / "ansible-test"), "sanity", "--color", "no", "--venv", "--python", python]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *more], capture_output=True, text=True, env=env, cwd=collection, stdin=subprocess.DEVNULL
        )

    done = run()
    if "host='github.com'" in done.stdout + done.stderr:  # the pylint of ansible-core 2.22 needs more than a package index
        done = run("--skip-test", "pylint")
    assert done.returncode == 0, done.stdout + done.stderr


# -- other programs that start Ansible --------------------------------------------------------------------------------------


class OtherPrograms:
    """An environment with programs that start Ansible: ``.venv-others`` (tools/prepare.py others) or one of PMITOGEN_VENVS."""

    def __init__(self, module: str) -> None:
        prefixes = [repository / ".venv-others", *map(Path, filter(None, os.environ.get("PMITOGEN_VENVS", "").split(":")))]
        found = [prefix for prefix in prefixes if list(prefix.glob(f"lib/python3*/site-packages/{module}"))]
        if not found:
            pytest.skip(f"needs {module} (tools/prepare.py others)")
        self.bin = found[0] / "bin"
        (version,) = found[0].glob("lib/python3*/site-packages/ansible_core-*.dist-info")
        self.ansible = Ansible(version.name, self.bin / "python", Path())

    def run(self, directory: Path, program: str, *args: object, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a program of this environment in *directory*, on a terminal because some require one."""
        env = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", "PYTHONPATH": str(repository), "ANSIBLE_NOCOLOR": "1"}
        env.update(ANSIBLE_CONNECTION_PLUGINS=str(PLUGINS), **more)
        command = [str(self.bin / program), *map(str, args)]
        terminal, end = pty.openpty()
        try:
            return subprocess.run(command, stdin=end, capture_output=True, text=True, timeout=400, env=env, cwd=directory)
        finally:
            os.close(terminal)
            os.close(end)


def target_of(sshd: Sshd, account: Account) -> dict[str, Any]:
    """A host's variables (see Ansible.target, which needs no Ansible)."""
    return Ansible("", Path(), Path()).target(sshd, account, ansible_python_interpreter="auto_silent")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ansible_runner(sshd: Sshd, account: Account, tmp_path: Path) -> None:
    others = OtherPrograms("ansible_runner")
    inventory(tmp_path / "inventory", target_of(sshd, account))
    (tmp_path / "project").mkdir()
    play = [{"hosts": "all", "tasks": [{"name": "who", "ansible.builtin.command": "id -un", "become": True}]}]
    (tmp_path / "project/play.yml").write_text(json.dumps(play))
    done = others.run(tmp_path, "ansible-runner", "run", tmp_path, "-p", "play.yml", "--ident", "one")
    assert done.returncode == 0, done.stdout + done.stderr
    events = [json.loads(path.read_text()) for path in (tmp_path / "artifacts/one/job_events").glob("*.json")]
    done_well = [event["event_data"] for event in events if event["event"] == "runner_on_ok"]
    assert [data["res"]["stdout"] for data in done_well if data["task"] == "who"] == ["root"]
    module = ["-m", "command", "-a", "id -un", "--hosts", "all", "--ident", "two"]
    done = others.run(tmp_path, "ansible-runner", "run", tmp_path, *module)
    assert done.returncode == 0 and account.name in done.stdout, done.stdout + done.stderr


ALONE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p no:cacheprovider"}  # the two plugins share an option

TESTINFRA = """
import pytest
def test_host(host):
    assert host.check_output("id -un") == "%s"
    assert host.file("/etc/passwd").exists and host.file("/etc/passwd").user == "root"
    assert host.ansible("command", "id -un", become=True, check=False)["stdout"] == "root"
    with host.sudo():
        assert host.check_output("id -un") == "root"
    assert not host.file("/nowhere").exists
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_testinfra(sshd: Sshd, account: Account, tmp_path: Path) -> None:
    others = OtherPrograms("testinfra")
    hosts = inventory(tmp_path, target_of(sshd, account))
    (tmp_path / "test_it.py").write_text(TESTINFRA % account.name)
    args = ["-p", "testinfra.plugin", "-q", "--hosts=ansible://web", f"--ansible-inventory={hosts}", "test_it.py"]
    for more in ([], ["--force-ansible"]):
        done = others.run(tmp_path, "pytest", *args, *more, **ALONE)
        assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


PYTEST_ANSIBLE = """
def test_module(ansible_module):
    for result in ansible_module.command("id -un").contacted.values():
        assert result["stdout"] == "%s"
def test_host(ansible_adhoc):
    hosts = ansible_adhoc(become=True, become_method="sudo", become_user="root")
    assert hosts.all.command("id -un").contacted["web"]["stdout"] == "root"
    assert not hosts.all.copy(content="x", dest="/tmp/pytest-ansible-%s").contacted["web"].get("failed")
    assert hosts.all.file(path="/tmp/pytest-ansible-%s", state="absent").contacted["web"]["changed"]
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_pytest_ansible(sshd: Sshd, account: Account, tmp_path: Path) -> None:
    others = OtherPrograms("pytest_ansible")
    hosts = inventory(tmp_path, target_of(sshd, account))
    (tmp_path / "test_it.py").write_text(PYTEST_ANSIBLE % ((account.name,) * 3))
    args = ["-p", "pytest_ansible.plugin", "-q", "--inventory", hosts, "--host-pattern", "all"]
    done = others.run(tmp_path, "pytest", *args, "--ansible-connection", "pmitogen", "test_it.py", **ALONE)
    assert done.returncode == 0 and "2 passed" in done.stdout, done.stdout + done.stderr
