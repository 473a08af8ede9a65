"""The line of output in which a command on a host without Python tells its process. No other byte of the output changes.

Unlike the markers of simple_commands.py it does not tell where the output begins: what start-up files write stays, as with ssh.
"""

from __future__ import annotations

import re

_REST = re.compile(rb"([0-9]{1,10})\r{0,3}\n")  # a terminal writes CR before LF
_UNFINISHED = re.compile(rb"[0-9]{0,10}\r{0,3}")


class ProcessLine:
    """Takes the line out of the output. It comes on stderr, or where that is redirected or a terminal, on stdout."""

    def __init__(self, token: str) -> None:
        self._mark = f"PMITOGEN-{token} run ".encode()
        self._held = [b"", b""]  # of each stream, what may be the beginning of the line
        self.has_come = False
        self.process: int | None = None

    def output(self, stream: int, data: bytes) -> bytes:
        """Return *data*, which came on a stream (0 or 1), without the line. What may be its beginning is held back."""
        data, self._held[stream] = self.rest(stream) + data, b""
        begin = -1 if self.has_come else data.find(self._mark)
        while begin >= 0:
            end = begin + len(self._mark)
            match = _REST.match(data, end)
            if match is not None:
                self.has_come = True
                self.process = int(match[1]) if int(match[1]) > 1 else None
                return data[:begin] + data[match.end() :]
            if _UNFINISHED.fullmatch(data, end):
                return self._hold(stream, data, begin)
            begin = data.find(self._mark, end)  # this one was an echo of the command, as by set -v
        if self.has_come:
            return data
        for begin in range(max(0, len(data) - len(self._mark) + 1), len(data)):
            if self._mark.startswith(data[begin:]):
                return self._hold(stream, data, begin)
        return data

    def _hold(self, stream: int, data: bytes, begin: int) -> bytes:
        self._held[stream] = data[begin:]
        return data[:begin]

    def rest(self, stream: int) -> bytes:
        """Return what is held back of a stream, and hold it no longer."""
        held, self._held[stream] = self._held[stream], b""
        return held
