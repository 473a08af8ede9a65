"""Resolve a host name and connect a TCP socket.

All addresses of a name are tried, each a little after the one before it (RFC 8305, "happy eyeballs"), under one deadline; the
first that answers wins. So a dead IPv6 route or a dead member of a round-robin name costs a quarter of a second, not a timeout.
After any error with an address the next one is tried; Paramiko's client stops at errors other than "refused" and "no route".

Honoured here: AddressFamily, BindAddress, BindInterface, ConnectionAttempts, TCPKeepAlive, IPQoS. Nagle's algorithm is off: SSH
writes whole packets, and waiting for an acknowledgement only adds up to 40 ms.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import selectors
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.util import limits
from pmitogen.util.host_names import invalid_names_as_unknown

CONNECTION_ATTEMPT_DELAY = 0.25  # seconds between attempts; RFC 8305 section 8
RETRY_PAUSE = 1.0  # seconds between rounds of ConnectionAttempts; as ssh does
_HOST_AND_PORT = re.compile(r"(?P<host>\[[^\[\]]+\]|[^\[\]:]+):(?P<port>[0-9]{1,5})")
FAMILIES = {"any": socket.AF_UNSPEC, "inet": socket.AF_INET, "inet6": socket.AF_INET6}

Address = tuple[socket.AddressFamily, Any]  # family and what connect() takes


class Advice(NamedTuple):
    """The ways to set a host's address, its port and the time limit, for messages."""

    address: str
    port: str
    timeout: str


TARGET_ADVICE = Advice(
    "set ansible_host (HostName) to an address",
    "use -p {port} (ansible_port) and the host {host}",
    "ansible_ssh_timeout (ConnectTimeout)",
)
JUMP_HOST_ADVICE = Advice(
    "set its HostName in the ssh configuration file to an address",
    "use {host}:{port} in -J (ProxyJump)",
    "its ConnectTimeout in the ssh configuration file",
)


def resolve(settings: Settings, advice: Advice = TARGET_ADVICE) -> list[Address]:
    """Return the addresses of ``settings.hostname``, families alternating, the resolver's first choice first.

    Raises ConnectError (stage ``resolve``; ``local`` if no descriptor is left). Blocks as long as the system's resolver does.
    """
    family = FAMILIES[settings.addressfamily]
    try:
        with invalid_names_as_unknown():
            answers = socket.getaddrinfo(settings.hostname, settings.port, family, socket.SOCK_STREAM)
    except OSError as error:
        if limits.is_exhaustion(error):
            raise ConnectError(limits.EXHAUSTED_MESSAGE, "local") from None
        reason = error.strerror or str(error)
        kind = {"inet": " IPv4", "inet6": " IPv6"}.get(settings.addressfamily, "")
        raise ConnectError(
            f"{settings.endpoint}: cannot resolve the{kind} name {settings.hostname}: {reason}; "
            f"{_name_advice(settings.hostname, advice)}",
            "resolve",
        ) from error
    addresses = list(dict.fromkeys((socket.AddressFamily(family), target) for family, _, _, _, target in answers))
    return _alternate(addresses)


def _name_advice(hostname: str, advice: Advice) -> str:
    """Return the advice for a name that does not resolve, such as ``host:port``: ssh has no such form."""
    match = _HOST_AND_PORT.fullmatch(hostname)
    if match is None:
        return f"check the spelling, or {advice.address}"
    return f"to use port {match['port']}, {advice.port.format(port=match['port'], host=match['host'].strip('[]'))}"


def _alternate(addresses: list[Address]) -> list[Address]:
    first = [entry for entry in addresses if entry[0] == addresses[0][0]]
    others = [entry for entry in addresses if entry[0] != addresses[0][0]]
    pairs = itertools.zip_longest(first, others)
    return [entry for pair in pairs for entry in pair if entry is not None]


def dial(
    settings: Settings, addresses: list[Address], timeout: float, deadline: float, advice: Advice = TARGET_ADVICE
) -> tuple[socket.socket, float]:
    """Connect, and return the socket with its options set, and the start time of its attempt. Blocks.

    :param timeout: seconds for each address, as ssh's ConnectTimeout; they run side by side.
    :param deadline: ``time.monotonic()`` seconds, the end of all attempts.

    Raises ConnectError (stage ``tcp``).
    """
    failures: dict[str, str] = {}
    for attempt in range(max(1, settings.connectionattempts)):
        if attempt and time.monotonic() + RETRY_PAUSE < deadline:
            time.sleep(RETRY_PAUSE)
        winner = _connect_first(settings, addresses, timeout, deadline, failures)
        if winner is not None:
            _set_socket_options(winner[0], settings)
            return winner
        if time.monotonic() >= deadline:
            break
    raise ConnectError(f"{settings.endpoint}: {_explain(settings, failures, advice)}", "tcp")


