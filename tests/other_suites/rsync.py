"""rsync's tests that use a remote shell, with our ssh to a real sshd in place of the suite's local one (``support/lsh.sh``)."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from tests.support.sshd import find_sshd

from . import commands

LIMIT = 900.0  # seconds for a test
EXCLUDED = {"variety-symlink-traversal": "compares with an older rsync"}
_SHELL = """\
#!/bin/sh
# The options of the suite's own remote shell, and its two hosts: one in the home directory, one in this directory.
directory=$HOME
set -- "$@" --end--
while [ "$1" != --end-- ]; do
    case $1 in
        --no-cd) directory=$PWD ;;
        lh) directory=$PWD; set -- "$@" "$1" ;;
        *) set -- "$@" "$1" ;;
    esac
    shift
done
shift
cd "$directory" || exit 1
exec "$SUITE_SERVER/ssh" "$@"
"""


def names(source: Path) -> list[str]:
    """Return the names of all tests that start a remote shell."""
    pattern = re.compile(r"rsh_cmd|RSYNC_RSH|lsh[.]sh")
    return sorted(
        path.name.removesuffix("_test.py")
        for path in (source / "testsuite").glob("*_test.py")
        if pattern.search(path.read_text(errors="replace"))
    )


def prepare(source: Path) -> None:
    """Build rsync and the helpers of its tests."""
    disabled = "--disable-md2man --disable-openssl --disable-xxhash --disable-zstd --disable-lz4"
    commands.build(source, f"./configure {disabled}", "make -j2 check-progs")
    shell = source / "support/lsh.sh"
    if not shell.with_name("lsh.sh.original").exists():
        shutil.copy(shell, shell.with_name("lsh.sh.original"))
    shell.write_text(_SHELL)
    shell.chmod(0o755)


def run(name: str, source: Path, folder: Path, shims: Path) -> tuple[int, str]:
    """Run one test; return its status and output."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    server = folder / "server"
    server.mkdir()
    environment = {"SUITE_SERVER": str(server), "SHIMS": str(shims), "SSHD": find_sshd() or "sshd", "PYTHON": sys.executable}
    argv = ["sh", str(Path(__file__).with_name("server.sh")), str(server)]
    argv += [sys.executable, "runtests.py", "--always-log", name]
    status, output = commands.run(argv, source, folder / "output", environment, LIMIT)
    if re.search(rf"^SKIP +{re.escape(name)}\b", output, re.MULTILINE):
        status = status or 77
    return status, output
