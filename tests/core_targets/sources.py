"""Source releases of ansible-core, which contain the integration targets, and packages that some targets need."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

from tests.support.session import repository

FOLDER = repository / "build/core-targets"
_NEEDED = ("passlib", "pexpect")  # for accounts with passwords, and for the module expect


class NoSources(Exception):
    """A package could not be downloaded; the text has pip's reason."""


def full_version(python: Path) -> str:
    """Return the version of ansible-core in the interpreter *python*, such as 2.22.0rc1."""
    code = "import ansible.release as release; print(release.__version__)"
    return _run(str(python), "-c", code).strip()


def integration_directory(python: Path) -> Path:
    """Return ``test/integration`` of the source release of the ansible-core in *python*; download it the first time."""
    version = full_version(python)
    tree = FOLDER / f"ansible_core-{version}"
    if not tree.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        args = ("download", "-q", "--no-deps", "--no-binary", ":all:", "-d", str(FOLDER), f"ansible-core=={version}")
        _run(str(python), "-m", "pip", *args)
        with tarfile.open(FOLDER / f"{tree.name}.tar.gz") as archive:
            archive.extractall(FOLDER, filter="data")
    return tree / "test/integration"


def packages_directory(python: Path, core: str) -> Path:
    """Return a directory with the additional packages for the ansible-core *core* of *python*; install them the first time."""
    directory = FOLDER / f"packages-{core}"
    if not directory.exists():
        _run(str(python), "-m", "pip", "install", "-q", "--target", str(directory), *_NEEDED)
    return directory


def _run(*args: str) -> str:
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise NoSources(f"{' '.join(args)}: {done.stderr.strip()}")
    return done.stdout
