"""The programs of ``pmitogen setup --shims``, and namespaces for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

# Without further interfaces than lo; all processes end with the first one.
_NAMESPACES = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]

# Root's ~/.bashrc is this machine's own, and may do much at each login.
_START = 'ip link set lo up; [ ! -e ~/.bashrc ] || mount --bind /dev/null ~/.bashrc; exec "$@"'


def make_shims(folder: Path) -> Path:
    """Return *folder* with our programs under OpenSSH's names."""
    subprocess.run([sys.executable, "-m", "pmitogen", "setup", "--shims", str(folder)], check=True, stdout=subprocess.DEVNULL)
    return folder


def build(source: Path, *steps: str) -> None:
    """Run *steps*, shell commands, in *source*, once. Raises CalledProcessError."""
    mark = source / "pmitogen-built"
    if mark.exists():
        return
    with (source / "pmitogen-build.log").open("ab") as log:
        for step in steps:
            subprocess.run(["sh", "-c", step], cwd=source, check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    mark.touch()


def run(argv: list[str], folder: Path, log: Path, environment: dict[str, str], limit: float) -> tuple[int, str]:
    """Run *argv* in *folder*, in namespaces of its own; return its status and output. After *limit* seconds: 124."""
    command = [*_NAMESPACES, "sh", "-c", _START, "sh", *argv]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = 124
    return status, log.read_text(errors="replace")
