"""Words of a command line that make no command."""

from __future__ import annotations

from pmitogen.errors import UsageError


class WrongWords(UsageError):
    """The command line itself is wrong, not what it asks for: exit code 2."""
