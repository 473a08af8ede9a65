"""The wording of the end of a connection: pmitogen/transport/paramiko_ext/transport.py."""

from __future__ import annotations

import pytest
from paramiko import SSHException

from pmitogen.transport.keys.wire import DecodeError
from pmitogen.transport.paramiko_ext.transport import _error_text


@pytest.mark.parametrize("error", [None, EOFError(), ConnectionResetError(104, "Connection reset by peer"), BrokenPipeError()])
def test_a_connection_closed_by_the_server_is_reported_so(error: BaseException | None) -> None:
    assert _error_text(error) == "the server closed the connection"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(110, "Connection timed out"), "Connection timed out"),
        (SSHException("odd \x1b[2J"), "odd \\033[2J"),
        (ValueError("odd"), "the server sent a malformed message (ValueError: odd)"),
        (IndexError(), "the server sent a malformed message (IndexError)"),
        (DecodeError("4 bytes wanted"), "the server sent a malformed message (4 bytes wanted)"),
    ],
)
def test_each_other_end_has_its_reason(error: BaseException, text: str) -> None:
    assert _error_text(error) == text
