"""``pmitogen setup`` and ``pmitogen plugin-path``: make the connection plugin known to Ansible.

By default Ansible searches ``~/.ansible/plugins/connection``, so setup creates a symbolic link to the plugin's file there. A
link stays valid when pmitogen is upgraded, and Ansible ignores a dangling one: once pmitogen is uninstalled,
``ansible_connection: pmitogen`` is "not found" and nothing else changes.

Setup then checks the result: it runs the Python of ansible-playbook and asks Ansible's loader for the plugin.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from pmitogen.cli import shims
from pmitogen.errors import UsageError

PLUGINS = Path(__file__).resolve().parents[1] / "ansible" / "plugins" / "connection"
PLUGIN = PLUGINS / "pmitogen.py"
_OUR_TARGET_SUFFIX = "pmitogen/ansible/plugins/connection/pmitogen.py"  # the end of the target of every link that setup has made

# Run by Ansible's Python, on which pmitogen need not be installed.
_PROBE = """import sys; sys.path = [path for path in sys.path if path]
import importlib.util, json
from ansible import constants
from ansible.plugins.loader import connection_loader, init_plugin_loader
from ansible.release import __version__
init_plugin_loader([])
found = connection_loader.find_plugin("pmitogen")
importable = all(importlib.util.find_spec(name) for name in ("pmitogen", "paramiko", "mitogen"))
print(json.dumps({"version": __version__, "found": found, "importable": importable}))
"""


def plugin_path(options: argparse.Namespace) -> int:
    """Print the directory for ``connection_plugins``."""
    print(PLUGINS)
    return 0


def run(options: argparse.Namespace) -> int:
    """Create or remove the link, and print the changes. Raises UsageError if another file has its name."""
    if options.shims is not None:
        directory = Path(options.shims).expanduser().absolute()
        return shims.remove(directory) if options.remove else shims.install(directory)
    home = Path(os.environ.get("ANSIBLE_HOME") or "~/.ansible").expanduser()
    link = home / "plugins" / "connection" / "pmitogen.py"
    if options.remove:
        _remove_payloads(home / "pmitogen")
        return _remove(link)
    _make(link)
    return _verify(link)


def _is_our_link(link: Path) -> bool:
    return link.is_symlink() and os.readlink(link).endswith(_OUR_TARGET_SUFFIX)


def _refuse_other_file(link: Path) -> None:
    if os.path.lexists(link) and not _is_our_link(link):
        raise UsageError(f"{link}: was not created by pmitogen setup; move it away first")


def _make(link: Path) -> None:
    _refuse_other_file(link)
    if link.is_symlink() and os.readlink(link) == str(PLUGIN):
        print(f"{link}: already exists")
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    # Created under another name first, so that a run at the same time always finds the plugin.
    fresh = link.with_name(f".pmitogen-{os.getpid()}")
    fresh.symlink_to(PLUGIN)
    fresh.replace(link)
    print(f"{link}: created, a link to {PLUGIN}")


def _remove(link: Path) -> int:
    _refuse_other_file(link)
    if not link.is_symlink():
        print(f"{link}: does not exist; nothing to remove")
        return 0
    link.unlink()
    print(f"{link}: removed")
    # The compiled plugin, and directories that are empty now.
    for cached in link.parent.glob("__pycache__/pmitogen.*.pyc"):
        cached.unlink()
    for directory in (link.parent / "__pycache__", link.parent, link.parent.parent):
        with contextlib.suppress(OSError):
            directory.rmdir()
    return 0


def _remove_payloads(directory: Path) -> None:
    """Remove the payloads that runs have stored (ansible/preload/payload_cache.py)."""
    if directory.is_dir() and not directory.is_symlink() and directory.stat().st_uid == os.geteuid():
        shutil.rmtree(directory)
        print(f"{directory}: removed, with the stored payloads")


def _verify(link: Path) -> int:
    """Check that Ansible finds the plugin. Returns 0 if so, or if Ansible is not installed."""
    playbook = _find_playbook()
    if playbook is None:
        print(
            f"ansible-playbook: not found on PATH; install ansible-core ({sys.executable} -m pip install ansible-core), "
            "then set ansible_connection: pmitogen, or use -c pmitogen"
        )
        return 0
    python = _python_of(playbook)
    answer = _probe(python)
    if answer is None:
        return _warn(f"{playbook}: could not check whether it finds the plugin; run: {playbook} --version")
    ansible = f"{playbook} (ansible-core {answer['version']})"
    if not answer["found"]:
        return _warn(
            f"{ansible}: does not search {link.parent}; add this directory to connection_plugins in ansible.cfg, "
            "or to ANSIBLE_CONNECTION_PLUGINS"
        )
    if not answer["importable"]:
        return _warn(f"{ansible}: pmitogen is not installed for its Python; run: {python} -m pip install pmitogen")
    print(f"{ansible}: plugin found; set ansible_connection: pmitogen, or use -c pmitogen")
    return 0


def _warn(message: str) -> int:
    sys.stdout.flush()
    print(f"pmitogen setup: {message}", file=sys.stderr)
    return 1


def _find_playbook() -> str | None:
    """Return the first ansible-playbook on PATH, or else the one beside this Python."""
    return shutil.which("ansible-playbook") or shutil.which("ansible-playbook", path=os.path.dirname(sys.executable))


def _python_of(playbook: str) -> str:
    """Return the Python of this ansible-playbook, according to its --version."""
    output = _output([playbook, "--version"])
    match = re.search(r"^\s*python version = .*\((/[^()]*)\)\s*$", output, re.M)
    return match.group(1) if match else sys.executable


def _probe(python: str) -> dict[str, Any] | None:
    try:
        answer: dict[str, Any] = json.loads(_output([python, "-c", _PROBE]).splitlines()[-1])
    except (ValueError, IndexError):
        return None
    return answer


def _output(command: list[str]) -> str:
    try:
        # With this, Python 3.11 and later do not search the current directory for modules; in older ones the probe prevents it.
        env = {**os.environ, "PYTHONSAFEPATH": "1"}
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=env)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
