"""Keyword values with their origins; ssh.c calls this Options.

The first value wins, except for keywords that accumulate. Each value keeps its origin for messages and reports.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pmitogen.errors import UsageError
from pmitogen.flags.ssh.keywords import TABLE, Keyword
from pmitogen.flags.ssh.lexer import MissingArgument, UnknownKeyword
from pmitogen.flags.ssh.values.base import UNSET


class OptionError(UsageError):
    """An option that is unknown, or has an invalid value.

    *option*: the flag (``-p``) or the keyword, as written; empty if the message names it.
    *value*: the invalid value of a flag; None for a keyword, and for flags that exclude each other.
    *is_unknown*: there is no such keyword.
    *lacks_argument*: nothing follows the keyword *option*.
    """

    def __init__(self, problem: str, origin: str, option: str = "", value: str | None = None) -> None:
        super().__init__(problem, origin)
        self.option = option
        self.value = value
        self.is_unknown = False
        self.lacks_argument = False


class Origin(NamedTuple):
    """The place where an option was given.

    *explicit*: on a command line or in a ``-F`` file, not in a file for all of the user's sessions.
    *effective*: False for options that Ansible adds by default; they are parsed and have no effect.
    """

    place: str
    explicit: bool = True
    effective: bool = True

    def error(self, problem: object, option: str = "", value: str | None = None) -> OptionError:
        """Return the error for an invalid value at this place. *option*, *value*: as in OptionError."""
        if isinstance(problem, UnknownKeyword | MissingArgument):
            option = problem.keyword
        error = OptionError(str(problem), self.place, option, value)
        error.is_unknown = isinstance(problem, UnknownKeyword)
        error.lacks_argument = isinstance(problem, MissingArgument)
        return error


class GivenOption(NamedTuple):
    """One option that took effect, under the name that the user gave it."""

    option: str
    value: Any
    origin: Origin
    row: Keyword | None = None


class Options:
    """Values by lower-case keyword, and the given options in order."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, Origin] = {}
        self.given: list[GivenOption] = []
        self.shadowed: list[tuple[str, Origin, str]] = []  # a ProxyCommand or ProxyJump after the other one

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a keyword, or *default*."""
        return self.values.get(key, default)

    def has(self, key: str) -> bool:
        """Return True if the keyword is set."""
        return key in self.values

    def set_default(self, row: Keyword, value: Any, origin: Origin, option: str = "") -> None:
        """Set a keyword as a configuration line does: the first value wins, or values accumulate. Raises ConfigValueError."""
        if value is UNSET or not origin.effective:
            return
        key = row.key
        if key in ("proxycommand", "proxyjump") and not self._proxy_is_free(key):
            self._shadow(row, option, value, origin)
            return
        if key not in self.values:
            row.value_type.validate(value)
            start = row.value_type.merge((), value) if row.value_type.accumulates else value
        elif (start := row.value_type.merge(self.values[key], value)) == self.values[key]:
            return
        self.values[key] = start
        self.origins.setdefault(key, origin)
        self.given.append(GivenOption(option or row.name, value, origin, row))

    def _proxy_is_free(self, key: str) -> bool:
        """Return True if the keyword is not blocked: ProxyJump blocks a later ProxyCommand; either blocks a later ProxyJump."""
        jump = self.values.get("proxyjump")
        if key == "proxycommand":
            return jump is None or jump.host == "none"
        return jump is None and "proxycommand" not in self.values

    def _shadow(self, row: Keyword, option: str, value: Any, origin: Origin) -> None:
        other = "proxyjump" if row.key == "proxycommand" else "proxycommand"
        first = self.origins.get(other)
        wanted = str(getattr(value, "host", value)).lower() != "none"
        if wanted and first is not None and str(self.values[other]).lower() != "none":
            reason = f"Has no effect because {TABLE[other].name} was set first ({first.place}); remove one of them."
            self.shadowed.append((option or row.name, origin, reason))

    def override(self, key: str, value: Any, origin: Origin, option: str) -> None:
        """Set a keyword as most flags do: replace the value (see ValueType.replace)."""
        if not origin.effective:
            return
        self.given = [earlier for earlier in self.given if earlier.row is None or earlier.row.key != key]
        self.values[key] = TABLE[key].value_type.replace(self.values.get(key), value)
        self.origins[key] = origin
        self.given.append(GivenOption(option, value, origin, TABLE[key]))

    def record(self, option: str, origin: Origin, value: Any = None) -> None:
        """Record a flag without a keyword."""
        if origin.effective:
            self.given.append(GivenOption(option, value, origin))
