"""``pmitogen setup`` creates a link through which Ansible finds the plugin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pmitogen.cli import setup
from tests.support.ansible import Ansible

LINK = ".ansible/plugins/connection/pmitogen.py"


def run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``pmitogen setup`` as a separate process in the environment of the test."""
    command = [sys.executable, "-m", "pmitogen", "setup", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


def path_with(ansible: Ansible) -> str:
    """Return a PATH on which this Ansible's ansible-playbook comes first."""
    return f"{Path(ansible.python).parent}:{os.environ['PATH']}"


def test_ansible_finds_the_plugin_by_its_name(ansible: Ansible, home: Path) -> None:
    done = run(PATH=path_with(ansible))
    assert done.returncode == 0, done.stderr
    assert (home / LINK).is_symlink() and f"(ansible-core {ansible.core}" in done.stdout and "plugin found" in done.stdout
    doc = [str(ansible.python), "-m", "ansible", "doc", "-t", "connection", "pmitogen", "--json"]
    shown = subprocess.run(doc, capture_output=True, text=True, timeout=60)
    assert "boot_python" in json.loads(shown.stdout)["pmitogen"]["doc"]["options"]


@pytest.mark.one_core
def test_setup_can_be_repeated_and_removed(ansible: Ansible, home: Path) -> None:
    path = path_with(ansible)
    assert run(PATH=path).returncode == 0
    again = run(PATH=path)
    assert again.returncode == 0 and "already exists" in again.stdout
    (home / ".ansible/pmitogen").mkdir()
    (home / ".ansible/pmitogen/kept").write_text("a payload")
    removed = run("--remove", PATH=path)
    assert removed.returncode == 0 and removed.stdout.endswith("removed\n")
    assert not (home / ".ansible/plugins").exists() and not (home / ".ansible/pmitogen").exists()
    nothing = run("--remove", PATH=path)
    assert nothing.returncode == 0 and "nothing to remove" in nothing.stdout


def test_a_missing_ansible_is_reported(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(setup, "_find_playbook", lambda: None)
    from pmitogen.cli import main

    assert main(["setup"]) == 0
    output = capsys.readouterr().out
    assert (home / LINK).is_symlink() and "not found on PATH; install ansible-core (" in output
    assert f"{sys.executable} -m pip install ansible-core), then set ansible_connection: pmitogen" in output


@pytest.mark.one_core
def test_ansible_home_is_respected(ansible: Ansible, home: Path) -> None:
    done = run(PATH=path_with(ansible), ANSIBLE_HOME=str(home / "elsewhere"))
    assert done.returncode == 0, done.stderr
    assert (home / "elsewhere/plugins/connection/pmitogen.py").is_symlink() and not (home / ".ansible/plugins").exists()


@pytest.mark.one_core
def test_a_configured_search_path_is_reported(ansible: Ansible, home: Path) -> None:
    done = run(PATH=path_with(ansible), ANSIBLE_CONNECTION_PLUGINS=str(home))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "connection_plugins" in done.stderr


@pytest.mark.one_core
def test_a_python_without_pmitogen_is_reported(ansible: Ansible, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with an Ansible in another environment."""
    root = str(setup.PLUGINS.parents[3])
    code = f"import sys; sys.path.insert(0, {root!r}); from pmitogen.cli import main; sys.exit(main(['setup']))"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PATH": path_with(ansible)}
    if subprocess.run([ansible.python, "-c", "import pmitogen"], env=environment, cwd="/", capture_output=True).returncode == 0:
        pytest.skip("needs an environment without pmitogen")
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd="/", capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "-m pip install pmitogen" in done.stderr


@pytest.mark.parametrize("args", [[], ["--remove"]])
def test_a_file_of_the_user_is_not_replaced(args: list[str], home: Path) -> None:
    (home / LINK).parent.mkdir(parents=True)
    (home / LINK).write_text("mine")
    done = run(*args)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert (home / LINK).read_text() == "mine"


def test_a_link_to_an_older_installation_is_replaced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "_find_playbook", lambda: None)
    (home / LINK).parent.mkdir(parents=True)
    (home / LINK).symlink_to("/gone/lib/pmitogen/ansible/plugins/connection/pmitogen.py")
    from pmitogen.cli import main

    assert main(["setup"]) == 0
    assert os.readlink(home / LINK) == str(setup.PLUGIN)
    assert [path.name for path in (home / LINK).parent.iterdir()] == ["pmitogen.py"]


@pytest.mark.one_core
def test_a_dangling_link_does_not_disturb_ansible(ansible: Ansible, home: Path) -> None:
    """It remains if pmitogen is removed without ``setup --remove``."""
    (home / LINK).parent.mkdir(parents=True)
    (home / LINK).symlink_to("/gone/lib/pmitogen/ansible/plugins/connection/pmitogen.py")
    command = [str(ansible.python), "-m", "ansible", "adhoc", "-i", "h,", "all", "-m", "debug"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*command[:-1], "ping", "-c", "pmitogen"], capture_output=True, text=True, timeout=60)
    assert "connection plugin 'pmitogen' was not found" in done.stdout


def test_an_unwritable_directory_is_reported(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / ".ansible").write_text("a file, not a folder")
    from pmitogen.cli import main

    assert main(["setup"]) == 1
    output = capsys.readouterr().err
    assert output.count("\n") == 1 and output.startswith("pmitogen setup: ") and "not a directory" in output
