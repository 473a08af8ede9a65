"""Find the keys to offer, in order: keys given as text, keys of a token, those with a certificate of CertificateFile, configured
files, keys of the agent, default files.

ssh(1) offers the agent's keys before the files; here *configured* files are first, because the server counts each refused key and
a full agent may reach its limit (MaxAuthTries). IdentitiesOnly limits the agent's keys to those of the files. A certificate is
offered before its key. Keys are loaded only when they are offered, because decrypting one takes a tenth of a second by design.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.auth.credentials import Credentials, Secret
from pmitogen.transport.auth.report import Cause
from pmitogen.transport.auth.user_certificates import UserCertificates
from pmitogen.transport.keys import certificate as certificates
from pmitogen.transport.keys import key_file, public_key
from pmitogen.transport.keys.certificate import Certificate
from pmitogen.transport.keys.key_file import KeyCache, KeyFile
from pmitogen.transport.keys.pkcs11_token import Library, TokenError, TokenKey
from pmitogen.transport.keys.private_key import PrivateKey, UnusableKey
from pmitogen.transport.keys.ssh_agent_client import LIST_TIMEOUT, AgentError, AgentKey, SessionBinding, SSHAgentClient
from pmitogen.transport.keys.wire import DecodeError

Sign = Callable[[bytes, str, float], bytes]
"""(data, algorithm, seconds) -> signature blob; may raise AgentError, TokenError."""


class Candidate(NamedTuple):
    """One key to offer; *blob* may be a certificate's.

    *probe*: signing needs a user or an agent, so probe the server first. *agent*: an agent signs.
    """

    source: str
    blob: bytes
    sign: Sign
    probe: bool = False
    hardware: bool = False
    certificate: Certificate | None = None
    agent: bool = False

    @property
    def name(self) -> str:
        """The key type."""
        return public_key.blob_type(self.blob)

    def describe(self) -> str:
        """Return its source and type, for messages."""
        plain = self.certificate.plain_blob if self.certificate else self.blob
        return f"{self.source} {public_key.display_name(self.name)} {public_key.fingerprint(plain)}"


class Identities:
    """Finder of the keys to offer in one login. Close it when done. One thread.

    *on_skip*: called with (key, reason, cause) for each key that cannot be offered.
    *prompt*: asks the user for a passphrase; None: the user cannot be asked.
    *key_cache*: shares decrypted keys with other logins; None: each login decrypts its own.
    *remaining*: returns the seconds that the login has left.
    *binding*: binds the agent to the connection (session-bind); None: the agent is not bound.
    """

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        on_skip: Callable[[str, str, Cause], None],
        prompt: Callable[[str], str | None] | None,
        binding: SessionBinding | None = None,
        key_cache: KeyCache | None = None,
        remaining: Callable[[], float] = lambda: LIST_TIMEOUT,
    ) -> None:
        self._remaining = remaining
        self._settings = settings
        self._credentials = credentials
        self._report_skip = on_skip
        self._prompt = prompt
        self._binding = binding
        self._key_cache = key_cache
        self._agent: SSHAgentClient | None = None
        self._agent_keys: list[AgentKey] | None = None
        self._certificates = UserCertificates(settings, self._on_skip)
        self._seen: set[bytes] = set()
        self._read_paths: set[str] = set()  # the identity files that were read before the others
        self._own_library: Library | None = None  # without a cache

    def _on_skip(self, subject: str, reason: str, cause: Cause = Cause.OTHER) -> None:
        self._report_skip(subject, reason, cause)

    def close(self) -> None:
        """Close the connection to the agent. Idempotent."""
        if self._agent is not None:
            self._agent.close()
            self._agent = None
        if self._own_library is not None:
            self._own_library.close()
            self._own_library = None

    def candidates(self) -> Iterator[Candidate]:
        """Yield each key or certificate once, in order; load it only then."""
        for candidate in self._all():
            if candidate.blob not in self._seen:
                self._seen.add(candidate.blob)
                yield candidate

    def _all(self) -> Iterator[Candidate]:
        for index, secret in enumerate(self._credentials.private_keys, 1):
            source = "key given" if len(self._credentials.private_keys) == 1 else f"key {index} given"
            yield from self._file(KeyFile(source, secret.reveal()))
        if self._settings.pkcs11provider:
            yield from self._token_candidates(self._settings.pkcs11provider)
        yield from self._certified()
        if self._settings.identityfile_explicit:
            yield from self._files()
            yield from self._agent_candidates()
        else:
            yield from self._agent_candidates()
            yield from self._files()
        self._certificates.note_unused()

    # -- tokens

    def _token_candidates(self, path: str) -> Iterator[Candidate]:
        """Yield the keys of a PKCS#11 library; one that an agent holds as well signs there, without a PIN."""
        library = self._key_cache.library(path) if self._key_cache is not None else Library(path)
        if self._key_cache is None:
            self._own_library = library
        try:
            keys = library.keys(self._credentials.pin, self._prompt, self._remaining())
        except TokenError as error:
            self._on_skip("PKCS#11", str(error))
            return
        for key in keys:
            source = f"token key {key.comment}".strip()
            if held := self._in_agent(key.blob):
                yield from self._from_agent(held, source)
            else:
                yield from self._from_token(key, source)

    def _from_token(self, key: TokenKey, source: str) -> Iterator[Candidate]:
        """Return a token's key. The server is probed first, because a signature may need a PIN or a touch."""
        if self._is_too_short(source, key.blob):
            return

        def sign(data: bytes, algorithm: str, seconds: float) -> bytes:
            return key.sign(data, algorithm, self._credentials.pin, self._prompt, seconds)

        for certificate in self._certificates.for_key(key.blob):
            yield Candidate(f"certificate for {source}", certificate.blob, sign, probe=True, certificate=certificate)
        yield Candidate(source, key.blob, sign, probe=True)

    # -- files

    def _certified(self) -> Iterator[Candidate]:
        """Yield the keys that have a certificate of CertificateFile: as with ssh, no other key uses up an attempt before them."""
        keys = self._certificates.explicit_keys()
        if not keys:
            return
        for path in self._settings.identityfile:
            if path != "none" and key_file.public_blob_for(path) in keys:
                self._read_paths.add(path)
                yield from self._path(path)
        for key in self._keys_in_agent():
            if _certified_key(key.blob) in keys:
                yield from self._from_agent(key, _agent_source(key))

    def _files(self) -> Iterator[Candidate]:
        for path in self._settings.identityfile:
            if path != "none" and path not in self._read_paths:
                yield from self._path(path)

    def _path(self, path: str) -> Iterator[Candidate]:
        try:
            file = key_file.read(path)
        except FileNotFoundError:
            held = self._in_agent(self._certificates.key_beside(path))  # neither a private nor a public key is there
            if held is not None:
                yield from self._from_agent(held, _agent_source(held), adjacent=(path + "-cert.pub",))
            elif self._settings.identityfile_explicit:
                self._on_skip(path, os.strerror(errno.ENOENT), Cause.MISSING)
            return
        except (OSError, UnusableKey) as error:
            self._on_skip(path, getattr(error, "strerror", None) or str(error))
            return
        yield from self._file(file)

    def _file(self, file: KeyFile) -> Iterator[Candidate]:
        """Return the key of a file: decrypted with the credentials, else from the agent, else with a prompt.

        A certificate is offered with its key: here if the key is in the agent, else with the key's file.
        """
        if file.is_public and public_key.is_certificate(public_key.blob_type(file.public_blob or b"")):
            if held := self._in_agent(file.public_blob):
                yield from self._from_agent(held, _agent_source(held))
            return
        try:
            key = file.open(self._passphrase_for(file), self._key_cache)
        except UnusableKey as problem:
            if held := self._in_agent(file.public_blob):
                yield from self._from_agent(held, file.source, adjacent=file.certificate_paths)
                return
            try:
                if not (problem.passphrase and self._prompt):
                    raise
                key = file.open_with_prompt(self._prompt, self._settings.numberofpasswordprompts, self._key_cache)
            except UnusableKey as last:
                self._on_skip(file.source, str(last), Cause.PASSPHRASE if last.passphrase else Cause.OTHER)
                return
        yield from self._with_certificates(file.source, key, file.certificate_paths)

    def _passphrase_for(self, file: KeyFile) -> Secret | None:
        """Return the passphrase, unless it is for other files. A key given as text has no path."""
        files = self._credentials.passphrase_files
        return self._credentials.passphrase if files is None or file.identity is None or file.source in files else None

    def _with_certificates(self, source: str, key: PrivateKey, paths: tuple[str, ...]) -> Iterator[Candidate]:
        if self._is_too_short(source, key.blob):
            return

        def sign(data: bytes, algorithm: str, _seconds: float) -> bytes:
            return key.sign(data, algorithm)

        for certificate in self._certificates.for_key(key.blob, paths):
            yield Candidate(f"certificate for {source}", certificate.blob, sign, certificate=certificate)
        yield Candidate(source, key.blob, sign)

    # -- the agent

    def _keys_in_agent(self) -> list[AgentKey]:
        if self._agent_keys is None:
            self._agent_keys = []
            path = self._settings.identityagent
            if path and path != "none":
                try:
                    self._agent = SSHAgentClient(path)
                    if self._binding is not None:
                        self._agent.bind(self._binding, forwarding=False)
                    self._agent_keys = self._agent.keys()
                except AgentError as error:
                    self._on_skip("", str(error))
        return self._agent_keys

    def _in_agent(self, blob: bytes | None) -> AgentKey | None:
        """Return the agent's key for a public key or for a certificate's key."""
        if blob is None:
            return None
        plain = _certified_key(blob)
        return next((key for key in self._keys_in_agent() if key.blob == plain), None)

    def _agent_candidates(self) -> Iterator[Candidate]:
        wanted = self._identities_only_keys()
        usable = [key for key in self._keys_in_agent() if wanted is None or _certified_key(key.blob) in wanted]
        for key in usable:
            yield from self._from_agent(key, _agent_source(key), alone=len(usable) == 1)

    def _identities_only_keys(self) -> set[bytes] | None:
        """Return the public keys that IdentitiesOnly allows; None: all."""
        if not self._settings.identitiesonly:
            return None
        named = self._certificates.keys()
        for path in self._settings.identityfile:
            if blob := key_file.public_blob_for(path):
                named.add(blob)
        return named

    def _from_agent(
        self, key: AgentKey, source: str, *, alone: bool = True, adjacent: tuple[str, ...] = ()
    ) -> Iterator[Candidate]:
        plain = _certified_key(key.blob)
        if isinstance(plain, str):
            self._on_skip(source, plain)
            return
        if self._is_too_short(source, plain):
            return
        hardware = public_key.is_security_key(key.name)

        def sign(data: bytes, algorithm: str, seconds: float) -> bytes:
            assert self._agent is not None
            return self._agent.sign(key.blob, data, algorithm, seconds)

        probe = hardware or not alone
        if public_key.is_certificate(key.name):
            certificate = certificates.parse(key.blob)
            yield Candidate(source, key.blob, sign, probe, hardware, certificate, agent=True)
            return
        for certificate in self._certificates.for_key(key.blob, adjacent):
            yield Candidate(f"certificate for {source}", certificate.blob, sign, probe, hardware, certificate, agent=True)
        yield Candidate(source, key.blob, sign, probe, hardware, agent=True)

    def _is_too_short(self, source: str, blob: bytes) -> bool:
        try:
            bits = public_key.rsa_bits(blob)
        except DecodeError:
            bits = 0
        short = bits is not None and bits < self._settings.requiredrsasize
        if short:
            self._on_skip(source, f"its RSA key has {bits} bits, RequiredRSASize is {self._settings.requiredrsasize}")
        return short


def _agent_source(key: AgentKey) -> str:
    return f"agent key {key.comment}".strip()


def _certified_key(blob: bytes) -> bytes | str:
    """Return the plain key of a certificate, or the reason why a user cannot log in with it."""
    try:
        if not public_key.is_certificate(public_key.blob_type(blob)):
            return blob
        certificate = certificates.parse(blob)
    except DecodeError as error:
        return f"invalid certificate ({error})"
    if certificate.kind != certificates.USER:
        return f"a {certificates.KIND[certificate.kind]} certificate, not a user certificate"
    return certificate.plain_blob
