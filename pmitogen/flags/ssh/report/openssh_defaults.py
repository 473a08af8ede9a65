"""Read the installed ssh's defaults, so that ``pmitogen explain`` and ``ssh -G`` can be compared line by line.

Names and defaults of algorithms, and a few default values, differ between versions of OpenSSH. Only ``explain`` uses this; a
connection uses the defaults of this package. Nothing is connected: ``ssh -V``, ``-Q`` and ``-G`` print and exit.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess

from pmitogen.flags.ssh.openssh_version import OPENSSH_10, Program
from pmitogen.flags.ssh.values import algorithms

_TIMEOUT = 10  # seconds for each call
_QUERIES = {
    algorithms.CIPHER: ("cipher", "ciphers"),
    algorithms.MAC: ("mac", "macs"),
    algorithms.KEX: ("kex", "kexalgorithms"),
    algorithms.KEY: ("HostKeyAlgorithms", "hostkeyalgorithms"),
    algorithms.SIGNATURE: ("sig", "casignaturealgorithms"),
}


@functools.lru_cache(maxsize=4)
def installed_program(path: str | None = None) -> Program:
    """Return the ssh at *path* (default: on PATH), or OpenSSH 10 if there is none that works. Blocks up to a second or so."""
    path = path or shutil.which("ssh")
    if path is None:
        return OPENSSH_10
    try:
        return _ask(path)
    except (OSError, ValueError, KeyError, subprocess.SubprocessError):
        return OPENSSH_10


def _ask(path: str) -> Program:
    release = re.match(r"(OpenSSH_(\d+)\.[^\s,]*)", _run(path, "-V", error=True))
    if release is None:
        return OPENSSH_10
    defaults = _defaults(_run(path, "-G", "-F", "none", "x"))
    batch = _defaults(_run(path, "-G", "-F", "none", "-o", "BatchMode=yes", "x"))
    known = {family: tuple(_run(path, "-Q", query).split()) for family, (query, _) in _QUERIES.items()}
    listed = {family: tuple(defaults[keyword].split(",")) for family, (_, keyword) in _QUERIES.items()}
    changed = {key: value for key, value in batch.items() if value != defaults.get(key) and key != "batchmode"}
    modern = int(release[2]) >= 10
    return Program(release[1], modern, algorithms.Catalogue(known, listed), defaults, changed)


def _defaults(printed: str) -> dict[str, str]:
    """Return keyword -> value; a keyword's values on several lines are joined by blanks."""
    values: dict[str, list[str]] = {}
    for line in printed.splitlines():
        key, _, value = line.partition(" ")
        values.setdefault(key.lower(), []).append(value)
    return {key: " ".join(lines) for key, lines in values.items() if key not in ("host", "hostname", "user")}


def _run(path: str, *arguments: str, error: bool = False) -> str:
    done = subprocess.run(
        [path, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_TIMEOUT,
        check=True,
    )
    return done.stderr if error else done.stdout
