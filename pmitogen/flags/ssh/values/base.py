"""Value types of ssh_config keywords: each parses the arguments of a line and renders the value.

``parse(render(x)) == x`` for every value that ``parse`` returns; ``display`` is the text of ``ssh -G`` after the keyword.
Lists and compound values are in lists.py. ConfigValueErrors do not name the place; the caller adds it.
"""

from __future__ import annotations

import itertools
from typing import Any

from pmitogen.flags.ssh.lexer import WHITESPACE, Arguments, ConfigValueError, quote_arg
from pmitogen.flags.ssh.openssh_version import ValueContext
from pmitogen.flags.ssh.tokens import expand
from pmitogen.flags.ssh.values import numbers
from pmitogen.util.patterns import ascii_lower


class _Unset:
    def __repr__(self) -> str:
        return "UNSET"


UNSET: Any = _Unset()  # a value that leaves the keyword unchanged


class ValueType:
    """Base of all value types: one argument, unchanged."""

    syntax = "STRING"  # for the documentation
    accumulates = False  # several lines accumulate; otherwise the first one wins
    uses_environ = False  # True if parsing depends on the environment

    def parse(self, arguments: Arguments, context: ValueContext) -> Any:
        """Read the value from the arguments of one line. Raises ConfigValueError."""
        return arguments.next_required()

    def arguments(self, value: Any) -> list[str]:
        """Return the value as arguments of a line, not yet quoted."""
        return [str(value)]

    def render(self, value: Any) -> str:
        """Return the value as text of one line of a configuration file."""
        return " ".join(quote_arg(arg) for arg in self.arguments(value))

    def display(self, value: Any) -> str:
        """Return the value as ``ssh -G`` prints it."""
        return " ".join(self.arguments(value))

    def validate(self, value: Any) -> None:
        """Make the checks that ssh makes only when the value takes effect. Raises ConfigValueError."""

    def merge(self, old: Any, new: Any) -> Any:
        """Combine the values of two lines: the first value wins."""
        return old

    def replace(self, old: Any, new: Any) -> Any:
        """Return the value after a flag for this keyword: the flag's. *old*: the value before; None: unset."""
        return new


class Choice(ValueType):
    """One of several values, in any case. *table* maps each to the one that is printed."""

    def __init__(self, table: dict[str, str], exact: bool = False) -> None:
        self.table = table
        self.exact = exact
        self.syntax = "|".join(dict.fromkeys(table))

    def parse(self, arguments: Arguments, context: ValueContext) -> str:
        arg = arguments.next_required()
        value = self.table.get(arg if self.exact else ascii_lower(arg))
        if value is None:
            raise ConfigValueError(f"unsupported value {arg!r}; use one of {', '.join(self.table)}")
        return value


def choice(text: str, exact: bool = False) -> Choice:
    """Make a Choice: ``"true=yes"`` parses true and yes and prints true; ``"inet"`` parses and prints inet."""
    table: dict[str, str] = {}
    for group in text.split():
        names = group.split("=")
        table.update(dict.fromkeys(names, names[0]))
    return Choice(table, exact)


class Flag(ValueType):
    """yes or no."""

    syntax = "yes|no"

    def parse(self, arguments: Arguments, context: ValueContext) -> bool:
        arg = arguments.next_required()
        low = ascii_lower(arg)
        if low not in ("yes", "true", "no", "false"):
            raise ConfigValueError(f"unsupported value {arg!r}; use yes or no")
        return low in ("yes", "true")

    def arguments(self, value: bool) -> list[str]:
        return ["yes" if value else "no"]


class UpperChoice(ValueType):
    """One of several values, in any case, printed in capitals; *same* maps a value to the one printed for it."""

    def __init__(self, names: str, same: dict[str, str] | None = None) -> None:
        self.names = names.split()
        self.same = same or {}
        self.syntax = "|".join(self.names)

    def parse(self, arguments: Arguments, context: ValueContext) -> str:
        arg = arguments.next_required()
        upper = arg.upper()
        if upper not in self.names:
            raise ConfigValueError(f"unsupported value {arg!r}; use one of {', '.join(self.names)}")
        return self.same.get(upper, upper)


class Int(ValueType):
    """An integer from 0."""

    syntax = "NUMBER"

    def parse(self, arguments: Arguments, context: ValueContext) -> int:
        return numbers.integer(arguments.next())


class Time(ValueType):
    """Seconds, in any unit of time; ``none`` leaves the keyword unset, so that a later line can set it, as in ssh."""

    syntax = "TIME"

    def parse(self, arguments: Arguments, context: ValueContext) -> Any:
        arg = arguments.next_required()
        return UNSET if arg == "none" else numbers.seconds(arg)


class Port(ValueType):
    """A TCP port."""

    syntax = "PORT"

    def parse(self, arguments: Arguments, context: ValueContext) -> int:
        return numbers.port(arguments.next_required())


class Command(ValueType):
    """The rest of the line, for a shell."""

    syntax = "COMMAND"

    def parse(self, arguments: Arguments, context: ValueContext) -> str:
        arguments.take_rest()
        return arguments.rest.lstrip(WHITESPACE + "=")

    def render(self, value: str) -> str:
        return value or "=="

    def display(self, value: str) -> str:
        return value


