"""Connections to a test sshd through pmitogen's transport: settings for one, and a context manager that closes it."""

from __future__ import annotations

import contextlib
import getpass
import time
from collections.abc import Iterator
from typing import Any

from pmitogen.flags.ssh.settings import JumpHop, Settings
from pmitogen.transport.auth.credentials import Credentials
from pmitogen.transport.connect import Connection, connect
from pmitogen.transport.jump_host_pool import JumpHostPool, Resolver

from .sshd import Sshd

LIMIT = 20.0  # seconds for a connection


def settings_for(server: Sshd, **changes: Any) -> Settings:
    """Return settings for a login to *server* with its key, without prompts."""
    plain: dict[str, Any] = {
        "originalhost": "target",
        "hostname": server.host,
        "user": getpass.getuser(),
        "port": server.port,
        "identityfile": (str(server.key.path),),
        "identityfile_explicit": True,
        "userknownhostsfile": (str(server.known_hosts),),
        "stricthostkeychecking": "yes",
    }
    return Settings(**{**plain, **changes})


def link_to(settings: Settings, credentials: Credentials | None = None, *, limit: float = LIMIT, **options: Any) -> Connection:
    """Connect; the caller closes the connection."""
    hops = options.pop("jump_hosts", None) or JumpHostPool()
    return connect(settings, credentials or Credentials(), jump_hosts=hops, deadline=time.monotonic() + limit, **options)


@contextlib.contextmanager
def linked(server: Sshd, **changes: Any) -> Iterator[Connection]:
    """Yield a connection to *server*, and close it at the end."""
    link = link_to(settings_for(server, **changes))
    try:
        yield link
    finally:
        link.close()


def through(settings: Settings, *bastions: Settings) -> tuple[Settings, Resolver]:
    """Return *settings* with *bastions* as jump hosts, and the function that resolves a bastion's settings."""
    known = {f"hop{index}": bastion for index, bastion in enumerate(bastions)}
    jumps = tuple(JumpHop(name) for name in known)
    return settings._replace(proxyjump=jumps), lambda hop, _target: known[hop.host]
