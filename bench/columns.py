"""Who plays: Ansible's ssh, Mitogen's strategy over ssh, pmitogen, and the floor. Each is a few settings of Ansible."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.session import repository

NAMES = ("ssh", "mitogen", "pmitogen", "floor")


@dataclass(frozen=True)
class Column:
    """*env*: Ansible's settings for it; *connection*: the connection plugin; *floor*: plays debug in place of each step."""

    name: str
    title: str
    connection: str
    env: dict[str, str]
    floor: bool = False


def make_columns(python: Path, names: tuple[str, ...] = NAMES) -> list[Column]:
    """The columns for the environment of *python*. A column that this environment cannot play is left out, and said."""
    made = []
    for name in names:
        try:
            made.append(_make(name, python))
        except subprocess.CalledProcessError as error:
            print(f"bench: column {name} left out: {str(error.stderr).strip().splitlines()[-1:]}", flush=True)
    return made


def _make(name: str, python: Path) -> Column:
    if name == "ssh":
        return Column(name, "ssh, pipelining", "ssh", {"ANSIBLE_PIPELINING": "1"})
    if name == "mitogen":
        code = "import mitogen, ansible_mitogen as m; print(*mitogen.__version__, sep='.'); print(m.__path__[0])"
        version, path = ask(str(python), "-c", code).splitlines()
        plugins = os.path.join(path, "plugins", "strategy")
        return Column(
            name, f"Mitogen {version}", "ssh", {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": plugins}
        )
    if name == "pmitogen":
        return Column(name, "pmitogen", "pmitogen", {"ANSIBLE_CONNECTION_PLUGINS": _plugin_path(python)})
    return Column("floor", "floor (debug)", "local", {}, floor=True)


def _plugin_path(python: Path) -> str:
    code = "import sys; from pmitogen.cli import main; sys.exit(main(['plugin-path']))"
    return ask(str(python), "-c", code).strip()


def ask(*words: str) -> str:
    """What a program prints that must succeed, with our own packages on its path."""
    env = {**os.environ, "PYTHONPATH": str(repository)}
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, env=env).stdout
