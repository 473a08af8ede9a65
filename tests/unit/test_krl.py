"""Binary revocation lists of the installed ssh-keygen, with its own decisions as the oracle, and invalid ones."""

from __future__ import annotations

import base64
import random
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pmitogen.transport.hostkeys import revocation
from pmitogen.transport.keys import certificate as certificates
from pmitogen.transport.keys.wire import DecodeError, encode_string
from tests.support.keys import KeyFile, make_key

pytestmark = pytest.mark.needs_program("ssh-keygen")
MakeKey = Callable[..., KeyFile]
HEAD = revocation.MAGIC + struct.pack(">IQQQ", 1, 7, 0, 0) + encode_string(b"") + encode_string(b"a comment")
SERIALS = (0, 1, 5, 6, 7, 70, 99, 1000, 1001, 1500, 2000, 2001, 10**9, 2**63, 2**64 - 1)


def keygen(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ssh-keygen", *map(str, args)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)


def make_list(directory: Path, lines: Sequence[str], *args: object) -> Path:
    """Make a KRL from *lines* in the notation of ssh-keygen."""
    (directory / "specification").write_text("".join(line + "\n" for line in lines))
    done = keygen("-k", "-f", directory / "krl", *args, directory / "specification")
    assert done.returncode == 0, done.stderr
    return directory / "krl"


def certificate(directory: Path, authority: KeyFile, serial: int, name: str) -> Path:
    key = make_key(directory / f"{authority.path.name}-{serial}-{name}")
    assert keygen("-q", "-s", authority.path, "-h", "-I", name, "-z", serial, f"{key.path}.pub").returncode == 0
    return key.path.with_name(f"{key.path.name}-cert.pub")


def decisions_of_pmitogen(path: Path, publics: Sequence[Path]) -> list[bool]:
    """Return for each key whether the list at *path* revokes it."""
    revoked = revocation.RevocationList(path.read_bytes())
    return [revoked.revocation_reason(*key(public)) is not None for public in publics]


def key(public: Path) -> tuple[bytes, certificates.Certificate | None]:
    blob = base64.b64decode(public.read_text().split()[1])
    found = certificates.parse(blob) if public.name.endswith("-cert.pub") else None
    return (found.plain_blob if found else blob), found


def decisions_of_ssh_keygen(path: Path, publics: Sequence[Path]) -> list[bool]:
    done = keygen("-Q", "-f", path, *publics)
    verdicts = [line.rsplit(": ", 1)[1] for line in done.stdout.splitlines()]
    assert len(verdicts) == len(publics) and set(verdicts) <= {"REVOKED", "ok"}, done
    return [verdict == "REVOKED" for verdict in verdicts]


def test_decisions_about_certificates_are_those_of_ssh_keygen(short_path: Path, make_key: MakeKey) -> None:
    authority, other = make_key(), make_key("rsa")
    publics = [certificate(short_path, authority, serial, "host") for serial in SERIALS]
    publics += [certificate(short_path, each, 3, name) for each in (authority, other) for name in ("lost", "kept")]
    dense = [f"serial: {serial}" for serial in range(60, 90, 2)]  # these become a bitmap
    lists = (
        ["serial: 5", "serial: 7", f"serial: {2**64 - 1}"],
        ["serial: 1000-2000", f"serial: {2**62}-{2**63}"],
        dense,
        ["id: lost"],
        [*dense, "serial: 1", "serial: 1000-1001", "id: lost"],
    )
    kinds, verdicts = set(), set()
    for lines in lists:
        for args in (("-s", f"{authority.path}.pub"), ("-s", f"{other.path}.pub")):
            path = make_list(short_path, lines, *args)
            kinds |= {kind for kind in revocation._READERS if bytes((kind, 0, 0)) in path.read_bytes()}
            assert decisions_of_pmitogen(path, publics) == decisions_of_ssh_keygen(path, publics), (lines, args)
            verdicts |= set(decisions_of_pmitogen(path, publics))
    assert kinds >= {revocation.SERIALS, revocation.SERIAL_RANGE, revocation.SERIAL_BITMAP, revocation.KEY_IDS}
    assert verdicts == {True, False}


def test_decisions_about_keys_are_those_of_ssh_keygen(short_path: Path, make_key: MakeKey) -> None:
    publics = [key.path.with_name(key.path.name + ".pub") for key in map(make_key, ("ed25519", "rsa", "ecdsa", "ed25519"))]
    authority = make_key()
    publics += [certificate(short_path, authority, 1, "x"), authority.path.with_name(authority.path.name + ".pub")]
    fingerprint = keygen("-lf", publics[3]).stdout.split()[1]
    whys = []
    for line in ("key", "sha1", "sha256"):
        for revoked in (publics[0], publics[1], publics[5]):
            path = make_list(short_path, [f"{line}: {revoked.read_text().strip()}"])
            assert decisions_of_pmitogen(path, publics) == decisions_of_ssh_keygen(path, publics), (line, revoked)
            assert decisions_of_pmitogen(path, publics)[publics.index(revoked)]
        whys.append(revocation.RevocationList(path.read_bytes()).revocation_reason(*key(publics[4])))
    assert whys == [f"the {what} of the certificate's authority" for what in ("key", "SHA1 fingerprint", "SHA256 fingerprint")]
    path = make_list(short_path, [f"hash: {fingerprint}"])
    assert (
        decisions_of_pmitogen(path, publics)
        == decisions_of_ssh_keygen(path, publics)
        == [False, False, False, True, False, False]
    )


def section(kind: int, *parts: bytes) -> bytes:
    return bytes((kind,)) + encode_string(b"".join(parts))


def certified(kind: int, *parts: bytes) -> bytes:
    return HEAD + section(revocation.CERTIFICATES, encode_string(b""), encode_string(b""), section(kind, *parts))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (revocation.MAGIC + struct.pack(">IQQQ", 2, 7, 0, 0) + encode_string(b"") + encode_string(b""), "version 2"),
        (HEAD[:-1], "message truncated"),
        (HEAD + b"\x02", "message truncated"),
        (HEAD + section(77), "unknown section type 77"),
        (HEAD + section(revocation.SIGNATURE, b"key") + encode_string(b"signature"), "signed"),
        (HEAD + section(revocation.SHA1, encode_string(bytes(19))), "20 bytes"),
        (HEAD + section(revocation.SHA256, encode_string(bytes(20))), "32 bytes"),
        (HEAD + section(revocation.KEYS, encode_string(b"key"), b"\0"), "message truncated"),
        (HEAD + section(revocation.EXTENSION, encode_string(b"x@y"), b"\1", encode_string(b"")), "critical extension 'x@y'"),
        (HEAD + section(revocation.EXTENSION, encode_string(b"x@y"), b"\0", encode_string(b""), b"?"), "trailing data"),
        (HEAD + section(revocation.CERTIFICATES, encode_string(b"no key"), encode_string(b"")), "message truncated"),
        (certified(0x2F), "unknown certificate section type 47"),
        (certified(revocation.SERIALS, bytes(7)), "truncated"),
        (certified(revocation.SERIALS, bytes(8)), "serial number 0"),
        (certified(revocation.SERIAL_RANGE, struct.pack(">QQ", 9, 8)), "range of serial numbers: 9 to 8"),
        (certified(revocation.SERIAL_RANGE, struct.pack(">QQQ", 1, 8, 9)), "trailing data"),
        (certified(revocation.SERIAL_BITMAP, struct.pack(">Q", 1), encode_string(b"\x80")), "negative"),
        (certified(revocation.SERIAL_BITMAP, struct.pack(">Q", 1), encode_string(b"\1" * 2049)), "2049 bytes"),
        (
            certified(revocation.SERIAL_BITMAP, struct.pack(">Q", 2**64 - 1), encode_string(b"\2")),
            "largest serial number",
        ),
        (certified(revocation.SERIAL_BITMAP, struct.pack(">Q", 0), encode_string(b"\1")), "largest serial number"),
        (certified(revocation.KEY_IDS, encode_string(b"a"), b"\0"), "message truncated"),
        (certified(revocation.CERTIFICATE_EXTENSION, encode_string(b"x@y"), b"\1", encode_string(b"")), "critical"),
    ],
)
def test_an_invalid_list_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(DecodeError, match=text):
        revocation.RevocationList(data)


