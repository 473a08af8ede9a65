"""The operations by name, and the session of one."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

from pmitogen.api.sftp import files, trees
from pmitogen.api.sftp.files import Refusal
from pmitogen.errors import RemoteError
from pmitogen.protocol.framing import to_wire
from pmitogen.transport.connection import Connection
from pmitogen.transport.sessions.sftp_channel import CHANNEL_ERRORS, open_sftp
from pmitogen.transport.sessions.sftp_client import SFTP
from pmitogen.transport.sessions.sftp_packets import SFTPError

TIMEOUT = 60.0  # seconds for the session to open


def perform(connection: Connection, name: str, arguments: list[Any]) -> dict[str, Any]:
    """Do an operation with paths as in frames. Return {"value": ...}, or an error. Raises RemoteError, ConnectionLost."""
    with _session(connection) as sftp:
        try:
            return {"value": OPERATIONS[name](sftp, *arguments)}
        except Refusal as exc:
            return {"errno": exc.code, "text": exc.text or os.strerror(getattr(errno, exc.code)), "path": to_wire(exc.path)}
        except RecursionError:  # directories in directories without an end
            return {"errno": "ELOOP", "text": os.strerror(errno.ELOOP), "path": str(arguments[0])}


@contextlib.contextmanager
def _session(connection: Connection) -> Iterator[SFTP]:
    opened = open_sftp(connection, TIMEOUT)
    if opened is None:
        raise RemoteError(f"{connection.peer}: the host has neither Python nor SFTP")
    try:
        with contextlib.closing(opened), opened.losses():
            opened.sftp.set_timeout(TIMEOUT)
            yield opened.sftp
    except (*CHANNEL_ERRORS, SFTPError) as exc:
        raise RemoteError(f"{connection.peer}: SFTP: {exc or 'the server ended it'}") from None


OPERATIONS: dict[str, Callable[..., Any]] = {
    "stat": files.stat,
    "exists": files.exists,
    "listdir": files.listdir,
    "scandir": files.scandir,
    "walk": files.walk,
    "mkdir": files.mkdir,
    "remove": files.remove,
    "rename": files.rename,
    "symlink": files.symlink,
    "readlink": files.readlink,
    "chmod": files.chmod,
    "chown": files.chown,
    "glob": trees.glob,
    "tree": trees.tree,
    "digests": trees.digests,
    "prepare_tree": trees.prepare_tree,
    "finish_tree": trees.finish_tree,
}
