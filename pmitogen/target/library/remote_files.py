"""File operations of the library, called in a child like a function of the program that uses the library.

Travels with the call, so only to hosts that need it. Paths are text whose code points are bytes (Latin-1). Errors of the
operating system are returned, not raised, so that the caller gets their number and path.
"""

import errno
import fnmatch
import glob as globbing
import grp
import hashlib
import os
import pwd
import shutil
import stat as stats
import sys

MYPY = False
if MYPY:
    from typing import Any, Callable, Dict, List, Optional, Sequence, Union  # noqa: F401

    Json = Any  # any value that JSON has
    Owner = Union[str, int, None]

READ_SIZE = 1 << 18  # bytes of a file that are read at once
MAX_ENTRIES = 200000  # of a tree
PY2 = sys.version_info < (3,)


def decode(path):
    # type: (Union[str, bytes]) -> str
    if PY2:
        return path.decode("latin-1")
    return os.fsencode(path).decode("latin-1")


def encode(path):
    # type: (str) -> bytes
    """Return a path as bytes. ~ and ~user are expanded."""
    return os.path.expanduser(path.encode("latin-1"))


def perform(name, arguments):
    # type: (str, Sequence[Json]) -> Dict[str, Json]
    """Call an operation. Returns {"value": ...}, or the error: ``errno``, ``text`` and, if it is known, ``path``."""
    try:
        return {"value": OPERATIONS[name](*arguments)}
    except (IOError, OSError, shutil.Error) as exc:
        code = getattr(exc, "errno", None) or errno.EIO
        path = getattr(exc, "filename", None)
        failure = {"errno": errno.errorcode.get(code, "EIO"), "text": getattr(exc, "strerror", None) or str(exc)}
        if path is not None and not isinstance(path, int):
            failure["path"] = decode(path)
        return failure
    except RuntimeError:  # os.makedirs calls itself for each part of a path
        return {"errno": "ELOOP", "text": os.strerror(errno.ELOOP), "path": arguments[0]}


def fields(status):
    # type: (os.stat_result) -> List[float]
    """Return the fields of a stat result as a list."""
    names = ("st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size", "st_atime", "st_mtime", "st_ctime")
    return [getattr(status, name) for name in names]


def stat(path, follow):
    # type: (str, bool) -> List[float]
    return fields((os.stat if follow else os.lstat)(encode(path)))


def listdir(path):
    # type: (str) -> List[str]
    return sorted(decode(name) for name in os.listdir(encode(path)))


def scandir(path):
    # type: (str) -> List[Json]
    """Return [name, fields] of each entry."""
    top, entries = encode(path), []
    for name in sorted(os.listdir(top)):
        try:
            entries.append([decode(name), fields(os.lstat(os.path.join(top, name)))])
        except OSError as exc:
            if exc.errno != errno.ENOENT:  # removed meanwhile
                raise
    return entries


def walk(path):
    # type: (str) -> List[Json]
    """Return [directory, names of directories, names of files] of each directory."""

    def fail(exc):
        # type: (OSError) -> None
        raise exc

    entries = []
    for top, directories, names in os.walk(encode(path), onerror=fail):
        directories.sort()
        entries.append([decode(top), [decode(name) for name in directories], sorted(decode(name) for name in names)])
    return entries


def glob(pattern, recursive):
    # type: (str, bool) -> List[str]
    options = {"recursive": True} if recursive and not PY2 else {}  # type: Json
    wanted = encode(pattern)  # type: Json
    if not PY2:
        wanted = os.fsdecode(wanted)  # so that ? is a character, not a byte
    found = []
    for path in globbing.iglob(wanted, **options):
        found.append(decode(path))
        if len(found) > MAX_ENTRIES:  # ** follows links, which may lead back
            raise OSError(errno.E2BIG, "more than %d paths" % MAX_ENTRIES, encode(pattern))
    return sorted(found)


def mkdir(path, mode, parents, exist_ok):
    # type: (str, int, bool, bool) -> None
    directory = encode(path)
    above = os.path.dirname(directory) or b"."
    if parents and not os.path.isdir(above):
        try:
            os.makedirs(above)
        except OSError:
            if not os.path.isdir(above):  # else another process has made it meanwhile
                raise
    try:
        os.mkdir(directory, mode)
    except OSError:
        if not (exist_ok and os.path.isdir(directory)):
            raise


def remove(path, recursive, missing_ok):
    # type: (str, bool, bool) -> None
    target = encode(path)
    try:
        if not stats.S_ISDIR(os.lstat(target).st_mode):
            os.unlink(target)
        elif recursive:
            remove_tree(target)
        else:
            os.rmdir(target)
    except OSError as exc:
        if not (missing_ok and exc.errno == errno.ENOENT):
            raise


def remove_tree(path):
    # type: (bytes) -> None
    """Remove a directory and all that is in it. An error has the whole path, where that of shutil may have a name only."""

    def fail(function, failed, failure):
        # type: (object, bytes, Json) -> None
        error = failure[1] if isinstance(failure, tuple) else failure
        raise OSError(error.errno, error.strerror, failed)

    options = {"onexc": fail} if sys.version_info >= (3, 12) else {"onerror": fail}  # type: Json
    shutil.rmtree(path, **options)


def rename(source, target):
    # type: (str, str) -> None
    os.rename(encode(source), encode(target))


