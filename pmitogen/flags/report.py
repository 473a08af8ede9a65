"""What becomes of each word that was given, and which words contradict one another."""

from __future__ import annotations

from collections.abc import Iterator

from pmitogen.flags.options import Given
from pmitogen.flags.resolution import Resolution
from pmitogen.flags.settings import Finding, Verdict
from pmitogen.flags.ssh_flags import FLAGS


def findings(found: Resolution, native: bool = False) -> Iterator[Finding]:
    """All findings on one destination. *native*: its ProxyCommand has become a jump."""
    for given in found.options.given:
        finding = _judge(found, given, native)
        if finding is not None:
            yield finding


def _judge(found: Resolution, given: Given, native: bool) -> Finding | None:
    row = given.row
    if row is None:
        return None
    return Finding(given.option, given.origin.place, row.verdict, row.effect)


_ = (FLAGS, Verdict)
