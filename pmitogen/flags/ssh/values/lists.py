"""Value types that are lists or have several parts; see base.py.

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

    def parse(self, words: Arguments, reading: ValueContext) -> Any:
        taken = words.take_rest()
        for word in taken:
            if ascii_lower(word) in self.none and len(taken) > 1:
                raise ConfigValueError(f'"{word}" must stand alone')
        value = tuple(self.check(word) for word in taken)
        if not value and not self.empty_ok:
            raise ConfigValueError("missing argument")
        return value

    def validate(self, value: Any) -> None:
        if self.limit and len(value) > self.limit:
            raise ConfigValueError(f"too many entries: {len(value)}, at most {self.limit}")

    def check(self, word: str) -> str:
        """Check one argument, and return the value to store."""
        if not word:
            raise ConfigValueError("empty argument")
        return word

    def words(self, value: Any) -> list[str]:
        return list(value)

    def display(self, value: Any) -> str:
        return " ".join(self.words(value)) or "none"


class FirstWord(WordList):
    """LogVerbose: ssh stores only the first value."""

    def parse(self, words: Arguments, reading: ValueContext) -> tuple[str, ...]:
        return tuple(super().parse(words, reading)[:1])


class Domains(WordList):
    """CanonicalDomains."""

    syntax = "DOMAIN..."

    def check(self, word: str) -> str:
        return numbers.valid_domain(word, lower=True)


class CNames(WordList):
    """CanonicalizePermittedCNAMEs: ``source,...:target,...`` pairs; the value is a tuple of pairs."""

    syntax = "SOURCES:TARGETS..."

    def parse(self, words: Arguments, reading: ValueContext) -> tuple[tuple[str, str], ...]:
        plain = super().parse(words, reading)
        if len(plain) == 1 and ascii_lower(plain[0]) == "none":
            return ()
        return tuple(self._pair(word) for word in plain)

    def _pair(self, word: str) -> tuple[str, str]:
        if word == "*":
            return "*", "*"
        source, colon, target = ascii_lower(word).partition(":")
        if not colon or not target:
            raise ConfigValueError(f"invalid permitted CNAME {word!r}; use SOURCES:TARGETS")
        return source, target

    def words(self, value: tuple[tuple[str, str], ...]) -> list[str]:
        return [f"{source}:{target}" for source, target in value] or ["none"]


class RemoteOpens(WordList):
    """PermitRemoteOpen."""

    syntax = "HOST:PORT..."

    def __init__(self) -> None:
        super().__init__(empty_ok=False, none="none any")

    def check(self, word: str) -> str:
        if ascii_lower(word) not in self.none:
            _, _, port_text = numbers.host_port(word)
            if port_text != "*":
                numbers.port(port_text)
        return word

    def display(self, value: Any) -> str:
        return " ".join(value)


class ChannelTimeouts(WordList):
    """ChannelTimeout: ``type=interval`` pairs."""

    syntax = "TYPE=TIME..."

    def check(self, word: str) -> str:
        kind, equals, interval = word.partition("=")
        if ascii_lower(word) != "none":
            if not kind or not equals:
                raise ConfigValueError(f"invalid channel timeout {word!r}; use TYPE=TIME")
            numbers.seconds(interval)
        return word


class Files(ValueType):
    """IdentityFile, CertificateFile: one path a line; lines accumulate."""

    syntax = "PATH"
    accumulates = True
    limit = 100

    def parse(self, words: Arguments, reading: ValueContext) -> tuple[str, ...]:
        return (words.next_required(),)

    def words(self, value: tuple[str, ...]) -> list[str]:
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

    def parse(self, words: Arguments, reading: ValueContext) -> tuple[str, ...]:
        taken = tuple(words.take_rest())
        for word in taken:
            if not word or "=" in word:
                raise ConfigValueError(f"invalid environment name {word!r}; SetEnv sets NAME=VALUE")
        if not taken:
            raise ConfigValueError("missing argument")
        return taken

    def words(self, value: tuple[str, ...]) -> list[str]:
        return list(value)

    def merge(self, old: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
        names = list(old)
        for word in new:
            if word.startswith("-"):
                names = [name for name in names if not match_pattern(name, word[1:])]
            else:
                names.append(word)
        return tuple(names)


class SetEnv(ValueType):
    """``NAME=VALUE`` arguments; the first value of a name wins, and the first line."""

    syntax = "NAME=VALUE..."

    def parse(self, words: Arguments, reading: ValueContext) -> tuple[str, ...]:
        taken: dict[str, str] = {}
        for word in words.take_rest():
            name, equals, _ = word.partition("=")
            if not equals:
                raise ConfigValueError(f"invalid SetEnv {word!r}; use NAME=VALUE")
            taken.setdefault(name, word)
        if not taken:
            raise ConfigValueError("missing argument")
        return tuple(taken.values())

    def words(self, value: tuple[str, ...]) -> list[str]:
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

    def parse(self, words: Arguments, reading: ValueContext) -> tuple[Forward, ...]:
        spec = words.next_required()
        dynamic = self.dynamic
        if not dynamic:
            target = words.next()
            if target:
                spec = f"{spec}:{target}"[:255]
            elif self.remote:
                dynamic = True
            else:
                raise ConfigValueError("missing target; use HOST:PORT")
        return (read_forward(spec, reading.environ, dynamic=dynamic, remote=self.remote),)

    def words(self, value: tuple[Forward, ...]) -> list[str]:
        return [word.replace("\\", "\\\\") for forward in value for word in forward.words()]

    def merge(self, old: tuple[Forward, ...], new: tuple[Forward, ...]) -> tuple[Forward, ...]:
        return old + tuple(forward for forward in new if forward not in old)
