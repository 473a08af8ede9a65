"""LocalForward, RemoteForward, DynamicForward, ``-L``, ``-R``, ``-D``, ``-W``: parse forwarding specifications.

Source: parse_forward() in readconf.c of OpenSSH 10.5.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from pmitogen.flags.ssh.lexer import ConfigValueError
from pmitogen.flags.ssh.tokens import expand
from pmitogen.flags.ssh.values.numbers import port

_SOCKET_PATH_MAX = 108
_HOST_MAX = 1025


class Forward(NamedTuple):
    """One forwarding. A socket path replaces host and port of its end; the connect host "socks" means a dynamic one."""

    listen_host: str | None
    listen_port: int
    listen_path: str | None
    connect_host: str | None
    connect_port: int
    connect_path: str | None

    @property
    def dynamic(self) -> bool:
        """True if the far end is chosen per connection."""
        return self.connect_host == "socks" and self.connect_port == 0

    def arguments(self) -> list[str]:
        """Return the arguments of the keyword's line, as ``ssh -G`` prints them."""
        if self.listen_path is not None:
            listen = self.listen_path
        else:
            listen = str(self.listen_port) if self.listen_host is None else f"[{self.listen_host}]:{self.listen_port}"
        if self.connect_path is not None:
            return [listen, self.connect_path]
        if self.dynamic:
            return [listen]
        return [listen, f"[{self.connect_host}]:{self.connect_port}"]


@dataclasses.dataclass(frozen=True)
class Forwardings:
    """The ports and sockets that a connection forwards, in the given order.

    *gateway_ports*: local ones without an address listen on all (GatewayPorts). *bind_mask*, *bind_unlink*: of local sockets
    (StreamLocalBindMask, StreamLocalBindUnlink). *permit_remote_open*: as configured (PermitRemoteOpen); () means any.
    """

    local: tuple[Forward, ...] = ()
    dynamic: tuple[Forward, ...] = ()
    remote: tuple[Forward, ...] = ()
    gateway_ports: bool = False
    bind_mask: int = 0o177
    bind_unlink: bool = False
    permit_remote_open: tuple[str, ...] = ()

    def cleared(self) -> Forwardings:
        """Return the same settings without any port or socket."""
        return dataclasses.replace(self, local=(), dynamic=(), remote=())

    def __bool__(self) -> bool:
        return bool(self.local or self.dynamic or self.remote)


def read_forward(spec: str, environ: Mapping[str, str], dynamic: bool = False, remote: bool = False) -> Forward:
    """Read ``[host:]port:host:port`` and its variants with socket paths. Raises ConfigValueError."""
    text = expand(spec, environ=environ).lstrip(" \t\n\v\f\r")
    fields = _fields(text)
    forward = _arrange(fields, spec)
    ok = len(fields) in (1, 2) if dynamic else len(fields) in (3, 4) or bool(forward.connect_path or forward.listen_path)
    if not dynamic and forward.connect_port <= 0 and forward.connect_path is None:
        ok = False
    if forward.listen_path is None and (forward.listen_port < 0 or (forward.listen_port == 0 and not remote)):
        ok = False
    too_long = any(len(path or "") >= _SOCKET_PATH_MAX for path in (forward.connect_path, forward.listen_path))
    if not ok or too_long or any(len(host or "") >= _HOST_MAX for host in (forward.listen_host, forward.connect_host)):
        raise ConfigValueError(f"invalid forwarding specification {spec!r}; use [ADDRESS:]PORT:HOST:PORT")
    return forward


def _fields(text: str) -> list[tuple[str, bool]]:
    """Split up to four colon-separated fields; with each, whether it is a path."""
    fields: list[tuple[str, bool]] = []
    rest = text
    while rest and len(fields) < 4:
        field, is_path, after = _one_field(rest)
        if field is None:
            break
        fields.append((field, is_path))
        rest = after
    return [] if rest else fields


def _one_field(text: str) -> tuple[str | None, bool, str]:
    if text.startswith("["):
        end = text.find("]")
        if end < 0 or text[end + 1 : end + 2] not in ("", ":"):
            return None, False, text
        return text[1:end], "/" in text[1:end], text[end + 2 :]
    out: list[str] = []
    i = 0
    is_path = False
    while i < len(text) and text[i] != ":":
        if text[i] == "\\":
            i += 1
            if i == len(text):
                return None, False, "\\"
        elif text[i] == "/":
            is_path = True
        out.append(text[i])
        i += 1
    return "".join(out), is_path, text[i + 1 :]


def _port(text: str) -> int:
    try:
        return port(text, low=0)
    except ConfigValueError:
        return -1


def _arrange(fields: list[tuple[str, bool]], spec: str) -> Forward:
    names = [name for name, _ in fields]
    paths = [is_path for _, is_path in fields]
    if len(fields) == 1:
        return Forward(None, -1, names[0], "socks", 0, None) if paths[0] else _socks(None, names[0])
    if len(fields) == 2:
        if paths[0] and paths[1]:
            return Forward(None, -1, names[0], None, -1, names[1])
        if paths[1]:
            return Forward(None, _port(names[0]), None, None, -1, names[1])
        return _socks(names[0], names[1])
    if len(fields) == 3:
        if paths[0]:
            return Forward(None, -1, names[0], names[1], _port(names[2]), None)
        if paths[2]:
            return Forward(names[0], _port(names[1]), None, None, -1, names[2])
        return Forward(None, _port(names[0]), None, names[1], _port(names[2]), None)
    if len(fields) == 4:
        return Forward(names[0], _port(names[1]), None, names[2], _port(names[3]), None)
    raise ConfigValueError(f"invalid forwarding specification {spec!r}; use [ADDRESS:]PORT:HOST:PORT")


def _socks(host: str | None, port_text: str) -> Forward:
    return Forward(host, _port(port_text), None, "socks", 0, None)
