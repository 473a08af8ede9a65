"""Secrets that a prompt asks for, from the request to the answer.

A secret is named by the number of its step and its kind.

NOTE: runs on the target.
"""

from __future__ import absolute_import

MYPY = False
if MYPY:
    from typing import Dict, Optional, Set, Tuple  # noqa: F401
    from pmitogen.become.types import Secret  # noqa: F401


class SecretRequests(object):
    """The secrets of one escalation. ``wanted`` is the secret that the unfinished line asks for now, or None."""

    def __init__(self):
        # type: () -> None
        self.wanted = None  # type: Optional[Tuple[int, str]]
        self._requested = set()  # type: Set[Tuple[int, str]]
        self._given = {}  # type: Dict[Tuple[int, str], Secret]

    def take_request(self):
        # type: () -> Optional[Tuple[int, str]]
        """Return the wanted secret's name if it was not requested before, else None."""
        if self.wanted is None or self.wanted in self._requested:
            return None
        self._requested.add(self.wanted)
        return self.wanted

    def add_secret(self, name, secret):
        # type: (Tuple[int, str], Secret) -> None
        """Store a secret until it is taken. A secret that was not requested is ignored."""
        if name in self._requested:
            self._given[name] = secret

    def can_answer(self):
        # type: () -> bool
        """True if the wanted secret was given."""
        return self.wanted in self._given

    def take(self):
        # type: () -> Tuple[int, str, Secret]
        """Remove the wanted secret and return its step, its kind and the secret."""
        assert self.wanted is not None
        step, kind = self.wanted
        self.wanted = None
        return step, kind, self._given.pop((step, kind))

    def clear(self):
        # type: () -> None
        """Discard all secrets that were given and not taken."""
        self.wanted = None
        self._given.clear()
