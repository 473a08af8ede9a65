"""List the addresses of this machine's interfaces, for ``Match localnetwork``.

The standard library cannot list them; getifaddrs(3) is called through ctypes.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import ipaddress
import socket
import sys

from pmitogen.flags.ssh.lexer import ConfigValueError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_IFF_UP = 1
_BSD = sys.platform == "darwin" or "bsd" in sys.platform  # their sockaddr starts with a length byte


class _Interface(ctypes.Structure):
    pass


_Interface._fields_ = [
    ("next", ctypes.POINTER(_Interface)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
]


def local_addresses() -> list[Address]:
    """Return the addresses of all interfaces that are up; empty if the system cannot list them."""
    try:
        libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
        head = ctypes.POINTER(_Interface)()
        if libc.getifaddrs(ctypes.byref(head)) != 0:
            return []
    except (OSError, AttributeError):
        return []
    addresses: list[Address] = []
    entry = head
    while entry:
        interface = entry.contents
        if interface.address and interface.flags & _IFF_UP:
            addresses.extend(_address(interface.address))
        entry = interface.next
    libc.freeifaddrs(head)
    return addresses


def _address(pointer: int) -> list[Address]:
    start = ctypes.string_at(pointer, 2)
    family = start[1] if _BSD else int.from_bytes(start, sys.byteorder)
    if family == socket.AF_INET:
        return [ipaddress.IPv4Address(ctypes.string_at(pointer + 4, 4))]
    if family == socket.AF_INET6:
        return [ipaddress.IPv6Address(ctypes.string_at(pointer + 8, 16))]
    return []


def read_networks(text: str) -> list[Network]:
    """Parse the CIDR list of ``Match localnetwork``. Raises ConfigValueError for host bits, names or negation."""
    networks: list[Network] = []
    for entry in text.split(","):
        try:
            networks.append(ipaddress.ip_network(entry))
        except ValueError as problem:
            raise ConfigValueError(f"localnetwork: invalid network {entry!r} ({problem})") from None
    return networks


def in_networks(address: Address, networks: list[Network]) -> bool:
    """Return True if *address* is in one of the networks."""
    return any(address.version == network.version and address in network for network in networks)
