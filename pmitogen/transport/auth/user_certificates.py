"""Find the user certificates for a login: configured ones, and those beside its key files.

A certificate may be configured as CertificateFile, or as an identity (``-i signed-cert.pub -i key``, as Vault documents), before
or after its key; the key may be in a file or in the agent. Without CertificateFile, the certificate ``FILE-cert.pub``
beside an identity file counts as well. Source: load_public_identity_files() in OpenSSH's ssh.c.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import NamedTuple

from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.keys import certificate as certificates
from pmitogen.transport.keys import key_file, public_key
from pmitogen.transport.keys.certificate import Certificate
from pmitogen.transport.keys.private_key import UnusableKey
from pmitogen.transport.keys.wire import DecodeError


class _Named(NamedTuple):
    path: str
    certificate: Certificate


class UserCertificates:
    """Finder of the certificates for a key. Reads files when needed. *on_skip*: called with (file, reason) for unusable ones."""

    def __init__(self, settings: Settings, on_skip: Callable[[str, str], None]) -> None:
        self._settings = settings
        self._on_skip = on_skip
        self._loaded: list[_Named] | None = None
        self._used: set[bytes] = set()

    def for_key(self, blob: bytes, adjacent: tuple[str, ...] = ()) -> list[Certificate]:
        """Return the certificates of the plain key *blob*; *adjacent*: paths of certificates next to its file."""
        paths = () if self._settings.certificatefile else adjacent
        candidates = [
            *self._named(),
            *(_Named(path, named) for path in paths if (named := self._read(path, report_missing=False))),
        ]
        matching = [named.certificate for named in candidates if named.certificate.plain_blob == blob]
        self._used.update(certificate.blob for certificate in matching)
        return matching

    def key_beside(self, path: str) -> bytes | None:
        """Return the plain key of the certificate beside an identity file, which need not exist."""
        candidates = None if self._settings.certificatefile else self._read(path + "-cert.pub", report_missing=False)
        return candidates and candidates.plain_blob

    def keys(self) -> set[bytes]:
        """Return the plain keys of the configured certificates."""
        return {named.certificate.plain_blob for named in self._named()}

    def explicit_keys(self) -> set[bytes]:
        """Return the plain keys of the certificates of CertificateFile."""
        paths = self._settings.certificatefile
        return {named.certificate.plain_blob for named in self._named() if named.path in paths} if paths else set()

    def note_unused(self) -> None:
        """Report each configured certificate whose key was not found."""
        for named in self._named():
            if named.certificate.blob not in self._used:
                self._on_skip(f"certificate {named.path}", "its private key is neither in a configured file nor in an agent")

    def _named(self) -> list[_Named]:
        if self._loaded is None:
            explicit = [(path, self._read(path, report_missing=True)) for path in self._settings.certificatefile]
            named = [(path, self._read_identity(path)) for path in self._settings.identityfile if path != "none"]
            self._loaded = [_Named(path, certificate) for path, certificate in (*explicit, *named) if certificate is not None]
        return self._loaded

    def _read_identity(self, path: str) -> Certificate | None:
        """Return the certificate in an identity file or in its ``.pub``."""
        try:
            blob = key_file.load_public(path)
        except (OSError, UnusableKey):
            return None
        return self._parse(path, blob) if public_key.is_certificate(public_key.blob_type(blob)) else None

    def _read(self, path: str, *, report_missing: bool) -> Certificate | None:
        try:
            return self._parse(path, key_file.load_public(path))
        except FileNotFoundError:
            if report_missing:
                self._on_skip(f"certificate {path}", os.strerror(errno.ENOENT))
        except (OSError, UnusableKey) as error:
            self._on_skip(f"certificate {path}", getattr(error, "strerror", None) or str(error))
        return None

    def _parse(self, path: str, blob: bytes) -> Certificate | None:
        try:
            certificate = certificates.parse(blob)
        except DecodeError as error:
            self._on_skip(f"certificate {path}", str(error))
            return None
        if certificate.kind != certificates.USER:
            self._on_skip(f"certificate {path}", f"a {certificates.KIND[certificate.kind]} certificate, not a user certificate")
            return None
        return certificate