def _connect_first(
    settings: Settings, addresses: list[Address], timeout: float, deadline: float, failures: dict[str, str]
) -> tuple[socket.socket, float] | None:
    """Start an attempt every CONNECTION_ATTEMPT_DELAY seconds, or once all others have failed; return the first that succeeds."""
    waiting = iter(addresses)
    end = deadline
    with selectors.DefaultSelector() as selector:
        try:
            more = True
            next_start = 0.0
            while True:
                now = time.monotonic()
                if now >= end:
                    _record_timeouts(selector, failures, addresses)
                    return None
                if more and (now >= next_start or not selector.get_map()):
                    more = _start_one(settings, waiting, selector, failures)
                    next_start = now + CONNECTION_ATTEMPT_DELAY
                    end = min(deadline, now + timeout) if more else end
                    continue
                if not more and not selector.get_map():
                    return None
                until = min(end, next_start) if more else end
                winner = _first_success(selector, max(0.0, until - now), failures)
                if winner is not None:
                    return winner
        finally:
            for key in list(selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]


def _start_one(
    settings: Settings, waiting: Iterator[Address], selector: selectors.BaseSelector, failures: dict[str, str]
) -> bool:
    """Begin the next attempt. Return False if there are no more addresses."""
    for family, target in waiting:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            _bind(sock, family, settings)
            code = sock.connect_ex(target)
        except OSError as error:
            failures[target[0]] = error.strerror or str(error)
            sock.close()
            continue
        if code in (0, errno.EINPROGRESS):
            selector.register(sock, selectors.EVENT_WRITE, (target[0], time.monotonic()))
            return True
        failures[target[0]] = os.strerror(code)
        sock.close()
    return False


def _first_success(
    selector: selectors.BaseSelector, timeout: float, failures: dict[str, str]
) -> tuple[socket.socket, float] | None:
    for key, _ in selector.select(timeout):
        sock = key.fileobj
        assert isinstance(sock, socket.socket)
        selector.unregister(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        address, began = key.data
        if code == 0:
            return sock, began
        failures[address] = os.strerror(code)
        sock.close()
    return None


def _record_timeouts(selector: selectors.BaseSelector, failures: dict[str, str], addresses: list[Address]) -> None:
    for key in selector.get_map().values():
        failures[key.data[0]] = "no answer"
    if not failures:
        failures[addresses[0][1][0]] = "no time left"


def _explain(settings: Settings, failures: dict[str, str], advice: Advice) -> str:
    texts = set(failures.values())
    if len(texts) == 1:
        (problem,) = texts
        addresses = ", ".join(failures)
    else:
        problem, addresses = "cannot connect", "; ".join(f"{address}: {text}" for address, text in failures.items())
    remedies = {
        os.strerror(errno.ECONNREFUSED): f"is sshd running there, and is {settings.port} its port?",
        "no answer": f"is the host up, and does a firewall block it? {advice.timeout} sets the limit",
        "no time left": f"raise {advice.timeout}",
    }
    remedy = remedies.get(problem, "check the address, the route and the firewall")
    return f"{problem} ({addresses}); {remedy}"


def _bind(sock: socket.socket, family: socket.AddressFamily, settings: Settings) -> None:
    if settings.bindaddress:
        try:
            with invalid_names_as_unknown():
                infos = socket.getaddrinfo(settings.bindaddress, 0, family, socket.SOCK_STREAM, 0, socket.AI_PASSIVE)
        except socket.gaierror as error:
            raise OSError(errno.EADDRNOTAVAIL, f"BindAddress {settings.bindaddress}: {error.strerror}") from None
        sock.bind(infos[0][4])
    elif settings.bindinterface:
        _bind_to_interface(sock, family, settings.bindinterface)


def _bind_to_interface(sock: socket.socket, family: socket.AddressFamily, name: str) -> None:
    """Bind with SO_BINDTODEVICE if permitted; otherwise to the interface's own address, as ssh does."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode() + b"\0")
    except (PermissionError, AttributeError):
        sock.bind(_interface_address(family, name))


def _interface_address(family: socket.AddressFamily, name: str) -> Any:
    if family == socket.AF_INET:
        import fcntl

        siocgifaddr = 0x8915  # netdevice(7)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            answer = fcntl.ioctl(probe, siocgifaddr, struct.pack("256s", name.encode()[:15]))
        return socket.inet_ntoa(answer[20:24]), 0
    with open("/proc/net/if_inet6", encoding="ascii") as table:
        for line in table:
            address, index, _, _, _, interface = line.split()
            if interface == name:
                packed = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(address))
                return packed, 0, 0, int(index, 16)
    raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))


def _set_socket_options(sock: socket.socket, settings: Settings) -> None:
    sock.setblocking(True)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if settings.tcpkeepalive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if settings.ipqos:
        # Without a terminal ssh marks its traffic with the second value, for bulk.
        mark = settings.ipqos[-1]
        level, option = (
            (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if sock.family == socket.AF_INET6 else (socket.IPPROTO_IP, socket.IP_TOS)
        )
        try:
            sock.setsockopt(level, option, mark)
        except OSError:
            pass  # a system may reserve marks; ssh ignores the error as well
