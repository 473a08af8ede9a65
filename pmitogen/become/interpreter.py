"""Which Python is started in an account that is entered, where none was named.

NOTE: runs on the target. Paths are bytes.
"""

from __future__ import absolute_import

import errno
import os
import stat

SYSTEM_PYTHON = b"/usr/bin/python3"
MAX_LINKS = 40  # as the kernel follows


def choose(own, is_named):
    """The interpreter for another account.

    *own*: the one that runs this. *is_named*: whether the user named it for the whole host. One that was found may be a program
    of the login account's, which others must not run: then the system's is taken, if there is one.
    """
    if not is_world_executable(own):
        return SYSTEM_PYTHON if is_world_executable(SYSTEM_PYTHON) else own
    if is_named or is_root_controlled(own) or not is_world_executable(SYSTEM_PYTHON):
        return own
    return SYSTEM_PYTHON


def is_world_executable(path):
    """Whether every account can run the program *path*: not one in somebody's closed home, nor in the current directory."""
    try:
        return path.startswith(b"/") and all(os.stat(step).st_mode & stat.S_IXOTH for step in path_components(path))
    except OSError:
        return False


def is_root_controlled(path):
    """Whether only root decides what the program *path* is. What is writable by a group counts if this account is in it."""
    try:
        return all(_is_root_controlled(step) for step in path_components(path))
    except OSError:
        return False


def _is_root_controlled(step):
    found = os.lstat(step)
    if found.st_uid:
        return False
    if stat.S_ISLNK(found.st_mode) or found.st_mode & stat.S_ISVTX:  # the directory decides; each changes its own entries only
        return True
    return not found.st_mode & stat.S_IWOTH and (os.geteuid() == 0 or not os.access(step, os.W_OK))


def path_components(path):
    """All that decides what the absolute *path* is: its directories, links on the way and theirs, the file. Raises OSError."""
    found, here, links = [b"/"], b"/", 0
    left = path.split(b"/")
    while left:
        name = left.pop(0)
        if name in (b"", b"."):
            continue
        if name == b"..":
            here = os.path.dirname(here)
            continue
        step = os.path.join(here, name)
        found.append(step)
        if not os.path.islink(step):
            here = step
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = os.readlink(step)
        left = target.split(b"/") + left
        if target.startswith(b"/"):
            here = b"/"
    return found
