"""OpenSSH certificates: reading one, and deciding whether it is valid for a host.

Missing upstream (Paramiko 5.1): a server's certificate is parsed and the signature of the key exchange is checked with the key
in it, but nothing about the certificate itself: not who signed it, nor its type, principals, dates or options. Upstream is
fixed when ``Transport`` takes an authority key and refuses an expired host certificate.

Source: OpenSSH PROTOCOL.certkeys; the order of the checks is sshkey_cert_check_authority's.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from pmitogen.transport.keys import public_key
from pmitogen.transport.keys.public_key import fingerprint, is_certificate, plain_name
from pmitogen.transport.keys.wire import DecodeError, PacketReader, decode_strings, encode_string
from pmitogen.util.patterns import match_pattern
from pmitogen.util.peer_text import escape

USER, HOST = 1, 2
KIND = {USER: "user", HOST: "host"}
MAX_PRINCIPALS = 256  # OpenSSH's own limit
DEFAULT_CA_ALGORITHMS = (
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com", "rsa-sha2-512", "rsa-sha2-256",
)  # fmt: skip

# How many fields the public key itself takes in a certificate of each family, after the nonce.
_KEY_FIELDS = (("ssh-rsa", 2), ("ssh-dss", 4), ("ecdsa-", 2), ("ssh-ed25519", 1), ("sk-ecdsa-", 3), ("sk-ssh-ed25519", 2))


class Certificate(NamedTuple):
    """The fields of one certificate; *plain_blob* is the certified key without its certificate. Times are Unix seconds."""

    name: str
    blob: bytes
    plain_blob: bytes
    serial: int
    kind: int
    key_id: str
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    critical_options: tuple[str, ...]
    authority_blob: bytes
    signature: bytes

    def describe(self) -> str:
        """Return a short description for messages; the key id is the authority's name for the certificate."""
        return f"{public_key.display_name(self.name)} {escape(self.key_id, 80)!r} serial {self.serial}"


def parse(blob: bytes) -> Certificate:
    """Read a certificate and check its authority's signature over it. Raises :class:`DecodeError`."""
    reader = PacketReader(blob)
    name = reader.text()
    plain = plain_name(name)
    if not is_certificate(name):
        raise DecodeError(f"{name} is not a certificate type")
    reader.string()  # nonce
    start = reader.offset
    fields = next((count for prefix, count in _KEY_FIELDS if plain.startswith(prefix)), None)
    if fields is None:
        raise DecodeError(f"unknown certificate key type {name}")
    for _ in range(fields):
        reader.string()
    plain_blob = encode_string(plain) + blob[start : reader.offset]
    serial, kind, key_id = reader.u64(), reader.u32(), _text(reader.string())
    principals = tuple(map(_text, decode_strings(reader.string())))
    valid_after, valid_before = reader.u64(), reader.u64()
    critical = tuple(map(_text, _names(reader.string())))
    _names(reader.string())  # extensions: permissions of a user, nothing a client must know
    reader.string()  # reserved
    authority = reader.string()
    signed = blob[: reader.offset]
    signature = reader.string()
    reader.end()
    if kind not in KIND:
        raise DecodeError(f"unknown certificate type {kind}; use 1 (user) or 2 (host)")
    if len(principals) > MAX_PRINCIPALS:
        raise DecodeError(f"too many principals: {len(principals)}, at most {MAX_PRINCIPALS}")
    public_key.validate(authority)
    public_key.verify_signature(authority, signature, signed)
    return Certificate(
        name=name, blob=blob, plain_blob=plain_blob, serial=serial, kind=kind, key_id=key_id, principals=principals,
        valid_after=valid_after, valid_before=valid_before, critical_options=critical,
        authority_blob=authority, signature=signature,
    )  # fmt: skip


def plain_blob(blob: bytes) -> bytes:
    """Return *blob*, or the certified key if it is a certificate. Raises :class:`DecodeError` if it is neither."""
    if is_certificate(public_key.blob_type(blob)):
        return parse(blob).plain_blob
    public_key.validate(blob)
    return blob


