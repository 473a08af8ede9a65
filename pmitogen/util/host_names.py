"""Host names that the resolver refuses with a ``UnicodeError``: a user or a peer may write any text where a name is wanted."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def odd_names_unknown() -> Iterator[None]:
    """Within it, a name that cannot be one (an empty or overlong label, a NUL) is an unknown name: ``socket.gaierror``.

    To be put around whatever of the ``socket`` module takes a host name.
    """
    try:
        yield
    except ValueError as error:  # UnicodeError is one
        reason = error.__cause__ or error.__context__ or error
        raise socket.gaierror(socket.EAI_NONAME, str(reason)) from None
