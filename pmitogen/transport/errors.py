"""Errors that the hub tells apart; for users they are what their base class says."""

from __future__ import annotations

from pmitogen.errors import ConnectError


class SessionRefused(ConnectError):
    """The server allows no further session on a connection that works."""
