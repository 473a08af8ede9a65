"""Hosts by the identity of their connection.

Two option sets of a run, and of later runs with ControlPersist, share a connection if they would make the same one: to the same
server and account, by the same means (see transport/connection_identity.py). Examples are two inventory names of one machine, and
two tasks between which an environment variable has changed that no option depends on. A connection that was made without
ControlPersist ends with its run. A connection that was made with it is used only by runs with it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pmitogen.hub.host.host import Host


class SharedConnections:
    """Map from the identity of a connection to its host. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: dict[bytes, Host] = {}

    def claim(self, identity: bytes, host: Host) -> Host:
        """Return the host that has this connection; from now on that is *host*, if there is none."""
        with self._lock:
            return self._hosts.setdefault(identity, host)

    def hand_over(self, host: Host, replacement: Host) -> None:
        """Give the connection of *host* to *replacement*, which uses it or makes another in its place."""
        with self._lock:
            for identity in [each for each, holder in self._hosts.items() if holder is host]:
                self._hosts[identity] = replacement

    def release(self, host: Host) -> None:
        """Remove the connection of *host*, which has ended."""
        with self._lock:
            for identity in [each for each, holder in self._hosts.items() if holder is host]:
                del self._hosts[identity]
