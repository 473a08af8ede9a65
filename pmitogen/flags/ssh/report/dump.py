"""Print resolved options as ``ssh -G`` does, keyword by keyword. Source: dump_client_config() in readconf.c of OpenSSH 10.5."""

from __future__ import annotations

from typing import Any

from pmitogen.flags.ssh.build_settings import (
    DEFAULT_IDENTITIES,
    agent_socket,
    algorithm_list,
    environment,
    exits_on_failure,
    known_hosts,
)
from pmitogen.flags.ssh.forwardings import are_cleared
from pmitogen.flags.ssh.keywords import ROWS, Keyword
from pmitogen.flags.ssh.resolve_keywords import Resolution
from pmitogen.flags.ssh.values.base import Algorithms
from pmitogen.flags.ssh.values.forwards import Forward
from pmitogen.util.patterns import ascii_lower

DumpValue = str | list[str]
_NONE_IS_UNSET = ("localcommand", "remotecommand", "controlpath", "pkcs11provider", "securitykeyprovider", "knownhostscommand")
_FORWARDS = ("localforward", "remoteforward", "dynamicforward")
_PATHS = ("controlpath", "identityagent")


def dump(resolution: Resolution) -> dict[str, DumpValue]:
    """Return lower-case keyword -> value as ``ssh -G`` prints it; a list for several lines. Raises UsageError."""
    display: dict[str, DumpValue] = {"host": resolution.original}
    for row in ROWS:
        lines = _lines(resolution, row)
        if lines:
            display[row.key] = lines[0] if len(lines) == 1 else lines
    return display


def _lines(resolution: Resolution, row: Keyword) -> list[str]:
    """Return the lines of one keyword; none if ``ssh -G`` prints nothing."""
    key = row.key
    special = _SPECIAL.get(key)
    if special is not None:
        return list(special(resolution))
    if isinstance(row.value_type, Algorithms):
        return [",".join(algorithm_list(resolution, key))]
    if not resolution.options.has(key):
        default = resolution.program.defaults.get(key, row.default)
        if resolution.options.get("batchmode"):
            default = resolution.program.batch_defaults.get(key, default)
        return [] if default is None else [default]
    value = resolution.options.get(key)
    if key in _NONE_IS_UNSET and resolution.text(key) is None:
        return []
    if key in _PATHS:
        value = resolution.expanded(row.name, value)
    if row.value_type.accumulates:
        return [row.value_type.display((item,)) for item in value]
    return [row.value_type.display(value)]


def _forwards(resolution: Resolution, key: str) -> list[str]:
    if are_cleared(resolution):
        return []
    lines = []
    for forward in _of_keyword(resolution, key):
        listen, connect = (
            None if path is None else resolution.expanded(key, path, home=False, dollar=False)
            for path in (forward.listen_path, forward.connect_path)
        )
        arguments = forward._replace(listen_path=listen, connect_path=connect).arguments()
        if key == "dynamicforward":
            arguments = arguments[:1]
        elif key == "remoteforward" and forward.dynamic:
            arguments.append("[socks]:0")
        lines.append(" ".join(arguments))
    return lines


def _of_keyword(resolution: Resolution, key: str) -> list[Forward]:
    """Return the forwardings that ssh prints for a keyword. ssh has one list of local and dynamic ones, and takes those with the
    host "socks" for dynamic. Those to a socket have no host, so ssh prints them for both keywords."""
    if key == "remoteforward":
        return list(resolution.options.get(key, ()))
    both = [
        option.value[0]
        for option in resolution.options.given
        if option.row and option.row.key in ("localforward", "dynamicforward")
    ]
    local = key == "localforward"
    return [
        forward for forward in dict.fromkeys(both) if forward.connect_host is None or (forward.connect_host != "socks") is local
    ]


def _yes_no(value: Any) -> list[str]:
    return ["yes" if value else "no"]


