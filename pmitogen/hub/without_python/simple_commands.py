"""Commands of the library on a host where Python is not needed otherwise: each in its own session, without starting Python.

Files are read the same way (download.py): ``cat`` takes a third of the processor time of both ends.

A text for ``/bin/sh``, or a program that ``/bin/sh`` executes, is sent as one line that any login shell understands.
``/bin/sh`` first writes a marker to both streams: output before it, from the shell's start-up files, does not belong to the
command. A newline precedes the marker, because that output may end within a line. The marker on stderr contains the pid, which
is also the ID of its process group. So another session can kill the group: sshd sends no signal in a root login. Without a
marker the command has not run; Python then runs it. Python also runs a program that ``/bin/sh`` cannot execute, so that the
error message is the same as that of other commands.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pmitogen.protocol.operations import Op

if TYPE_CHECKING:
    from pmitogen.protocol.requests import RequestHeader

MAX_TEXT = 8 << 10  # bytes of a command; a longer one goes to the agent
MIN_COUNT, MAX_COUNT = 4, 16  # of one host among one, and among many, at which its Python is started
MAX_RUNNING = 4  # of a host at once; sshd allows ten sessions by default
EARLIER_OUTPUT = 4 << 10  # bytes before the marker that are searched for it
_UNSAFE = frozenset(b"'\\!")  # what csh or fish do not take as it is between single quotes
_LINE = re.compile(r"""exec /bin/sh -c 'printf "\\n(PMITOGEN-[0-9a-f]+) run \$\$\\n" >&2; printf "\\n\1 run\\n"; (.*)'""", re.S)
_TELLING = re.compile(r"""exec /bin/sh -c 'printf "PMITOGEN-%s run %s\\n" ([0-9a-f]+) \$\$ >&2; (.*)'""", re.S)
_MARK_END = re.compile(rb"(?: ([0-9]{1,10}))?\r*\n")  # after the mark: to compile a pattern for each mark would take 0.2 ms
_EXEC = re.compile(r'^trap "echo PMITOGEN-[0-9a-f]+ failed" EXIT; exec ')
_OR_EXIT = " || exit 1; "
# The dot keeps the newlines at the end, which the shell removes from the output of a command.
_ENCODED = 'PMITOGEN=$(printf %b "$0."); exec /bin/sh -c "${PMITOGEN%.}"'


class Text(NamedTuple):
    """A text for ``/bin/sh``, or if *executes*, a quoted command line that it executes. Characters are bytes."""

    text: str
    executes: bool = False


def text_of(header: RequestHeader) -> Text | None:
    """Return the text for ``/bin/sh`` of a request; None if it is not a simple command."""
    if header["op"] == Op.GET:
        return _reading_text(header["path"])
    argv: Sequence[str] = header.get("argv") or ()
    if any(header.get(name) for name in ("env", "cwd", "tty", "more", "become")):
        return None
    if len(argv) == 3 and list(argv[:2]) == ["/bin/sh", "-c"]:
        text = Text(argv[2])
    elif not argv or argv[0][:1] in ("", "-") or header.get("stream_output"):  # the account's shell; an option of exec
        return None
    else:
        text = Text(shlex.join(argv), executes=True)
    return text if len(text.text) <= MAX_TEXT else None


def _reading_text(path: str) -> Text | None:
    """Return the text that writes a regular file to stdout. Only Python expands a ``~``."""
    quoted = shlex.quote(path if path.startswith("/") else f"./{path}")
    return None if path.startswith("~") or len(quoted) > MAX_TEXT // 4 else Text(f"test -f {quoted} && exec cat {quoted}")


class FirstCommands:
    """Counts the simple commands of one host."""

    def __init__(self) -> None:
        self._count = 0
        self._is_asked = False

    def check(self, header: RequestHeader, has_python: bool, pending: int) -> None:
        """Make a simple command wait for Python after all, if that serves it better.

        :param has_python: Python is up, or another request has needed it.
        :param pending: the number of requests without a final answer.
        """
        if header.get("simple") and header["op"] in (Op.EXEC, Op.GET):
            self._count += 1
            if has_python or pending >= MAX_RUNNING:
                del header["simple"]

    def are_many(self, host_count: int) -> bool:
        """Return True once if Python should be started, so that further commands cost less.

        The start takes as much processor time of the host as some twenty commands. One of many hosts probably gets few.
        """
        if self._is_asked or self._count < min(MAX_COUNT, MIN_COUNT - 1 + host_count):
            return False
        self._is_asked = True
        return True


def line(token: str, command: Text) -> str:
    """Return the line for the login shell."""
    text = command.text
    if command.executes:  # if that fails, the shell ends, and says so
        text = f'trap "echo PMITOGEN-{token} failed" EXIT; exec {text}'
    mark = f"PMITOGEN-{token} run"
    # One write each: sshd sends a packet for each that it sees.
    return _line(f'printf "\\n{mark} $$\\n" >&2; printf "\\n{mark}\\n"; ', text)


def telling_line(token: str, command: str, directory: str | None) -> str:
    """Return a line for the login shell that first writes its process to stderr, and then becomes the quoted *command*.

    ``set -x`` prints the words of ``printf`` apart from each other, so that this is not taken for the line.
    """
    text = f"exec {command}"
    if directory:
        text = f"cd {shlex.quote(directory)}{_OR_EXIT}{text}"
    return _line(f'printf "PMITOGEN-%s run %s\\n" {token} $$ >&2; ', text)


def _line(begin: str, text: str) -> str:
    raw = text.encode("latin-1")
    if not set(raw) & _UNSAFE and all(32 <= byte < 127 for byte in raw):
        return f"exec /bin/sh -c '{begin}{text}'"
    return f"exec /bin/sh -c '{begin}{_ENCODED}' '{''.join(f'{chr(92)}0{byte:03o}' for byte in raw)}'"


def parse(command: str) -> tuple[str, str] | None:
    """Return the marker and the text of a :func:`line`; None for any other command. For servers that simulate a shell."""
    match = _LINE.fullmatch(command)
    if match is None:
        return None
    return f"{match[1]} run", re.sub(_EXEC, "", _decoded(match[2]))


def parse_telling(command: str) -> tuple[str, str] | None:
    """Return the mark of a :func:`telling_line`, and its command as it is without that; None for any other command."""
    match = _TELLING.fullmatch(command)
    if match is None:
        return None
    text = _decoded(match[2])
    directory, found, rest = text.partition(_OR_EXIT) if text.startswith("cd ") else ("", "", text)
    return f"PMITOGEN-{match[1]} run", (f"{directory} && " if found else "") + rest.removeprefix("exec ")


def _decoded(script: str) -> str:
    script, _, encoded = script.partition("' '")
    if script != _ENCODED:
        return script
    return bytes(int(digits, 8) for digits in re.findall(r"\\0(\d{3})", encoded)).decode("utf-8", "surrogateescape")


def kill_line(process: int, has_terminal: bool = False) -> str:
    """Return a line that sends SIGTERM to a process group, and SIGKILL two seconds later, without waiting for that.

    With a terminal also SIGHUP, as when it is closed: an interactive shell ignores SIGTERM, and ends its jobs at a hang-up.
    """
    hang_up = f"kill -HUP -{process} 2>/dev/null; " if has_terminal else ""
    later = f"(sleep 2; kill -KILL -{process}) </dev/null >/dev/null 2>&1 &"
    return f"exec /bin/sh -c 'kill -TERM -{process} 2>/dev/null && {{ {hang_up}{later} }}'"


def signal_line(process: int, name: str) -> str:
    """Return a line that sends a signal to a process group. *name*: without SIG, or a number."""
    return f"exec /bin/sh -c 'kill -{name} -{process} 2>/dev/null'"


def parse_signal(command: str) -> int | None:
    """Return the process group of a :func:`kill_line` or :func:`signal_line`; None for any other command."""
    match = re.match(r"exec /bin/sh -c 'kill -([A-Z0-9]+) -([0-9]{1,10}) ", command)
    if match is None:
        return None
    group = int(match[2])
    return group if command in (kill_line(group), kill_line(group, True), signal_line(group, match[1])) else None


class Started:
    """Removes the output before the markers, and reads the pid from them.

    A marker is a whole line. If both streams are one (``exec 2>&1`` in a start-up file), the marker of stderr comes first on
    stdout.

    :param is_exact: a marker counts only if nothing on the way has changed it, as a terminal does that writes CR before LF.
    """

    def __init__(self, token: str, is_exact: bool = False) -> None:
        self._is_exact = is_exact
        self._mark = f"PMITOGEN-{token} run".encode()
        self._failed = f"PMITOGEN-{token} failed\n".encode()
        self._earlier = [b"", b""]
        self._found = [False, False]
        self._is_silent = True
        self.process: int | None = None
        self.has_run = False  # whether the command has been started: it must not be run again

    def is_failure(self, rc: int, output: bytes) -> bool:
        """Return True if ``/bin/sh`` could not execute the program, so that nothing has run."""
        return rc in (126, 127) and output.endswith(self._failed)  # with both streams in one, the shell's message precedes it

    @property
    def has_stdout(self) -> bool:
        """True if the marker has arrived on stdout, so that what follows it is the command's output."""
        return self._found[0]

    @property
    def has_no_process(self) -> bool:
        """True if the marker named no process that could be killed."""
        return self._found[1] and self.process is None

    @property
    def may_have_run(self) -> bool:
        """True unless there was output and no marker in it: then the login shell has done something else with the line."""
        return self.has_run or self._is_silent

    def output(self, stream: int, data: bytes) -> bytes:
        """Return the part of *data*, which came on a stream (0 or 1), that is from the command."""
        self._is_silent = self._is_silent and not data
        if self._found[stream]:
            return data
        data = self._earlier[stream] + data
        end = self._find(stream, data)
        if end is None:
            self._earlier[stream] = data[-EARLIER_OUTPUT:]
            return b""
        self._earlier[stream] = b""
        return data[end:]

    def rest(self, stream: int) -> bytes:
        """Return the remaining bytes at the end of a stream whose marker has not arrived."""
        return b"" if self._found[stream] else self._earlier[stream]

    def _find(self, stream: int, data: bytes) -> int | None:
        """Return the end of the marker in *data*; None if there is none yet."""
        end = 0
        while (begin := data.find(self._mark, end)) >= 0:
            end = begin + len(self._mark)
            match = _MARK_END.match(data, end)
            if match is None or self._is_exact and b"\r" in match[0]:
                continue
            self.has_run = True
            # Whole lines only: another occurrence is an echo of the line itself, as by set -x.
            if begin and data[begin - 1 : begin] != b"\n":
                continue
            digits = match[1]
            if digits:
                self._found[1] = True
                self.process = int(digits) if int(digits) > 1 else None
            if bool(digits) == (stream == 1):
                self._found[stream] = True
                return match.end()
        return None
