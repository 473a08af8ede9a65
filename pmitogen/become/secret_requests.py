"""Secrets that a prompt asks for, from the request to the answer.

A secret is identified by the number of the step that asks for it and its kind (``types.SecretId``).

NOTE: runs on the target.
"""

from __future__ import absolute_import

MYPY = False
if MYPY:
    from typing import Dict, Optional, Set, Tuple  # noqa: F401
    from pmitogen.become.types import Secret, SecretId  # noqa: F401


class SecretRequests(object):
    """The secrets of one escalation. ``wanted``: the secret that the last line of the terminal asks for now, or None."""

    def __init__(self):
        # type: () -> None
        self.wanted = None  # type: Optional[SecretId]
        self._requested = set()  # type: Set[SecretId]
        self._given = {}  # type: Dict[SecretId, Secret]

    def take_request(self):
        # type: () -> Optional[SecretId]
        """Return the wanted secret's step and kind if it was not requested before, else None."""
        if self.wanted is None or self.wanted in self._requested:
            return None
        self._requested.add(self.wanted)
        return self.wanted

    def add_secret(self, secret_id, secret):
        # type: (SecretId, Secret) -> None
        """Store a secret until it is taken. A secret that was not requested is ignored."""
        if secret_id in self._requested:
            self._given[secret_id] = secret

    def can_answer(self):
        # type: () -> bool
        """Return True if the wanted secret was given."""
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
