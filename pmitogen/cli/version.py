"""``pmitogen version``: print the versions of pmitogen and its dependencies, for problem reports."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys

import pmitogen

DEPENDENCIES = ("paramiko", "cryptography", "mitogen", "ansible-core")


def run(options: argparse.Namespace) -> int:
    """Print one version a line, without importing the packages."""
    print(f"pmitogen {pmitogen.__version__}")
    for name in DEPENDENCIES:
        print(f"{name} {_version(name)}")
    print(f"python {platform.python_version()} ({sys.executable})")
    return 0


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
