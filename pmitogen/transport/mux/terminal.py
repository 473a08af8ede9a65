"""The local terminal: its modes and size for the server (RFC 4254 section 8), and raw mode while a session runs."""

from __future__ import annotations

import contextlib
import os
import termios
import tty
from collections.abc import Iterator

from pmitogen.transport.sessions.exec_command import Terminal

# Opcodes of RFC 4254 section 8, by the name in termios.
_CHARACTERS = {
    "VINTR": 1, "VQUIT": 2, "VERASE": 3, "VKILL": 4, "VEOF": 5, "VEOL": 6, "VEOL2": 7, "VSTART": 8, "VSTOP": 9, "VSUSP": 10,
    "VREPRINT": 12, "VWERASE": 13, "VLNEXT": 14, "VDISCARD": 18,
}  # fmt: skip
_INPUT, _OUTPUT, _CONTROL, _LOCAL = range(4)  # indexes into the result of tcgetattr
_BITS = {
    _INPUT: {
        "IGNPAR": 30, "PARMRK": 31, "INPCK": 32, "ISTRIP": 33, "INLCR": 34, "IGNCR": 35, "ICRNL": 36, "IUCLC": 37, "IXON": 38,
        "IXANY": 39, "IXOFF": 40, "IMAXBEL": 41, "IUTF8": 42,
    },
    _LOCAL: {
        "ISIG": 50, "ICANON": 51, "XCASE": 52, "ECHO": 53, "ECHOE": 54, "ECHOK": 55, "ECHONL": 56, "NOFLSH": 57, "TOSTOP": 58,
        "IEXTEN": 59, "ECHOCTL": 60, "ECHOKE": 61, "PENDIN": 62,
    },
    _OUTPUT: {"OPOST": 70, "OLCUC": 71, "ONLCR": 72, "OCRNL": 73, "ONOCR": 74, "ONLRET": 75},
    _CONTROL: {"CS7": 90, "CS8": 91, "PARENB": 92, "PARODD": 93},
}  # fmt: skip
_IUTF8 = 0o040000  # Linux; not in Python's termios
_ISPEED, _OSPEED = 128, 129  # opcodes of the line speeds, in bits per second
_DISABLED = 255  # RFC 4254: this character is disabled
DEFAULT_SIZE = (80, 24)  # columns and rows without a local terminal


def window_size(descriptor: int) -> tuple[int, int]:
    """Return columns and rows of the terminal on *descriptor*; DEFAULT_SIZE if it is not a terminal."""
    try:
        size = os.get_terminal_size(descriptor)
    except OSError:
        return DEFAULT_SIZE
    return (size.columns, size.lines) if size.columns and size.lines else DEFAULT_SIZE


def terminal_for(descriptor: int, term: str) -> Terminal:
    """Return the terminal to request, like the one on *descriptor*. *term*: the value of TERM."""
    columns, rows = window_size(descriptor)
    return Terminal(term, columns, rows, _modes(descriptor))


def _modes(descriptor: int) -> tuple[tuple[int, int], ...]:
    try:
        attributes = termios.tcgetattr(descriptor)
    except termios.error:
        return ()
    modes = [(_OSPEED, _speed(attributes[5])), (_ISPEED, _speed(attributes[4]))]
    for name, opcode in _CHARACTERS.items():
        index = getattr(termios, name, None)
        if index is not None:
            value = attributes[6][index]
            code = value[0] if isinstance(value, bytes) else value
            modes.append((opcode, code or _DISABLED))
    for index, bits in _BITS.items():
        for name, opcode in bits.items():
            mask = _IUTF8 if name == "IUTF8" else getattr(termios, name, None)
            if mask is not None:
                modes.append((opcode, int(attributes[index] & mask == mask)))
    return tuple(modes)


def _speed(code: int) -> int:
    """Return the bits per second of a speed constant such as ``termios.B38400``."""
    for name in dir(termios):
        if name.startswith("B") and name[1:].isdigit() and getattr(termios, name) == code:
            return int(name[1:])
    return 38400


class RawTerminal:
    """Raw mode of the terminal on *descriptor*. Any thread. The mode outlives the process, so call :meth:`leave` at the end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._saved: list[object] | None = None

    def enter(self) -> None:
        """Pass every character to the session as typed."""
        with contextlib.suppress(termios.error):
            if self._saved is None:
                self._saved = termios.tcgetattr(self._descriptor)
            tty.setraw(self._descriptor, termios.TCSADRAIN)

    def leave(self) -> None:
        """Restore the modes from before :meth:`enter`. Idempotent."""
        saved, self._saved = self._saved, None
        if saved is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, saved)  # type: ignore[arg-type]


@contextlib.contextmanager
def raw(descriptor: int) -> Iterator[RawTerminal]:
    """Set raw mode during the body."""
    terminal = RawTerminal(descriptor)
    terminal.enter()
    try:
        yield terminal
    finally:
        terminal.leave()