class Version(ValueType):
    """VersionAddendum: the rest of the line up to a comment; ``none`` is empty."""

    syntax = "TEXT"

    def parse(self, arguments: Arguments, context: ValueContext) -> str:
        arguments.take_rest()
        text = arguments.rest.lstrip(WHITESPACE).partition("#")[0].rstrip(WHITESPACE + "\v\f")
        if "\r" in text:
            raise ConfigValueError("a carriage return is not allowed")
        return "" if ascii_lower(text) == "none" else text

    def render(self, value: str) -> str:
        return value or "none"

    def display(self, value: str) -> str:
        return value


class Algorithms(ValueType):
    """An algorithm list, with the operators ``+``, ``-`` and ``^`` and, for keys, wildcards."""

    syntax = "[+-^]NAME,..."

    def __init__(self, family: str) -> None:
        self.family = family

    def parse(self, arguments: Arguments, context: ValueContext) -> str:
        spec = arguments.next_required()
        context.program.catalogue.check(self.family, spec)
        return spec


class AgentPath(ValueType):
    """IdentityAgent: a socket path, ``none``, ``SSH_AUTH_SOCK`` or ``$VARIABLE``."""

    syntax = "PATH|none|$VARIABLE"
    uses_environ = True

    def parse(self, arguments: Arguments, context: ValueContext) -> str:
        return agent_path(arguments.next_required(), context)


def agent_path(arg: str, context: ValueContext) -> str:
    """Check an agent's path that names a variable."""
    expand(arg, environ=context.environ)
    if arg.startswith("$") and not arg.startswith("${"):
        name = arg[1:]
        if not name or not all(char == "_" or (char.isascii() and char.isalnum()) for char in name):
            raise ConfigValueError(f"{arg!r} is not the name of an environment variable")
    return arg


class GssKex(ValueType):
    """Comma-separated prefixes of names, as in the distributions' patch: up to the first empty one."""

    syntax = "NAME,..."
    known = (
        "gss-gex-sha1-",
        "gss-group1-sha1-",
        "gss-group14-sha1-",
        "gss-group14-sha256-",
        "gss-group16-sha512-",
        "gss-nistp256-sha256-",
        "gss-curve25519-sha256-",
    )

    def parse(self, arguments: Arguments, context: ValueContext) -> str:
        arg = arguments.next_required()
        for name in itertools.takewhile(bool, arg.split(",")):
            if not name.startswith(self.known):
                raise ConfigValueError(f"unsupported algorithm {name!r}; use some of {','.join(self.known)}")
        return arg


class InactiveAgentPath(str):
    """An agent's socket path set after forwarding was switched off: ``ssh -G`` prints it, and nothing is forwarded."""


class ForwardAgent(ValueType):
    """yes, no, or the path of another agent's socket. The first line with yes or no, and the first with a path, win."""

    syntax = "yes|no|PATH|$VARIABLE"
    uses_environ = True

    def parse(self, arguments: Arguments, context: ValueContext) -> bool | str:
        arg = arguments.next_required()
        low = ascii_lower(arg)
        if low in ("yes", "true", "no", "false"):
            return low in ("yes", "true")
        return agent_path(arg, context)

    def arguments(self, value: bool | str) -> list[str]:
        return [value if isinstance(value, str) else "yes" if value else "no"]

    def merge(self, old: bool | str, new: bool | str) -> bool | str:
        if isinstance(old, str) or not isinstance(new, str):
            return old
        return new if old else InactiveAgentPath(new)

    def replace(self, old: bool | str | None, new: bool) -> bool | str:
        if not isinstance(old, str):
            return new
        return str(old) if new else InactiveAgentPath(old)


class EscapeChar(ValueType):
    """A character, ``^X`` or ``none``; the value is the character, or an empty string for none."""

    syntax = "CHARACTER|none"

    def parse(self, arguments: Arguments, context: ValueContext) -> str:
        arg = arguments.next_required()
        if arg == "none":
            return ""
        raw = arg.encode("utf-8", "surrogateescape")
        if len(raw) == 1:
            return raw.decode("latin-1")
        if len(raw) == 3 or len(raw) != 2 or raw[0:1] != b"^" or not 64 <= raw[1] < 128:
            raise ConfigValueError(f"invalid escape character {arg!r}; use one character, ^X or none")
        return chr(raw[1] & 31)

    def arguments(self, value: str) -> list[str]:
        if value == "":
            return ["none"]
        return ["^" + chr(ord(value) | 64) if ord(value) < 32 else value.encode("latin-1").decode("utf-8", "surrogateescape")]

    def display(self, value: str) -> str:
        return "none" if value == "" else vis_white(ord(value))


def vis_white(code: int) -> str:
    """Return a byte as vis(3) encodes it with VIS_WHITE."""
    if code == 0x5C:
        return "\\\\"
    if 33 <= code < 127:
        return chr(code)
    meta = "M" if code & 128 else ""
    low = code & 127
    if low < 32 or low == 127:
        return f"\\{meta}^{chr(low ^ 64) if low != 127 else '?'}"
    return f"\\{meta}-{chr(low)}" if meta and low != 32 else f"\\{code:03o}"
