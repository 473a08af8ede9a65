"""File operations of the library on a host, called in a child as a function of the embedding program is.

Travels with the call, so a host that is asked for none of this is sent none of it. Paths are text whose code points are bytes.
What the operating system refuses is returned, not raised, so that its number and the path reach the caller.
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

BLOCK = 1 << 18  # bytes of a file that are read at once
LISTED = 200000  # entries of a tree

if str is bytes:

    def decode(path):
        return path.decode("latin-1")
else:

    def decode(path):
        return os.fsencode(path).decode("latin-1")


def encode(path):
    """A path as bytes; ~ and ~user are expanded."""
    return os.path.expanduser(path.encode("latin-1"))


def perform(name, arguments):
    """Call an operation. Returns {"value": ...}, or what the operating system says."""
    try:
        return {"value": OPERATIONS[name](*arguments)}
    except (IOError, OSError, shutil.Error) as exc:
        number = getattr(exc, "errno", None) or errno.EIO
        path = getattr(exc, "filename", None)
        failure = {"errno": errno.errorcode.get(number, "EIO"), "text": getattr(exc, "strerror", None) or str(exc)}
        if path is not None and not isinstance(path, int):
            failure["path"] = decode(path)
        return failure


def fields(found):
    """What stat(2) says, as a list."""
    names = ("st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size", "st_atime", "st_mtime", "st_ctime")
    return [getattr(found, name) for name in names]


def stat(path, follow):
    return fields((os.stat if follow else os.lstat)(encode(path)))


def listdir(path):
    return sorted(decode(name) for name in os.listdir(encode(path)))


def scandir(path):
    top, found = encode(path), []
    for name in sorted(os.listdir(top)):
        try:
            found.append([decode(name), fields(os.lstat(os.path.join(top, name)))])
        except OSError as exc:
            if exc.errno != errno.ENOENT:  # removed meanwhile
                raise
    return found


def walk(path):
    def fail(exc):
        raise exc

    found = []
    for top, folders, names in os.walk(encode(path), onerror=fail):
        folders.sort()
        found.append([decode(top), [decode(name) for name in folders], sorted(decode(name) for name in names)])
    return found


def glob(pattern, recursive):
    options = {"recursive": True} if recursive and str is not bytes else {}
    return sorted(decode(path) for path in globbing.glob(encode(pattern), **options))


def mkdir(path, mode, parents, exist_ok):
    path = encode(path)
    if parents and not os.path.isdir(os.path.dirname(path) or b"."):
        os.makedirs(os.path.dirname(path))
    try:
        os.mkdir(path, mode)
    except OSError:
        if not (exist_ok and os.path.isdir(path)):
            raise


def remove(path, recursive, missing_ok):
    path = encode(path)
    try:
        if stats.S_ISDIR(os.lstat(path).st_mode):
            (shutil.rmtree if recursive else os.rmdir)(path)
        else:
            os.unlink(path)
    except OSError as exc:
        if not (missing_ok and exc.errno == errno.ENOENT):
            raise


def rename(source, target):
    os.rename(encode(source), encode(target))


def symlink(target, path):
    os.symlink(target.encode("latin-1"), encode(path))


def readlink(path):
    return decode(os.readlink(encode(path)))


def chmod(path, mode):
    os.chmod(encode(path), mode)


def chown(path, user, group, follow):
    (os.chown if follow else os.lchown)(encode(path), number_of(user, pwd.getpwnam), number_of(group, grp.getgrnam))


def number_of(name, find):
    """A user's or group's number; -1: leave it."""
    if name is None:
        return -1
    if isinstance(name, int):
        return name
    try:
        return find(str(name))[2]
    except KeyError:
        raise OSError(errno.EINVAL, "no such user or group", name.encode("utf-8"))


def exists(path):
    return os.path.lexists(encode(path))


def is_excluded(relative, patterns):
    """Whether a path below a tree matches a pattern, as a whole or by its last part."""
    name = relative.rpartition("/")[2]
    return any(fnmatch.fnmatchcase(each, pattern) for pattern in patterns for each in (relative, name))


def tree(path, patterns):
    """Everything below a directory: [path below it, kind, mode, size, time, target of a link]; None: there is no directory."""
    root, found = encode(path), []
    if not os.path.isdir(root):
        return None
    waiting = [b""]
    while waiting:
        folder = waiting.pop()
        for name in sorted(os.listdir(os.path.join(root, folder))):
            relative = os.path.join(folder, name)
            shown = decode(relative)
            if is_excluded(shown, patterns):
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
            found.append([shown, kind, stats.S_IMODE(state.st_mode), state.st_size, state.st_mtime, target])
            if len(found) > LISTED:
                raise OSError(errno.E2BIG, "more than %d files" % LISTED, root)
    return found


def digests(path, names):
    """SHA-256 of files below a directory; None: it cannot be read."""
    root, found = encode(path), []
    for name in names:
        try:
            found.append(digest(os.path.join(root, name.encode("latin-1"))))
        except (IOError, OSError):
            found.append(None)
    return found


def digest(path):
    summed = hashlib.sha256()
    with open(path, "rb") as stream:
        while True:
            block = stream.read(BLOCK)
            if not block:
                return summed.hexdigest()
            summed.update(block)


def prepare(path, removed, folders, links):
    """Remove what is in the way or is to go, make directories, and make links."""
    root = encode(path)
    if not os.path.isdir(root):
        os.makedirs(root)
    for name in removed:
        remove(decode(os.path.join(root, name.encode("latin-1"))), True, True)
    for name in folders:
        os.mkdir(os.path.join(root, name.encode("latin-1")))
    for name, target in links:
        os.symlink(target.encode("latin-1"), os.path.join(root, name.encode("latin-1")))


def complete(path, states):
    """Set modes and times: [path below the directory, mode, time or None], directories last."""
    root = encode(path)
    for name, mode, when in states:
        whole = os.path.join(root, name.encode("latin-1"))
        os.chmod(whole, mode)
        if when is not None:
            os.utime(whole, (when, when))


OPERATIONS = {
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
    "prepare": prepare,
    "complete": complete,
}
