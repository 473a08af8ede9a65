"""Arguments of the library's calls, checked by type on the caller's thread.

A wrong type is a TypeError, as Python's own functions raise it: ``run: cwd: expected str, bytes or os.PathLike, not int``. What
subprocess accepts is accepted: paths as str, bytes or os.PathLike, input as str or bytes, environment values as either.
"""

from __future__ import annotations

import io
import math
import os
import stat
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, NoReturn, cast

from pmitogen.errors import UsageError
from pmitogen.protocol.framing import to_wire

AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Argument = str | bytes | os.PathLike[str] | os.PathLike[bytes]
SHORTEST = 0.001  # seconds
_DEVNULL = -3  # subprocess.DEVNULL; that module is not imported for it alone
Command = str | bytes | Sequence[Argument]


def wrong(label: str, expected: str, value: object) -> NoReturn:
    """Raise the TypeError for a value of the wrong type. The value itself, which may be secret, is not in it."""
    raise TypeError(f"{label}: expected {expected}, not {type(value).__name__}")


def wire_path(value: AnyPath, label: str) -> str:
    """Return a path on the host as the protocol sends it. Raises TypeError, UsageError."""
    path = wire_argument(value, label)
    if not path:
        raise UsageError(f"{label}: empty path")
    return path


def wire_argument(value: Argument, label: str) -> str:
    """Return an argument or path as the protocol sends it. Raises TypeError, UsageError."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, (str, bytes)):
        wrong(label, "str, bytes or os.PathLike", value)
    try:
        text = to_wire(value)
    except UnicodeEncodeError:
        raise UsageError(f"{label}: cannot be encoded as UTF-8") from None
    if "\0" in text:
        raise UsageError(f"{label}: contains a NUL character")
    return text


def local_path(value: str | bytes | os.PathLike[str] | os.PathLike[bytes], label: str) -> str:
    """Return a path on this machine as text. Raises TypeError, UsageError."""
    if not isinstance(value, (str, bytes, os.PathLike)):
        wrong(label, "str, bytes or os.PathLike", value)
    return text(os.fsdecode(value), label)


def display_text(value: object) -> str:
    """Return a path or name as text, for messages."""
    return os.fsdecode(value) if isinstance(value, (str, bytes, os.PathLike)) else str(value)


def wire_command(command: Command, label: str) -> list[str]:
    """Return the argument vector of a command: a text is for ``/bin/sh``. Raises TypeError, UsageError."""
    if isinstance(command, (str, bytes)):
        return ["/bin/sh", "-c", wire_argument(command, f"{label}: command")]
    if isinstance(command, os.PathLike) or not isinstance(command, Iterable) or isinstance(command, Mapping):
        wrong(f"{label}: command", "str, bytes or a sequence of arguments", command)
    argv = [wire_argument(argument, f"{label}: argument {index}") for index, argument in enumerate(command)]
    if not argv or not argv[0]:
        raise UsageError(f"{label}: empty command")
    return argv


def wire_env(env: Mapping[str, str] | Mapping[bytes, bytes] | None, label: str) -> dict[str, str]:
    """Return variables as the protocol sends them. Raises TypeError, UsageError."""
    if env is None:
        return {}
    if not isinstance(env, Mapping):
        wrong(f"{label}: env", "a mapping of str to str", env)
    variables = {}
    for name, value in cast(Mapping[Any, Any], env).items():
        wire_name = wire_argument(name, f"{label}: env: a name")
        if not wire_name or "=" in wire_name:
            raise UsageError(f"{label}: env: {display_text(name)!r}: invalid name of a variable")
        variables[wire_name] = wire_argument(value, f"{label}: env: {display_text(name)}")
    return variables


def seconds(value: float | None, label: str) -> float | None:
    """Check a duration and return it; None: no limit. Raises TypeError, UsageError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        wrong(label, "seconds as int or float, or None", value)
    if isinstance(value, float) and math.isnan(value) or value < 0:
        raise UsageError(f"{label}: {value}: expected seconds, 0 or more")
    return None if value > threading.TIMEOUT_MAX else float(value)


def time_limit(value: float | None, label: str) -> float | None:
    """Check a duration for code to which 0 means no limit, while the caller's 0 means no time. Raises TypeError, UsageError."""
    limit = seconds(value, label)
    return None if limit is None else max(limit, SHORTEST)


def flag(value: bool, label: str) -> bool:
    """Check that *value* is True or False, and return it. Raises TypeError."""
    if not isinstance(value, bool):
        wrong(label, "bool", value)
    return value


