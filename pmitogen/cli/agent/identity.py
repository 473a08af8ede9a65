"""Encode and decode private keys as in the agent protocol. Source: RFC 9987, section 3.2."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pmitogen.transport.keys import certificate, public_key
from pmitogen.transport.keys.private_key import CryptographyKey, PrivateKey
from pmitogen.transport.keys.wire import DecodeError, PacketReader, encode_mpint, encode_string

CURVES: dict[str, ec.EllipticCurve] = {
    "ecdsa-sha2-nistp256": ec.SECP256R1(),
    "ecdsa-sha2-nistp384": ec.SECP384R1(),
    "ecdsa-sha2-nistp521": ec.SECP521R1(),
}
MAX_RSA_BITS = 16384  # OpenSSH's own limit


def encode(key: PrivateKey, key_fields: bytes, cert: bytes | None) -> bytes:
    """Return the fields of ADD_IDENTITY up to the comment. *key_fields*: type and numbers, as in a key file."""
    if cert is None:
        return key_fields
    raw = key.cryptography_key
    head = encode_string(public_key.blob_type(cert)) + encode_string(cert)
    if isinstance(raw, rsa.RSAPrivateKey):
        numbers = raw.private_numbers()
        return head + b"".join(map(encode_mpint, (numbers.d, numbers.iqmp, numbers.p, numbers.q)))
    if isinstance(raw, ec.EllipticCurvePrivateKey):
        return head + encode_mpint(raw.private_numbers().private_value)
    public = raw.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return head + encode_string(public) + encode_string(raw.private_bytes_raw() + public)


def decode(reader: PacketReader) -> tuple[bytes, PrivateKey]:
    """Read a key. Returns the blob to list it under, and the key. Raises DecodeError if its parts do not belong together."""
    name = reader.text()
    cert = reader.string() if public_key.is_certificate(name) else None
    try:
        key = PrivateKey(_decode(public_key.plain_name(name), reader, cert))
    except (ValueError, ArithmeticError, UnsupportedAlgorithm) as error:
        raise DecodeError("invalid key") from error
    if cert is None:
        return key.blob, key
    parsed = certificate.parse(cert)
    if parsed.name != name or parsed.plain_blob != key.blob:
        raise DecodeError("the certificate does not match the key")
    return cert, key


def _decode(name: str, reader: PacketReader, cert: bytes | None) -> CryptographyKey:
    if name == "ssh-ed25519":
        public, private = reader.string(), reader.string()
        key = ed25519.Ed25519PrivateKey.from_private_bytes(private[:32])
        if len(private) != 64 or private[32:] != public or key.public_key().public_bytes_raw() != public:
            raise DecodeError("the public key does not match the private key")
        return key
    if name in CURVES:
        point = None
        if cert is None:
            reader.string()  # the curve's name, which the type has as well
            point = reader.string()
        derived = ec.derive_private_key(_number(reader), CURVES[name])
        form = serialization.PublicFormat.UncompressedPoint
        if point not in (None, derived.public_key().public_bytes(serialization.Encoding.X962, form)):
            raise DecodeError("the public key does not match the private key")
        return derived
    if name == "ssh-rsa":
        return _decode_rsa(reader, cert)
    raise DecodeError(f"unknown key type {name}")


def _decode_rsa(reader: PacketReader, cert: bytes | None) -> rsa.RSAPrivateKey:
    if cert is None:
        n, e = _number(reader), _number(reader)
    else:
        public = PacketReader(certificate.parse(cert).plain_blob)
        public.string()
        e, n = _number(public), _number(public)
    d, iqmp, p, q = (_number(reader) for _ in range(4))
    if not public_key.MIN_RSA_BITS <= n.bit_length() <= MAX_RSA_BITS:
        raise DecodeError("invalid key size")
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), iqmp, rsa.RSAPublicNumbers(e, n))
    return numbers.private_key()


def _number(reader: PacketReader) -> int:
    return int.from_bytes(reader.string()[: MAX_RSA_BITS // 8 + 1], "big")
