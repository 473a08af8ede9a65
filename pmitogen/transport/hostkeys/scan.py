"""Get all host keys of a server: one connection for each key type, up to the key exchange, without a login.

The server names its key types in the first connection, so a server with one key gets one connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pmitogen.errors import ConnectError
from pmitogen.transport.connect import HostKeyProbe
from pmitogen.transport.hostkeys.algorithm_order import SUPPORTED
from pmitogen.transport.keys import public_key

Probe = Callable[[Sequence[str]], HostKeyProbe]
"""Connects and returns the key shown for one of these algorithms: ``connect.probe_host_key`` for one server."""

KEY_TYPES = tuple(dict.fromkeys(map(public_key.key_type, SUPPORTED)))  # of keys, where SUPPORTED names algorithms


def scan_host_keys(probe: Probe, endpoint: str, key_types: Sequence[str] = KEY_TYPES) -> Iterator[HostKeyProbe]:
    """Yield the server's keys of the types *key_types* (some of KEY_TYPES), each as it arrives. *endpoint*: for messages.

    Raises ConnectError, also where there is no such key. Blocks.
    """
    others = [name for name in KEY_TYPES if name not in key_types]
    first = probe([name for kind in (*key_types, *others) for name in public_key.algorithms_of(kind)])
    got = public_key.blob_type(first.blob)
    if got in key_types:
        yield first
    offered = {public_key.key_type(name) for name in first.offered if name in SUPPORTED}
    rest = [kind for kind in key_types if kind in offered and kind != got]
    for kind in rest:
        yield probe(public_key.algorithms_of(kind))
    if got not in key_types and not rest:
        raise ConnectError(f"{endpoint}: no host key of type {', '.join(key_types)}; the server has {', '.join(offered)}", "kex")
