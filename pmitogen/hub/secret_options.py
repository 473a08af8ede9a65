"""The secrets of raw option sets and become requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pmitogen.transport.auth.credentials import Credentials, Secret

SECRET_OPTIONS = ("password", "private_key", "private_key_passphrase", "otp")  # of option sets and become requests


def credentials(options: Mapping[str, object]) -> Credentials:
    """Return the secrets of a raw option set, in types that hide them. Raises UsageError."""
    from pmitogen.transport.auth import jump_credentials

    def secret(name: str) -> Secret | None:
        value = options.get(name)
        return Secret(str(value)) if value else None

    key = secret("private_key")
    password = secret("password")
    is_pin = bool(options.get("pkcs11_provider"))  # as for Ansible's ssh plugin
    return Credentials(
        password=None if is_pin else password,
        pin=password if is_pin else None,
        private_keys=(key,) if key else (),
        passphrase=secret("private_key_passphrase"),
        otp=secret("otp"),
        jump_entries=jump_credentials.parse(options.get(jump_credentials.OPTION)),
    )


def secrets_of(options: Mapping[str, object]) -> Iterator[str]:
    """Yield the secrets of a raw option set or become request, for redaction in logs."""
    for name in SECRET_OPTIONS:
        if value := options.get(name):
            yield str(value)
    entries = options.get("jump_credentials")
    for fields in entries.values() if isinstance(entries, Mapping) else ():
        yield from (str(value) for value in (fields.values() if isinstance(fields, Mapping) else [fields]) if value)
