"""``pmitogen setup --shims DIR``: commands of pmitogen under the names of OpenSSH's programs, for programs that run these.

Each is a small shell script that runs this installation's Python, regardless of PATH and virtual environment. Other files are not
changed.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from pmitogen.errors import UsageError
from pmitogen.util import atomic_file

PROGRAMS = {
    "ssh": "ssh",
    "scp": "cp",
    "sftp": "sftp",
    "ssh-keygen": "keygen",
    "ssh-keyscan": "ssh-keyscan",  # keyscan, with other messages for wrong usage
    "ssh-agent": "agent",
    "ssh-add": "add",
    "ssh-copy-id": "copy-id",
}  # OpenSSH's name -> command of pmitogen
# With -m, Python would look for pmitogen in the current directory first.
_START = "import sys; sys.path = [path for path in sys.path if path]; from pmitogen.cli import main; sys.exit(main())"
_MARK = "# Made by pmitogen setup --shims; removed by pmitogen setup --shims DIR --remove."


def install(directory: Path) -> int:
    """Write the scripts into *directory*. Raises UsageError if another file has one of their names."""
    for name in PROGRAMS:
        _refuse_foreign(directory / name)
    directory.mkdir(parents=True, exist_ok=True)
    for name, command in PROGRAMS.items():
        path = directory / name
        with atomic_file.atomic_write(path, lambda: 0o755) as file:
            file.write(_script(command).encode())
        path.chmod(0o755)
        print(f"{path}: created, runs pmitogen {command.removeprefix('ssh-')}")
    if str(directory) not in os.environ.get("PATH", "").split(os.pathsep):
        print(f'{directory}: is not on the PATH; add it: export PATH={shlex.quote(str(directory))}:"$PATH"')
    return 0


def remove(directory: Path) -> int:
    """Remove the scripts from *directory*, and nothing else."""
    installed = [directory / name for name in PROGRAMS if _is_ours(directory / name)]
    for path in installed:
        path.unlink()
        print(f"{path}: removed")
    if not installed:
        print(f"{directory}: no programs of pmitogen setup found; nothing to remove")
    return 0


def _script(command: str) -> str:
    return f'#!/bin/sh\n{_MARK}\nexec {shlex.quote(sys.executable)} -c {shlex.quote(_START)} {command} "$@"\n'


def _is_ours(path: Path) -> bool:
    try:
        return path.is_file() and _MARK in path.read_text(errors="replace").splitlines()[:2]
    except OSError:
        return False


def _refuse_foreign(path: Path) -> None:
    if os.path.lexists(path) and not _is_ours(path):
        raise UsageError(f"{path}: was not created by pmitogen setup; choose another directory, or move the file away")
