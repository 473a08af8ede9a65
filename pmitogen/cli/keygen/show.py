"""Show keys: public halves (``-y``), fingerprints (``-l``), certificates (``-L``)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pmitogen.cli.keygen import passphrases, randomart
from pmitogen.cli.keygen.options import Options
from pmitogen.cli.keygen.questions import ask_path
from pmitogen.errors import UsageError
from pmitogen.transport.keys import certificate, key_file, public_key
from pmitogen.transport.keys.private_key import UnusableKey
from pmitogen.transport.keys.wire import DecodeError, PacketReader
from pmitogen.util.peer_text import escape

MAX_SIZE = 64 << 20  # bytes of a file that is shown
_OPTIONS = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^\s"])+')
_FLAGS = {
    "permit-X11-forwarding",
    "permit-agent-forwarding",
    "permit-port-forwarding",
    "permit-pty",
    "permit-user-rc",
    "no-touch-required",
    "verify-required",
}
_VALUES = {"force-command", "source-address"}
HASHES = ("md5", "sha1", "sha256", "sha384", "sha512")


def public_half(options: Options) -> int:
    """Print the public half of a private key (``-y``). Raises UsageError."""
    path = options["f"] or ask_path()
    key = passphrases.open_key(path, options["P"], f'Load key "{path}"', "Enter passphrase: ")
    print(f"{public_key.public_line(key.blob)} {escape(key.comment)}".rstrip())
    return 0


def fingerprints(options: Options) -> int:
    """Print the fingerprint of each key in a file (``-l``). Raises UsageError."""
    path = options["f"] or ask_path()
    chosen = hash_of(options)
    keys = list(_keys_of(path))
    for blob, comment in keys:
        print(f"{bits(blob)} {digest_text(blob, chosen)} {escape(comment) or 'no comment'} ({kind(blob)})")
        if "v" in options:
            print(picture(blob, chosen))
    if not keys:
        raise UsageError(f"{'(stdin)' if path == '-' else path} is not a public key file.")
    return 0


def certificates(options: Options) -> int:
    """Print the contents of the certificates in a file (``-L``). Raises UsageError."""
    path = options["f"] or ask_path()
    shown = "(stdin)" if path == "-" else path
    has_certificate = False
    for index, line in enumerate(_read(path).splitlines(), 1):
        key = _key_in(line)
        if key is None:
            if line.strip() and not line.lstrip().startswith("#"):
                print(f"{shown}:{index}: invalid key: invalid format", file=sys.stderr, flush=True)
            continue
        try:
            cert = certificate.parse(key[0])
        except DecodeError:
            sys.stdout.flush()
            print(f"{shown}:{index} is not a certificate", file=sys.stderr, flush=True)
            continue
        has_certificate = True
        print(f"{shown}:" if index == 1 and path != "-" else f"{shown}:{index}:")
        print("\n".join(_describe(cert)))
    return 0 if has_certificate else 1


class UnknownName(UsageError):
    """An unknown name after ``-E`` or ``-O``, for which all of OpenSSH's programs end with status 255."""


def hash_of(options: Options) -> str:
    """Return the hash algorithm that ``-E`` selects. Raises UsageError."""
    return hash_name(options["E"])


def hash_name(text: str | None) -> str:
    """Return the name of a hash as hashlib has it; None: the default. Raises UnknownName."""
    name = "sha256" if text is None else text.lower()
    if name not in HASHES:
        raise UnknownName(f'Invalid hash algorithm "{text}"')
    return name


def kind(blob: bytes) -> str:
    """Return the key's type as ssh-keygen shows it."""
    return public_key.display_name(public_key.blob_type(blob))


def bits(blob: bytes) -> int:
    """Return the size of the key in bits."""
    plain = certificate.plain_blob(blob)
    name = public_key.blob_type(plain)
    if name == "ssh-rsa":
        return public_key.rsa_bits(plain) or 0
    if name.startswith("ecdsa-sha2-nistp"):
        return int(name.removeprefix("ecdsa-sha2-nistp")[:3])
    return 256


def digest_text(blob: bytes, hash_name: str) -> str:
    """Return the fingerprint of the key, without its certificate, by any of the hash algorithms."""
    plain = certificate.plain_blob(blob)
    if hash_name == "md5":
        return public_key.fingerprint(plain, hash_name)
    digest = base64.b64encode(hashlib.new(hash_name, plain, usedforsecurity=False).digest())
    return f"{hash_name.upper()}:{digest.decode().rstrip('=')}"


def picture(blob: bytes, hash_name: str) -> str:
    """Return the randomart of a key."""
    plain = certificate.plain_blob(blob)
    digest = hashlib.new(hash_name, plain, usedforsecurity=False).digest()
    return randomart.draw(digest, f"{kind(blob)} {bits(blob)}", hash_name.upper())


