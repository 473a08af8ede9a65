"""OpenSSH certificates: what is read, and what is refused, with ssh-keygen as their author."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmitogen.transport.keys import certificate as certificates
from pmitogen.transport.keys import key_file, public_key
from pmitogen.transport.keys.certificate import Certificate, host_problem, parse, user_problem
from pmitogen.transport.keys.wire import Malformed
from tests.support.keys import make_key

pytestmark = pytest.mark.needs_program("ssh-keygen")


def certificate(folder: Path, *words: str, kind: str = "ed25519", authority: str = "ed25519") -> Certificate:
    ca, key = make_key(folder / "ca", authority), make_key(folder / "key", kind)
    command = ["ssh-keygen", "-q", "-s", str(ca.path), "-I", "an id", "-z", "7", *words, str(key.path) + ".pub"]
    subprocess.run(command, check=True, capture_output=True)
    found = parse(key_file.read_public(str(folder / "key-cert.pub")))
    assert public_key.public_line(found.plain_blob) == key.public
    assert public_key.public_line(found.authority_blob) == ca.public
    return found


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "ecdsa384", "ecdsa521", "rsa"])
@pytest.mark.parametrize("authority", ["ed25519", "ecdsa521", "rsa"])
def test_fields(tmp_path: Path, kind: str, authority: str) -> None:
    found = certificate(
        tmp_path, "-n", "alice,bob", "-V", "20200101:20300101", "-O", "force-command=x", kind=kind, authority=authority
    )
    assert (found.serial, found.key_id, found.kind, found.principals) == (7, "an id", certificates.USER, ("alice", "bob"))
    assert found.critical_options == ("force-command",)
    assert found.valid_before - found.valid_after == 3653 * 86400
    assert certificates.authority_fingerprint(found).split()[1].startswith("SHA256:")


def test_host(tmp_path: Path) -> None:
    found = certificate(tmp_path, "-h", "-n", "web,*.example.com", "-V", "20200101:20300101", authority="rsa")
    now = found.valid_after + 1.0
    assert host_problem(found, "WEB", (), now) is None
    assert host_problem(found, "a.example.com", (), now) is None
    assert "not for example.com" in str(host_problem(found, "example.com", (), now))
    assert "not valid before" in str(host_problem(found, "web", (), found.valid_after - 1))
    assert host_problem(found, "web", (), found.valid_before - 1) is None
    assert "expired" in str(host_problem(found, "web", (), found.valid_before))
    assert "CASignatureAlgorithms" in str(host_problem(found, "web", ("rsa-sha2-256",), now))
    assert host_problem(found, "web", ("rsa-sha2-512",), now) is None


def test_host_without_principals_is_for_every_host(tmp_path: Path) -> None:
    assert host_problem(certificate(tmp_path, "-h"), "anything", ()) is None


def test_host_with_critical_options(tmp_path: Path) -> None:
    found = certificate(tmp_path, "-h", "-O", "critical:new@example.com=1")
    assert "new@example.com" in str(host_problem(found, "web", ()))


def test_wrong_kind(tmp_path: Path) -> None:
    found = certificate(tmp_path, "-n", "root")
    assert "user certificate, not a host certificate" in str(host_problem(found, "root", ()))
    assert user_problem(found, "root") is None
    assert "principals are root, not alice" in str(user_problem(found, "alice"))


def test_forged(tmp_path: Path) -> None:
    """Whatever bit is changed, the authority's signature no longer holds."""
    blob = certificate(tmp_path, "-h", "-n", "web").blob
    for place in range(0, len(blob), 7):
        with pytest.raises(Malformed):
            parse(blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :])
    with pytest.raises(Malformed):
        parse(blob + b"\0")
    for end in range(0, len(blob), 11):
        with pytest.raises(Malformed):
            parse(blob[:end])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_anything_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        parse(data)
    with pytest.raises(Malformed):
        parse(b"\0\0\0\x20ssh-ed25519-cert-v01@openssh.com" + data)


def test_names() -> None:
    for plain in ("ssh-ed25519", "rsa-sha2-512", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com"):
        assert public_key.plain_name(public_key.certificate_name(plain)) == plain
    assert public_key.certificate_name("sk-ssh-ed25519@openssh.com") == "sk-ssh-ed25519-cert-v01@openssh.com"
    assert public_key.algorithms_of("ssh-rsa-cert-v01@openssh.com")[0] == "rsa-sha2-512-cert-v01@openssh.com"
    assert public_key.key_type("rsa-sha2-256-cert-v01@openssh.com") == "ssh-rsa-cert-v01@openssh.com"
    assert public_key.display("ssh-ed25519-cert-v01@openssh.com") == "ED25519-CERT"


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_fingerprints_are_ssh_keygens(tmp_path: Path, algorithm: str) -> None:
    key = make_key(tmp_path / "key")
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-E", algorithm, "-f", f"{key.path}.pub"], capture_output=True, text=True, check=True
    )
    assert public_key.fingerprint(key_file.read_public(f"{key.path}.pub"), algorithm) == shown.stdout.split()[1]
