"""Value types that are lists or have several parts; see base.py.

A type that *accumulates* parses one line into a tuple, and ``merge`` joins the lines; it is shown as one line per item.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from pmitogen.flags.ssh.lexer import WHITESPACE, Arguments, ConfigValueError
from pmitogen.flags.ssh.openssh_version import ValueContext
from pmitogen.flags.ssh.values import numbers
from pmitogen.flags.ssh.values.base import ValueType
from pmitogen.flags.ssh.values.forwards import Forward, read_forward
from pmitogen.util.patterns import ascii_lower, match_pattern


class WordList(ValueType):
    """Several words on one line; of several lines the first wins. ``none`` must stand alone."""

    syntax = "WORD..."

    def __init__(self, limit: int = 0, empty_ok: bool = True, none: str = "none") -> None:
        self.limit = limit  # how many words; 0: any number
        self.empty_ok = empty_ok  # whether a line with a comment only is tolerated
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
        """Check one word, and give what is stored for it."""
        if not word:
            raise ConfigValueError("empty argument")
        return word

    def words(self, value: Any) -> list[str]:
        return list(value)

    def display(self, value: Any) -> str:
        return " ".join(self.words(value)) or "none"


class FirstWord(WordList):
    """LogVerbose: of all the words, ssh keeps the first."""

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
    """IdentityFile, CertificateFile: one path a line, all lines count."""

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
    """Patterns of variable names; ``-pattern`` removes what stood before."""

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
    """``NAME=VALUE`` words; of one name the first counts, and of several lines too."""

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
    """LocalForward, RemoteForward, DynamicForward: one a line, all lines count, duplicates do not."""

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
                raise ConfigValueError("missing target: HOST:PORT is wanted")
        return (read_forward(spec, reading.environ, dynamic=dynamic, remote=self.remote),)

    def words(self, value: tuple[Forward, ...]) -> list[str]:
        return [word.replace("\\", "\\\\") for forward in value for word in forward.words()]

    def merge(self, old: tuple[Forward, ...], new: tuple[Forward, ...]) -> tuple[Forward, ...]:
        return old + tuple(forward for forward in new if forward not in old)


class RekeyLimit(ValueType):
    """Bytes, and optionally seconds: (bytes, seconds or None). The two are each set by the first line that has them."""

    syntax = "SIZE|default [TIME|none]"

    def parse(self, words: Arguments, reading: ValueContext) -> tuple[int, int | None]:
        word = words.next_required()
        size = 0 if word == "default" else numbers.scaled(word)
        if size != 0 and size < 16:
            raise ConfigValueError(f"{word!r} is too small: at least 16 bytes")
        interval = words.next()
        if interval is None or interval == "none":
            return size, None
        if not interval:
            raise ConfigValueError("missing time")
        return size, numbers.seconds(interval)

    def words(self, value: tuple[int, int | None]) -> list[str]:
        return [str(value[0])] if value[1] is None else [str(value[0]), str(value[1])]

    def display(self, value: tuple[int, int | None]) -> str:
        return f"{value[0]} {value[1] or 0}"

    def merge(self, old: tuple[int, int | None], new: tuple[int, int | None]) -> tuple[int, int | None]:
        return old if old[1] is not None else (old[0], new[1])


class ControlPersist(ValueType):
    """yes, no or a time; the value is -1 for "no", 0 for "for ever", else seconds."""

    syntax = "yes|no|TIME"

    def parse(self, words: Arguments, reading: ValueContext) -> int:
        word = words.next_required()
        if word in ("no", "false"):
            return -1
        return 0 if word in ("yes", "true") else numbers.seconds(word)

    def words(self, value: int) -> list[str]:
        return ["no" if value < 0 else str(value) if value else "yes"]


class TunnelDevice(ValueType):
    """local[:remote], each a number or ``any``."""

    syntax = "LOCAL[:REMOTE]"

    def parse(self, words: Arguments, reading: ValueContext) -> str:
        word = words.next_required()
        local, colon, remote = word.partition(":")
        return f"{self._side(local)}:{self._side(remote) if colon else 'any'}"

    def _side(self, text: str) -> str:
        if ascii_lower(text) == "any":
            return "any"
        return str(numbers.number(text, 0, 2**31 - 4))


class Mask(ValueType):
    """StreamLocalBindMask: an octal mode."""

    syntax = "OCTAL"

    def parse(self, words: Arguments, reading: ValueContext) -> int:
        word = words.next_required()
        found = re.match(r"[ \t\n\v\f\r]*\+?([0-7]+)", word)
        if not found or int(found.group(1), 8) > 0o777:
            raise ConfigValueError(f"invalid mask {word!r}; use an octal mode, as in 0177")
        return int(found.group(1), 8)

    def words(self, value: int) -> list[str]:
        return [f"0{value:o}"]

    def merge(self, old: int, new: int) -> int:
        return new  # here, of all keywords, the last value wins


# 0x100 stands for "none": leave the system's. The last three are RFC 1349's, which OpenSSH 10 ignores and older ones set.
_QOS = {
    "none": 0x100, "af11": 0x28, "af12": 0x30, "af13": 0x38, "af21": 0x48, "af22": 0x50, "af23": 0x58, "af31": 0x68,
    "af32": 0x70, "af33": 0x78, "af41": 0x88, "af42": 0x90, "af43": 0x98, "cs0": 0x00, "cs1": 0x20, "cs2": 0x40, "cs3": 0x60,
    "cs4": 0x80, "cs5": 0xA0, "cs6": 0xC0, "cs7": 0xE0, "ef": 0xB8, "le": 0x04, "va": 0xB0, "lowdelay": 0x10,
    "throughput": 0x08, "reliability": 0x04,
}  # fmt: skip
QOS_NONE = 0x100


class Qos(ValueType):
    """IPQoS: one class for all, or two, for interactive sessions and for others; the value is always a pair."""

    syntax = "CLASS [CLASS]"

    def parse(self, words: Arguments, reading: ValueContext) -> tuple[int, int]:
        first = self._class(words.next())
        second = words.next()
        return first, first if second is None else self._class(second)

    def _class(self, word: str | None) -> int:
        known = _QOS.get(ascii_lower(word or ""))
        try:
            if known is None and re.fullmatch(r"0[xX][0-9a-fA-F]{1,2}", word or ""):  # taken by OpenSSH 9
                return int(word or "", 16)
            return numbers.number(word, 0, 255) if known is None else known
        except ConfigValueError:
            raise ConfigValueError(f"invalid IPQoS value {word!r}; use a DSCP name, as in cs1, or 0 to 255") from None

    def words(self, value: tuple[int, int]) -> list[str]:
        names = {code: name for name, code in reversed(list(_QOS.items()))}
        return [names.get(code, str(code)) for code in value]

    def display(self, value: tuple[int, int]) -> str:
        names = {code: name for name, code in reversed(list(_QOS.items()))}
        return " ".join(names.get(code, f"0x{code:02x}") for code in value)


class AddKeys(ValueType):
    """AddKeysToAgent: yes, no, ask, confirm [TIME] or TIME; the value is (word, seconds)."""

    syntax = "yes|no|ask|confirm [TIME]|TIME"

    def parse(self, words: Arguments, reading: ValueContext) -> tuple[str, int]:
        first, second = words.next_required(), words.next()
        word = {"true": "true", "yes": "true", "false": "false", "no": "false"}.get(ascii_lower(first), ascii_lower(first))
        if word == "confirm" and second is not None:
            return word, numbers.seconds(second)
        if second is not None:
            raise ConfigValueError(f"unsupported value {second!r} after {first!r}")
        if word in ("true", "false", "ask", "confirm"):
            return word, 0
        return "true", numbers.seconds(first)

    def words(self, value: tuple[str, int]) -> list[str]:
        word, lifetime = value
        if not lifetime:
            return [word]
        return ["confirm", str(lifetime)] if word == "confirm" else [str(lifetime)]


class Keystrokes(ValueType):
    """ObscureKeystrokeTiming: the interval in milliseconds; 0 is off."""

    syntax = "yes|no|interval:MS"

    def parse(self, words: Arguments, reading: ValueContext) -> int:
        word = words.next()
        if word is None:
            raise ConfigValueError("missing argument")
        if word in ("yes", "true"):
            return 20
        if word in ("no", "false"):
            return 0
        if not word.startswith("interval:"):
            raise ConfigValueError(f"unsupported value {word!r}; use yes, no or interval:MILLISECONDS")
        return numbers.number(word[9:], 1, 1000)

    def words(self, value: int) -> list[str]:
        return [{0: "no", 20: "yes"}.get(value, f"interval:{value}")]

    def display(self, value: int) -> str:
        return {0: "no", 20: "yes"}.get(value, str(value))


class Jump(NamedTuple):
    """ProxyJump: the last hop, and what stands before it, as written. A host of "none" switches it off."""

    host: str
    user: str | None = None
    port: int | None = None
    extra: str | None = None

    def hops(self) -> list[tuple[str | None, str, int | None]]:
        """(user, host, port) of every hop, nearest to us first."""
        before = [read_hop(text) for text in self.extra.split(",")] if self.extra is not None else []
        return [*before, (self.user, self.host, self.port)]


def read_hop(text: str) -> tuple[str | None, str, int | None]:
    """One hop: [user@]host[:port] or an ssh:// URI."""
    return numbers.ssh_uri(text) or numbers.user_host_port(text)


