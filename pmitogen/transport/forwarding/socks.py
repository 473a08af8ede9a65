"""The server's half of SOCKS 4, 4a and 5, without authentication and with CONNECT alone (RFC 1928; -D of ssh).

It reads and writes through two functions, so that it serves a local socket and a channel alike.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from pmitogen.transport.forwarding.address import TCPAddress

ReadExactly = Callable[[int], bytes]  # that many bytes; raises EOFError
Write = Callable[[bytes], None]

MAX_TEXT = 255  # bytes of a user or host name
CONNECT = 1
IPV4, DOMAIN_NAME, IPV6 = 1, 3, 4  # address types of SOCKS 5
NO_AUTHENTICATION, NO_ACCEPTABLE_METHODS = 0, 0xFF
GRANTED_4, REFUSED_4 = 90, 91
SUCCEEDED_5, FAILED_5, NOT_SUPPORTED_5 = 0, 1, 7


class NotSOCKS(Exception):
    """The client does not speak SOCKS, or requests a command other than CONNECT."""


class Request:
    """A client's request for a connection to *address*. *reply* reports to the client whether it was made."""

    def __init__(self, address: TCPAddress, reply: Callable[[bool], None]) -> None:
        self.address = address
        self.reply = reply


def read_request(read: ReadExactly, write: Write) -> Request:
    """Read a client's request. Blocks. Raises NotSOCKS, EOFError, OSError."""
    version = read(1)[0]
    if version == 4:
        return _read_4(read, write)
    if version == 5:
        return _read_5(read, write)
    raise NotSOCKS(f"version {version}")


def _read_4(read: ReadExactly, write: Write) -> Request:
    command, *rest = read(7)
    port = int.from_bytes(bytes(rest[:2]), "big")
    numbers = bytes(rest[2:])
    _read_text(read)  # the user's name
    host = str(ipaddress.IPv4Address(numbers))
    if numbers[:3] == bytes(3) and numbers[3]:
        host = _read_text(read)  # SOCKS 4a

    def reply(granted: bool) -> None:
        write(bytes((0, GRANTED_4 if granted else REFUSED_4)) + bytes(6))

    if command != CONNECT:
        reply(False)
        raise NotSOCKS(f"command {command}")
    return Request(TCPAddress(host, port), reply)


def _read_text(read: ReadExactly) -> str:
    text = b""
    while (character := read(1)) != b"\0":
        text += character
        if len(text) > MAX_TEXT:
            raise NotSOCKS("name too long")
    return text.decode("utf-8", "replace")


def _read_5(read: ReadExactly, write: Write) -> Request:
    methods = read(read(1)[0])
    if NO_AUTHENTICATION not in methods:
        write(bytes((5, NO_ACCEPTABLE_METHODS)))
        raise NotSOCKS("no supported authentication method")
    write(bytes((5, NO_AUTHENTICATION)))
    version, command, _, kind = read(4)

    def answer(code: int) -> None:
        write(bytes((5, code, 0, IPV4)) + bytes(6))

    if version != 5 or command != CONNECT or kind not in (IPV4, DOMAIN_NAME, IPV6):
        answer(NOT_SUPPORTED_5)
        raise NotSOCKS(f"command {command}")
    if kind == DOMAIN_NAME:
        host = read(read(1)[0]).decode("utf-8", "replace")
    else:
        host = str(ipaddress.ip_address(read(4 if kind == IPV4 else 16)))
    port = int.from_bytes(read(2), "big")
    return Request(TCPAddress(host, port), lambda granted: answer(SUCCEEDED_5 if granted else FAILED_5))
