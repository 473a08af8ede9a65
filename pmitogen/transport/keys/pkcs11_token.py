"""Keys of PKCS#11 tokens (smart cards, HSMs): list them, log in with a PIN once, sign.

The package python-pkcs11 (the extra ``pmitogen[pkcs11]``) loads the library that PKCS11Provider names; Paramiko has no support.
Keys are read from public key objects and from X.509 certificates. RSA, ECDSA and Ed25519 keys sign.

A token locks itself after a few wrong PINs. So a PIN that a token has refused is not sent to it again in this process, whatever
the number of hosts; the last attempt before the lock is left to a user at a prompt; and a run logs in to a token once.

The libraries store their login for the process, and are initialised without thread support: one lock serialises all calls.
Source: PKCS#11 3.1; for the mechanisms OpenSSH's ssh-pkcs11.c.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pmitogen.transport.auth.credentials import Secret
from pmitogen.transport.keys import public_key, wire
from pmitogen.transport.keys.private_key import public_blob
from pmitogen.util.extras import advice
from pmitogen.util.peer_text import escape

if TYPE_CHECKING:
    from types import ModuleType

MAX_KEYS = 64  # of one library; more are ignored
_SHA2_PREFIXES = {  # of DigestInfo (RFC 8017 section 9.2, note 1)
    "rsa-sha2-256": (hashlib.sha256, bytes.fromhex("3031300d060960864801650304020105000420")),
    "rsa-sha2-512": (hashlib.sha512, bytes.fromhex("3051300d060960864801650304020305000440")),
}
_CURVES: dict[bytes, ec.EllipticCurve] = {  # EC_PARAMS, an object identifier in DER
    bytes.fromhex("06082a8648ce3d030107"): ec.SECP256R1(),
    bytes.fromhex("06052b81040022"): ec.SECP384R1(),
    bytes.fromhex("06052b81040023"): ec.SECP521R1(),
}
_ED25519_PARAMETERS = (bytes.fromhex("06032b6570"), b"\x13\x0cedwards25519")  # the identifier, or the curve's name
_ECDSA_DIGESTS = {
    "ecdsa-sha2-nistp256": hashlib.sha256,
    "ecdsa-sha2-nistp384": hashlib.sha384,
    "ecdsa-sha2-nistp521": hashlib.sha512,
}

Ask = Callable[[str], "str | None"]
"""Asks the user for a PIN: prompt -> PIN, or None to give up."""

_lock = threading.Lock()  # of all libraries of this process
_refused_pins: dict[tuple[str, str], set[Secret]] = {}  # by library and token; guarded by _lock


class TokenError(Exception):
    """The library or the token fails or refuses. The message is for the user."""


class TokenKey:
    """A key of a token. *blob*: its public key. *comment*: its label."""

    def __init__(self, token: _Token, blob: bytes, key_type: Any, identifier: bytes, comment: str) -> None:
        self.blob = blob
        self.comment = comment
        self._token = token
        self._key_type = key_type
        self._identifier = identifier

    def sign(self, data: bytes, algorithm: str, pin: Secret | None, ask: Ask | None, seconds: float) -> bytes:
        """Return a signature blob over *data*; log in to the token first if needed. Blocks. Raises TokenError.

        *algorithm*: may be a certificate's name. *pin*, *ask*: see :meth:`Library.keys`. *seconds*: to wait for other logins that
        use the library.
        """
        plain = public_key.plain_name(algorithm)
        with _exclusive(self._token.pkcs11, seconds):
            self._token.log_in(pin, ask)
            raw = self._token.sign(self._key_type, self._identifier, self.comment, *_prepare(self._token.pkcs11, data, plain))
        if plain in _ECDSA_DIGESTS:
            half = len(raw) // 2
            raw = b"".join(wire.encode_mpint(int.from_bytes(part, "big")) for part in (raw[:half], raw[half:]))
        return wire.encode_string(plain) + wire.encode_string(raw)


class Library:
    """A PKCS#11 library and the sessions with its tokens. Thread-safe. Close it when the run ends."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._tokens: list[_Token] | None = None  # guarded by _lock

    def keys(self, pin: Secret | None, ask: Ask | None, seconds: float) -> list[TokenKey]:
        """Return the keys of all tokens that are present. Blocks. Raises TokenError.

        A token that shows no keys before a login is logged in to, with *pin*, else with the answer of *ask*; None: neither.
        *seconds*: to wait for other logins that use the library.
        """
        try:
            import pkcs11
        except ImportError as error:
            raise TokenError(f"{self.path}: PKCS#11 needs a further package: {advice('pkcs11')}") from error
        with _exclusive(pkcs11, seconds, self.path):
            if self._tokens is None:
                library = pkcs11.lib(self.path)
                present = [slot.get_token() for slot in library.get_slots(token_present=True)]
                self._tokens = [
                    _Token(pkcs11, self.path, token) for token in present if token.flags & pkcs11.TokenFlag.TOKEN_INITIALIZED
                ]
            if not self._tokens:
                raise TokenError(f"{self.path}: no token is present")
            return [key for token in self._tokens for key in token.keys(pin, ask)][:MAX_KEYS]

    def close(self) -> None:
        """Log out and end the sessions. Idempotent."""
        with _lock:
            tokens, self._tokens = self._tokens or [], None
            for token in tokens:
                token.close()


