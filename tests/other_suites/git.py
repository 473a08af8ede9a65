"""git's tests that start its fake ssh, with our ssh to a real sshd in its place.

The fake one writes its arguments to a file, which the tests compare, and runs the command here. Under the names of other clients
(plink, say) ours does the same; under that of ssh it runs the command through ssh.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.support.sshd import find_sshd

from . import commands

LIMIT = 900.0  # seconds for a script
_OWN = "has a shell script of its own in ssh's place"
EXCLUDED = {
    "t5507-remote-environment": _OWN,
    "t5602-clone-remote-exec": _OWN,
    "t5603-clone-dirname": _OWN,
    "t5813-proto-disable-ssh": _OWN,
    "t5815-submodule-protos": _OWN,
}
_TESTED = ("t5601-clone", "t5700-protocol-v1")
_FAKE = """\
#!/bin/sh
: "${TRASH_DIRECTORY:?}"
echo "ssh: $*" > "$TRASH_DIRECTORY/ssh-output"
[ $# -gt 0 ] || exit 0
case ${0##*/} in
    ssh|test-fake-ssh) exec "$SUITE_SERVER/ssh" "$@" ;;
esac
for last; do :; done
exec sh -c "$last"
"""
_OPTIONS = "NO_CURL=1 NO_EXPAT=1 NO_GETTEXT=1 NO_TCLTK=1 NO_PYTHON=1 NO_OPENSSL=1"


def names(source: Path) -> list[str]:
    """Return the names of the scripts that use ssh."""
    return sorted([*_TESTED, *EXCLUDED])


def prepare(source: Path) -> None:
    """Build git and the helpers of its tests."""
    commands.build(source, f"make -j2 {_OPTIONS} CFLAGS=-O0")
    fake = source / "t/helper/test-fake-ssh"
    fake.unlink(missing_ok=True)
    fake.write_text(_FAKE)
    fake.chmod(0o755)


def run(name: str, source: Path, folder: Path, shims: Path) -> tuple[int, str]:
    """Run one script; return its status and output."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    server = folder / "server"
    server.mkdir()
    environment = {"SUITE_SERVER": str(server), "SHIMS": str(shims), "SSHD": find_sshd() or "sshd", "PYTHON": sys.executable}
    argv = ["sh", str(Path(__file__).with_name("server.sh")), str(server), f"./{name}.sh", "-v"]
    return commands.run(argv, source / "t", folder / "output", environment, LIMIT)
