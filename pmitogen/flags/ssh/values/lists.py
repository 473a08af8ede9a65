"""Value types that are lists; see base.py.

A type that *accumulates* parses one line into a tuple, and ``merge`` joins the lines; ``ssh -G`` prints one line per item.
"""

from __future__ import annotations

from typing import Any

from pmitogen.flags.ssh.lexer import Arguments, ConfigValueError
from pmitogen.flags.ssh.openssh_version import ValueContext
from pmitogen.flags.ssh.values import numbers
from pmitogen.flags.ssh.values.base import ValueType
from pmitogen.flags.ssh.values.forwards import Forward, read_forward
from pmitogen.util.patterns import ascii_lower, match_pattern


class WordList(ValueType):
    """Several values on one line; the first line wins. ``none`` must be the only value."""

    syntax = "WORD..."

    def __init__(self, limit: int = 0, empty_ok: bool = True, none: str = "none") -> None:
        self.limit = limit  # number of values; 0: any number
        self.empty_ok = empty_ok  # True: a line with only a comment is allowed
        self.none = none.split()

    def parse(self, arguments: Arguments, context: ValueContext) -> Any:
        taken = arguments.take_rest()
        for arg in taken:
            if ascii_lower(arg) in self.none and len(taken) > 1:
                raise ConfigValueError(f'"{arg}" must stand alone')
        value = tuple(self.check(arg) for arg in taken)
        if not value and not self.empty_ok:
            raise ConfigValueError("missing argument")
        return value

    def validate(self, value: Any) -> None:
        if self.limit and len(value) > self.limit:
            raise ConfigValueError(f"too many entries: {len(value)}, at most {self.limit}")

    def check(self, arg: str) -> str:
        """Check one argument, and return the value to store."""
        if not arg:
            raise ConfigValueError("empty argument")
        return arg

    def arguments(self, value: Any) -> list[str]:
        return list(value)

    def display(self, value: Any) -> str:
        return " ".join(self.arguments(value)) or "none"


class FirstWord(WordList):
    """LogVerbose: ssh stores only the first value."""

    def parse(self, arguments: Arguments, context: ValueContext) -> tuple[str, ...]:
        return tuple(super().parse(arguments, context)[:1])


class Domains(WordList):
    """CanonicalDomains."""

    syntax = "DOMAIN..."

    def check(self, arg: str) -> str:
        return numbers.valid_domain(arg, lower=True)


class CNames(WordList):
    """CanonicalizePermittedCNAMEs: ``source,...:target,...`` pairs; the value is a tuple of pairs."""

    syntax = "SOURCES:TARGETS..."

    def parse(self, arguments: Arguments, context: ValueContext) -> tuple[tuple[str, str], ...]:
        items = super().parse(arguments, context)
        if len(items) == 1 and ascii_lower(items[0]) == "none":
            return ()
        return tuple(self._pair(arg) for arg in items)

    def _pair(self, arg: str) -> tuple[str, str]:
        if arg == "*":
            return "*", "*"
        source, colon, target = ascii_lower(arg).partition(":")
        if not colon or not target:
            raise ConfigValueError(f"invalid permitted CNAME {arg!r}; use SOURCES:TARGETS")
        return source, target

    def arguments(self, value: tuple[tuple[str, str], ...]) -> list[str]:
        return [f"{source}:{target}" for source, target in value] or ["none"]


class RemoteOpens(WordList):
    """PermitRemoteOpen."""

    syntax = "HOST:PORT..."

    def __init__(self) -> None:
        super().__init__(empty_ok=False, none="none any")

    def check(self, arg: str) -> str:
        if ascii_lower(arg) not in self.none:
            _, _, port_text = numbers.host_port(arg)
            if port_text != "*":
                numbers.port(port_text)
        return arg

    def display(self, value: Any) -> str:
        return " ".join(value)


class ChannelTimeouts(WordList):
    """ChannelTimeout: ``type=interval`` pairs."""

    syntax = "TYPE=TIME..."

    def check(self, arg: str) -> str:
        kind, equals, interval = arg.partition("=")
        if ascii_lower(arg) != "none":
            if not kind or not equals:
                raise ConfigValueError(f"invalid channel timeout {arg!r}; use TYPE=TIME")
            numbers.seconds(interval)
        return arg


class Files(ValueType):
    """IdentityFile, CertificateFile: one path a line; lines accumulate."""

    syntax = "PATH"
    accumulates = True
    limit = 100

    def parse(self, arguments: Arguments, context: ValueContext) -> tuple[str, ...]:
        return (arguments.next_required(),)

    def arguments(self, value: tuple[str, ...]) -> list[str]:
        return list(value)

    def merge(self, old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
        merged = old + tuple(path for path in new if path not in old)
        if len(merged) > self.limit:
            raise ConfigValueError(f"too many files; at most {self.limit}")
        return merged


class SendEnv(ValueType):
    """Patterns of variable names; ``-pattern`` removes earlier ones."""

    syntax = "[-]PATTERN..."
    accumulates = True

    def parse(self, arguments: Arguments, context: ValueContext) -> tuple[str, ...]:
        taken = tuple(arguments.take_rest())
        for arg in taken:
            if not arg or "=" in arg:
                raise ConfigValueError(f"invalid environment name {arg!r}; SetEnv sets NAME=VALUE")
        if not taken:
            raise ConfigValueError("missing argument")
        return taken

    def arguments(self, value: tuple[str, ...]) -> list[str]:
        return list(value)

    def merge(self, old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
        names = list(old)
        for arg in new:
            if arg.startswith("-"):
                names = [name for name in names if not match_pattern(name, arg[1:])]
            else:
                names.append(arg)
        return tuple(names)


class SetEnv(ValueType):
    """``NAME=VALUE`` arguments; the first value of a name wins, and the first line."""

    syntax = "NAME=VALUE..."

    def parse(self, arguments: Arguments, context: ValueContext) -> tuple[str, ...]:
        taken: dict[str, str] = {}
        for arg in arguments.take_rest():
            name, equals, _ = arg.partition("=")
            if not equals:
                raise ConfigValueError(f"invalid SetEnv {arg!r}; use NAME=VALUE")
            taken.setdefault(name, arg)
        if not taken:
            raise ConfigValueError("missing argument")
        return tuple(taken.values())

    def arguments(self, value: tuple[str, ...]) -> list[str]:
        return list(value)


class Forwards(ValueType):
    """LocalForward, RemoteForward, DynamicForward: one a line; lines accumulate without duplicates."""

    syntax = "[ADDRESS:]PORT HOST:PORT"
    accumulates = True
    uses_environ = True

    def __init__(self, which: str) -> None:
        self.remote = which == "remote"
        self.dynamic = which == "dynamic"
        if self.dynamic:
            self.syntax = "[ADDRESS:]PORT"

    def parse(self, arguments: Arguments, context: ValueContext) -> tuple[Forward, ...]:
        spec = arguments.next_required()
        dynamic = self.dynamic
        if not dynamic:
            target = arguments.next()
            if target:
                spec = f"{spec}:{target}"[:255]
            elif self.remote:
                dynamic = True
            else:
                raise ConfigValueError("missing target; use HOST:PORT")
        return (read_forward(spec, context.environ, dynamic=dynamic, remote=self.remote),)

    def arguments(self, value: tuple[Forward, ...]) -> list[str]:
        return [arg.replace("\\", "\\\\") for forward in value for arg in forward.arguments()]

    def merge(self, old: tuple[Forward, ...], new: tuple[Forward, ...]) -> tuple[Forward, ...]:
        return old + tuple(forward for forward in new if forward not in old)
