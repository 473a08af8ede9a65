"""The contenders: Ansible's ssh, Mitogen's strategy, pmitogen, and a baseline. Each is a few settings of Ansible."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.session import repository

NAMES = ("ssh", "mitogen", "pmitogen", "baseline")


@dataclass(frozen=True)
class Contender:
    """*env*: Ansible's settings for it; *connection*: the connection plugin; *baseline*: plays debug in place of each step."""

    name: str
    title: str
    connection: str
    env: dict[str, str]
    baseline: bool = False
    source: Path = repository  # where pmitogen is imported from


def make_contenders(python: Path, names: tuple[str, ...] = NAMES) -> list[Contender]:
    """Return the contenders for the environment of *python*. One that it cannot play is left out, with a message."""
    made = []
    for name in names:
        try:
            made.append(_make(name, python))
        except subprocess.CalledProcessError as error:
            print(f"bench: contender {name} left out: {str(error.stderr).strip().splitlines()[-1:]}", flush=True)
    return made


def _make(name: str, python: Path) -> Contender:
    if name == "ssh":
        return Contender(name, "ssh, pipelining", "ssh", {"ANSIBLE_PIPELINING": "1"})
    if name == "mitogen":
        code = "import mitogen, ansible_mitogen as m; print(*mitogen.__version__, sep='.'); print(m.__path__[0])"
        version, path = ask(str(python), "-c", code).splitlines()
        plugins = os.path.join(path, "plugins", "strategy")
        return Contender(
            name, f"Mitogen {version}", "ssh", {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": plugins}
        )
    if name == "pmitogen":
        return Contender(name, "pmitogen", "pmitogen", {"ANSIBLE_CONNECTION_PLUGINS": _plugin_path(python)})
    return Contender("baseline", "baseline (debug)", "local", {}, baseline=True)


def _plugin_path(python: Path) -> str:
    code = "import sys; from pmitogen.cli import main; sys.exit(main(['plugin-path']))"
    return ask(str(python), "-c", code).strip()


def ask(*command: str) -> str:
    """What a program prints that must succeed, with our own packages on its path."""
    env = {**os.environ, "PYTHONPATH": str(repository)}
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, env=env).stdout
