"""File operations in one account: small operations that answer at once, and transfers in chunks.

An upload is atomic: it is written to a temporary file beside its destination, which is then renamed. The file gets the sender's
mode under the account's umask, or the mode of the file that it replaces. If the directory permits no temporary file, or the
destination is not a regular file (a device, a pipe, a link), the destination itself is written, as sftp does.
"""

import binascii
import errno
import os
import re
import select
import shutil
import stat

from pmitogen.protocol.framing import CHUNK, CREDIT_WINDOW, from_wire, to_wire
from pmitogen.target.start_state import environb

MYPY = False
if MYPY:
    from typing import Dict, Optional  # noqa: F401
    from pmitogen.protocol.framing import Header, Send  # noqa: F401

UNREADABLE_TYPES = {
    stat.S_IFDIR: (errno.EISDIR, os.strerror(errno.EISDIR)),
    stat.S_IFIFO: (errno.EINVAL, "a named pipe, which has no end of its own"),
}
SHELL_SAFE_PATH = re.compile(b"[A-Za-z0-9_@%+=:,./-]+\\Z")  # a path without special characters of a shell
PIPE_WRITE_TIMEOUT_MS = 2000  # milliseconds that a pipe may be full; all other requests of this account wait meanwhile


def expand_user(path):
    # type: (bytes) -> bytes
    """Expand a leading ~ or ~user of a bytes path."""
    return os.path.expanduser(path)


def expand_variables(path):
    # type: (bytes) -> bytes
    """Expand this process's variables, as a shell does for Ansible: remote_tmp may be /tmp/.ansible-$USER."""
    return re.sub(b"\\$(?:(\\w+)|\\{(\\w+)\\})", lambda match: environb.get(match.group(1) or match.group(2), b""), path)


def mkdtemp(header):
    # type: (Header) -> Header
    """Create a private directory in the first of ``bases`` that permits it, and the base if it does not exist.

    Ansible's ``script`` puts the path into a command without quotes. So bases with special characters of a shell come last.
    """
    name = from_wire(header["name"])
    failure = None  # type: Optional[OSError]
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
    raise failure or OSError(errno.ENOENT, os.strerror(errno.ENOENT))


def make_directories(path):
    # type: (bytes) -> None
    """Make a directory and its parents as ``mkdir -p`` does. Another process may create the same ones at the same time."""
    try:
        if not os.path.isdir(path):
            os.makedirs(path, 0o700)
    except OSError:
        if not os.path.isdir(path):
            raise


def can_use_remote_tmp(home):
    # type: (str) -> bool
    """Return True if Ansible's default directory for temporary files in *home* can be used or created."""
    for path in (home + "/.ansible/tmp", home + "/.ansible", home):
        if os.path.exists(path):
            return os.access(path, os.W_OK | os.X_OK)
    return False


def chmod(header):
    # type: (Header) -> Header
    """Add permission bits to each path, as ``chmod u+rwx`` does."""
    for text in header["paths"]:
        path = from_wire(text)
        os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | header["add"])
    return {}


def remove(header):
    # type: (Header) -> Header
    """Remove a file or a tree. It is no error if it does not exist."""
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
    # type: (Header) -> Header
    """Expand ``~user`` as a shell does; null if there is no such user."""
    text = from_wire(header["path"])
    answer = expand_user(text)
    return {"path": None if answer == text and text.startswith(b"~") else to_wire(answer)}


def exists(header):
    # type: (Header) -> Header
    return {"exists": os.path.exists(from_wire(header["path"]))}


OPERATIONS = {"mkdtemp": mkdtemp, "chmod": chmod, "remove": remove, "home": home, "exists": exists}


def error_message(exc, label):
    # type: (Exception, str) -> str
    """Return one line for an error of the operating system."""
    return "%s: %s" % (label, getattr(exc, "strerror", None) or exc)


