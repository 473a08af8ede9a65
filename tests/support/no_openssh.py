"""A root directory without OpenSSH's client, for programs that must work without it.

A mount namespace hides the client: an overlay in each directory of PATH removes its programs, and an empty directory covers its
helpers. The mounts belong to the namespace and end with its last process; the machine's own files are not changed. Network and
processes are those of the machine, so servers outside are reachable.

Needs root, unshare and overlay mounts, which a container without CAP_SYS_ADMIN does not have.
"""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from . import session
from .programs import SYSTEM_PATH

PROGRAMS = "ssh scp sftp slogin ssh-add ssh-agent ssh-argv0 ssh-askpass ssh-copy-id ssh-keygen ssh-keyscan sshpass".split()
_HELPERS = "/usr/lib/openssh /usr/libexec/openssh /usr/lib/ssh".split()

# Arguments: an empty directory for the overlays, then DIRECTORY=PROGRAM,... for each, "--", and the command.
_SCRIPT = """
set -e
mount -t tmpfs -o mode=755 none "$1"
scratch=$1 number=0
shift
while [ "$1" != -- ]; do
    directory=${1%%=*} programs=${1#*=} number=$((number + 1))
    mkdir "$scratch/$number" "$scratch/$number.work"
    chmod 755 "$scratch/$number"
    for program in $(echo "$programs" | tr , ' '); do mknod "$scratch/$number/$program" c 0 0; done
    mount -t overlay -o "lowerdir=$directory,upperdir=$scratch/$number,workdir=$scratch/$number.work" none "$directory"
    shift
done
shift
for directory in %s; do [ ! -d "$directory" ] || mount -t tmpfs -o mode=755 none "$directory"; done
exec "$@"
"""


def _directories() -> dict[str, list[str]]:
    """Directory of PATH, with symbolic links resolved -> the client's programs in it."""
    found: dict[str, list[str]] = {}
    for directory in dict.fromkeys(map(os.path.realpath, (os.environ.get("PATH", "") + SYSTEM_PATH).split(":"))):
        programs = [name for name in PROGRAMS if os.path.lexists(os.path.join(directory, name))]
        if programs:
            found[directory] = programs
    return found


def command(*argv: str | Path) -> list[str]:
    """Return the command line that runs *argv* without OpenSSH's client."""
    scratch = session.directory / "no-openssh"
    scratch.mkdir(exist_ok=True)
    hidden = [f"{directory}={','.join(programs)}" for directory, programs in _directories().items()]
    script = _SCRIPT % " ".join(_HELPERS)
    start = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script, "no-openssh", str(scratch)]
    return [*start, *hidden, "--", *map(str, argv)]


def run(*argv: str | Path, timeout: float = 60, **more: object) -> subprocess.CompletedProcess[str]:
    """Run *argv* without a terminal, and wait for its end; *more*: arguments of ``subprocess.run``."""
    options: dict[str, object] = {"capture_output": True, "text": True, "start_new_session": True, **more}
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(command(*argv), timeout=timeout, **options)  # type: ignore[call-overload, no-any-return]


@functools.cache
def problem() -> str | None:
    """Return the reason why such a root is impossible here, or None."""
    if os.geteuid() != 0:
        return "root"
    try:
        done = run("true")
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 else f"overlay mounts ({done.stderr.strip()[:100]})"
