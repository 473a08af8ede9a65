"""Optional dependencies: the module that each extra of pyproject.toml installs, and whether it is installed."""

from __future__ import annotations

import importlib.util

MODULES = {"pkcs11": "pkcs11", "kerberos": "gssapi"}  # extra -> the module that its package installs


def is_installed(extra: str) -> bool:
    """Return True if the package of *extra* is installed for this Python. It is not imported."""
    return importlib.util.find_spec(MODULES[extra]) is not None


def advice(extra: str) -> str:
    """Return the command that installs *extra*."""
    return f"python -m pip install 'pmitogen[{extra}]'"
