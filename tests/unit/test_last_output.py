"""The last output of a start of Python that has failed, in messages."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pmitogen.hub import bootstrap


def test_a_marker_of_the_start_is_no_output() -> None:
    stream: Any = SimpleNamespace(stderr_tail=b"", preamble=b"hello\nPMITOGEN-00ff sh\n")
    assert bootstrap.last_output(stream) == ": hello"
    stream.preamble = b"PMITOGEN-00ff sh\n"
    assert bootstrap.last_output(stream) == ""
