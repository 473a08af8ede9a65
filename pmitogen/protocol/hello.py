"""The first frame on the hub's socket: it identifies the pmitogen that the client runs.

Every client begins with ``hello``. The hub compares it with its own; if they differ, it answers the client's requests with one
``refused`` frame that says so, and closes the connection. The framing and the operations in ``STABLE`` stay the same in every
version, so that ``pmitogen hubs`` can list and stop the hubs of other versions. Standard library only: workers import this in
every task.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from typing import TypedDict

from pmitogen import __file__ as package_file
from pmitogen import __version__

VERSION = 8  # of the messages between client, hub and agent: increase it with every change of protocol/operations.py
STABLE = frozenset(("hello", "status", "stop", "refused"))  # operations that every version understands


class Identity(TypedDict):
    """Identity of the pmitogen that a process runs. Two processes talk to each other only if all fields are equal."""

    version: int
    pmitogen: str  # its release
    root: str  # directory of the package
    python: str  # version of the interpreter


@functools.cache
def identity() -> Identity:
    """Return the identity of this process."""
    root = os.path.dirname(os.path.abspath(package_file))
    return {
        "version": VERSION,
        "pmitogen": __version__,
        "root": root,
        "python": "%d.%d.%d" % sys.version_info[:3],
    }


def difference(client: Mapping[str, object]) -> str | None:
    """Compare the ``hello`` of a client with this hub's identity: None if they are equal, else why the client is refused."""
    own = identity()
    if all(client.get(name) == value for name, value in own.items()):
        return None
    pid = os.getpid()
    return f"the hub with pid {pid} is {_text(own)}, this is {_text(client)}: end that hub with 'pmitogen hubs --stop {pid}'"


def _text(peer: Mapping[str, object]) -> str:
    from pmitogen.util.peer_text import escape  # not at the top: a hub needs it, a worker does not

    if not peer:
        return "a program that does not say its version"
    fields = (escape(str(peer.get(name)), 200) for name in ("pmitogen", "version", "python", "root"))
    return "pmitogen {} (protocol {}, Python {}, {})".format(*fields)
