"""A copy-on-write image of this machine: an overlay over / in memory, in namespaces of its own.

The image has its own mounts, devices, processes, network (loopback only), host name and System V IPC. Kernel settings are
read-only. When its first process ends, the kernel ends all others and discards the files, except those in the directory of
results. This requires Linux and root.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .sources import FOLDER

_IMAGE = FOLDER / "image"  # an empty directory; mounts on it are visible in the namespace only
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
    """Return what this machine lacks for an image, or None."""
    if os.geteuid() != 0:
        return "root"
    return next((name for name in _PROGRAMS if shutil.which(name) is None), None)


def run(args: Sequence[str], results: Path, timeout: float) -> None:
    """Run the program *args* in a new image, for at most *timeout* seconds. Files that it writes below *results* remain."""
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
            os.killpg(process.pid, signal.SIGKILL)  # this also ends its first process, and with it all others
            process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
