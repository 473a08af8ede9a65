"""Make keys: ``-t``; change their passphrases and comments: ``-p``, ``-c``."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from pmitogen.cli.keygen import formats, openssh_format, passphrases, show
from pmitogen.cli.keygen.options import Options
from pmitogen.cli.keygen.questions import ask_line, ask_path
from pmitogen.cli.prompt import find_asker
from pmitogen.errors import UsageError
from pmitogen.transport.keys import key_decryption, public_key
from pmitogen.transport.keys.private_key import CryptographyKey, PrivateKey
from pmitogen.util import atomic_file
from pmitogen.util.peer_text import escape

CURVES: dict[int, ec.EllipticCurve] = {256: ec.SECP256R1(), 384: ec.SECP384R1(), 521: ec.SECP521R1()}
RSA_BITS, MIN_RSA_BITS, MAX_RSA_BITS = 3072, 1024, 16384
MAX_ROUNDS = key_decryption.MAX_ROUNDS  # more could not be read again
_BITS = "Bits has bad value {}"
# Names of -t, for which ssh-keygen also takes the names in public keys: the kind of key, and its bits if they are in the name.
_KINDS: dict[str, tuple[str, int | None]] = {
    "ed25519": ("ed25519", None),
    "ssh-ed25519": ("ed25519", None),
    "ecdsa": ("ecdsa", None),
    **{f"ecdsa-sha2-nistp{bits}": ("ecdsa", bits) for bits in CURVES},
    "rsa": ("rsa", None),
    "ssh-rsa": ("rsa", None),
}


class SaveError(UsageError):
    """A key file could not be written."""


def create(options: Options) -> int:
    """Make a key pair. Raises UsageError."""
    wanted = "ed25519" if options["t"] is None else options["t"]
    kind, bits = _KINDS.get(wanted.lower(), ("", None))
    make, rounds, form = _maker(kind, bits, options), _rounds(options), formats.chosen(options)
    comment = options["C"] if options["C"] is not None else f"{getpass.getuser()}@{socket.gethostname()}"
    _check_comment(comment)
    if not options.quiet:
        print(f"Generating public/private {wanted} key pair.", flush=True)
    default = os.path.expanduser(f"~/.ssh/id_{kind}")
    path = Path(options["f"] or ask_line(f"Enter file in which to save the key ({default}): ") or default)
    _make_ssh_directory(path)
    if path.exists() and not _may_overwrite(path):
        return 1
    passphrase = options["N"]
    if passphrase is None:
        passphrase = passphrases.new_passphrase(f'Enter passphrase for "{path}" (empty for no passphrase): ')
    key = make()
    blob = openssh_format.public_blob(key)
    _write(path, _encode(path, key, comment, passphrase, rounds, form), 0o600)
    _write_public(path, blob, comment)
    if not options.quiet:
        print(f"Your identification has been saved in {path}\nYour public key has been saved in {path}.pub")
        print(f"The key fingerprint is:\n{public_key.fingerprint(blob)} {escape(comment)}")
        print(f"The key's randomart image is:\n{show.picture(blob, 'sha256')}")
    return 0


def change_passphrase(options: Options) -> int:
    """Change the passphrase of a key (``-p``). Raises UsageError."""
    rounds, form = _rounds(options), formats.chosen(options)
    path = options["f"] or ask_path()
    key = passphrases.open_key(path, options["P"], f"Failed to load key {path}", "Enter old passphrase: ")
    print(f"Key has comment '{escape(key.comment)}'", flush=True)
    new = options["N"]
    if new is None:
        new = passphrases.new_passphrase("Enter new passphrase (empty for no passphrase): ")
    _write(Path(path), _encode(Path(path), key.cryptography_key, key.comment, new, rounds, form), 0o600)
    print("Your identification has been saved with the new passphrase.")
    return 0


def change_comment(options: Options) -> int:
    """Change the comment of a key and keep its passphrase (``-c``). Raises UsageError."""
    path = options["f"] or ask_path()
    passphrase = _Remembered(options["P"])
    key = passphrase.open(path)
    print(f"Old comment: {escape(key.comment)}" if key.comment else "No existing comment", flush=True)
    comment = options["C"] if options["C"] is not None else ask_line("New comment: ") or ""
    _check_comment(comment)
    _write(Path(path), openssh_format.encode(key.cryptography_key, comment, passphrase.value or "", _rounds(options)), 0o600)
    _write_public(Path(path), key.blob, comment)
    print(f"Comment '{escape(comment)}' applied" if comment else "Comment was removed")
    return 0


def _maker(kind: str, named_bits: int | None, options: Options) -> Callable[[], CryptographyKey]:
    """Return the function that creates a key of *kind*, after checking the options. *named_bits*: those in the name of -t."""
    options.integer("b", 256, 1, (1 << 32) - 1, _BITS)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate
    if kind == "ecdsa":
        bits = named_bits or options.integer("b", 256, 1, 65536, _BITS)
        if bits not in CURVES:
            raise UsageError("Invalid ECDSA key length: valid lengths are 256, 384 or 521 bits")
        return lambda: ec.generate_private_key(CURVES[bits])
    if kind == "rsa":
        bits = options.integer("b", RSA_BITS, 1, 1 << 20, _BITS)
        if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
            limit = f"minimum is {MIN_RSA_BITS}" if bits < MIN_RSA_BITS else f"maximum is {MAX_RSA_BITS}"
            raise UsageError(f"Invalid RSA key length: {limit} bits")
        return lambda: rsa.generate_private_key(65537, bits)
    raise UsageError(f"unknown key type {options['t']}")


def _rounds(options: Options) -> int:
    return options.integer("a", openssh_format.DEFAULT_ROUNDS, 1, MAX_ROUNDS, "Invalid number: {}")


class _Remembered:
    """The passphrase of a key, to write the key again with the same passphrase."""

    def __init__(self, given: str | None) -> None:
        self.value = given

    def open(self, path: str) -> PrivateKey:
        """Read the key. Raises UsageError."""
        failure = f'Cannot load private key "{path}"'
        try:
            return passphrases.open_key(path, self.value or "", failure, "")
        except UsageError:
            ask = find_asker(allow_stdin=True)
            if self.value is not None or ask is None:
                raise
            self.value = ask("Enter passphrase: ", False)
            return passphrases.open_key(path, self.value or "", failure, "")


def _make_ssh_directory(path: Path) -> None:
    directory = Path("~/.ssh").expanduser()
    if path.parent == directory and not directory.exists():
        directory.mkdir(mode=0o700)
        print(f"Created directory '{directory}'.")


def _may_overwrite(path: Path) -> bool:
    print(f"{path} already exists.")
    return ask_line("Overwrite (y/n)? ").strip().lower().startswith("y")


def _check_comment(comment: str) -> None:
    if "\n" in comment or "\0" in comment:
        raise UsageError("-C: invalid comment; use one line")


def _write_public(path: Path, blob: bytes, comment: str) -> None:
    line = f"{public_key.public_line(blob)} {comment}".rstrip() + "\n"
    _write(path.with_name(path.name + ".pub"), line.encode("utf-8", "surrogateescape"), 0o644)


def _encode(path: Path, key: CryptographyKey, comment: str, passphrase: str, rounds: int, form: formats.Format) -> bytes:
    try:
        return formats.encode_private(key, comment, passphrase, rounds, form)
    except formats.ShortPassphrase as error:
        raise SaveError(f'Saving key "{path}" failed: {error}') from None


def _write(path: Path, data: bytes, mode: int) -> None:
    try:
        with atomic_file.create(path.resolve(), mode) as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
    except OSError as error:
        raise SaveError(f'Saving key "{path}" failed: {error.strerror}') from None
