"""Resolved options as ``ssh -G`` prints them, keyword by keyword. Source: dump_client_config() in readconf.c of OpenSSH 10.5."""

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
from pmitogen.flags.ssh.keywords import ROWS, Row
from pmitogen.flags.ssh.resolver import Resolution
from pmitogen.flags.ssh.values.base import Algorithms
from pmitogen.flags.ssh.values.forwards import Forward
from pmitogen.util.patterns import ascii_lower

Shown = str | list[str]
_NONE_IS_UNSET = ("localcommand", "remotecommand", "controlpath", "pkcs11provider", "securitykeyprovider", "knownhostscommand")
_FORWARDS = ("localforward", "remoteforward", "dynamicforward")
_PATHS = ("controlpath", "identityagent")


def dump(found: Resolution) -> dict[str, Shown]:
    """Lower-case keyword -> what ``ssh -G`` prints after it; a list where it prints several lines. Raises UsageError."""
    shown: dict[str, Shown] = {"host": found.original}
    for row in ROWS:
        lines = _lines(found, row)
        if lines:
            shown[row.key] = lines[0] if len(lines) == 1 else lines
    return shown


def _lines(found: Resolution, row: Row) -> list[str]:
    """The lines of one keyword; none where ``ssh -G`` prints nothing."""
    key = row.key
    special = _SPECIAL.get(key)
    if special is not None:
        return list(special(found))
    if isinstance(row.kind, Algorithms):
        return [",".join(algorithm_list(found, key))]
    if not found.options.has(key):
        default = found.program.defaults.get(key, row.default)
        if found.options.get("batchmode"):
            default = found.program.batch_defaults.get(key, default)
        return [] if default is None else [default]
    value = found.options.get(key)
    if key in _NONE_IS_UNSET and found.text(key) is None:
        return []
    if key in _PATHS:
        value = found.expanded(row.name, value)
    if row.kind.accumulates:
        return [row.kind.shown((item,)) for item in value]
    return [row.kind.shown(value)]


def _forwards(found: Resolution, key: str) -> list[str]:
    if _cleared(found):
        return []
    lines = []
    for forward in _of_keyword(found, key):
        listen, connect = (
            None if path is None else found.expanded(key, path, home=False, dollar=False)
            for path in (forward.listen_path, forward.connect_path)
        )
        words = forward._replace(listen_path=listen, connect_path=connect).words()
        if key == "dynamicforward":
            words = words[:1]
        elif key == "remoteforward" and forward.dynamic:
            words.append("[socks]:0")
        lines.append(" ".join(words))
    return lines


def _of_keyword(found: Resolution, key: str) -> list[Forward]:
    """The forwardings that ssh prints for a keyword: it keeps local and dynamic ones in one list, tells them by the host
    "socks", and so prints those to a socket, which have no host, for both."""
    if key == "remoteforward":
        return list(found.options.get(key, ()))
    both = [given.value[0] for given in found.options.given if given.row and given.row.key in ("localforward", "dynamicforward")]
    local = key == "localforward"
    return [one for one in dict.fromkeys(both) if one.connect_host is None or (one.connect_host != "socks") is local]


def _cleared(found: Resolution) -> bool:
    return bool(found.options.get("clearallforwardings", found.line.stdio is not None))


def _yes(value: Any) -> list[str]:
    return ["yes" if value else "no"]


def _update_host_keys(found: Resolution) -> list[str]:
    given = found.options.get("updatehostkeys")
    if given == "ask":
        persistent = found.options.get("controlpersist", -1) >= 0 and found.text("controlpath") is not None
        silent = found.options.get("loglevel", "INFO") in ("SILENT", "FATAL", "ERROR")
        command = found.line.command or found.text("remotecommand") is not None or found.options.get("requesttty") == "false"
        return ["false" if persistent or silent or command else "ask"]
    if given is not None:
        return [given]
    files = found.options.get("userknownhostsfile", ())
    usual = files in ((), ("~/.ssh/known_hosts",))
    return ["true" if usual and found.options.get("verifyhostkeydns", "false") == "false" else "false"]


def _proxy_command(found: Resolution) -> list[str]:
    command = found.text("proxycommand")
    return [] if command is None or found.jump() is not None else [command]


def _proxy_jump(found: Resolution) -> list[str]:
    jump = found.jump()
    return [] if jump is None else [_ROW["proxyjump"].kind.shown(jump)]


def _identity_files(found: Resolution) -> list[str]:
    if found.options.has("identityfile"):
        return list(found.options.get("identityfile"))
    usual = found.program.defaults.get("identityfile", " ".join(f"~/.ssh/{name}" for name in DEFAULT_IDENTITIES))
    return usual.split()


def _files(found: Resolution, key: str) -> list[str]:
    return [" ".join(known_hosts(found, key)) or "none"]


def _revoked(found: Resolution) -> list[str]:
    paths = [path for path in found.options.get("revokedhostkeys", ()) if ascii_lower(path) != "none"]
    if not found.program.modern:
        return [" ".join(paths)] if paths else []
    return [" ".join(found.expanded("RevokedHostKeys", path) for path in paths) or "none"]


def _forward_agent(found: Resolution) -> list[str]:
    value = found.options.get("forwardagent", False)
    return [agent_socket(found, value)] if isinstance(value, str) else _yes(value)


def _remote_command(found: Resolution) -> list[str]:
    command = found.text("remotecommand")
    return [] if command is None else [found.expanded("RemoteCommand", command, home=False, dollar=False)]


def _version_addendum(found: Resolution) -> list[str]:
    value = found.options.get("versionaddendum")
    return [] if value is None else [found.expanded("VersionAddendum", value, home=False)]


def _tunnel(found: Resolution) -> list[str]:
    return ["false" if _cleared(found) else found.options.get("tunnel", "false")]


def _fdpass(found: Resolution) -> list[str]:
    return _yes(found.options.get("proxyusefdpass", False) and found.jump() is None)


_ROW = {row.key: row for row in ROWS}
_SPECIAL: dict[str, Any] = {
    **{key: (lambda found, key=key: _forwards(found, key)) for key in _FORWARDS},
    "clearallforwardings": lambda found: _yes(_cleared(found)),
    "exitonforwardfailure": lambda found: _yes(exits_on_failure(found)),
    "forwardagent": _forward_agent,
    "globalknownhostsfile": lambda found: _files(found, "globalknownhostsfile"),
    "hostname": lambda found: [found.host],
    "remotecommand": _remote_command,
    "identityfile": _identity_files,
    "proxycommand": _proxy_command,
    "proxyjump": _proxy_jump,
    "proxyusefdpass": _fdpass,
    "refuseconnection": lambda found: [],
    "revokedhostkeys": _revoked,
    "setenv": lambda found: [f"{name}={value}" for name, value in environment(found)],
    "tunnel": _tunnel,
    "updatehostkeys": _update_host_keys,
    "user": lambda found: [found.user],
    "userknownhostsfile": lambda found: _files(found, "userknownhostsfile"),
    "versionaddendum": _version_addendum,
}
