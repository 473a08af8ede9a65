"""``pmitogen version``: what pmitogen stands on, as needed to report a problem."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys

import pmitogen

_OTHERS = ("paramiko", "cryptography", "mitogen", "ansible-core")


def run(options: argparse.Namespace) -> int:
    """Print one version a line. Nothing is imported for it."""
    print(f"pmitogen {pmitogen.__version__}")
    for name in _OTHERS:
        print(f"{name} {_version(name)}")
    print(f"python {platform.python_version()} ({sys.executable})")
    return 0


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
