"""The ports and sockets that the library forwards: LocalForward, DynamicForward and RemoteForward, with their tokens expanded."""

from __future__ import annotations

from pmitogen.flags.ssh.resolve_keywords import Resolution
from pmitogen.flags.ssh.values.forwards import Forward, Forwardings

OPTIONS = frozenset(
    {"-l", "-d", "-r", "localforward", "dynamicforward", "remoteforward"}
)  # their names in a report, in lower case


def forwardings(resolution: Resolution) -> Forwardings:
    """Return the forwardings of a command line and of a file that it names, not those of files for all of the user's sessions."""
    options = resolution.options
    if options.get("clearallforwardings", resolution.line.stdio is not None):
        return Forwardings()

    def given(key: str) -> tuple[Forward, ...]:
        found: list[Forward] = []
        for each in resolution.options.given:
            if each.row is not None and each.row.key == key and each.origin.explicit:
                found += each.value
        return tuple(_expand_paths(resolution, key, forward) for forward in found)

    return Forwardings(
        local=given("localforward"),
        dynamic=given("dynamicforward"),
        remote=given("remoteforward"),
        gateway_ports=bool(options.get("gatewayports")),
        bind_mask=int(options.get("streamlocalbindmask", 0o177)),
        bind_unlink=bool(options.get("streamlocalbindunlink")),
    )


def _expand_paths(resolution: Resolution, key: str, forward: Forward) -> Forward:
    def expand(path: str | None) -> str | None:
        return None if path is None else resolution.expanded(key, path, home=False, dollar=False)

    return forward._replace(listen_path=expand(forward.listen_path), connect_path=expand(forward.connect_path))
