"""Numbers, times, sizes, ports and addresses in the notations of ssh_config(5). Every function raises ConfigValueError.

Source: misc.c of OpenSSH 10.5 and strtonum(3), scan_scaled(3) of OpenBSD.
"""

from __future__ import annotations

import re
import socket
import urllib.parse

from pmitogen.flags.ssh.lexer import ConfigValueError
from pmitogen.util.patterns import ascii_lower

INT_MAX = 2**31 - 1
_SCALES = {"b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_SCALED = re.compile(r"[ \t\n\v\f\r]*([+-]?)([0-9]{0,20})(?:\.([0-9]*))?([bkmgtpeBKMGTPE]?)(?![0-9A-Za-z]).*", re.DOTALL)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def integer(text: str | None, low: int = 0, high: int = INT_MAX) -> int:
    """Parse a decimal integer within bounds."""
    if not text:
        raise ConfigValueError("missing argument; use an integer")
    if not re.fullmatch(r"[ \t\n\v\f\r]*[+-]?[0-9]{1,30}", text):
        raise ConfigValueError(f"invalid integer {text!r}")
    value = int(text)
    if not low <= value <= high:
        raise ConfigValueError(f"integer {text} is out of range: {low} to {high}")
    return value


def seconds(text: str) -> int:
    """Parse a time such as ``90``, ``10m`` or ``1h30m`` into seconds; fractions of a second are dropped."""
    total = 0.0
    in_seconds = 0
    parts = re.findall(r"([0-9]+|[0-9]*\.[0-9]+)([smhdwSMHDW]?)", text)
    if not text or len(text) > 200 or "".join(value + unit for value, unit in parts) != text:
        raise ConfigValueError(f"invalid time {text!r}; use seconds or units, as in 1h30m")
    for value, unit in parts:
        in_seconds += unit in ("", "s", "S")
        if "." in value and unit not in ("", "s", "S"):
            raise ConfigValueError(f"{text!r}: only seconds may have a fraction")
        total += float(value) * _SECONDS[unit.lower() or "s"]
    if total > INT_MAX or in_seconds > 1:
        raise ConfigValueError(f"invalid time {text!r}; use seconds or units, as in 1h30m")
    return int(total)


def scaled(text: str) -> int:
    """Parse a size such as ``1G`` or ``512K`` into bytes."""
    match = _SCALED.fullmatch(text)
    if not match or not text.strip():
        raise ConfigValueError(f"invalid size {text!r}; use bytes or units, as in 512M or 1G")
    sign, whole, fraction, unit = match.groups()
    if not unit and match.end(2) != len(text) and match.end(3) != len(text):
        raise ConfigValueError(f"invalid size {text!r}; use bytes or units, as in 512M or 1G")
    scale = 1024 ** _SCALES[unit.lower()] if unit else 1
    value = int(whole or "0") * scale
    if unit and fraction:
        value += int(int(fraction) * scale // 10 ** len(fraction))
    if value >= 2**63:
        raise ConfigValueError(f"{text!r} is out of range")
    return -value if sign == "-" else value


def port(text: str, low: int = 1) -> int:
    """Parse a TCP port, by number or by service name."""
    try:
        return integer(text, low, 65535)
    except ConfigValueError:
        if re.fullmatch(r"[ \t\n\v\f\r]*[+-]?[0-9]+", text) or not text:
            raise ConfigValueError(f"invalid port {text!r}; use 1 to 65535") from None
    try:
        return socket.getservbyname(text, "tcp")
    except (OSError, ValueError):  # ValueError: a NUL or a lone surrogate
        raise ConfigValueError(f"invalid port {text!r}; use 1 to 65535 or a service name") from None


def host_port(text: str) -> tuple[str, str, str]:
    """Split ``host``, ``host:port`` or ``[addr]:port`` into host, delimiter (``:``, ``/`` or nothing) and the unread rest."""
    if text.startswith("["):
        end = text.find("]") + 1
        if not end or text[end : end + 1] not in ("", ":", "/"):
            raise ConfigValueError(f"{text!r}: the bracket of the address is not closed")
    else:
        end = next((i for i, char in enumerate(text) if char in ":/"), len(text))
    host = text[:end]
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return host, text[end : end + 1], text[end + 1 :]


def user_host_port(text: str) -> tuple[str | None, str, int | None]:
    """Read ``[user@]host[:port]`` as in ProxyJump."""
    user: str | None = None
    address = text
    if "@" in text:
        user, _, address = text.rpartition("@")
        if not user:
            raise ConfigValueError(f"{text!r}: the user name is empty")
    host, _, port_text = host_port(address)
    if not host:
        raise ConfigValueError(f"{text!r}: the host name is missing")
    return user, host, port(port_text) if port_text else None


def ssh_uri(text: str) -> tuple[str | None, str, int | None] | None:
    """Read ``ssh://[user@]host[:port]``; None for any other text."""
    if not text.startswith("ssh://"):
        return None
    address = text[6:]
    user: str | None = None
    if "@" in address:
        user_part, _, address = address.partition("@")
        user = _urldecode(user_part.partition(";")[0])
        if not user:
            raise ConfigValueError(f"{text!r}: the user name is empty")
    host, delimiter, rest = host_port(address)
    host = valid_domain(host)
    path = rest
    port_number: int | None = None
    if delimiter == ":":
        port_text, _, path = rest.partition("/")
        port_number = port(port_text)
    if path:
        raise ConfigValueError(f"{text!r}: a path is not allowed in an ssh URI")
    return user, host, port_number


def _urldecode(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", text):
        raise ConfigValueError(f"{text!r}: invalid percent-encoding; use %25 for a percent sign")
    return urllib.parse.unquote_plus(text, errors="surrogateescape")


def valid_domain(name: str, lower: bool = False) -> str:
    """Check a DNS name as CanonicalDomains and ssh:// do; return it without its trailing dot."""
    if not name:
        raise ConfigValueError("empty domain name")
    if not re.match(r"[A-Za-z0-9_]", name):
        raise ConfigValueError(f"domain name {name!r} starts with an invalid character")
    if ".." in name:
        raise ConfigValueError(f"domain name {name!r} has consecutive separators")
    if not re.fullmatch(r"[A-Za-z0-9_.-]*", name):
        raise ConfigValueError(f"domain name {name!r} has invalid characters")
    name = ascii_lower(name) if lower else name
    return name[:-1] if name.endswith(".") else name


def _is_control(char: str) -> bool:
    return ord(char) < 32 or ord(char) == 127


def valid_host(name: str) -> bool:
    """Return True if ssh accepts this as a destination: no shell characters, because of ``%h``."""
    return not name.startswith("-") and not any(char in "'`\"$\\;&<>|(){}, " or _is_control(char) for char in name)


def valid_user(name: str) -> bool:
    """Return True if ssh accepts this as a remote user name: no shell characters, because of ``%r``."""
    if name.startswith("-") or name.endswith("\\"):
        return False
    return not any(_is_control(char) or char in "'`\";&<>|(){}" for char in name) and " -" not in name
