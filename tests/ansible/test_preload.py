"""Preparations that are made once, before workers are forked: see pmitogen/ansible/preload/before_fork.py."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from pmitogen.util import processes
from tests.support.ansible import PLUGINS, Ansible

pytestmark = pytest.mark.optimised

LOOK = """
import json, multiprocessing, sys
from ansible import context
from types import SimpleNamespace
context._init_global_context(SimpleNamespace(connection=sys.argv[2]))
from ansible.plugins.loader import action_loader, init_plugin_loader, connection_loader, module_loader
init_plugin_loader()
def lexers():
    try:
        from ansible._internal._templating._jinja_bits import AnsibleEnvironment
        return len(AnsibleEnvironment._lexer_cache) > 0
    except ImportError:
        import jinja2.lexer
        return len(jinja2.lexer._lexer_cache) > 1  # one is made at its import
def look():
    connection_loader.get("pmitogen", class_only=True)
    return {
        "lexers": lexers(),
        "actions": "copy" in action_loader._plugin_path_cache[""],
        "profiles": sum("_profiles._module_legacy" in name for name in sys.modules),
        "modules": "command" in module_loader._plugin_path_cache[""],
    }
if sys.argv[1] == "worker":
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(json.dumps(pool.apply(look)))
else:
    print(json.dumps(look()))
"""


def _look(ansible: Ansible, where: str, connection: str = "pmitogen", **env: str) -> dict[str, Any]:
    found: dict[str, Any] = ansible.answer(LOOK, where, connection, ANSIBLE_CONNECTION_PLUGINS=str(PLUGINS), **env)
    return found


@pytest.mark.needs_ansible
def test_preparations_are_made_once_in_the_main_process(ansible: Ansible) -> None:
    profiles = 2 if tuple(map(int, ansible.core.split("."))) >= (2, 19) else 0
    nothing = {"lexers": False, "actions": False, "profiles": 0, "modules": False}
    everything = {"lexers": True, "actions": True, "profiles": profiles, "modules": True}
    assert _look(ansible, "main") == everything
    assert _look(ansible, "worker") == nothing, "a worker process prepares nothing"
    assert _look(ansible, "main", PMITOGEN_PRELOAD="0") == nothing
    assert _look(ansible, "main", "ssh") == nothing, "a run over another connection is not changed"


@pytest.mark.needs_ansible
def test_plugins_are_not_looked_up_early_if_ansible_never_repeats_the_lookup(ansible: Ansible) -> None:
    assert not _look(ansible, "main", ANSIBLE_OLD_PLUGIN_CACHE_CLEAR="1")["modules"]


@pytest.mark.needs_ansible
@pytest.mark.one_core
@pytest.mark.parametrize(
    ("inventory", "args", "env", "starts"),
    [
        ({"hosts.ini": "web ansible_connection=pmitogen"}, [], {}, True),
        ({"hosts.ini": "web", "group_vars/all/main.yml": "ansible_connection: pmitogen.core.ssh"}, [], {}, True),
        ({"hosts.ini": "web", "host_vars/web.yml": "ansible_connection: pmitogen"}, [], {}, True),
        ({"hosts.ini": "web"}, ["-c", "pmitogen"], {}, True),
        ({"hosts.ini": "web ansible_connection=ssh"}, [], {}, False),
        ({"hosts.ini": "web ansible_connection=pmitogen"}, [], {"PMITOGEN_PRELOAD": "0"}, False),
    ],
)
def test_the_hub_starts_early_if_the_run_uses_pmitogen(
    inventory: dict[str, str], args: list[str], env: dict[str, str], starts: bool, ansible: Ansible
) -> None:
    """The hub runs before any task has requested it, and ends with the run."""
    for name, text in inventory.items():
        (ansible.directory / name).parent.mkdir(parents=True, exist_ok=True)
        (ansible.directory / name).write_text(text + "\n")
    play = [{"hosts": "all", "gather_facts": False, "tasks": [{"pause": {"seconds": 2}}]}]
    (ansible.directory / "play.yml").write_text(json.dumps(play))
    argv = [str(ansible.python), "-m", "ansible", "playbook", "-i", "hosts.ini", *args, "play.yml"]
    run = subprocess.Popen(
        argv, env={**ansible.environment(), **env}, cwd=ansible.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    socket = Path(os.environ["XDG_RUNTIME_DIR"]) / f"pmitogen-{os.getuid()}" / f"{run.pid}-{processes.start_time(run.pid)}.sock"
    found = False
    while run.poll() is None and not found:
        found = socket.exists()
        time.sleep(0.02)
    assert run.wait(60) == 0 and run.stdout and b"ok=1" in run.stdout.read()
    run.stdout.close()
    assert found == starts
    deadline = time.monotonic() + 10
    while socket.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not socket.exists()
