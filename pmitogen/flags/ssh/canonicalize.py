"""Canonicalise host names: numeric addresses always, names if CanonicalizeHostname is set.

Only this module of flags/ queries the resolver, as ssh does before it reads its files for the final name.
Source: resolve_canonicalize() and check_follow_cname() in ssh.c of OpenSSH 10.5.
"""

from __future__ import annotations

import socket

from pmitogen.errors import UsageError
from pmitogen.flags.ssh.lexer import ConfigValueError
from pmitogen.flags.ssh.option_values import Options
from pmitogen.flags.ssh.values import numbers
from pmitogen.util import patterns
from pmitogen.util.patterns import ascii_lower

_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}


def looks_numeric(name: str) -> bool:
    """Return True if the name can only be an address."""
    return "%" in name or ":" in name or not name.strip("0123456789.")


class Canonicalizer:
    """Canonicalise names by one destination's options; those about canonicalisation are final (see resolve_keywords.py)."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._family = _FAMILIES.get(options.get("addressfamily"), socket.AF_UNSPEC)
        self._mode = options.get("canonicalizehostname")
        jump = options.get("proxyjump")
        command = options.get("proxycommand")
        self.direct = (command is None or ascii_lower(command) == "none") and (jump is None or ascii_lower(jump.host) == "none")

    @property
    def enabled(self) -> bool:
        """True if CanonicalizeHostname applies."""
        return bool(self._mode != "false")

    def is_address(self, name: str) -> bool:
        """Return True if the name is an address in a notation that the resolver accepts."""
        return looks_numeric(name) or self._numeric(name) is not None

    def canonical(self, name: str) -> str:
        """Return the canonical form of *name*, or *name*. Raises UsageError if it must resolve and does not."""
        address = self._numeric(name)
        if address is not None:
            return address if address.lower() != name.lower() else name
        if looks_numeric(name) or not self.enabled or (not self.direct and self._mode != "always"):
            return name
        return self._qualified(name)

    def follow_alias(self, name: str) -> str:
        """Follow a permitted alias of a name that was not canonicalised. Raises UsageError."""
        if not self._rules() or not (self.direct or self._mode == "always"):
            return name
        alias = self._lookup(name)
        if alias is None:
            if self.direct:
                raise UsageError(f"{name}: could not resolve hostname")
            return name
        return self._follow(name, alias)

    def _rules(self) -> tuple[tuple[str, str], ...]:
        rules: tuple[tuple[str, str], ...] = self._options.get("canonicalizepermittedcnames", ())
        return rules

    def _qualified(self, name: str) -> str:
        if name.endswith("."):
            alias = self._lookup(name)
            if alias is not None:
                return self._follow(name[:-1], alias)
        elif name.count(".") > self._options.get("canonicalizemaxdots"):
            return self.follow_alias(name)
        else:
            for domain in self._options.get("canonicaldomains", ()):
                if ascii_lower(domain) == "none":
                    break
                alias = self._lookup(f"{name}.{domain}.")
                if alias is not None:
                    return self._follow(f"{name}.{domain}", alias)
        if not self._options.get("canonicalizefallbacklocal"):
            raise UsageError(f"{name}: could not resolve hostname in CanonicalDomains, and CanonicalizeFallbackLocal is no")
        return self.follow_alias(name)

    def _follow(self, name: str, alias: str) -> str:
        if not alias or alias == name or not self.enabled:
            return name
        for sources, targets in self._rules():
            if patterns.match_list(name, sources, lower=True) == 1 and patterns.match_list(alias, targets, lower=True) == 1:
                return ascii_lower(alias)
        return name

    def _numeric(self, name: str) -> str | None:
        try:
            addresses = socket.getaddrinfo(
                name, 22, self._family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            )
            return (
                socket.getnameinfo(addresses[0][4], socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
                if len(addresses) == 1
                else None
            )
        except (OSError, UnicodeError, ValueError):
            return None

    def _lookup(self, name: str) -> str | None:
        """Return the resolver's canonical name for *name* (empty: none that is usable); None: no such host."""
        try:
            addresses = socket.getaddrinfo(name, 22, self._family, socket.SOCK_STREAM, 0, socket.AI_CANONNAME)
        except (OSError, UnicodeError, ValueError):
            return None
        try:
            return numbers.valid_domain(addresses[0][3]) if addresses[0][3] else ""
        except ConfigValueError:
            return ""
