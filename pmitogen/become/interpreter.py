"""Choice of the Python that is started in another account, if the user named none.

NOTE: runs on the target. Paths are bytes.
"""

from __future__ import absolute_import

import errno
import os
import stat

MYPY = False
if MYPY:
    from typing import List  # noqa: F401

SYSTEM_PYTHON = b"/usr/bin/python3"
MAX_LINKS = 40  # symbolic links in one path; the kernel's limit


def choose(own, is_named):
    # type: (bytes, bool) -> bytes
    """Return the path of the interpreter for another account.

    *own*: the interpreter of this process.
    *is_named*: True if the user named it for the whole host. One that was found may belong to the login account, and other
    accounts must not run it: then the system's Python is used, if there is one.
    """
    if not is_world_executable(own):
        return SYSTEM_PYTHON if is_world_executable(SYSTEM_PYTHON) else own
    if is_named or is_root_controlled(own) or not is_world_executable(SYSTEM_PYTHON):
        return own
    return SYSTEM_PYTHON


def is_world_executable(path):
    # type: (bytes) -> bool
    """Return True if every account can run the program *path*: an absolute path, in directories that others can enter."""
    try:
        return path.startswith(b"/") and all(os.stat(step).st_mode & stat.S_IXOTH for step in path_components(path))
    except OSError:
        return False


def is_root_controlled(path):
    # type: (bytes) -> bool
    """Return True if only root can replace the program *path*. A group's write permission counts if this account is in it."""
    try:
        return all(_is_root_controlled(step) for step in path_components(path))
    except OSError:
        return False


def _is_root_controlled(step):
    # type: (bytes) -> bool
    status = os.lstat(step)
    if status.st_uid:
        return False
    if (
        stat.S_ISLNK(status.st_mode) or status.st_mode & stat.S_ISVTX
    ):  # links: the directory decides; sticky: accounts can change their own entries only
        return True
    return not status.st_mode & stat.S_IWOTH and (os.geteuid() == 0 or not os.access(step, os.W_OK))


def path_components(path):
    # type: (bytes) -> List[bytes]
    """Return every directory, link and file that the absolute *path* is resolved through. Raises OSError."""
    components, directory, links = [b"/"], b"/", 0
    left = path.split(b"/")
    while left:
        name = left.pop(0)
        if name in (b"", b"."):
            continue
        if name == b"..":
            directory = os.path.dirname(directory)
            continue
        step = os.path.join(directory, name)
        components.append(step)
        if not os.path.islink(step):
            directory = step
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = os.readlink(step)
        left = target.split(b"/") + left
        if target.startswith(b"/"):
            directory = b"/"
    return components
