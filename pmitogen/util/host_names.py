"""Invalid host names: the resolver raises ``UnicodeError`` for some texts, and a user or a peer may give any text as a name."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def invalid_names_as_unknown() -> Iterator[None]:
    """Raise ``socket.gaierror`` (unknown name) for an invalid host name (an empty or overlong label, a NUL).

    Use it around each function of the ``socket`` module that takes a host name.
    """
    try:
        yield
    except ValueError as error:  # UnicodeError is one
        reason = error.__cause__ or error.__context__ or error
        raise socket.gaierror(socket.EAI_NONAME, str(reason)) from None
