"""Private keys in every format of ssh-keygen, and the errors for those that cannot be read."""

from __future__ import annotations

import base64
import itertools
import os
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from pmitogen.transport.auth.credentials import Secret
from pmitogen.transport.keys import key_decryption, key_file, private_key, public_key
from pmitogen.transport.keys.private_key import PrivateKey, UnusableKey
from pmitogen.transport.keys.wire import DecodeError
from tests.support.keys import make_key

needs_keygen = pytest.mark.needs_program("ssh-keygen")
KINDS = (("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "2048"))
FORMATS = ("RFC4716", "PEM", "PKCS8")


def generate(path: Path, *args: str, passphrase: str = "") -> Path:
    command = ["ssh-keygen", "-q", "-f", str(path), "-N", passphrase, *args]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return path


def check(path: Path, passphrase: str | None = None) -> PrivateKey:
    """Load a key, and verify its signature with its .pub file."""
    key = key_file.read(str(path)).open(Secret(passphrase) if passphrase else None)
    public = key_file.read_public(f"{path}.pub")
    assert key.blob == public
    for algorithm in public_key.algorithms_of(key.name):
        assert public_key.verify_signature(public, key.sign(b"data", algorithm), b"data") == algorithm
        with pytest.raises(DecodeError):
            public_key.verify_signature(public, key.sign(b"data", algorithm), b"other")
    return key


@needs_keygen
@pytest.mark.parametrize("passphrase", ["", "a pass phrase"])
@pytest.mark.parametrize(
    ("kind", "form"), [pair for pair in itertools.product(KINDS, FORMATS) if pair[0][0] != "ed25519" or pair[1] == "RFC4716"]
)
def test_each_format_and_type_is_read(tmp_path: Path, kind: tuple[str, str], form: str, passphrase: str) -> None:
    path = generate(tmp_path / "key", "-t", kind[0], "-b", kind[1], "-m", form, passphrase=passphrase)
    check(path, passphrase)
    if not passphrase:
        check(path, "ignored, as the key has none")
        return
    file = key_file.read(str(path))
    assert file.public_blob == key_file.read_public(f"{path}.pub")
    with pytest.raises(UnusableKey, match="incorrect passphrase") as wrong:
        file.open(Secret("another"))
    with pytest.raises(UnusableKey, match="no passphrase") as needed:
        file.open()
    assert (wrong.value.passphrase, needed.value.passphrase) == ("wrong", "needed")


@needs_keygen
@pytest.mark.parametrize("cipher", sorted(key_decryption._SIZES))
def test_each_cipher_is_decrypted(tmp_path: Path, cipher: str) -> None:
    path = generate(tmp_path / "key", "-t", "ed25519", "-Z", cipher, passphrase="secret")
    check(path, "secret")
    with pytest.raises(UnusableKey, match="incorrect passphrase"):
        key_file.read(str(path)).open(Secret("no"))


def test_a_passphrase_is_prompted_for_again_after_a_wrong_one(tmp_path: Path) -> None:
    file = key_file.read(str(make_key(tmp_path / "key", passphrase="right").path))
    answers = ["no", "right"]
    assert file.open_with_prompt(lambda prompt: answers.pop(0), 3)
    with pytest.raises(UnusableKey, match="incorrect passphrase"):
        file.open_with_prompt(lambda prompt: "no", 2)
    with pytest.raises(UnusableKey, match="no passphrase"):
        file.open_with_prompt(lambda prompt: None, 2)


@needs_keygen
def test_an_encrypted_key_is_decrypted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = generate(tmp_path / "key", "-t", "ed25519", passphrase="secret")
    cache = key_file.KeyCache()
    first = key_file.read(str(path)).open(Secret("secret"), cache)
    with monkeypatch.context() as patched:
        patched.setattr(private_key, "load", None)
        assert key_file.read(str(path)).open(Secret("secret"), cache) is first
    cache.clear()
    assert key_file.read(str(path)).open(Secret("secret"), cache) is not first


def test_an_unencrypted_key_is_read_again_only_after_a_change(tmp_path: Path) -> None:
    path = make_key(tmp_path / "key").path
    cache = key_file.KeyCache()
    first = key_file.read(str(path)).open(None, cache)
    assert key_file.read(str(path)).open(None, cache) is first
    times = path.stat()
    path.write_text(make_key(tmp_path / "other").path.read_text())
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # the content counts, not the time
    assert key_file.read(str(path)).open(None, cache).blob != first.blob


def test_a_public_key_is_read_again_after_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_file, "SETTLED", -1)
    one, other = (Path(f"{make_key(tmp_path / name).path}.pub") for name in ("one", "other"))
    first = key_file.read_public(str(one))
    with monkeypatch.context() as patched:
        patched.setattr(key_file, "public_blob_of", None)
        assert key_file.read_public(str(one)) == first
    one.write_bytes(other.read_bytes())
    assert key_file.read_public(str(one)) == key_file.read_public(str(other)) != first
    one.unlink()
    with pytest.raises(FileNotFoundError):
        key_file.read_public(str(one))


def test_a_public_key_that_has_just_changed_is_not_cached(tmp_path: Path) -> None:
    path = Path(f"{make_key(tmp_path / 'key').path}.pub")
    key_file.read_public(str(path))
    assert str(path) not in key_file._public


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "not a private key"),
        ("PuTTY-User-Key-File-3: ssh-ed25519\n", "puttygen"),
        ("-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n", "unsupported key type DSA"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "invalid"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "invalid"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "unsupported key type CERTIFICATE"),
    ],
)
def test_unusable_keys_have_a_reason(text: str, line: str) -> None:
    with pytest.raises(UnusableKey, match=line):
        private_key.load(private_key.read_header(text), None)


def test_a_truncated_key_is_invalid(tmp_path: Path) -> None:
    text = make_key(tmp_path / "key").path.read_text()
    for end in range(40, len(text) - 50, 13):
        with pytest.raises(UnusableKey):
            private_key.load(private_key.read_header(text[:end] + "\n-----END OPENSSH PRIVATE KEY-----\n"), None)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=100), st.sampled_from(["OPENSSH PRIVATE KEY", "RSA PRIVATE KEY", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"]))
def test_arbitrary_text_is_an_invalid_key(text: str, label: str) -> None:
    with pytest.raises(UnusableKey):
        private_key.load(private_key.read_header(f"-----BEGIN {label}-----\n{text}\n-----END {label}-----\n"), "x")


def test_a_secret_is_not_shown() -> None:
    secret = Secret("hidden")
    assert "hidden" not in f"{secret} {secret!r} {[secret]}"
    assert secret == Secret("hidden") and secret != Secret("other") and hash(secret) == hash(Secret("hidden"))


def test_a_key_with_a_compressed_point_is_reported_as_unsupported() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    body = base64.b64decode("".join(text.decode().splitlines()[1:-1]))
    numbers = key.public_key().public_numbers()
    point = b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    shorter = body.replace(point, bytes([2 + numbers.y % 2]) + point[1:])  # the byte that marks a compressed point
    armoured = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{base64.b64encode(shorter).decode()}\n-----END OPENSSH PRIVATE KEY-----\n"
    with pytest.raises(UnusableKey):
        private_key.load(private_key.read_header(armoured), None)
