"""The private directory of the run, and the environment of each test.

The directory's path is short, because the path of a socket has at most 107 bytes, and any user may traverse it, because test
accounts read some of its files. It is outside pytest's own temporary directories, which only the owner may enter.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from . import processes

_PREFIX = "pmt-"
_PRESERVED = ("PMITOGEN_TEST_INIT", "PMITOGEN_VENVS")  # variables of the tests themselves
_DROPPED_PREFIXES = ("ANSIBLE_", "PMITOGEN_", "SSH_", "XDG_", "LC_", "MITOGEN_", "SUDO_", "PYTHON")
_DROPPED = ("DISPLAY", "LANGUAGE", "MAIL", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")

directory: Path  # set by make_directory
repository = Path(__file__).resolve().parents[2]


def make_directory() -> Path:
    """Create the run's directory, with ``t`` (TMPDIR), ``r`` (XDG_RUNTIME_DIR) and ``k`` (keys) in it."""
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
    """Remove the directories of killed runs, and end the servers that still run from them."""
    for old in Path("/tmp").glob(_PREFIX + "*"):
        try:
            pid, start = map(int, (old / "owner").read_text().split())
        except (OSError, ValueError):
            continue  # another user's, or not yet complete
        owner = processes.read(pid)
        if owner is None or owner.start != start:
            for process in list(processes.all_processes()):
                if f"{old}/" in process.command:
                    processes.kill_family(process.pid)
            shutil.rmtree(old, ignore_errors=True)


def remove_directory() -> None:
    shutil.rmtree(directory, ignore_errors=True)


def clean_environment(home: Path) -> dict[str, str]:
    """Return this process's environment without variables that affect ssh, Ansible or pmitogen, and with an empty *home*."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name in _PRESERVED or not (name in _DROPPED or name.startswith(_DROPPED_PREFIXES))
    }
    clean.update(HOME=str(home), LANG="C.UTF-8", TMPDIR=str(directory / "t"), XDG_RUNTIME_DIR=str(directory / "r"))
    # A pyenv shim exists for every name and fails, which no interpreter discovery expects.
    clean["PATH"] = ":".join(part for part in clean["PATH"].split(":") if not part.rstrip("/").endswith("/shims"))
    clean["PYTHONPATH"] = str(repository)  # for Pythons that tests start
    return clean