def symlink(target, path):
    # type: (str, str) -> None
    try:
        os.symlink(target.encode("latin-1"), encode(path))
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, encode(path))  # the error of os.symlink has the path of the target


def readlink(path):
    # type: (str) -> str
    return decode(os.readlink(encode(path)))


def chmod(path, mode):
    # type: (str, int) -> None
    os.chmod(encode(path), mode)


def chown(path, user, group, follow):
    # type: (str, Owner, Owner, bool) -> None
    (os.chown if follow else os.lchown)(encode(path), id_of(user, pwd.getpwnam), id_of(group, grp.getgrnam))


def id_of(name, find):
    # type: (Owner, Callable[[str], Sequence[Json]]) -> int
    """Return the number of a user or group; -1, which changes nothing, for None."""
    if name is None:
        return -1
    if isinstance(name, int):
        return name
    try:
        return int(find(str(name))[2])
    except KeyError:
        raise OSError(errno.EINVAL, "no such user" if find is pwd.getpwnam else "no such group", name.encode("utf-8"))


def exists(path):
    # type: (str) -> bool
    return os.path.lexists(encode(path))


def is_excluded(relative, patterns):
    # type: (bytes, Sequence[str]) -> bool
    """Return True if a path below a tree matches a pattern, as a whole or by its last component."""
    if not patterns:
        return False
    names = characters(relative), characters(relative.rpartition(b"/")[2])
    return any(fnmatch.fnmatchcase(name, characters(each.encode("latin-1"))) for each in patterns for name in names)


def characters(path):
    # type: (bytes) -> str
    """Return a path as text in which ? of a pattern is a character: UTF-8 whatever the locale, as both sides must agree."""
    if PY2:
        try:
            return path.decode("utf-8")
        except UnicodeDecodeError:
            return path.decode("latin-1")
    return path.decode("utf-8", "surrogateescape")


def tree(path, patterns):
    # type: (str, Sequence[str]) -> Optional[List[Json]]
    """Return the fields of ``api.trees.Entry`` of each entry below a directory; None if there is no directory."""
    root, entries = encode(path), []
    if not os.path.isdir(root):
        return None
    waiting = [b""]
    while waiting:
        directory = waiting.pop()
        for name in sorted(os.listdir(os.path.join(root, directory))):
            relative = os.path.join(directory, name)
            shown = decode(relative)
            if is_excluded(relative, patterns):
                entries.append([shown, "x", 0, 0, 0, None])
                continue
            whole = os.path.join(root, relative)
            state = os.lstat(whole)
            if stats.S_ISDIR(state.st_mode):
                kind, target = "d", None
                waiting.append(relative)
            elif stats.S_ISLNK(state.st_mode):
                kind, target = "l", decode(os.readlink(whole))
            elif stats.S_ISREG(state.st_mode):
                kind, target = "f", None
            else:
                kind, target = "?", None
            entries.append([shown, kind, stats.S_IMODE(state.st_mode), state.st_size, state.st_mtime, target])
            if len(entries) > MAX_ENTRIES:
                raise OSError(errno.E2BIG, "more than %d files" % MAX_ENTRIES, root)
    return entries


def digests(path, names):
    # type: (str, Sequence[str]) -> List[Optional[str]]
    """Return the SHA-256 of files below a directory; None for each that cannot be read."""
    root, digests_found = encode(path), []  # type: bytes, List[Optional[str]]
    for name in names:
        try:
            digests_found.append(digest(os.path.join(root, name.encode("latin-1"))))
        except (IOError, OSError):
            digests_found.append(None)
    return digests_found


def digest(path):
    # type: (bytes) -> str
    summed = hashlib.sha256()
    with open(path, "rb") as stream:
        while True:
            block = stream.read(READ_SIZE)
            if not block:
                return summed.hexdigest()
            summed.update(block)


def prepare_tree(path, opened, removed, directories, links):
    # type: (str, Sequence[Json], Sequence[str], Sequence[str], Sequence[Sequence[str]]) -> None
    """Prepare a directory for files: set modes, remove entries, make directories, make links."""
    root = encode(path)
    mkdir(path, 0o777, True, True)
    for name, mode in opened:
        os.chmod(os.path.join(root, name.encode("latin-1")), mode)
    for name in removed:
        remove(decode(os.path.join(root, name.encode("latin-1"))), True, True)
    for name in directories:
        os.mkdir(os.path.join(root, name.encode("latin-1")))
    for name, target in links:
        os.symlink(target.encode("latin-1"), os.path.join(root, name.encode("latin-1")))


def finish_tree(path, states):
    # type: (str, Sequence[Json]) -> None
    """Set modes and times. *states*: [path below the directory, mode, time or None] of each entry, directories last."""
    root = encode(path)
    for name, mode, when in states:
        whole = os.path.join(root, name.encode("latin-1"))
        os.chmod(whole, mode)
        if when is not None:
            os.utime(whole, (when, when))


OPERATIONS = {  # type: Dict[str, Callable[..., Json]]
    "stat": stat,
    "listdir": listdir,
    "scandir": scandir,
    "walk": walk,
    "glob": glob,
    "mkdir": mkdir,
    "remove": remove,
    "rename": rename,
    "symlink": symlink,
    "readlink": readlink,
    "chmod": chmod,
    "chown": chown,
    "exists": exists,
    "tree": tree,
    "digests": digests,
    "prepare_tree": prepare_tree,
    "finish_tree": finish_tree,
}
