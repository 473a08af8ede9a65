"""The run's private directory, and the environment that each test sees.

The directory's path is short, since socket paths end at 107 bytes, and may be traversed by anyone, since the test accounts read
some of what is in it. It lies beside, not inside, pytest's own temporary directories, which only the owner may enter.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from . import processes

_PREFIX = "pmt-"
_KEPT = ("PMITOGEN_TEST_INIT", "PMITOGEN_VENVS")  # the tests' own
_DROPPED_PREFIXES = ("ANSIBLE_", "PMITOGEN_", "SSH_", "XDG_", "LC_", "MITOGEN_", "SUDO_", "PYTHON")
_DROPPED = ("DISPLAY", "LANGUAGE", "MAIL", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")

directory: Path  # set by make_directory
repository = Path(__file__).resolve().parents[2]


def make_directory() -> Path:
    """Make the run's directory, with ``t`` (TMPDIR), ``r`` (XDG_RUNTIME_DIR) and ``k`` (keys) in it."""
    global directory
    _remove_stale()
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))
    directory.chmod(0o711)
    me = processes.read(os.getpid())
    assert me is not None
    (directory / "owner").write_text(f"{me.pid} {me.start}")
    for name, mode in (("t", 0o700), ("r", 0o700), ("k", 0o700), ("h", 0o711)):
        (directory / name).mkdir()
        (directory / name).chmod(mode)
    return directory


def _remove_stale() -> None:
    """Remove the directories of runs that were killed, with the servers that still run from them."""
    for old in Path("/tmp").glob(_PREFIX + "*"):
        try:
            pid, start = map(int, (old / "owner").read_text().split())
        except (OSError, ValueError):
            continue  # of another user, or being made
        owner = processes.read(pid)
        if owner is None or owner.start != start:
            for process in list(processes.all_processes()):
                if f"{old}/" in process.command:
                    processes.kill_family(process.pid)
            shutil.rmtree(old, ignore_errors=True)


def remove_directory() -> None:
    shutil.rmtree(directory, ignore_errors=True)


def clean_environment(home: Path) -> dict[str, str]:
    """This process's environment without what would change how ssh, Ansible or we behave, and with an empty *home*."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not (name in _DROPPED or name.startswith(_DROPPED_PREFIXES))
    }
    clean.update(HOME=str(home), LANG="C.UTF-8", TMPDIR=str(directory / "t"), XDG_RUNTIME_DIR=str(directory / "r"))
    # A pyenv shim answers to every name and then fails, which no interpreter discovery expects.
    clean["PATH"] = ":".join(part for part in clean["PATH"].split(":") if not part.rstrip("/").endswith("/shims"))
    clean["PYTHONPATH"] = str(repository)  # for the Pythons that tests start
    return clean
