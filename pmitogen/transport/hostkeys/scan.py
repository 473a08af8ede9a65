"""All host keys of a server: one connection for each type of key that it has, as far as the key exchange, and no login.

Which types it has, the server says itself at the first connection; so a server with one key is asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pmitogen.errors import ConnectError
from pmitogen.transport.connect import ShownKey
from pmitogen.transport.hostkeys.algorithm_order import SUPPORTED
from pmitogen.transport.keys import public_key

Look = Callable[[Sequence[str]], ShownKey]
"""Connects and returns the key shown for one of these algorithms: ``connect.shown_host_key`` for one server."""

TYPES = tuple(dict.fromkeys(map(public_key.key_type, SUPPORTED)))  # of keys, where SUPPORTED names algorithms


def host_keys(look: Look, where: str, wanted: Sequence[str] = TYPES) -> Iterator[ShownKey]:
    """The server's keys of the *wanted* types (some of TYPES), each as soon as it is known. *where* is for messages.

    Raises ConnectError, also where there is no such key. Blocks.
    """
    others = [name for name in TYPES if name not in wanted]
    first = look([name for kind in (*wanted, *others) for name in public_key.algorithms_of(kind)])
    got = public_key.blob_type(first.blob)
    if got in wanted:
        yield first
    offered = {public_key.key_type(name) for name in first.offered if name in SUPPORTED}
    rest = [kind for kind in wanted if kind in offered and kind != got]
    for kind in rest:
        yield look(public_key.algorithms_of(kind))
    if got not in wanted and not rest:
        raise ConnectError(f"{where}: it has no host key of the types {', '.join(wanted)}, only {', '.join(offered)}", "kex")
