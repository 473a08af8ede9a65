"""What can go wrong between two peers, and which exception stands for which kind of failure."""

from __future__ import annotations


class ProtocolError(Exception):
    """A peer sent what the protocol does not allow. The connection to it is of no more use.

    The text says what was wrong, in one line that is safe to show.
    """
