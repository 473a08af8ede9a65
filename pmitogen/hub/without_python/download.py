"""A file that the library reads, by ``cat`` in a session, while Python is not needed otherwise.

Python serves what ``cat`` cannot: it names the error exactly, and reads devices. So a failure counts only once the client has
got a part of the file. An output without the marker is none of ``cat``: a forced command has run instead, or a terminal or
filter has changed it.
"""

from __future__ import annotations

from pmitogen.errors import RemoteError
from pmitogen.hub.requests import error_frame
from pmitogen.hub.without_python.simple_request import SimpleRequest
from pmitogen.util.peer_text import escape

MAX_MESSAGE = 2048  # bytes of the text on stderr that are stored for a message


class Download(SimpleRequest):
    """One file. Methods are for the I/O thread."""

    _is_exact = True
    _messages = b""
    _has_begun = False  # the client has a part of the file

    def _send_output(self) -> None:
        self._messages = (self._messages + b"".join(self._output[1]))[-MAX_MESSAGE:]
        self._output[1].clear()
        self._has_begun = True
        super()._send_output()

    def _has_failed(self, code: int) -> bool:
        return not self._started.has_stdout or code != 0 and not self._has_begun

    def _report(self, code: int) -> None:
        self._send_output()
        if code == 0 and not self._is_cancelled:
            self._send({"op": "ok"})
            return
        reason = "cancelled" if self._is_cancelled else escape(self._messages, keep_end=True) or f"cat: status {code}"
        self._send(error_frame(RemoteError(f"{self._request.header.get('label', 'reading')}: {reason}")))
