"""``pmitogen version``: print the versions of pmitogen and its dependencies, for problem reports."""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import sys

import pmitogen
from pmitogen.cli.json_output import print_json

DEPENDENCIES = ("paramiko", "cryptography", "mitogen", "ansible-core")


def run(options: argparse.Namespace) -> int:
    """Print one version a line, or with --json one object, without importing the packages."""
    versions = {name: _version(name) for name in DEPENDENCIES}
    if options.json:
        whole = {"pmitogen": pmitogen.__version__, **versions, "python": platform.python_version(), "executable": sys.executable}
        print_json(whole)
        return 0
    print(f"pmitogen {pmitogen.__version__}")
    for name, version in versions.items():
        print(f"{name} {version or 'not installed'}")
    print(f"python {platform.python_version()} ({sys.executable})")
    return 0


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