def test_optional_sections_are_ignored() -> None:
    extension = section(revocation.EXTENSION, encode_string(b"x@y"), b"\0", encode_string(b"anything"))
    assert revocation.RevocationList(HEAD + extension).revocation_reason(b"key") is None
    assert (
        revocation.RevocationList(HEAD + extension + section(revocation.KEYS, encode_string(b"key"))).revocation_reason(b"key")
        == "the key"
    )
    revocation.RevocationList(certified(revocation.SERIAL_BITMAP, struct.pack(">Q", 2**64 - 1), encode_string(b"\0\1")))
    revocation.RevocationList(certified(revocation.SERIAL_BITMAP, struct.pack(">Q", 1), encode_string(b"")))


def test_mutated_lists_raise_no_other_error(short_path: Path, make_key: MakeKey) -> None:
    authority = make_key()
    lines = ["serial: 1", "serial: 60-70", "id: lost", f"sha256: {authority.public}", f"key: {authority.public}"]
    whole = make_list(short_path, lines, "-s", f"{authority.path}.pub").read_bytes()
    chance = random.Random(5)
    bad = 0
    for _ in range(3000):
        data = bytearray(whole[: chance.randrange(len(whole) + 1)] if chance.random() < 0.3 else whole)
        for _ in range(chance.randrange(3)):
            if data:
                data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            revocation.RevocationList(bytes(data))
        except DecodeError:
            bad += 1
    assert bad > 500