class Transfer(object):
    """Data that is sent in several frames, in one direction. Frames of the other direction are ignored."""

    label = "writing"  # for messages

    def on_data(self, body):
        # type: (bytes) -> None
        pass

    def on_eof(self):
        # type: () -> None
        pass

    def on_credit(self, count):
        # type: (int) -> None
        pass

    def is_ready(self):
        # type: () -> bool
        """Return True if a chunk can be sent now."""
        return False

    def send_chunk(self):
        # type: () -> bool
        """Send one chunk. Returns True after the last one."""
        return True

    def close(self):
        # type: () -> None
        pass


class Upload(Transfer):
    """A file that the hub sends. *send* is called with credit frames, and with ``ok`` at the end."""

    def __init__(self, request_id, send, header):
        # type: (int, Send, Header) -> None
        self.request_id = request_id
        self._send = send
        self._path = expand_user(from_wire(header["path"]))
        self.label = header.get("label") or "writing"
        self._no_reply = header.get("no_reply")
        self._mode = header.get("mode", 0o666)  # for open(2): the account's umask applies
        self._unacked = 0
        self._temp = None  # type: Optional[bytes]
        self._fd = -1
        self._open()

    def _open(self):
        # type: () -> None
        try:
            current = os.lstat(self._path)  # type: Optional[os.stat_result]
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
        # O_NONBLOCK: do not wait for a reader of a pipe; without one, open fails.
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY, self._mode)

    def _write(self, view):
        # type: (memoryview) -> int
        try:
            return os.write(self._fd, view)
        except OSError as exc:
            if exc.errno != errno.EAGAIN:
                raise
        poller = select.poll()
        poller.register(self._fd, select.POLLOUT)
        if not poller.poll(PIPE_WRITE_TIMEOUT_MS):
            raise IOError(errno.ETIMEDOUT, "no process reads from it")
        return 0

    def on_data(self, body):
        # type: (bytes) -> None
        view = memoryview(body)
        while len(view):
            view = view[self._write(view) :]
        self._unacked += len(body)
        if self._unacked >= CREDIT_WINDOW // 4:
            self._send({"op": "credit", "id": self.request_id, "count": self._unacked}, b"")
            self._unacked = 0

    def on_eof(self):
        # type: () -> None
        fd, self._fd = self._fd, -1
        os.close(fd)
        if self._temp:
            os.rename(self._temp, self._path)
            self._temp = None
        if not self._no_reply:
            self._send({"op": "ok", "id": self.request_id}, b"")

    def close(self):
        # type: () -> None
        """Abort the upload: an existing file stays unchanged."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._temp:
            try:
                os.unlink(self._temp)
            except OSError:
                pass
            self._temp = None


class Download(Transfer):
    """A file that is sent to the hub as credit permits."""

    def __init__(self, request_id, send, header):
        # type: (int, Send, Header) -> None
        self.request_id = request_id
        self._send = send
        self._credit = CREDIT_WINDOW
        self.label = header.get("label") or "reading"
        path = expand_user(from_wire(header["path"]))
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)  # without O_NONBLOCK a pipe waits for a writer
        kind = stat.S_IFMT(os.fstat(self._fd).st_mode)
        if kind in UNREADABLE_TYPES:
            self.close()
            raise IOError(*UNREADABLE_TYPES[kind])

    def on_credit(self, count):
        # type: (int) -> None
        self._credit += count

    def is_ready(self):
        # type: () -> bool
        return self._fd >= 0 and self._credit > 0

    def send_chunk(self):
        # type: () -> bool
        data = os.read(self._fd, CHUNK)
        if data:
            self._credit -= len(data)
            self._send({"op": "out", "id": self.request_id, "stream": 1}, data)
            return False
        mode = stat.S_IMODE(os.fstat(self._fd).st_mode)
        self.close()
        self._send({"op": "ok", "id": self.request_id, "mode": mode}, b"")
        return True

    def close(self):
        # type: () -> None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