class ProxyJump(ValueType):
    """ProxyJump: hops, separated by commas."""

    syntax = "[USER@]HOST[:PORT],...|none"

    def parse(self, words: Arguments, reading: ValueContext) -> Jump:
        words.take_rest()
        return read_jump(words.rest.lstrip(WHITESPACE + "="), strict=reading.command_line)

    def words(self, value: Jump) -> list[str]:
        if value.host.lower() == "none" and value.user is None and value.port is None and value.extra is None:
            return ["none"]
        numeric = ":" in value.host or not value.host.strip("1234567890.")
        host = f"[{value.host}]" if numeric else value.host
        user = f"{value.user}@" if value.user is not None else ""
        return [f"{value.extra + ',' if value.extra is not None else ''}{user}{host}{f':{value.port}' if value.port else ''}"]

    def render(self, value: Jump) -> str:
        return self.words(value)[0]


def read_jump(text: str, strict: bool = False) -> Jump:
    """Read the hops of ``-J`` or ProxyJump. *strict*, for the command line: names that a shell would misread are refused."""
    if ascii_lower(text) == "none":
        return Jump("none")
    text = text.partition("#")[0].rstrip(" \t\n\v\f\r")
    if any(char in WHITESPACE for char in text):
        raise ConfigValueError(f"{text!r}: hops are separated by commas, without blanks")
    extra, comma, last = text.rpartition(",")
    for hop in text.split(","):
        user, host, _ = read_hop(hop)
        if strict and not (numbers.valid_host(host) and numbers.valid_user(user or "")):
            raise ConfigValueError(f"{hop!r}: invalid characters in the name of a hop")
    user, host, port = read_hop(last)
    return Jump(host, user, port, extra if comma else None)
