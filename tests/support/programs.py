"""Locations on this machine of Pythons of a version, and of other programs."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

VERSIONS = ("2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
FEW_VERSIONS = ("2.7", "3.6", "3.9", "3.13")  # in make test; make test-all (--all) has each
every_version = False  # set before test modules are imported

# The beginning of a program for any Python, with the repository's path: imports pmitogen's code for targets only.
ON_A_TARGET = """
import sys, types
sys.dont_write_bytecode = True
package = sys.modules["pmitogen"] = types.ModuleType("pmitogen")
package.__path__ = [sys.argv[1] + "/pmitogen"]
"""

SYSTEM_PATH = ":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


def find_program(name: str) -> str | None:
    """Return the absolute path of a program, also in the system's directories, or None."""
    return shutil.which(name, path=os.environ.get("PATH", "") + SYSTEM_PATH)


def _candidates(version: str) -> Iterator[Path]:
    for directory in (os.environ.get("PATH", "") + SYSTEM_PATH).split(":"):
        yield Path(directory) / f"python{version}"
    # The home in the passwd entry, because tests change HOME.
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path(os.path.expanduser(f"~{_user()}")) / ".pyenv")
    for root in (pyenv / "versions", Path("/opt/python")):
        yield from sorted(root.glob(f"*{version}*/bin/python{version}"), reverse=True)


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


@functools.cache
def find_python(version: str) -> str | None:
    """Return an interpreter of *version* ("2.7", "3.12"), or None."""
    code = "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '" + version + "')"
    for path in _candidates(version):
        # A pyenv shim exists for any name, and fails, so each interpreter is started.
        if path.exists() and subprocess.run([path, "-c", code], capture_output=True).returncode == 0:
            return str(path)
    return None


# ansible-core -> the oldest Python that it supports on targets.
OLDEST = {"2.16": "2.7", "2.17": "3.7", "2.18": "3.8", "2.19": "3.8", "2.20": "3.9", "2.21": "3.9", "2.22": "3.9"}


def version_key(version: str) -> tuple[int, ...]:
    """Return a sort key for versions such as "3.9" and "3.10"."""
    return tuple(map(int, version.split(".")))


def pythons_for(core: str) -> dict[str, str]:
    """Return version -> interpreter, for the installed target Pythons that *core* supports."""
    oldest = version_key(OLDEST.get(core, "3.9"))
    return {version: path for version, path in target_pythons().items() if version_key(version) >= oldest}


def target_pythons() -> dict[str, str]:
    """Return version -> interpreter, for the installed Pythons of the supported target versions; only some without --all."""
    found = {version: find_python(version) for version in (VERSIONS if every_version else FEW_VERSIONS)}
    return {version: path for version, path in found.items() if path}
