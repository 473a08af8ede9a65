"""OpenSSH certificates: accepted and refused ones, made by ssh-keygen."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmitogen.transport.keys import certificate as certificates
from pmitogen.transport.keys import key_file, public_key
from pmitogen.transport.keys.certificate import Certificate, host_problem, parse, user_problem
from pmitogen.transport.keys.wire import DecodeError, encode_string
from tests.support import certificates as certificates_support
from tests.support.keys import make_key

pytestmark = pytest.mark.needs_program("ssh-keygen")


def certificate(directory: Path, *args: str, kind: str = "ed25519", authority: str = "ed25519") -> Certificate:
    ca, key = make_key(directory / "ca", authority), make_key(directory / "key", kind)
    command = ["ssh-keygen", "-q", "-s", str(ca.path), "-I", "an id", "-z", "7", *args, str(key.path) + ".pub"]
    subprocess.run(command, check=True, capture_output=True)
    found = parse(key_file.read_public(str(directory / "key-cert.pub")))
    assert public_key.public_line(found.plain_blob) == key.public
    assert public_key.public_line(found.authority_blob) == ca.public
    return found


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "ecdsa384", "ecdsa521", "rsa"])
@pytest.mark.parametrize("authority", ["ed25519", "ecdsa521", "rsa"])
def test_fields_are_read(tmp_path: Path, kind: str, authority: str) -> None:
    found = certificate(
        tmp_path, "-n", "alice,bob", "-V", "20200101:20300101", "-O", "force-command=x", kind=kind, authority=authority
    )
    assert (found.serial, found.key_id, found.kind, found.principals) == (7, "an id", certificates.USER, ("alice", "bob"))
    assert found.critical_options == ("force-command",)
    assert found.valid_before - found.valid_after == 3653 * 86400
    assert certificates.authority_fingerprint(found).split()[1].startswith("SHA256:")


def test_a_host_certificate_is_checked_for_host_time_and_algorithm(tmp_path: Path) -> None:
    found = certificate(tmp_path, "-h", "-n", "web,*.example.com", "-V", "20200101:20300101", authority="rsa")
    now = found.valid_after + 1.0
    assert host_problem(found, "web", (), now) is None
    assert host_problem(found, "a.example.com", (), now) is None
    assert "not for example.com" in str(host_problem(found, "example.com", (), now))
    assert "not valid before" in str(host_problem(found, "web", (), found.valid_after - 1))
    assert host_problem(found, "web", (), found.valid_before - 1) is None
    assert "expired" in str(host_problem(found, "web", (), found.valid_before))
    assert "CASignatureAlgorithms" in str(host_problem(found, "web", ("rsa-sha2-256",), now))
    assert host_problem(found, "web", ("rsa-sha2-512",), now) is None


def test_a_host_certificate_without_principals_is_refused(tmp_path: Path) -> None:
    assert "it has no principals" in str(host_problem(certificate(tmp_path, "-h"), "anything", ()))


def test_a_host_certificate_with_critical_options_is_refused(tmp_path: Path) -> None:
    found = certificate(tmp_path, "-h", "-n", "web", "-O", "critical:new@example.com=1")
    assert "new@example.com" in str(host_problem(found, "web", ()))


def made(directory: Path, authority: str = "ed25519", **fields: Any) -> Certificate:
    """Make a certificate that ssh-keygen would not make."""
    return parse(certificates_support.certificate(make_key(directory / "ca", authority), make_key(directory / "key"), **fields))


@pytest.mark.parametrize(
    ("principals", "good", "bad"),
    [
        ([b"web"], ["web"], ["WEB", "web.example.com", "we", ""]),
        ([b"Web"], ["Web"], ["web"]),
        ([b"*"], ["web", ""], []),
        ([b"w?b", b"x"], ["web", "x"], ["wb", "weeb"]),
        ([b"!web"], ["!web"], ["web", "other"]),
        ([b"web,db"], ["web,db"], ["web", "db"]),
        ([b"[web]:2222"], ["[web]:2222"], ["web", "w"]),
        ([b""], [""], ["web"]),
        ([b"web\0"], ["web"], []),
        ([b"\xff"], ["\udcff"], ["\xff"]),
        ([b"*a" * 20 + b"b"], [], ["a" * 200]),
    ],
)
def test_principals_match_host_names(tmp_path: Path, principals: list[bytes], good: list[str], bad: list[str]) -> None:
    found = made(tmp_path, principals=principals)
    assert [host for host in good if host_problem(found, host, ())] == []
    assert [host for host in bad if not host_problem(found, host, ())] == []


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": 0},
        {"kind": 3},
        {"key_id": b"a\0b"},
        {"principals": [b"a\0b"]},
        {"principals": [b"h"] * 257},
        {"critical": encode_string("alone")},
        {"extensions": encode_string("alone")},
        {"critical": b"\0\0\0\5ab"},
        {"spoil": b"x"},
        {"spoil": encode_string("x")},
    ],
)
def test_certificates_that_ssh_refuses_are_malformed(tmp_path: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        made(tmp_path, **fields)


def test_names_may_have_any_encoding(tmp_path: Path) -> None:
    found = made(tmp_path, key_id=b"\xffid\0", principals=[b"h"] * 256)
    assert found.key_id == "\udcffid" and len(found.principals) == 256
    assert found.describe().isprintable() and host_problem(found, "h", ()) is None


def test_a_sha1_signature_is_refused_by_default(tmp_path: Path) -> None:
    found = made(tmp_path, "rsa", principals=[b"web"], algorithm="ssh-rsa")
    assert "signed with ssh-rsa" in str(host_problem(found, "web", ()))
    assert host_problem(found, "web", ("ssh-rsa",)) is None  # as with CASignatureAlgorithms=+ssh-rsa


def test_small_authorities_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="768|512|1016"):
        public_key.validate(encode_string("ssh-rsa") + encode_string(b"\1\0\1") + encode_string(b"\0" + b"\xff" * 127))


def test_a_certificate_of_the_wrong_kind_is_refused(tmp_path: Path) -> None:
    found = certificate(tmp_path, "-n", "root")
    assert "user certificate, not a host certificate" in str(host_problem(found, "root", ()))
    assert user_problem(found, "root") is None
    assert "principals are root, not alice" in str(user_problem(found, "alice"))


def test_a_changed_certificate_is_refused(tmp_path: Path) -> None:
    """Whichever bit is changed, the authority's signature is invalid."""
    blob = certificate(tmp_path, "-h", "-n", "web").blob
    for place in range(0, len(blob), 7):
        with pytest.raises(DecodeError):
            parse(blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :])
    with pytest.raises(DecodeError):
        parse(blob + b"\0")
    for end in range(0, len(blob), 11):
        with pytest.raises(DecodeError):
            parse(blob[:end])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_data_is_malformed(data: bytes) -> None:
    with pytest.raises(DecodeError):
        parse(data)
    with pytest.raises(DecodeError):
        parse(b"\0\0\0\x20ssh-ed25519-cert-v01@openssh.com" + data)


def test_algorithm_names_of_certificates() -> None:
    for plain in ("ssh-ed25519", "rsa-sha2-512", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com"):
        assert public_key.plain_name(public_key.certificate_name(plain)) == plain
    assert public_key.certificate_name("sk-ssh-ed25519@openssh.com") == "sk-ssh-ed25519-cert-v01@openssh.com"
    assert public_key.algorithms_of("ssh-rsa-cert-v01@openssh.com")[0] == "rsa-sha2-512-cert-v01@openssh.com"
    assert public_key.key_type("rsa-sha2-256-cert-v01@openssh.com") == "ssh-rsa-cert-v01@openssh.com"
    assert public_key.display_name("ssh-ed25519-cert-v01@openssh.com") == "ED25519-CERT"


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_fingerprints_are_those_of_ssh_keygen(tmp_path: Path, algorithm: str) -> None:
    key = make_key(tmp_path / "key")
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-E", algorithm, "-f", f"{key.path}.pub"], capture_output=True, text=True, check=True
    )
    assert public_key.fingerprint(key_file.read_public(f"{key.path}.pub"), algorithm) == shown.stdout.split()[1]
