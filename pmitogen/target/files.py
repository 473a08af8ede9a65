"""Files of one account: small operations that answer at once, and transfers in pieces.

A file that is put appears whole or not at all: it is written beside its destination under a temporary name and renamed into
place, with the sender's mode under the account's umask, or the mode of the file that it replaces. Where the directory does
not permit a second name (or the destination is not a regular file: a device, a pipe, a link), the destination itself is
written, as sftp does.
"""

import binascii
import errno
import os
import re
import select
import shutil
import stat

from pmitogen.protocol.framing import CHUNK, CREDIT_WINDOW, from_wire, to_wire

UNREADABLE_TYPES = {
    stat.S_IFDIR: (errno.EISDIR, os.strerror(errno.EISDIR)),
    stat.S_IFIFO: (errno.EINVAL, "a named pipe, which has no end of its own"),
}
SHELL_SAFE_PATH = re.compile(b"[A-Za-z0-9_@%+=:,./-]+\\Z")  # a path that no shell reads as anything else
PIPE_WRITE_TIMEOUT_MS = 2000  # milliseconds that a pipe may be full, while everybody else in this account waits


def expand_user(path):
    """Expand a leading ~ or ~user of a bytes path."""
    return os.path.expanduser(path)


def expand_variables(path):
    """Put this process's variables in, as the shell would that Ansible counts on: remote_tmp may be /tmp/.ansible-$USER."""
    environ = os.environ if str is bytes else os.environb
    return re.sub(b"\\$(?:(\\w+)|\\{(\\w+)\\})", lambda match: environ.get(match.group(1) or match.group(2), b""), path)


def mkdtemp(header):
    """Make a private directory in the first of ``bases`` that permits it (and that base, if it is not there).

    Ansible's ``script`` puts the path into a command as it is. So a base that a shell would take apart comes last.
    """
    name = from_wire(header["name"])
    failure = None
    bases = [expand_user(expand_variables(from_wire(base))) for base in header["bases"]]
    for base in sorted(bases, key=lambda base: not SHELL_SAFE_PATH.match(base)):
        old = os.umask(0o77)
        try:
            make_directories(base)
            path = os.path.join(base, name)
            os.mkdir(path, 0o700)
            return {"path": to_wire(path)}
        except OSError as exc:
            failure = failure or exc
        finally:
            os.umask(old)
    raise failure


def make_directories(path):
    """As ``mkdir -p``: another process may make the same folders at this moment."""
    try:
        if not os.path.isdir(path):
            os.makedirs(path, 0o700)
    except OSError:
        if not os.path.isdir(path):
            raise


def can_use_remote_tmp(home):
    """Whether Ansible's own place for temporary directories can be used, or made, in *home*."""
    for path in (home + "/.ansible/tmp", home + "/.ansible", home):
        if os.path.exists(path):
            return os.access(path, os.W_OK | os.X_OK)
    return False


def chmod(header):
    """Add permission bits to each path: what ``chmod u+rwx`` asks."""
    for path in header["paths"]:
        path = from_wire(path)
        os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | header["add"])
    return {}


def remove(header):
    """Remove a tree; what is not there is removed already."""
    path = from_wire(header["path"])
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except (IOError, OSError) as exc:
        if exc.errno != errno.ENOENT:
            raise
    return {}


def home(header):
    """Return the home directory of a user as a shell's ``~user`` has it, or null if there is no such user."""
    text = from_wire(header["path"])
    answer = expand_user(text)
    return {"path": None if answer == text and text.startswith(b"~") else to_wire(answer)}


def exists(header):
    return {"exists": os.path.exists(from_wire(header["path"]))}


OPERATIONS = {"mkdtemp": mkdtemp, "chmod": chmod, "remove": remove, "home": home, "exists": exists}


def error_message(exc, label):
    """One line for an operating system's error."""
    return "%s: %s" % (label, getattr(exc, "strerror", None) or exc)


class Upload(object):
    """A file on its way in: data arrives by ``on_data``; *send* answers with credit, and ``ok`` or ``error`` at the end."""

    def __init__(self, request_id, send, header):
        self.request_id = request_id
        self._send = send
        self._path = expand_user(from_wire(header["path"]))
        self.label = header.get("what") or "writing"  # for messages
        self._quiet = header.get("quiet")
        self._mode = header.get("mode", 0o666)  # as open(2) takes it: the account's umask still applies
        self._unacked = 0
        self._temp = None
        self._fd = -1
        self._open()

    def _open(self):
        try:
            current = os.lstat(self._path)
        except OSError:
            current = None
        if current is None or stat.S_ISREG(current.st_mode) and current.st_nlink == 1 and current.st_uid == os.geteuid():
            temp = os.path.join(os.path.dirname(self._path), b".pmitogen-" + binascii.hexlify(os.urandom(8)))
            try:
                self._fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._mode)
                self._temp = temp
                if current is not None:
                    os.fchmod(self._fd, stat.S_IMODE(current.st_mode))
                return
            except OSError as exc:
                if current is None or exc.errno not in (errno.EACCES, errno.EPERM):
                    raise
        # Not to wait for somebody who reads a pipe: without one, that is an error.
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY, self._mode)

    def _write(self, view):
        try:
            return os.write(self._fd, view)
        except OSError as exc:
            if exc.errno != errno.EAGAIN:
                raise
        poller = select.poll()
        poller.register(self._fd, select.POLLOUT)
        if not poller.poll(PIPE_WRITE_TIMEOUT_MS):
            raise IOError(errno.ETIMEDOUT, "nobody reads from it")
        return 0

    def on_data(self, body):
        view = memoryview(body)
        while len(view):
            view = view[self._write(view) :]
        self._unacked += len(body)
        if self._unacked >= CREDIT_WINDOW // 4:
            self._send({"op": "credit", "id": self.request_id, "n": self._unacked}, b"")
            self._unacked = 0

    def on_eof(self):
        fd, self._fd = self._fd, -1
        os.close(fd)
        if self._temp:
            os.rename(self._temp, self._path)
            self._temp = None
        if not self._quiet:
            self._send({"op": "ok", "id": self.request_id}, b"")

    def close(self):
        """Give up: what was there before stays as it was."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._temp:
            try:
                os.unlink(self._temp)
            except OSError:
                pass
            self._temp = None


class Download(object):
    """A file on its way out, read as credit allows."""

    def __init__(self, request_id, send, header):
        self.request_id = request_id
        self._send = send
        self._credit = CREDIT_WINDOW
        self.label = header.get("what") or "reading"
        path = expand_user(from_wire(header["path"]))
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)  # opening a pipe would wait for who writes to it
        kind = stat.S_IFMT(os.fstat(self._fd).st_mode)
        if kind in UNREADABLE_TYPES:
            self.close()
            raise IOError(*UNREADABLE_TYPES[kind])

    def on_credit(self, count):
        self._credit += count

    def is_ready(self):
        return self._fd >= 0 and self._credit > 0

    def send_chunk(self):
        """Send one piece; the loop looks after everybody else in between. Returns True at the end."""
        data = os.read(self._fd, CHUNK)
        if data:
            self._credit -= len(data)
            self._send({"op": "out", "id": self.request_id, "s": 1}, data)
            return False
        mode = stat.S_IMODE(os.fstat(self._fd).st_mode)
        self.close()
        self._send({"op": "ok", "id": self.request_id, "mode": mode}, b"")
        return True

    def close(self):
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
