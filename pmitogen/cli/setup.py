"""``pmitogen setup`` and ``pmitogen plugin-path``: how Ansible comes to know the connection plugin.

Ansible looks for connection plugins in ``~/.ansible/plugins/connection`` unless told otherwise, so a link there to our plugin
file is all it takes. A link, since it stays right when pmitogen is upgraded, and since Ansible passes over one that leads
nowhere: should pmitogen be removed, ``ansible_connection: pmitogen`` is "not found", and nothing else is disturbed.

Whether that was enough is Ansible's own to say: the Python that runs ansible-playbook is asked where it finds the plugin, and
whether it can import it.
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
_OURS = "pmitogen/ansible/plugins/connection/pmitogen.py"  # how the target of any link of ours ends

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
    """Print the folder to put in ``connection_plugins``."""
    print(PLUGINS)
    return 0


def run(options: argparse.Namespace) -> int:
    """Make the link, or remove it, and say what was done. Raises UsageError if something else is in its place."""
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


def _is_ours(link: Path) -> bool:
    return link.is_symlink() and os.readlink(link).endswith(_OURS)


def _refuse_foreign(link: Path) -> None:
    if os.path.lexists(link) and not _is_ours(link):
        raise UsageError(f"{link}: was not made by pmitogen setup: move it away first")


def _make(link: Path) -> None:
    _refuse_foreign(link)
    if link.is_symlink() and os.readlink(link) == str(PLUGIN):
        print(f"{link}: is there already")
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    # By another name first, so that a run that is under way never misses the plugin.
    fresh = link.with_name(f".pmitogen-{os.getpid()}")
    fresh.symlink_to(PLUGIN)
    fresh.replace(link)
    print(f"{link}: made, a link to {PLUGIN}")


def _remove(link: Path) -> int:
    _refuse_foreign(link)
    if not link.is_symlink():
        print(f"{link}: is not there; nothing to remove")
        return 0
    link.unlink()
    print(f"{link}: removed")
    # What Python made of it, and folders that nobody else uses.
    for cached in link.parent.glob("__pycache__/pmitogen.*.pyc"):
        cached.unlink()
    for folder in (link.parent / "__pycache__", link.parent, link.parent.parent):
        with contextlib.suppress(OSError):
            folder.rmdir()
    return 0


def _remove_payloads(folder: Path) -> None:
    """What runs have kept of Ansible's payloads (ansible/preload/payload_cache.py)."""
    if folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.geteuid():
        shutil.rmtree(folder)
        print(f"{folder}: removed, with the payloads that were kept in it")


def _verify(link: Path) -> int:
    """Ask Ansible. Returns 0 where it finds the plugin or where there is no Ansible yet."""
    playbook = _find_playbook()
    if playbook is None:
        print("ansible-playbook: not found on the PATH; once it is there, write 'ansible_connection: pmitogen'")
        return 0
    python = _python_of(playbook)
    answer = _probe(python)
    if answer is None:
        return _complain(f"{playbook}: cannot be asked whether it finds the plugin; try: {playbook} --version")
    ansible = f"{playbook} (ansible-core {answer['version']})"
    if not answer["found"]:
        return _complain(
            f"{ansible}: does not look in {link.parent}: add that folder to connection_plugins in ansible.cfg, "
            "or to ANSIBLE_CONNECTION_PLUGINS"
        )
    if not answer["importable"]:
        return _complain(f"{ansible}: its Python has no pmitogen: write {python} -m pip install pmitogen")
    print(f"{ansible}: finds it; write 'ansible_connection: pmitogen', or -c pmitogen")
    return 0


def _complain(message: str) -> int:
    sys.stdout.flush()
    print(f"pmitogen setup: {message}", file=sys.stderr)
    return 1


def _find_playbook() -> str | None:
    """The ansible-playbook that the user runs, else the one beside our own Python."""
    return shutil.which("ansible-playbook") or shutil.which("ansible-playbook", path=os.path.dirname(sys.executable))


def _python_of(playbook: str) -> str:
    """The Python that runs this ansible-playbook, as it says itself."""
    said = _output([playbook, "--version"])
    match = re.search(r"^\s*python version = .*\((/[^()]*)\)\s*$", said, re.M)
    return match.group(1) if match else sys.executable


def _probe(python: str) -> dict[str, Any] | None:
    try:
        answer: dict[str, Any] = json.loads(_output([python, "-c", _PROBE]).splitlines()[-1])
    except (ValueError, IndexError):
        return None
    return answer


def _output(command: list[str]) -> str:
    try:
        # Python 3.11 and later do not look for modules in the current directory then; the probe sees to that in older ones.
        env = {**os.environ, "PYTHONSAFEPATH": "1"}
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=env)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
