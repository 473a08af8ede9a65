"""Facts about the local account and host that ssh configuration refers to.

ssh refuses to run for a uid without a passwd entry; containers often run with one. In that case ``USER`` or ``LOGNAME`` and
``HOME`` are used; if they are unset, the name is ``uidN`` and there is no home. With a passwd entry its home counts, not
``$HOME``, as in ssh.
"""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Mapping
from typing import NamedTuple

from pmitogen.util.caller import CallerEnvironment


class LocalHost(NamedTuple):
    """The local account, host and caller. *home* may be empty: then no path below ``~`` exists."""

    uid: int
    user: str
    home: str
    host: str  # from gethostname(2)
    caller: CallerEnvironment

    @property
    def environ(self) -> Mapping[str, str]:
        """The caller's environment."""
        return self.caller.environ

    @property
    def short_host(self) -> str:
        """The host name up to its first dot."""
        return self.host.partition(".")[0]

    @staticmethod
    def home_of(user: str) -> str | None:
        """Return the home directory of a named account, or None."""
        try:
            return pwd.getpwnam(user).pw_dir
        except (KeyError, ValueError):
            return None

    @classmethod
    def detect(cls, caller: CallerEnvironment | None = None) -> LocalHost:
        """Return the facts for *caller*, by default this process."""
        caller = caller or CallerEnvironment.current()
        environ = caller.environ
        uid = os.getuid()
        try:
            entry = pwd.getpwuid(uid)
            user, home = entry.pw_name, entry.pw_dir
        except KeyError:
            user = environ.get("USER") or environ.get("LOGNAME") or f"uid{uid}"
            home = environ.get("HOME", "")
        return cls(uid, user, home, socket.gethostname(), caller)
