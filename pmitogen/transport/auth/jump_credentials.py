"""Credentials of jump hosts, and the credentials withheld from them.

The target's secrets are not sent to a jump host, because a bastion that prompts for "Password:" or "Verification code:" would
learn them. A jump host gets its own entry (``jump_credentials``) and nothing else; without an entry, keys only, because a
signature cannot be reused elsewhere. A passphrase never leaves this process, but it is for the target's keys: it is not tried on
other key files of a jump host.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from pmitogen.errors import UsageError
from pmitogen.flags.ssh.lexer import ConfigValueError
from pmitogen.flags.ssh.settings import JumpHop, Settings
from pmitogen.flags.ssh.values.jump import read_hop
from pmitogen.transport.auth.credentials import Credentials, Secret

OPTION = "jump_credentials"
FIELDS = ("password", "private_key", "private_key_passphrase", "passphrase", "otp")  # "passphrase" is a short form


class JumpEntry(NamedTuple):
    """The credentials of one jump host. *user* and *port* None: the entry applies to any."""

    user: str | None
    host: str
    port: int | None
    credentials: Credentials

    def matches(self, hop: JumpHop, settings: Settings) -> bool:
        """Return True if this entry is for *hop*, by its name as written or by its resolved host name."""
        return (
            self.host.lower() in (hop.host.lower(), settings.hostname.lower())
            and self.user in (None, settings.user)
            and self.port in (None, settings.port)
        )

    @property
    def specificity(self) -> int:
        """Return the rank of the entry: of several that match, the one with most fields applies."""
        return (self.user is not None) + (self.port is not None)


def parse(value: object) -> tuple[JumpEntry, ...]:
    """Read the option: a mapping of ``[user@]host[:port]`` to a mapping with some of FIELDS.

    Raises UsageError, which quotes no value.
    """
    if not value:
        return ()
    if not isinstance(value, Mapping):
        raise UsageError(f"{OPTION}: not a mapping of jump hosts to their credentials")
    return tuple(_entry(str(name), fields) for name, fields in value.items())


def _entry(name: str, fields: object) -> JumpEntry:
    try:
        user, host, port = read_hop(name)
    except ConfigValueError as problem:
        raise UsageError(f"{OPTION}: {name}: {problem}; use [USER@]HOST[:PORT]") from None
    if not isinstance(fields, Mapping):
        raise UsageError(f"{OPTION}: {name}: not a mapping; use some of {', '.join(FIELDS)}")
    unknown = [str(field) for field in fields if field not in FIELDS]
    if unknown:
        raise UsageError(f"{OPTION}: {name}: unknown key {unknown[0]!r}; use some of {', '.join(FIELDS)}")
    secrets = {field: _secret(name, field, text) for field, text in fields.items()}
    key = secrets.get("private_key")
    credentials = Credentials(
        password=secrets.get("password"),
        private_keys=(key,) if key else (),
        passphrase=secrets.get("private_key_passphrase") or secrets.get("passphrase"),
        otp=secrets.get("otp"),
    )
    return JumpEntry(user, host, port, credentials)


def _secret(name: str, field: str, text: object) -> Secret | None:
    if text is None:
        return None
    if isinstance(text, (Mapping, list, tuple)):
        raise UsageError(f"{OPTION}: {name}: {field}: not a string")
    return Secret(str(text)) if str(text) else None  # a code or password of digits is a number in YAML


def for_hop(credentials: Credentials, target: Settings, hop: JumpHop, settings: Settings) -> Credentials:
    """Return the credentials for *hop*, a jump host of *target*. *settings*: the hop's own.

    Only the hop gets the secrets of its entry. The entries are included for hops before it.
    """
    entries = [entry for entry in credentials.jump_entries if entry.matches(hop, settings)]
    entries.sort(key=lambda entry: entry.specificity, reverse=True)
    if entries:
        return dataclasses.replace(entries[0].credentials, prompt=credentials.prompt, jump_entries=credentials.jump_entries)
    shared = frozenset(target.identityfile) & frozenset(settings.identityfile)
    allowed = credentials.passphrase_files
    return dataclasses.replace(
        credentials,
        password=None,
        otp=None,
        pin=credentials.pin if settings.pkcs11provider == target.pkcs11provider else None,
        passphrase_files=shared if allowed is None else shared & allowed,
        withheld_from=hop.host,
    )
