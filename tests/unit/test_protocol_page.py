"""PROTOCOL.md is generated from the tables."""

from __future__ import annotations

from pmitogen.protocol import page
from tests.support.session import repository


def test_the_page_is_up_to_date() -> None:
    found = (repository / "pmitogen/protocol/PROTOCOL.md").read_text()
    assert found == page.render(), "run python -m pmitogen.protocol.page > pmitogen/protocol/PROTOCOL.md"
