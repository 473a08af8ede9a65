"""Add a server's host keys to known_hosts at the user's request, with the same files and lock as a login.

Stricter than a login in one respect: a key is never added if another key of its type is known. The user has to remove that line
first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.connect import HostKeyProbe
from pmitogen.transport.hostkeys import known_hosts, known_hosts_sources
from pmitogen.transport.hostkeys.known_hosts_sources import KnownHostsSources
from pmitogen.transport.keys import public_key


@dataclasses.dataclass(frozen=True)
class KeyStatus:
    """A host key of the server. *location*: the ``file:line`` that has it; None: the key is new."""

    blob: bytes
    location: str | None
    description: str  # as ssh prints it


class Trust:
    """Look up a server's keys in known_hosts, and add new ones. Blocks for files and KnownHostsCommand."""

    def __init__(self, settings: Settings, keys: Sequence[HostKeyProbe]) -> None:
        self._settings = settings
        self._keys = [key.blob for key in keys]
        self._store = KnownHostsSources(settings, keys[0].address)
        self.name = known_hosts_sources.host_name(settings)
        self.file = next(iter(settings.userknownhostsfile), "none")

    def check(self) -> list[KeyStatus]:
        """Return each key and its known_hosts line. Raises ConnectError (stage ``hostkey``) if one is revoked or has changed."""
        lines = self._store.lines(self.name, self._keys[0])
        fallback = self._store.lines_without_port()
        for blob in self._keys:
            self._refuse_revoked(blob, [*lines, *fallback])
        unmarked = [line for line in lines if line.marker == known_hosts.NO_MARKER]
        known = unmarked + [line for line in fallback if line.marker == known_hosts.NO_MARKER and line.blob in self._keys]
        statuses = [KeyStatus(blob, self._where(blob, known), self._describe_key(blob)) for blob in self._keys]
        proven = any(status.location for status in statuses)
        for status in statuses:
            same_type = [line for line in unmarked if not proven or line.key_type == public_key.blob_type(status.blob)]
            if status.location is None and same_type:
                raise self._refusal(
                    f"host key {status.description} does not match {same_type[0].location}: someone could be eavesdropping "
                    "(man-in-the-middle attack); if the server was reinstalled, remove that line first "
                    f"({known_hosts.removal(same_type[0], self.name)})"
                )
        return statuses

    def record(self, blob: bytes) -> str:
        """Add a key to the first UserKnownHostsFile; returns its ``file:line``. Raises ConnectError."""
        if self.file == "none":
            raise self._refusal("UserKnownHostsFile none: no file to add the host key to; use -o UserKnownHostsFile=FILE")
        names = [self.name]
        address = self._store.address_name
        if address and not self._store.lines(address, blob):
            names.append(address)
        try:
            return known_hosts_sources.append(self.file, names, blob, hashed=self._settings.hashknownhosts)
        except OSError as error:
            raise self._refusal(f"{self.file}: cannot write: {error.strerror}") from None

    @staticmethod
    def _where(blob: bytes, lines: Sequence[known_hosts.KnownHostsLine]) -> str | None:
        return next((line.location for line in lines if line.blob == blob), None)

    def _refuse_revoked(self, blob: bytes, lines: Sequence[known_hosts.KnownHostsLine]) -> None:
        location = known_hosts_sources.revoked_by(self._settings.revokedhostkeys, blob, None, self._refusal)
        revoked = (line for line in lines if line.marker == known_hosts.REVOKED and line.is_key(blob))
        location = location or next((line.location for line in revoked), None)
        if location:
            raise self._refusal(
                f"host key {self._describe_key(blob)} is revoked by {location}; generate a new host key on the server"
            )

    def _describe_key(self, blob: bytes) -> str:
        name = public_key.display_name(public_key.blob_type(blob))
        return f"{name} {public_key.fingerprint(blob, self._settings.fingerprinthash)}"

    def _refusal(self, text: str) -> ConnectError:
        return ConnectError(f"{self._settings.endpoint}: {text}", "hostkey")
