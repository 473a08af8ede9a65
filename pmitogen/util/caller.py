"""The directory, environment and umask of the process that requests a connection.

ssh is started by the run that wants a connection: relative paths are below that run's directory, ``$SSH_AUTH_SOCK`` is that run's
agent, and a ProxyCommand inherits that run's environment. A hub is another process, which may serve a later run. So these
values are sent with each set of options, and a hub's own are not used. The library takes those of its process when ``connect``
is called.

Standard library only: workers import this in every task.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
from collections.abc import Mapping
from typing import TypedDict

from pmitogen.errors import UsageError
from pmitogen.util.atomic_file import current_umask

DEFAULT_UMASK = 0o022
ROOT = "/"


class CallerMessage(TypedDict):
    """The fields of the ``caller`` frame that sends it to the hub."""

    directory: str
    environ: dict[str, str]
    umask: int


class CallerEnvironment:
    """Directory, environment and umask of a caller. Immutable and comparable.

    :param directory: absolute path; relative paths start here.
    :param environ: the whole environment, because programs that ssh starts inherit it. May hold secrets; ``repr`` omits it.
    :param umask: for files and programs of the caller.
    """

    def __init__(self, environ: Mapping[str, str], directory: str = ROOT, umask: int = DEFAULT_UMASK) -> None:
        self.directory = directory
        self.environ = environ
        self.umask = umask
        text = json.dumps([directory, umask, sorted(environ.items())])
        self.digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @classmethod
    def current(cls) -> CallerEnvironment:
        """Return this process's environment now; if nothing has changed, the same object as before, in forked processes too."""
        global _last
        environ, directory, umask = dict(os.environ), current_directory(), current_umask()
        if _last is None or (_last.directory, _last.umask, _last.environ) != (directory, umask, environ):
            _last = cls(environ, directory, umask)
        return _last

    def message(self) -> CallerMessage:
        """Return the message for :meth:`from_message`."""
        return {"directory": self.directory, "environ": dict(self.environ), "umask": self.umask}

    @classmethod
    def from_message(cls, message: object) -> CallerEnvironment:
        """Make one from a worker's message. Raises UsageError if the message is invalid."""
        if isinstance(message, dict):
            directory, environ, umask = message.get("directory"), message.get("environ"), message.get("umask")
            if (
                isinstance(directory, str)
                and directory.startswith(ROOT)
                and isinstance(environ, dict)
                and all(isinstance(name, str) and isinstance(value, str) for name, value in environ.items())
                and isinstance(umask, int)
            ):
                return cls(environ, directory, umask & 0o777)
        raise UsageError("invalid environment of a caller")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CallerEnvironment) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<CallerEnvironment in {self.directory}>"

    def absolute(self, path: str) -> str:
        """Return *path* as an absolute path; a relative one starts at the directory. An empty path stays empty."""
        if not path or path.startswith("/"):
            return path
        while path.startswith("./"):
            path = path[2:].lstrip("/")
        return os.path.join(self.directory, path) if path else self.directory

    def expand_user(self, path: str) -> str:
        """Return *path* with a leading ``~`` or ``~user`` expanded as os.path.expanduser would do it there: by HOME first."""
        if not path.startswith("~"):
            return path
        user, slash, rest = path[1:].partition("/")
        try:
            home = (self.environ.get("HOME") if not user else None) or _home(user)
        except KeyError:
            return path
        return (home.rstrip("/") + slash + rest) or "/"

    @property
    def shell(self) -> str:
        """The shell for the user's commands: ``$SHELL``, else ``/bin/sh``."""
        return self.absolute(self.environ.get("SHELL") or "/bin/sh")

    def popen_options(self) -> PopenOptions:
        """Return the options of subprocess.Popen for the caller's environment, directory and umask.

        If the directory does not exist any more, the child starts in ``/``.
        """
        cwd = self.directory if os.path.isdir(self.directory) else ROOT
        return {"env": dict(self.environ), "cwd": cwd, "umask": self.umask}


_last: CallerEnvironment | None = None


class PopenOptions(TypedDict):
    """Keyword arguments of subprocess.Popen."""

    env: dict[str, str]
    cwd: str
    umask: int


def current_directory() -> str:
    """Return this process's directory; if it was removed, a path that does not exist."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/nonexistent (the working directory was removed)"


def _home(user: str) -> str:
    return (pwd.getpwnam(user) if user else pwd.getpwuid(os.getuid())).pw_dir


NOBODY = CallerEnvironment({})  # in place of a caller that has ended
