"""The process that asks for a connection, as far as ssh would depend on it: its directory, environment and umask.

ssh is started by the run that wants a connection: relative paths are below that run's directory, ``$SSH_AUTH_SOCK`` is that run's
agent, and a ProxyCommand inherits that run's environment. A hub is a process of its own, which may serve a later run; so these
travel with each set of options, and a hub's own are asked for nothing. The library takes those of its process when ``connect`` is
called.

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
    """A caller; see the head of this file. Immutable; two are equal if all of it is.

    :param directory: absolute; where a relative path begins.
    :param environ: its whole environment, since a program that ssh starts inherits it. May hold secrets: it is in no ``repr``.
    :param umask: of files and programs that are made for it.
    """

    def __init__(self, environ: Mapping[str, str], directory: str = ROOT, umask: int = DEFAULT_UMASK) -> None:
        self.directory = directory
        self.environ = environ
        self.umask = umask
        text = json.dumps([directory, umask, sorted(environ.items())])
        self.digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @classmethod
    def current(cls) -> CallerEnvironment:
        """Return that of this process now; the last one again where nothing has changed, in forked processes too."""
        global _last
        environ, directory, umask = dict(os.environ), current_directory(), current_umask()
        if _last is None or (_last.directory, _last.umask, _last.environ) != (directory, umask, environ):
            _last = cls(environ, directory, umask)
        return _last

    def message(self) -> CallerMessage:
        """Return what :meth:`from_message` takes."""
        return {"directory": self.directory, "environ": dict(self.environ), "umask": self.umask}

    @classmethod
    def from_message(cls, message: object) -> CallerEnvironment:
        """Make one of what a worker sent. Raises UsageError if that is not well formed."""
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
        raise UsageError("the environment of a caller is not well formed")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CallerEnvironment) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<CallerEnvironment in {self.directory}>"

    def absolute(self, path: str) -> str:
        """Return *path*, below the directory if it is relative. An empty one stays empty."""
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
        """Return what makes a child of subprocess's one of the caller's: environment, directory, umask.

        Where its directory is gone, as after the removal of a checkout, the child begins in ``/``.
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
    """Return this process's directory; of one that was removed a path at which nothing exists."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/nonexistent (the working directory was removed)"


def _home(user: str) -> str:
    return (pwd.getpwnam(user) if user else pwd.getpwuid(os.getuid())).pw_dir


NOBODY = CallerEnvironment({})  # stands for a caller that has gone