def integer(value: int, label: str, minimum: int, maximum: int) -> int:
    """Check that *value* is a whole number within the bounds, and return it. Raises TypeError, UsageError."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        wrong(label, "int", value)
    integer = value.__index__()
    if not minimum <= integer <= maximum:
        raise UsageError(f"{label}: {integer}: expected {minimum} to {maximum}")
    return integer


def text(value: str, label: str) -> str:
    """Check that *value* is a text that is not empty, and return it. Raises TypeError, UsageError."""
    if not isinstance(value, str):
        wrong(label, "str", value)
    if not value or "\0" in value:
        raise UsageError(f"{label}: {'contains a NUL character' if value else 'empty text'}")
    return _encodable(value, label)


def optional_text(value: str | None, label: str) -> str | None:
    """Check that *value* is a text or None, and return it. Raises TypeError, UsageError."""
    if value is None:
        return None
    if not isinstance(value, str):
        wrong(label, "str or None", value)
    if "\0" in value:
        raise UsageError(f"{label}: contains a NUL character")
    return _encodable(value, label)


def _encodable(value: str, label: str) -> str:
    """Check that *value* can be encoded, as bytes that are not UTF-8 can, too: the hub does that on threads of its own."""
    try:
        to_wire(value)
    except UnicodeEncodeError:
        raise UsageError(f"{label}: cannot be encoded as UTF-8") from None
    return value


def secret(value: str | bytes | None, label: str) -> str | None:
    """Return a secret as text. Raises TypeError, UsageError; neither shows it."""
    if value is None:
        return None
    if isinstance(value, str):
        return _encodable(value, label)
    if not isinstance(value, bytes):
        wrong(label, "str, bytes or None", value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{label}: not valid UTF-8") from None


def function(value: object, label: str) -> None:
    """Check a function of the caller's, or None. Raises TypeError."""
    if value is not None and not callable(value):
        wrong(label, "a function", value)


def strings(value: Sequence[Argument], label: str) -> list[str]:
    """Return the arguments of a local command line as text. Raises TypeError, UsageError."""
    if isinstance(value, (str, bytes, os.PathLike)) or not isinstance(value, Iterable):
        wrong(label, "a sequence of arguments (shlex.split makes one of a text)", value)
    texts = []
    for place, argument in enumerate(value):
        if not isinstance(argument, (str, bytes, os.PathLike)):
            wrong(f"{label}: argument {place}", "str, bytes or os.PathLike", argument)
        texts.append(_encodable(os.fsdecode(argument), f"{label}: argument {place}"))
    return texts


def is_stream(value: object, method: str) -> bool:
    """Return True if *value* has this *method* of an open file."""
    return callable(getattr(value, method, None))


def source(value: Any, label: str, encoding: str | None = None) -> bytes | IO[Any]:
    """Return the input of a command: bytes, text (encoded), or an open file. Raises TypeError, UsageError."""
    if value is None or isinstance(value, int) and value == _DEVNULL:
        return b""
    if isinstance(value, str):
        try:
            return value.encode(encoding or "utf-8")
        except (UnicodeEncodeError, LookupError) as exc:
            raise UsageError(f"{label}: {exc}") from None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, int) or not is_stream(value, "read"):
        wrong(label, "bytes, str or an open file", value)
    return cast("IO[Any]", value)


def read_piece(stream: IO[Any], size: int, encoding: str | None = None) -> bytes:
    """Read from an open binary or text file. Empty: its end. Raises TypeError, and exceptions of the file."""
    waits: object = stream
    if isinstance(waits, io.TextIOBase) and not isinstance(waits, io.StringIO):
        piece: Any = waits.readline(size)  # a terminal's read() would wait for more than a line
    else:
        piece = getattr(stream, "read1", stream.read)(size)
    if piece is None:  # nothing there now, in a stream that does not block
        raise BlockingIOError("input: the stream is non-blocking and has no data")
    if isinstance(piece, str):
        return piece.encode(encoding or getattr(stream, "encoding", None) or "utf-8")
    if not isinstance(piece, (bytes, bytearray, memoryview)):
        wrong("input: the result of its read()", "bytes or str", piece)
    return bytes(piece)


def reads_at_once(stream: object) -> bool:
    """Return True if reading never blocks: memory, or a regular file."""
    if isinstance(stream, (io.BytesIO, io.StringIO)):
        return True
    try:
        return stat.S_ISREG(os.fstat(cast(Any, stream).fileno()).st_mode)
    except (OSError, AttributeError, TypeError, ValueError):
        return False
