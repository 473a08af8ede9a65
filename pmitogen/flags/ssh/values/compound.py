"""Value types of single keywords that have several parts or notations, such as RekeyLimit and IPQoS; see base.py."""

from __future__ import annotations

import re

from pmitogen.flags.ssh.lexer import Arguments, ConfigValueError
from pmitogen.flags.ssh.openssh_version import ValueContext
from pmitogen.flags.ssh.values import numbers
from pmitogen.flags.ssh.values.base import ValueType
from pmitogen.util.patterns import ascii_lower


class RekeyLimit(ValueType):
    """Bytes, and optionally seconds: (bytes, seconds or None). Each is set by the first line that has it."""

    syntax = "SIZE|default [TIME|none]"

    def parse(self, arguments: Arguments, context: ValueContext) -> tuple[int, int | None]:
        arg = arguments.next_required()
        size = 0 if arg == "default" else numbers.scaled(arg)
        if size != 0 and size < 16:
            raise ConfigValueError(f"{arg!r} is too small: at least 16 bytes")
        interval = arguments.next()
        if interval is None or interval == "none":
            return size, None
        if not interval:
            raise ConfigValueError("missing time")
        return size, numbers.seconds(interval)

    def arguments(self, value: tuple[int, int | None]) -> list[str]:
        return [str(value[0])] if value[1] is None else [str(value[0]), str(value[1])]

    def display(self, value: tuple[int, int | None]) -> str:
        return f"{value[0]} {value[1] or 0}"

    def merge(self, old: tuple[int, int | None], new: tuple[int, int | None]) -> tuple[int, int | None]:
        return old if old[1] is not None else (old[0], new[1])


class ControlPersist(ValueType):
    """yes, no or a time; the value is in seconds, 0 for no limit, -1 for "no"."""

    syntax = "yes|no|TIME"

    def parse(self, arguments: Arguments, context: ValueContext) -> int:
        arg = arguments.next_required()
        if arg in ("no", "false"):
            return -1
        return 0 if arg in ("yes", "true") else numbers.seconds(arg)

    def arguments(self, value: int) -> list[str]:
        return ["no" if value < 0 else str(value) if value else "yes"]


class TunnelDevice(ValueType):
    """local[:remote], each a number or ``any``."""

    syntax = "LOCAL[:REMOTE]"

    def parse(self, arguments: Arguments, context: ValueContext) -> str:
        arg = arguments.next_required()
        local, colon, remote = arg.partition(":")
        return f"{self._side(local)}:{self._side(remote) if colon else 'any'}"

    def _side(self, text: str) -> str:
        if ascii_lower(text) == "any":
            return "any"
        return str(numbers.integer(text, 0, 2**31 - 4))


class Mask(ValueType):
    """StreamLocalBindMask: an octal mode."""

    syntax = "OCTAL"

    def parse(self, arguments: Arguments, context: ValueContext) -> int:
        arg = arguments.next_required()
        match = re.match(r"[ \t\n\v\f\r]*\+?([0-7]+)", arg)
        if not match or int(match.group(1), 8) > 0o777:
            raise ConfigValueError(f"invalid mask {arg!r}; use an octal mode, as in 0177")
        return int(match.group(1), 8)

    def arguments(self, value: int) -> list[str]:
        return [f"0{value:o}"]

    def merge(self, old: int, new: int) -> int:
        return new  # unlike all other keywords, the last value wins


# 0x100 is "none": the system's default. The last three are RFC 1349's, which OpenSSH 10 ignores and older ones set.
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

    def parse(self, arguments: Arguments, context: ValueContext) -> tuple[int, int]:
        first = self._class(arguments.next())
        second = arguments.next()
        return first, first if second is None else self._class(second)

    def _class(self, arg: str | None) -> int:
        known = _QOS.get(ascii_lower(arg or ""))
        try:
            if known is None and re.fullmatch(r"0[xX][0-9a-fA-F]{1,2}", arg or ""):  # accepted by OpenSSH 9
                return int(arg or "", 16)
            return numbers.integer(arg, 0, 255) if known is None else known
        except ConfigValueError:
            raise ConfigValueError(f"invalid IPQoS value {arg!r}; use a DSCP name, as in cs1, or 0 to 255") from None

    def arguments(self, value: tuple[int, int]) -> list[str]:
        names = {code: name for name, code in reversed(list(_QOS.items()))}
        return [names.get(code, str(code)) for code in value]

    def display(self, value: tuple[int, int]) -> str:
        names = {code: name for name, code in reversed(list(_QOS.items()))}
        return " ".join(names.get(code, f"0x{code:02x}") for code in value)


class AddKeys(ValueType):
    """AddKeysToAgent: yes, no, ask, confirm [TIME] or TIME; the value is (argument, seconds)."""

    syntax = "yes|no|ask|confirm [TIME]|TIME"

    def parse(self, arguments: Arguments, context: ValueContext) -> tuple[str, int]:
        first, second = arguments.next_required(), arguments.next()
        arg = {"true": "true", "yes": "true", "false": "false", "no": "false"}.get(ascii_lower(first), ascii_lower(first))
        if arg == "confirm" and second is not None:
            return arg, numbers.seconds(second)
        if second is not None:
            raise ConfigValueError(f"unsupported value {second!r} after {first!r}")
        if arg in ("true", "false", "ask", "confirm"):
            return arg, 0
        return "true", numbers.seconds(first)

    def arguments(self, value: tuple[str, int]) -> list[str]:
        arg, lifetime = value
        if not lifetime:
            return [arg]
        return ["confirm", str(lifetime)] if arg == "confirm" else [str(lifetime)]


class Keystrokes(ValueType):
    """ObscureKeystrokeTiming: the interval in milliseconds; 0 is off."""

    syntax = "yes|no|interval:MS"

    def parse(self, arguments: Arguments, context: ValueContext) -> int:
        arg = arguments.next()
        if arg is None:
            raise ConfigValueError("missing argument")
        if arg in ("yes", "true"):
            return 20
        if arg in ("no", "false"):
            return 0
        if not arg.startswith("interval:"):
            raise ConfigValueError(f"unsupported value {arg!r}; use yes, no or interval:MILLISECONDS")
        return numbers.integer(arg[9:], 1, 1000)

    def arguments(self, value: int) -> list[str]:
        return [{0: "no", 20: "yes"}.get(value, f"interval:{value}")]

    def display(self, value: int) -> str:
        return {0: "no", 20: "yes"}.get(value, str(value))