@contextlib.contextmanager
def _exclusive(pkcs11: ModuleType, seconds: float, path: str = "PKCS#11") -> Iterator[None]:
    """Lock the libraries for this thread, and convert their errors to TokenError."""
    if not _lock.acquire(timeout=max(0.0, seconds)):
        raise TokenError(f"{path}: another login uses the token")
    try:
        yield
    except pkcs11.PKCS11Error as error:
        text = escape(str(error)) or type(error).__name__
        raise TokenError(f"{path}: {text.removeprefix(f'OS exception while loading {path}: ')}") from None
    finally:
        _lock.release()


def _prepare(pkcs11: ModuleType, data: bytes, algorithm: str) -> tuple[bytes, Any]:
    """Return the data for the token to sign, and the mechanism. The digest is computed here, because tokens need not hash."""
    if algorithm in _SHA2_PREFIXES:
        digest, prefix = _SHA2_PREFIXES[algorithm]
        return prefix + digest(data).digest(), pkcs11.Mechanism.RSA_PKCS
    if algorithm in _ECDSA_DIGESTS:
        return _ECDSA_DIGESTS[algorithm](data).digest(), pkcs11.Mechanism.ECDSA
    return data, pkcs11.Mechanism.EDDSA


@dataclasses.dataclass(eq=False, repr=False)
class _Token:
    """A token and the session with it. All calls hold the lock."""

    pkcs11: ModuleType
    path: str
    token: Any
    session: Any = None
    pin: Secret | None = None  # which the token has accepted; some keys need it for each signature
    has_failed: bool = False  # the user gave up or was wrong: no further prompt in this run

    @property
    def name(self) -> str:
        return escape(self.token.label.strip() or self.token.serial.decode("ascii", "replace").strip(), 80)

    def keys(self, pin: Secret | None, ask: Ask | None) -> list[TokenKey]:
        if self.session is None:
            self.session = self.token.open()
        token_keys = list(self._keys())
        if not token_keys and self._needs_login() and (pin or ask):
            self.log_in(pin, ask)
            token_keys = list(self._keys())
        return token_keys

    def _keys(self) -> Iterator[TokenKey]:
        """Yield each key once: first the public key objects, then the certificates."""
        attribute, classes = self.pkcs11.Attribute, self.pkcs11.ObjectClass
        seen: set[bytes] = set()
        for kind, read in ((classes.PUBLIC_KEY, self._public_key), (classes.CERTIFICATE, self._certified_key)):
            for token_object in self.session.get_objects({attribute.CLASS: kind}):
                try:
                    blob, identifier = public_blob(read(token_object)), bytes(token_object[attribute.ID])
                except (self.pkcs11.PKCS11Error, ValueError, TypeError, KeyError):
                    continue  # of a type that SSH does not know, or damaged
                if blob not in seen and identifier:
                    seen.add(blob)
                    yield TokenKey(self, blob, self._key_type(blob), identifier, self._label(token_object))

    def _label(self, token_object: Any) -> str:
        try:
            return escape(str(token_object[self.pkcs11.Attribute.LABEL]), 80)
        except self.pkcs11.PKCS11Error:
            return ""

    def _key_type(self, blob: bytes) -> Any:
        types = self.pkcs11.KeyType
        name = public_key.blob_type(blob)
        return types.RSA if name == "ssh-rsa" else types.EC_EDWARDS if name == "ssh-ed25519" else types.EC

    def _public_key(self, token_object: Any) -> Any:
        attribute, types = self.pkcs11.Attribute, self.pkcs11.KeyType
        if token_object.key_type == types.RSA:
            exponent, modulus = (
                int.from_bytes(token_object[name], "big") for name in (attribute.PUBLIC_EXPONENT, attribute.MODULUS)
            )
            return rsa.RSAPublicNumbers(exponent, modulus).public_key()
        parameters, point = bytes(token_object[attribute.EC_PARAMS]), _octets(bytes(token_object[attribute.EC_POINT]))
        if parameters in _ED25519_PARAMETERS:
            return ed25519.Ed25519PublicKey.from_public_bytes(point)
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[parameters], point)

    def _certified_key(self, token_object: Any) -> Any:
        from cryptography import x509  # slow to import, and rarely needed

        return x509.load_der_x509_certificate(bytes(token_object[self.pkcs11.Attribute.VALUE])).public_key()

    # -- the PIN

    def _needs_login(self) -> bool:
        return self.pin is None and bool(self.token.flags & self.pkcs11.TokenFlag.LOGIN_REQUIRED)

    def log_in(self, pin: Secret | None, ask: Ask | None) -> None:
        """Log in unless that is done or not needed. Raises TokenError, and PKCS11Error."""
        if not self._needs_login():
            return
        flags = self.token.slot.get_token().flags  # as they are now
        flag = self.pkcs11.TokenFlag
        if flags & flag.USER_PIN_LOCKED:
            raise TokenError(f"token {self.name}: its PIN is locked")
        if flags & flag.PROTECTED_AUTHENTICATION_PATH:  # the PIN is typed at the reader
            self._open(self.pkcs11.PROTECTED_AUTH)
            self.pin = Secret("")
            return
        last = bool(flags & flag.USER_PIN_FINAL_TRY)
        if pin is None:
            pin = self._asked(ask, last)
        elif last:
            raise TokenError(f"token {self.name}: one more wrong PIN would lock it; log in to it with another program first")
        refused = _refused_pins.setdefault((self.path, self.token.serial.decode("latin-1")), set())
        if pin in refused:
            raise TokenError(f"token {self.name}: the PIN is wrong; it is not tried again")
        try:
            self._open(pin.reveal())
        except (self.pkcs11.PinIncorrect, self.pkcs11.PinInvalid, self.pkcs11.PinLenRange):
            refused.add(pin)
            self.has_failed = True
            raise TokenError(f"token {self.name}: the PIN is wrong") from None
        except self.pkcs11.PinLocked:
            raise TokenError(f"token {self.name}: its PIN is locked") from None
        self.pin = pin

    def _asked(self, ask: Ask | None, last: bool) -> Secret:
        if ask is None or self.has_failed:
            raise TokenError(f"token {self.name}: needs a PIN, and none is given")
        warning = " (one more wrong PIN locks the token)" if last else ""
        answer = ask(f"Enter PIN for '{self.name}'{warning}: ")
        if not answer:
            self.has_failed = True
            raise TokenError(f"token {self.name}: needs a PIN, and none is given")
        return Secret(answer)

    def _open(self, pin: Any) -> None:
        """Open a session that is logged in, in place of the one before. The login holds for the process."""
        try:
            session = self.token.open(user_pin=pin)
        except self.pkcs11.UserAlreadyLoggedIn:
            return
        before, self.session = self.session, session
        if before is not None:
            before.close()

    # -- signing

    def sign(self, key_type: Any, identifier: bytes, label: str, data: bytes, mechanism: Any) -> bytes:
        """Return the raw signature of *data*. Raises TokenError, PKCS11Error."""
        attribute = self.pkcs11.Attribute
        template = {attribute.CLASS: self.pkcs11.ObjectClass.PRIVATE_KEY, attribute.KEY_TYPE: key_type, attribute.ID: identifier}
        private_keys = list(self.session.get_objects(template))
        key = next(
            (candidate for candidate in private_keys if self._label(candidate) == label),
            private_keys[0] if private_keys else None,
        )
        if key is None:
            raise TokenError(f"token {self.name}: has no private key {label}".rstrip())
        try:
            always = bool(key[attribute.ALWAYS_AUTHENTICATE])
        except self.pkcs11.PKCS11Error:
            always = False
        pin = self.pin.reveal() if always and self.pin else None
        return bytes(key.sign(data, mechanism=mechanism, pin=pin))

    def close(self) -> None:
        """End the session, and so the login. Idempotent."""
        session, self.session, self.pin = self.session, None, None
        if session is not None:
            with contextlib.suppress(self.pkcs11.PKCS11Error):
                session.close()


def _octets(point: bytes) -> bytes:
    """Return the point of a DER octet string; some tokens give it without that envelope."""
    if len(point) > 2 and point[0] == 4 and point[1] == len(point) - 2:
        return point[2:]
    if len(point) > 3 and point[:2] == b"\x04\x81" and point[2] == len(point) - 3:
        return point[3:]
    return point
