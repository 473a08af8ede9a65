"""Formats of key files: ``-m``, for new private keys and for the conversion of public ones (``-e``, ``-i``)."""

from __future__ import annotations

import base64
import enum
import getpass
import re
import socket
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pmitogen.cli.keygen import openssh_format, passphrases, show
from pmitogen.cli.keygen.options import Options
from pmitogen.cli.keygen.questions import ask_path
from pmitogen.errors import UsageError
from pmitogen.transport.keys import key_file, private_key, public_key
from pmitogen.transport.keys.private_key import CryptographyKey, UnusableKey

_BEGIN, _END = "---- BEGIN SSH2 PUBLIC KEY ----", "---- END SSH2 PUBLIC KEY ----"
_PEM = serialization.Encoding.PEM
_MIN_PASSPHRASE = 5  # characters; of OpenSSL for PEM


class Format(enum.Enum):
    """The value of ``-m``."""

    RFC4716 = "rfc4716"  # private keys: OpenSSH's own format
    PKCS8 = "pkcs8"
    PEM = "pem"


class ShortPassphrase(UsageError):
    """A passphrase that is too short for the format. The file is not written."""


def chosen(options: Options) -> Format:
    """Return the format that ``-m`` names. Raises UsageError."""
    text = options["m"]
    if text is None or text.lower() == "ssh2":
        return Format.RFC4716
    try:
        return Format(text.lower())
    except ValueError:
        raise UsageError(f'Unsupported conversion format "{text}"') from None


def encode_private(key: CryptographyKey, comment: str, passphrase: str, rounds: int, form: Format) -> bytes:
    """Return the contents of a private key's file. *rounds*: as in openssh_format. Raises ShortPassphrase."""
    if form is Format.RFC4716 or isinstance(key, ed25519.Ed25519PrivateKey):
        return openssh_format.encode(key, comment, passphrase, rounds)
    if 0 < len(passphrase) < _MIN_PASSPHRASE:
        raise ShortPassphrase("passphrase is too short (minimum five characters)")
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase.encode("utf-8", "surrogateescape"))
    private_format = serialization.PrivateFormat
    return key.private_bytes(
        _PEM, private_format.PKCS8 if form is Format.PKCS8 else private_format.TraditionalOpenSSL, encryption
    )


def export(options: Options) -> int:
    """``-e``: print a public key in another format. Raises UsageError."""
    form = chosen(options)
    path = options["f"] or ask_path()
    _check_exists(path)
    blob = _public_blob(path, options)
    if form is Format.RFC4716:
        comment = f"{show.bits(blob)}-bit {show.kind(blob)}, converted by {getpass.getuser()}@{socket.gethostname()} from OpenSSH"
        text = base64.b64encode(blob).decode()
        lines = [text[at : at + openssh_format.LINE_LENGTH] for at in range(0, len(text), openssh_format.LINE_LENGTH)]
        print("\n".join((_BEGIN, f'Comment: "{comment[:60]}"', *lines, _END)))
        return 0
    key = serialization.load_ssh_public_key(public_key.public_line(blob).encode())
    if isinstance(key, rsa.RSAPublicKey) and form is Format.PEM:
        data = key.public_bytes(_PEM, serialization.PublicFormat.PKCS1)
    elif isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)):
        data = key.public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    else:
        raise UsageError(f"do_convert_to_{form.value}: unsupported key type {show.kind(blob)}")
    print(data.decode(), end="")
    return 0


def import_key(options: Options) -> int:
    """``-i``: print a public key of another format in OpenSSH's. Raises UsageError."""
    form = chosen(options)
    path = options["f"] or ask_path()
    _check_exists(path)
    try:
        text = Path(path).read_text(errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"ssh-keygen: {path}: {error.strerror}") from None
    try:
        blob = _read_rfc4716(text) if form is Format.RFC4716 else _read_pem(text, form)
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"{path} is not a recognised public key format") from None
    print(public_key.public_line(blob))
    return 0


def _read_rfc4716(text: str) -> bytes:
    """Return the key. Raises ValueError."""
    found = re.search(f"^{_BEGIN}\\s*$(.*)^{_END}", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ValueError
    body = re.sub(r"^[^:\n]+: (?:[^\n]*\\\n)*[^\n]*\n", "", found[1].replace("\r", "").lstrip("\n"), flags=re.MULTILINE)
    blob = base64.b64decode("".join(body.split()), validate=True)
    serialization.load_ssh_public_key(public_key.public_line(blob).encode())
    return blob


def _read_pem(text: str, form: Format) -> bytes:
    """Return the key. Raises ValueError, UnsupportedAlgorithm."""
    label = "RSA PUBLIC KEY" if form is Format.PEM else "PUBLIC KEY"
    if f"-----BEGIN {label}-----" not in text:
        raise ValueError
    key = serialization.load_pem_public_key(text.encode())
    if not isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)):
        raise ValueError
    return private_key.public_blob(key)


def _check_exists(path: str) -> None:
    if not Path(path).exists():
        raise UsageError(f"ssh-keygen: {path}: No such file or directory")


def _public_blob(path: str, options: Options) -> bytes:
    try:
        return key_file.read_public(path)
    except (OSError, UnusableKey):
        return passphrases.open_key(path, options["P"], f'Load key "{path}"', "Enter passphrase: ").blob
