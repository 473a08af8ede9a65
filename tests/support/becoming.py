"""Accounts, tasks and plugins for plays with become; doas.py replaces community.general where that is not installed."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import programs
from .accounts import Account

ID_TASK = {"ansible.builtin.command": "id -un"}
DOAS = "community.general.doas"
PLUGINS = Path(__file__).parent / "become_plugins"
FILES = {"collections/ansible_collections/community/general/plugins/become/doas.py": (PLUGINS / "doas.py").read_text()}
SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin:/bin") or "python3"  # one that every account can run


@dataclasses.dataclass(frozen=True)
class People:
    """Accounts for the tests of one file: two login accounts, and the accounts that they become (with passwords for su)."""

    password_sudo: Account  # may use sudo and doas with its password
    nopasswd: Account  # may use both without a password
    others: tuple[Account, ...]


def becoming(method: str, user: str, password: str | None = None, **more: Any) -> dict[str, Any]:
    """Return the become variables of a host."""
    options = {"ansible_become_method": method, "ansible_become_user": user, **more}
    return {**options, "ansible_become_password": password} if password is not None else options


def counting_wrapper(directory: Path, program: str) -> tuple[Path, Callable[[], int]]:
    """Create a wrapper of *program* that counts its starts; return it and the counter, because su and doas log nothing."""
    wrapper, notes = directory / program, directory / f"{program}.notes"
    notes.touch()
    notes.chmod(0o666)
    wrapper.write_text(f'#!/bin/sh\necho start >> {notes}\nexec {programs.find_program(program)} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper, lambda: notes.read_text().count("start")
