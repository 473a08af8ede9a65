"""ProxyJump: a list of jump hosts; see base.py."""

from __future__ import annotations

from typing import NamedTuple

from pmitogen.flags.ssh.lexer import WHITESPACE, Arguments, ConfigValueError
from pmitogen.flags.ssh.openssh_version import ValueContext
from pmitogen.flags.ssh.values import numbers
from pmitogen.flags.ssh.values.base import ValueType
from pmitogen.util.patterns import ascii_lower


class Jump(NamedTuple):
    """ProxyJump: the last hop, and the text before it. The host "none" switches it off."""

    host: str
    user: str | None = None
    port: int | None = None
    earlier_hops: str | None = None

    def hops(self) -> list[tuple[str | None, str, int | None]]:
        """Return (user, host, port) of every hop, nearest to this machine first."""
        before = [read_hop(text) for text in self.earlier_hops.split(",")] if self.earlier_hops is not None else []
        return [*before, (self.user, self.host, self.port)]


def read_hop(text: str) -> tuple[str | None, str, int | None]:
    """Parse one hop: [user@]host[:port] or an ssh:// URI."""
    return numbers.ssh_uri(text) or numbers.user_host_port(text)


class ProxyJump(ValueType):
    """ProxyJump: hops, separated by commas."""

    syntax = "[USER@]HOST[:PORT],...|none"

    def parse(self, arguments: Arguments, context: ValueContext) -> Jump:
        arguments.take_rest()
        return read_jump(arguments.rest.lstrip(WHITESPACE + "="), strict=context.command_line)

    def arguments(self, value: Jump) -> list[str]:
        if value.host.lower() == "none" and value.user is None and value.port is None and value.earlier_hops is None:
            return ["none"]
        numeric = ":" in value.host or not value.host.strip("1234567890.")
        host = f"[{value.host}]" if numeric else value.host
        user = f"{value.user}@" if value.user is not None else ""
        earlier = value.earlier_hops + "," if value.earlier_hops is not None else ""
        return [f"{earlier}{user}{host}{f':{value.port}' if value.port else ''}"]

    def render(self, value: Jump) -> str:
        return self.arguments(value)[0]


def read_jump(text: str, strict: bool = False) -> Jump:
    """Parse the hops of ``-J`` or ProxyJump. *strict*: refuse names with shell characters, for the command line."""
    if ascii_lower(text) == "none":
        return Jump("none")
    text = text.partition("#")[0].rstrip(" \t\n\v\f\r")
    if any(char in WHITESPACE for char in text):
        raise ConfigValueError(f"{text!r}: hops are separated by commas, without blanks")
    earlier_hops, comma, last = text.rpartition(",")
    for hop in text.split(","):
        user, host, _ = read_hop(hop)
        if strict and not (numbers.valid_host(host) and numbers.valid_user(user or "")):
            raise ConfigValueError(f"{hop!r}: invalid characters in the name of a hop")
    user, host, port = read_hop(last)
    return Jump(host, user, port, earlier_hops if comma else None)