def _keys_of(path: str) -> Iterator[tuple[bytes, str]]:
    """Yield the keys in a file of public keys, authorized_keys or known_hosts, or that of a private key file, with comments."""
    text = _read(path)
    if path != "-" and "PRIVATE KEY-----" in text.lstrip().partition("\n")[0]:
        yield _public_and_comment(path, text)
        return
    for line in text.splitlines():
        key = _key_in(line)
        if key is not None:
            yield key


def _read(path: str) -> str:
    try:
        with open(0 if path == "-" else path, errors="surrogateescape", closefd=path != "-") as file:
            text = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise UsageError(f"ssh-keygen: {path}: {error.strerror}") from None
    if len(text) > MAX_SIZE:
        raise UsageError(f"{path}: too large for a key file; the limit is {MAX_SIZE >> 20} MiB")
    return text


def _public_and_comment(path: str, text: str) -> tuple[bytes, str]:
    """Return the public half of the private key *text*, and its comment. The file may be readable for others."""
    file = key_file.KeyFile(path, text, identity=(path,))
    blob, comment = file.public_blob, _comment_beside(path)
    if blob is None or not comment:
        with contextlib.suppress(UnusableKey):  # it is encrypted
            key = file.open(None)
            blob, comment = blob or key.blob, comment or key.comment
    if blob is not None:
        with contextlib.suppress(DecodeError):  # such as an RSA key that is too short
            certificate.plain_blob(blob)
            return blob, comment
    raise UsageError(f"{path} is not a public key file.")


def _key_in(line: str) -> tuple[bytes, str] | None:
    """Return the key of a line and its comment: at its start, or after one field of options or host names."""
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    key = _key_at_start(line)
    if key is not None:
        return key
    options = _OPTIONS.match(line)
    key = _key_at_start(line[options.end() :].lstrip()) if options else None
    return (key[0], key[1] or line[: options.end()]) if key and options else None


def _key_at_start(text: str) -> tuple[bytes, str] | None:
    fields = text.split(None, 2)
    try:
        blob = base64.b64decode(fields[1], validate=True)
        certificate.plain_blob(blob)
        return (blob, fields[2] if len(fields) > 2 else "") if public_key.blob_type(blob) == fields[0] else None
    except (IndexError, ValueError):
        return None


def _comment_beside(path: str) -> str:
    """Return the comment in the .pub file, or that file's name if it has none, as ssh-keygen does."""
    try:
        fields = Path(path + ".pub").read_text(errors="surrogateescape").split(None, 2)
    except OSError:
        return ""
    return fields[2].strip() if len(fields) > 2 else f"{path}.pub"


def _describe(cert: certificate.Certificate) -> Iterator[str]:
    role = "user" if cert.kind == certificate.USER else "host"
    pad = " " * 8
    authority = certificate.authority_fingerprint(cert)
    yield f"{pad}Type: {cert.name} {role} certificate"
    yield f"{pad}Public key: {kind(cert.blob)} {public_key.fingerprint(cert.plain_blob)}"
    yield f"{pad}Signing CA: {authority} (using {_signature_algorithm(cert)})"
    yield f'{pad}Key ID: "{escape(cert.key_id)}"'
    yield f"{pad}Serial: {cert.serial}"
    yield f"{pad}Valid: {_validity(cert)}"
    critical, extensions = certificate.options(cert)
    for title, rows in (
        ("Principals", [escape(name) for name in cert.principals]),
        ("Critical Options", list(map(_option, critical))),
        ("Extensions", list(map(_option, extensions))),
    ):
        yield f"{pad}{title}: " + ("" if rows else "(none)")
        yield from (f"{pad}{pad}{row}" for row in rows)


def _option(option: tuple[str, bytes]) -> str:
    """Return the line for one option. Known options have one string as their value, or none."""
    name, data = option
    if name in _FLAGS:
        return name
    if name in _VALUES:
        with contextlib.suppress(DecodeError):
            return f"{name} {escape(PacketReader(data).text())}"
    return f"{escape(name)} UNKNOWN OPTION: {data.hex()} (len {len(data)})"


def _signature_algorithm(cert: certificate.Certificate) -> str:
    return escape(PacketReader(cert.signature).string())


def _validity(cert: certificate.Certificate) -> str:
    end = 2**64 - 1
    if cert.valid_after == 0 and cert.valid_before == end:
        return "forever"

    def date(seconds: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))

    if cert.valid_after == 0:
        return f"before {date(cert.valid_before)}"
    if cert.valid_before == end:
        return f"after {date(cert.valid_after)}"
    return f"from {date(cert.valid_after)} to {date(cert.valid_before)}"
