"""The keyword values that have been given so far, and where: what ssh calls its Options.

First value wins, except for those that accumulate. Each value remembers where it came from, for messages and reports.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pmitogen.errors import UsageError
from pmitogen.flags.ssh.keywords import TABLE, Row
from pmitogen.flags.ssh.lexer import BadWord
from pmitogen.flags.ssh.values.base import UNSET


class Origin(NamedTuple):
    """Where a word stands.

    *explicit*: given for us, on a command line or in a ``-F`` file, not in a file that is there for everything.
    *chosen*: False for the words that a program puts there by default; they are read, and count for nothing.
    """

    place: str
    explicit: bool = True
    chosen: bool = True

    def error(self, problem: object) -> UsageError:
        """The error to raise for a bad word here."""
        return UsageError(f"{self.place}: {problem}")


class Given(NamedTuple):
    """One word that took effect: a keyword or a flag, as the user knows it."""

    option: str
    value: Any
    origin: Origin
    row: Row | None = None


class Options:
    """Values by lower-case keyword, and the list of what was given."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, Origin] = {}
        self.given: list[Given] = []
        self.displaced: list[tuple[str, Origin, str]] = []  # a ProxyCommand or ProxyJump that the other one keeps out

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a keyword, or *default*."""
        return self.values.get(key, default)

    def has(self, key: str) -> bool:
        """Whether the keyword has been set."""
        return key in self.values

    def give(self, row: Row, value: Any, origin: Origin, option: str = "") -> None:
        """Set a keyword the way a configuration line does: the first value wins, or values add up. Raises BadWord."""
        if value is UNSET or not origin.chosen:
            return
        key = row.key
        if key in ("proxycommand", "proxyjump") and not self._proxy_is_free(key):
            self._displace(row, option, value, origin)
            return
        if key not in self.values:
            row.kind.admit(value)
            start = row.kind.merge((), value) if row.kind.accumulates else value
        elif (start := row.kind.merge(self.values[key], value)) == self.values[key]:
            return
        self.values[key] = start
        self.origins.setdefault(key, origin)
        self.given.append(Given(option or row.name, value, origin, row))

    def _proxy_is_free(self, key: str) -> bool:
        """A jump keeps out a later command, and either keeps out a later jump; ProxyJump none lets a later command in."""
        jump = self.values.get("proxyjump")
        if key == "proxycommand":
            return jump is None or jump.host == "none"
        return jump is None and "proxycommand" not in self.values

    def _displace(self, row: Row, option: str, value: Any, origin: Origin) -> None:
        other = "proxyjump" if row.key == "proxycommand" else "proxycommand"
        first = self.origins.get(other)
        wanted = str(getattr(value, "host", value)).lower() != "none"
        if wanted and first is not None and str(self.values[other]).lower() != "none":
            why = f"Has no effect, for {TABLE[other].name} was set first ({first.place}): remove one of them."
            self.displaced.append((option or row.name, origin, why))

    def force(self, key: str, value: Any, origin: Origin, option: str) -> None:
        """Set a keyword the way most flags do: whatever was set before is replaced (but see Kind.replace)."""
        if not origin.chosen:
            return
        self.given = [one for one in self.given if one.row is None or one.row.key != key]
        self.values[key] = TABLE[key].kind.replace(self.values.get(key), value)
        self.origins[key] = origin
        self.given.append(Given(option, value, origin, TABLE[key]))

    def note(self, option: str, origin: Origin, value: Any = None) -> None:
        """Record a flag that stands for no keyword."""
        if origin.chosen:
            self.given.append(Given(option, value, origin))


def located(origin: Origin, keyword: str, problem: BadWord) -> UsageError:
    """A value's error with its place and keyword."""
    return origin.error(f"{keyword}: {problem}")
