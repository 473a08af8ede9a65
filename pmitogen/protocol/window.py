"""The window of one direction of a request: how much may be under way before the receiver has consumed some of it.

Sender and receiver both count. The sender stops while ``CREDIT_WINDOW`` bytes are under way. The receiver returns credit for
consumed bytes. A peer that sends more than the window, or returns more credit than it was sent, breaks the protocol.
"""

from __future__ import annotations

from pmitogen.protocol.error_kinds import ProtocolError
from pmitogen.protocol.limits import CREDIT_WINDOW, FRAME_COST, WINDOW_SLACK


class Window:
    """Bytes under way."""

    __slots__ = ("_frames", "under_way")

    def __init__(self) -> None:
        self.under_way = 0
        self._frames = 0

    @property
    def cost(self) -> int:
        """Return the memory that the bytes in transit take."""
        return self.under_way + FRAME_COST * self._frames

    def add(self, count: int) -> None:
        """Count *count* bytes that were sent. Raises ProtocolError if they exceed the window."""
        self.under_way += count
        self._frames += 1
        if self.under_way > CREDIT_WINDOW + WINDOW_SLACK:
            raise ProtocolError(f"{self.under_way} bytes without credit for them; the window is {CREDIT_WINDOW}")

    def remove(self, count: int) -> None:
        """Count *count* bytes that were consumed. Raises ProtocolError if fewer are under way."""
        if count > self.under_way:
            raise ProtocolError(f"credit of {count} bytes where {self.under_way} are under way")
        self.under_way -= count
        self._frames = max(0, self._frames - 1) if self.under_way else 0
