"""The ports and sockets to forward: LocalForward, DynamicForward and RemoteForward, with their tokens expanded."""

from __future__ import annotations

import dataclasses

from pmitogen.flags.ssh.resolve_keywords import Resolution
from pmitogen.flags.ssh.values.forwards import Forward, Forwardings

OPTIONS = frozenset(
    {"-l", "-d", "-r", "localforward", "dynamicforward", "remoteforward"}
)  # their names in a report, in lower case


def are_cleared(resolution: Resolution) -> bool:
    """Return whether no forwarding is wanted. ``-W`` implies ClearAllForwardings."""
    return bool(resolution.options.get("clearallforwardings", resolution.line.stdio is not None))


def forwardings(resolution: Resolution, *, explicit_only: bool) -> Forwardings:
    """Return all forwardings.

    *explicit_only*: those of a command line and of a file that it names, not those of files for all of the user's sessions.
    """
    options = resolution.options

    def expanded(key: str) -> tuple[Forward, ...]:
        found = _explicit(resolution, key) if explicit_only else options.get(key, ())
        return tuple(_expand_paths(resolution, key, forward) for forward in found)

    wanted = Forwardings(
        gateway_ports=bool(options.get("gatewayports")),
        bind_mask=int(options.get("streamlocalbindmask", 0o177)),
        bind_unlink=bool(options.get("streamlocalbindunlink")),
        permit_remote_open=tuple(options.get("permitremoteopen", ())),
    )
    if are_cleared(resolution):
        return wanted
    return dataclasses.replace(
        wanted, local=expanded("localforward"), dynamic=expanded("dynamicforward"), remote=expanded("remoteforward")
    )


def _explicit(resolution: Resolution, key: str) -> list[Forward]:
    found: list[Forward] = []
    for each in resolution.options.given:
        if each.row is not None and each.row.key == key and each.origin.explicit:
            found += each.value
    return found


def _expand_paths(resolution: Resolution, key: str, forward: Forward) -> Forward:
    def expand(path: str | None) -> str | None:
        return None if path is None else resolution.expanded(key, path, home=False, dollar=False)

    return forward._replace(listen_path=expand(forward.listen_path), connect_path=expand(forward.connect_path))
