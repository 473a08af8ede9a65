"""What plays that become other accounts share: the accounts, and doas's plugin where community.general is not installed."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import programs
from .accounts import Account

WHO = {"ansible.builtin.command": "id -un"}
DOAS = "community.general.doas"
PLUGINS = Path(__file__).parent / "become_plugins"
FILES = {"collections/ansible_collections/community/general/plugins/become/doas.py": (PLUGINS / "doas.py").read_text()}
SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin:/bin") or "python3"  # one that every account can run


@dataclasses.dataclass(frozen=True)
class People:
    """Accounts for a whole file: two that may become others, and four to become, with passwords for su."""

    asked: Account  # may use sudo and doas with its password
    free: Account  # may use both without
    others: tuple[Account, ...]


def becoming(method: str, user: str, password: str | None = None, **more: Any) -> dict[str, Any]:
    """Variables that say whom a host becomes."""
    options = {"ansible_become_method": method, "ansible_become_user": user, **more}
    return {**options, "ansible_become_password": password} if password is not None else options


def format_count(directory: Path, program: str) -> tuple[Path, Callable[[], int]]:
    """A program that notes its start and becomes *program*, and how many starts it has noted: no log tells it of su and doas."""
    wrapper, notes = directory / program, directory / f"{program}.notes"
    notes.touch()
    notes.chmod(0o666)
    wrapper.write_text(f'#!/bin/sh\necho start >> {notes}\nexec {programs.find_program(program)} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper, lambda: notes.read_text().count("start")