def _update_host_keys(resolution: Resolution) -> list[str]:
    update = resolution.options.get("updatehostkeys")
    if update == "ask":
        persistent = resolution.options.get("controlpersist", -1) >= 0 and resolution.text("controlpath") is not None
        silent = resolution.options.get("loglevel", "INFO") in ("SILENT", "FATAL", "ERROR")
        command = (
            resolution.line.command
            or resolution.text("remotecommand") is not None
            or resolution.options.get("requesttty") == "false"
        )
        return ["false" if persistent or silent or command else "ask"]
    if update is not None:
        return [update]
    files = resolution.options.get("userknownhostsfile", ())
    usual = files in ((), ("~/.ssh/known_hosts",))
    return ["true" if usual and resolution.options.get("verifyhostkeydns", "false") == "false" else "false"]


def _proxy_command(resolution: Resolution) -> list[str]:
    command = resolution.text("proxycommand")
    return [] if command is None or resolution.jump() is not None else [command]


def _proxy_jump(resolution: Resolution) -> list[str]:
    jump = resolution.jump()
    return [] if jump is None else [_ROW["proxyjump"].value_type.display(jump)]


def _identity_files(resolution: Resolution) -> list[str]:
    if resolution.options.has("identityfile"):
        return list(resolution.options.get("identityfile"))
    usual = resolution.program.defaults.get("identityfile", " ".join(f"~/.ssh/{name}" for name in DEFAULT_IDENTITIES))
    return usual.split()


def _files(resolution: Resolution, key: str) -> list[str]:
    return [" ".join(known_hosts(resolution, key)) or "none"]


def _revoked(resolution: Resolution) -> list[str]:
    paths = [path for path in resolution.options.get("revokedhostkeys", ()) if ascii_lower(path) != "none"]
    if not resolution.program.modern:
        return [" ".join(paths)] if paths else []
    return [" ".join(resolution.expanded("RevokedHostKeys", path) for path in paths) or "none"]


def _forward_agent(resolution: Resolution) -> list[str]:
    value = resolution.options.get("forwardagent", False)
    return [agent_socket(resolution, value)] if isinstance(value, str) else _yes_no(value)


def _remote_command(resolution: Resolution) -> list[str]:
    command = resolution.text("remotecommand")
    return [] if command is None else [resolution.expanded("RemoteCommand", command, home=False, dollar=False)]


def _version_addendum(resolution: Resolution) -> list[str]:
    value = resolution.options.get("versionaddendum")
    return [] if value is None else [resolution.expanded("VersionAddendum", value, home=False)]


def _tunnel(resolution: Resolution) -> list[str]:
    return ["false" if are_cleared(resolution) else resolution.options.get("tunnel", "false")]


def _fdpass(resolution: Resolution) -> list[str]:
    return _yes_no(resolution.options.get("proxyusefdpass", False) and resolution.jump() is None)


_ROW = {row.key: row for row in ROWS}
_SPECIAL: dict[str, Any] = {
    **{key: (lambda resolution, key=key: _forwards(resolution, key)) for key in _FORWARDS},
    "clearallforwardings": lambda resolution: _yes_no(are_cleared(resolution)),
    "exitonforwardfailure": lambda resolution: _yes_no(exits_on_failure(resolution)),
    "forwardagent": _forward_agent,
    "globalknownhostsfile": lambda resolution: _files(resolution, "globalknownhostsfile"),
    "hostname": lambda resolution: [resolution.host],
    "remotecommand": _remote_command,
    "identityfile": _identity_files,
    "proxycommand": _proxy_command,
    "proxyjump": _proxy_jump,
    "proxyusefdpass": _fdpass,
    "refuseconnection": lambda resolution: [],
    "revokedhostkeys": _revoked,
    "setenv": lambda resolution: [f"{name}={value}" for name, value in environment(resolution)],
    "tunnel": _tunnel,
    "updatehostkeys": _update_host_keys,
    "user": lambda resolution: [resolution.user],
    "userknownhostsfile": lambda resolution: _files(resolution, "userknownhostsfile"),
    "versionaddendum": _version_addendum,
}
