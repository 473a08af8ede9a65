"""Commands of the library on a host that has been asked for nothing else: over plain SSH, without waiting for a Python there.

A text for ``/bin/sh`` goes out as one line for the login shell, whichever that is. ``/bin/sh`` first writes a marker to both
streams: what came earlier, from the shell's start-up files, is no output of the command. The marker on stderr has the number of
the process, which is that of its process group as well, so that another session can kill the group: sshd passes no signal on to
a root login. Without a marker the command has not run; Python then runs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pmitogen.protocol.operations import Op

if TYPE_CHECKING:
    from pmitogen.protocol.requests import RequestHeader

MAX_TEXT = 8 << 10  # bytes of a command; a longer one goes to the agent
MAX_COUNT = 16  # of a host, after which its Python is started: a command then costs less
MAX_RUNNING = 4  # of a host at once; sshd allows ten sessions by default
EARLIER_OUTPUT = 4 << 10  # bytes before the marker that are searched for it
_UNSAFE = frozenset(b"'\\!")  # what csh or fish do not take as it is between single quotes
_LINE = re.compile(r"exec /bin/sh -c 'echo (PMITOGEN-[0-9a-f]+) run; echo \1 run \$\$ >&2; (.*)'", re.S)
_ENCODED = 'exec /bin/sh -c "$(printf %b "$0")"'


def text_of(header: Mapping[str, Any]) -> str | None:
    """The text for ``/bin/sh`` that a request consists of; None if it is no simple command."""
    argv: Sequence[str] = header.get("argv") or ()
    is_text = len(argv) == 3 and list(argv[:2]) == ["/bin/sh", "-c"]
    if not is_text or len(argv[2]) > MAX_TEXT or any(header.get(name) for name in ("env", "cwd", "tty", "more", "become")):
        return None
    return str(argv[2])


class FirstCommands:
    """Counts the simple commands of one host."""

    def __init__(self) -> None:
        self._count = 0

    def check(self, header: RequestHeader, needs_python: bool, pending: int) -> None:
        """Make a simple command wait for Python after all, if that serves it better.

        :param needs_python: another request has needed it.
        :param pending: the number of requests without a final answer.
        """
        if header.get("simple") and header["op"] == Op.EXEC:
            self._count += 1
            if needs_python or self._count > MAX_COUNT or pending >= MAX_RUNNING:
                del header["simple"]


def line(token: str, text: str) -> str:
    """The line for the login shell.

    :param text: characters are bytes, as in a frame.
    """
    raw = text.encode("latin-1")
    mark = f"PMITOGEN-{token} run"
    begin = f"echo {mark}; echo {mark} $$ >&2; "
    if not set(raw) & _UNSAFE and all(32 <= byte < 127 for byte in raw):
        return f"exec /bin/sh -c '{begin}{text}'"
    return f"exec /bin/sh -c '{begin}{_ENCODED}' '{''.join(f'{chr(92)}0{byte:03o}' for byte in raw)}'"


def parse(command: str) -> tuple[str, str] | None:
    """Marker and text of a :func:`line`; None if it is none. For servers that simulate a shell."""
    match = _LINE.fullmatch(command)
    if match is None:
        return None
    script, _, encoded = match[2].partition("' '")
    if script == _ENCODED:
        script = bytes(int(digits, 8) for digits in re.findall(r"\\0(\d{3})", encoded)).decode("utf-8", "surrogateescape")
    return f"{match[1]} run", script


def kill_line(process: int) -> str:
    """A line that sends SIGTERM to a process group, and SIGKILL two seconds later; it does not wait for that."""
    later = f"(sleep 2; kill -KILL -{process}) </dev/null >/dev/null 2>&1 &"
    return f"exec /bin/sh -c 'kill -TERM -{process} 2>/dev/null && {later}'"


class Started:
    """Removes what came before the markers, and learns the number of the process from them."""

    def __init__(self, token: str) -> None:
        mark = f"PMITOGEN-{token} run".encode()
        self._marks = mark + b"\n", mark + b" "
        self._earlier = [b"", b""]
        self._found = [False, False]
        self.process: int | None = None

    @property
    def has_no_process(self) -> bool:
        """True if the marker named no process that could be killed."""
        return self._found[1] and self.process is None

    @property
    def has_run(self) -> bool:
        """True if the command has been started."""
        return self._found[0]

    def output(self, number: int, data: bytes) -> bytes:
        """The command's own part of *data*, which came on a stream (0 or 1)."""
        if self._found[number]:
            return data
        data = self._earlier[number] + data
        mark = self._marks[number]
        begin = data.find(mark)
        end = data.find(b"\n", begin + len(mark) - 1) if begin >= 0 else -1
        if end < 0:
            self._earlier[number] = data[-EARLIER_OUTPUT:]
            return b""
        self._found[number] = True
        digits = data[begin + len(mark) : end]
        if number == 1 and len(digits) <= 10 and digits.isdigit() and int(digits) > 1:
            self.process = int(digits)
        return data[end + 1 :]
