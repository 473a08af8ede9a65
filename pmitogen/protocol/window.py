"""The window of one direction of a request: how much may be under way before the receiver has consumed some of it.

Sender and receiver both count. The sender stops while ``CREDIT_WINDOW`` bytes are under way; the receiver returns credit for
what it has consumed. A peer that sends more than the window, or returns more credit than it was sent, breaks the protocol.
"""

from __future__ import annotations

from pmitogen.protocol.errors import ProtocolError
from pmitogen.protocol.limits import CREDIT_WINDOW, WINDOW_SLACK


class Window:
    """Bytes under way."""

    __slots__ = ("under_way",)

    def __init__(self) -> None:
        self.under_way = 0

    def add(self, count: int) -> None:
        """Count *count* bytes that were sent. Raises ProtocolError if they exceed the window."""
        self.under_way += count
        if self.under_way > CREDIT_WINDOW + WINDOW_SLACK:
            raise ProtocolError(f"{self.under_way} bytes without credit for them; the window is {CREDIT_WINDOW}")

    def remove(self, count: int) -> None:
        """Count *count* bytes that were consumed. Raises ProtocolError if fewer are under way."""
        if count > self.under_way:
            raise ProtocolError(f"credit of {count} bytes where {self.under_way} are under way")
        self.under_way -= count