def _text(raw: bytes) -> str:
    """Decode a text of any encoding. One zero byte may end it, as in OpenSSH; none is allowed within."""
    if b"\0" in raw[:-1]:
        raise DecodeError("NUL byte in a string")
    return raw.removesuffix(b"\0").decode("utf-8", "surrogateescape")


def options(certificate: Certificate) -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
    """Return the critical options and the extensions of a parsed certificate, with their data."""
    reader = PacketReader(certificate.blob)
    for _ in range(len(decode_strings(certificate.plain_blob)) + 1):  # type and nonce, and the fields of the key
        reader.string()
    reader.u64()  # serial
    reader.u32()  # kind
    for _ in range(2):  # key id, principals
        reader.string()
    reader.u64()
    reader.u64()
    critical, extensions = decode_strings(reader.string()), decode_strings(reader.string())
    return _pairs(critical), _pairs(extensions)


def _pairs(parts: list[bytes]) -> list[tuple[str, bytes]]:
    return [(_text(name), data) for name, data in zip(parts[::2], parts[1::2], strict=True)]


def _names(raw: bytes) -> list[bytes]:
    """Return the names of a list of options, which are pairs of name and data."""
    parts = decode_strings(raw)
    if len(parts) % 2:
        raise DecodeError("option without data")
    return parts[::2]


def signature_problem(certificate: Certificate, allowed: tuple[str, ...]) -> str | None:
    """Return the reason why CASignatureAlgorithms refuses this certificate, or None."""
    algorithm = PacketReader(certificate.signature).text()
    if algorithm in (allowed or DEFAULT_CA_ALGORITHMS):
        return None
    return f"it is signed with {algorithm}, which CASignatureAlgorithms does not allow"


def validity_problem(certificate: Certificate, now: float | None = None) -> str | None:
    """Return the reason why the dates are not valid now, or None."""
    moment = time.time() if now is None else now
    if moment < certificate.valid_after:
        return f"it is not valid before {_date(certificate.valid_after)}"
    if moment >= certificate.valid_before:
        return f"it expired on {_date(certificate.valid_before)}"
    return None


def host_problem(certificate: Certificate, host: str, ca_algorithms: tuple[str, ...], now: float | None = None) -> str | None:
    """Return the reason why the certificate is not valid for *host* (a name or HostKeyAlias, without port), or None.

    known_hosts decides whether its authority is trusted. Principals may be patterns; their case counts, as in ssh.
    """
    if certificate.kind != HOST:
        return f"it is a {KIND[certificate.kind]} certificate, not a host certificate"
    if problem := validity_problem(certificate, now):
        return problem
    if not certificate.principals:
        return "it has no principals, so it is valid for no host"
    if not any(match_pattern(host, name) for name in certificate.principals):
        return f"it is for {escape(', '.join(certificate.principals))}, not for {host}"
    if certificate.critical_options:
        return f"unsupported critical options: {escape(', '.join(certificate.critical_options))}"
    return signature_problem(certificate, ca_algorithms)


def user_problem(certificate: Certificate, user: str, now: float | None = None) -> str | None:
    """Return the reason why a server would refuse this certificate for *user*, as far as a client can know it, or None.

    Advice for the message only: AuthorizedPrincipalsFile may map other principals to an account.
    """
    if certificate.kind != USER:
        return f"it is a {KIND[certificate.kind]} certificate, not a user certificate"
    if problem := validity_problem(certificate, now):
        return problem
    if certificate.principals and user not in certificate.principals:
        return f"its principals are {escape(', '.join(certificate.principals))}, not {user}"
    return None


def authority_fingerprint(certificate: Certificate, algorithm: str = "sha256") -> str:
    """Return the fingerprint of the authority's key, as ssh prints it."""
    blob = certificate.authority_blob
    return f"{public_key.display_name(public_key.blob_type(blob))} {fingerprint(blob, algorithm)}"


def _date(seconds: int) -> str:
    if seconds >= 2**40:
        return "no date at all"
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
