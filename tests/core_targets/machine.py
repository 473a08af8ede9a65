"""A copy-on-write image of this machine: an overlay over / in memory, in namespaces of its own.

The image has its own mounts, devices, processes, network (loopback alone), host name and System V IPC. Kernel settings are
read-only. When its first process ends, the kernel ends all others and discards the files, except those in the directory of
results. Only Linux has this, and only for root.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .sources import FOLDER

_IMAGE = FOLDER / "image"  # an empty directory; whatever is mounted here is seen in the namespace alone
_PROGRAMS = ("unshare", "mount", "chroot", "ip", "ssh", "ssh-keygen")
_ENTER = """
set -e
mount -t tmpfs -o mode=755 tmpfs "$IMAGE"
mkdir "$IMAGE/upper" "$IMAGE/work" "$IMAGE/root"
mount -t overlay -o "lowerdir=/,upperdir=$IMAGE/upper,workdir=$IMAGE/work" overlay "$IMAGE/root"
mount -t proc proc "$IMAGE/root/proc"
mount -t tmpfs -o mode=755 tmpfs "$IMAGE/root/dev"
for name in null zero full random urandom tty; do cp -a "/dev/$name" "$IMAGE/root/dev/"; done
mkdir "$IMAGE/root/dev/pts" "$IMAGE/root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$IMAGE/root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$IMAGE/root/dev/shm"
ln -s pts/ptmx "$IMAGE/root/dev/ptmx"
ln -s /proc/self/fd "$IMAGE/root/dev/fd"
mount --bind /sys "$IMAGE/root/sys"
for shared in proc/sys sys; do
    mount --bind "$IMAGE/root/$shared" "$IMAGE/root/$shared"
    mount -o remount,bind,ro "$IMAGE/root/$shared"
done
mount --bind "$RESULTS" "$IMAGE/root$RESULTS"
ip link set lo up
hostname testbox
exec chroot "$IMAGE/root" "$@"
"""


def missing() -> str | None:
    """What this machine lacks for an image, or None."""
    if os.geteuid() != 0:
        return "root"
    return next((name for name in _PROGRAMS if shutil.which(name) is None), None)


def run(args: Sequence[str], results: Path, timeout: float) -> None:
    """Runs the program *args* in a new image, for *timeout* seconds at most. What it writes below *results* stays."""
    _IMAGE.mkdir(parents=True, exist_ok=True)
    results.mkdir(parents=True, exist_ok=True)
    namespaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child")
    with (results / "image.log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", *namespaces, "sh", "-c", _ENTER, "sh", *args],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "IMAGE": str(_IMAGE), "RESULTS": str(results)},
            start_new_session=True,
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its first process ends with it, and with that one all others
            process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
