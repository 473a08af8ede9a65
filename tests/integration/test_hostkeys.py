"""Host keys of a real sshd: known, unknown, changed, revoked and certified ones, and changes of known_hosts."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import paramiko
import pytest

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.resolve import resolve
from pmitogen.transport.auth.authenticate import authenticate
from pmitogen.transport.auth.credentials import Credentials
from pmitogen.transport.hostkeys.algorithm_order import host_key_algorithms
from tests.support import certificates
from tests.support.keys import KeyFile
from tests.support.sshd import Sshd

from ._login import certify, handshake, key_settings, keygen, settings_for, verify

pytestmark = [pytest.mark.needs_sshd, pytest.mark.needs_program("ssh-keygen")]
MakeSshd = Callable[..., Sshd]
MakeKey = Callable[..., KeyFile]


def refused(settings: object, **options: object) -> str:
    with pytest.raises(ConnectError) as caught:
        verify(settings, **options)  # type: ignore[arg-type]
    assert caught.value.stage == "hostkey"
    assert "\n" not in caught.value.message
    return caught.value.message


def write(path: Path, *lines: str) -> tuple[str]:
    path.write_text("".join(line + "\n" for line in lines))
    return (str(path),)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "ecdsa384", "ecdsa521", "rsa"])
def test_a_known_key_of_each_type_is_accepted(make_sshd: MakeSshd, kind: str) -> None:
    server = make_sshd(host_keys=[kind])
    verdict = verify(settings_for(server))
    assert (verdict.status, verdict.location, verdict.unsafe) == ("known", f"{server.known_hosts}:1", False)


def test_the_type_of_the_known_key_is_preferred(make_sshd: MakeSshd, short_path: Path) -> None:
    server = make_sshd(host_keys=["ed25519", "rsa"])
    files = write(short_path / "kh", f"[127.0.0.1]:{server.port} {server.host_keys[1].public}")
    settings = settings_for(server, userknownhostsfile=files)
    assert host_key_algorithms(settings, "127.0.0.1")[2:4] == ("rsa-sha2-512", "rsa-sha2-256")  # after the certificate types
    assert verify(settings).status == "known"


def test_an_unknown_key_is_refused_with_advice(sshd: Sshd, short_path: Path) -> None:
    settings = settings_for(sshd, userknownhostsfile=(str(short_path / "kh"),))
    text = refused(settings)
    shown = subprocess.run(
        ["ssh-keygen", "-lf", f"{sshd.host_keys[0].path}.pub"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    for part in (f"127.0.0.1 port {sshd.port}", shown, str(short_path / "kh"), "accept-new"):
        assert part in text
    md5 = ["ssh-keygen", "-E", "md5", "-lf", f"{sshd.host_keys[0].path}.pub"]
    shown = subprocess.run(md5, capture_output=True, text=True, check=True).stdout.split()[1]
    assert shown in refused(settings_for(sshd, userknownhostsfile=(str(short_path / "kh"),), fingerprinthash="md5"))
    assert f"(pmitogen trust -p {sshd.port} -o UserKnownHostsFile={short_path}/kh 127.0.0.1)" in text
    assert refused(settings_for(sshd, stricthostkeychecking="ask", userknownhostsfile=(str(short_path / "kh"),)))
    assert not (short_path / "kh").exists()


def test_ask_calls_the_confirmation_function(sshd: Sshd, short_path: Path) -> None:
    settings = settings_for(sshd, stricthostkeychecking="ask", userknownhostsfile=(str(short_path / "kh"),))
    asked: list[str] = []

    def no(question: str) -> bool:
        asked.append(question)
        return False

    assert "not accepted" in refused(settings, confirm=no)
    assert "SHA256:" in asked[0]
    assert verify(settings, confirm=lambda question: True).status == "added"
    assert verify(settings, confirm=no).status == "known"
    assert len(asked) == 1


@pytest.mark.parametrize("hashed", [False, True])
def test_accept_new_records_an_unknown_key(sshd: Sshd, short_path: Path, hashed: bool) -> None:
    path = short_path / "new" / "kh"
    options = {"stricthostkeychecking": "accept-new", "userknownhostsfile": (str(path),), "hashknownhosts": hashed}
    settings = settings_for(sshd, **options)
    verdict = verify(settings)
    assert (verdict.status, verdict.location) == ("added", f"{path}:1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_text().startswith("|1|" if hashed else f"[127.0.0.1]:{sshd.port} ssh-ed25519 ")
    found = subprocess.run(["ssh-keygen", "-F", f"[127.0.0.1]:{sshd.port}", "-f", str(path)], capture_output=True, text=True)
    assert found.returncode == 0 and "found" in found.stdout
    assert verify(settings).status == "known"
    assert len(path.read_text().splitlines()) == 1


def test_several_threads_record_a_key_once(sshd: Sshd, short_path: Path) -> None:
    path = short_path / "kh"
    path.write_text("# mine\n@cert-authority *.example ssh-ed25519 AAAA\nno newline at the end")
    settings = settings_for(sshd, stricthostkeychecking="accept-new", userknownhostsfile=(str(path),))
    threads = [threading.Thread(target=verify, args=(settings,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = path.read_text().splitlines()
    assert lines[:3] == ["# mine", "@cert-authority *.example ssh-ed25519 AAAA", "no newline at the end"]
    assert len(lines) == 4


def test_an_unwritable_known_hosts_file_is_a_warning(sshd: Sshd, short_path: Path) -> None:
    options = {"stricthostkeychecking": "accept-new"}
    write(short_path / "file", "not a folder")
    verdict = verify(settings_for(sshd, userknownhostsfile=(f"{short_path}/file/kh",), **options))
    assert verdict.status == "new" and "not written" in verdict.warnings[0].text
    assert verify(settings_for(sshd, userknownhostsfile=("none",), **options)).status == "new"
    assert verify(settings_for(sshd, userknownhostsfile=("/dev/null",), **options)).status == "added"


def test_a_changed_key_is_refused(sshd: Sshd, short_path: Path, make_key: MakeKey) -> None:
    files = write(short_path / "kh", "# a comment", f"[127.0.0.1]:{sshd.port} {make_key('rsa').public}")
    for strict in ("yes", "ask", "accept-new"):
        text = refused(settings_for(sshd, stricthostkeychecking=strict, userknownhostsfile=files), confirm=lambda question: True)
        assert (
            f"{files[0]}:2" in text
            and f"pmitogen keygen -f {files[0]} -R '[127.0.0.1]:{sshd.port}'" in text
            and "SHA256:" in text
        )
    settings = settings_for(sshd, stricthostkeychecking="no", userknownhostsfile=files, forwardagent=True)
    verdict = verify(settings)
    assert verdict.unsafe and f"{files[0]}:2" in verdict.warnings[0].text
    limited = verdict.restrict(settings)
    assert not (limited.passwordauthentication or limited.kbdinteractiveauthentication or limited.forwardagent)
    assert limited.pubkeyauthentication


def test_each_of_two_known_keys_is_accepted(sshd: Sshd, short_path: Path, make_key: MakeKey) -> None:
    name = f"[127.0.0.1]:{sshd.port}"
    files = write(short_path / "kh", f"{name} {make_key().public}", f"{name} {sshd.host_keys[0].public}")
    assert verify(settings_for(sshd, userknownhostsfile=files)).location == f"{files[0]}:2"


def test_the_name_without_the_port_is_used_as_a_fallback(sshd: Sshd, short_path: Path, make_key: MakeKey) -> None:
    files = write(short_path / "kh", f"127.0.0.1 {sshd.host_keys[0].public}")
    assert verify(settings_for(sshd, userknownhostsfile=files)).status == "known"
    # Another key under the name without the port does not concern this port: the host is new, not changed.
    files = write(short_path / "kh", f"127.0.0.1 {make_key().public}")
    assert "is not in" in refused(settings_for(sshd, userknownhostsfile=files))
    assert verify(settings_for(sshd, userknownhostsfile=files, stricthostkeychecking="accept-new")).status == "added"


def test_hostkeyalias_replaces_the_name(sshd: Sshd, short_path: Path) -> None:
    files = write(short_path / "kh", f"Build-Box {sshd.host_keys[0].public}")
    assert verify(settings_for(sshd, userknownhostsfile=files, hostkeyalias="build-BOX")).status == "known"
    assert "HostKeyAlias other" in refused(settings_for(sshd, userknownhostsfile=files, hostkeyalias="other"))


def test_a_key_with_the_revoked_marker_is_refused(sshd: Sshd, short_path: Path) -> None:
    name = f"[127.0.0.1]:{sshd.port}"
    key = sshd.host_keys[0].public
    files = write(short_path / "kh", f"{name} {key}", f"@revoked * {key}")
    assert f"@revoked in {files[0]}:2" in refused(settings_for(sshd, userknownhostsfile=files))
    assert verify(settings_for(sshd, userknownhostsfile=files, stricthostkeychecking="no")).unsafe
    files = write(short_path / "kh", f"@revoked 127.0.0.1 {key}")  # for any port
    settings = settings_for(sshd, userknownhostsfile=files, stricthostkeychecking="accept-new")
    assert f"@revoked in {files[0]}:1" in refused(settings)


def test_a_key_in_revokedhostkeys_is_refused(sshd: Sshd, short_path: Path, make_key: MakeKey) -> None:
    (path,) = write(short_path / "revoked", "# lost", make_key().public, sshd.host_keys[0].public + " a comment")
    for strict in ("yes", "no"):
        assert f"revoked by {path}:3" in refused(settings_for(sshd, revokedhostkeys=(path,), stricthostkeychecking=strict))
    (other,) = write(short_path / "others", make_key().public)
    assert verify(settings_for(sshd, revokedhostkeys=(other,))).status == "known"
    assert "cannot read: No such file" in refused(settings_for(sshd, revokedhostkeys=(str(short_path / "absent"),)))
    assert f"revoked by {path}:3" in refused(settings_for(sshd, revokedhostkeys=(other, path)))


def test_a_key_in_a_binary_revocation_list_is_refused(sshd: Sshd, short_path: Path, make_key: MakeKey) -> None:
    path = short_path / "krl"
    for line, reason in (("key: ", "the key"), ("sha1: ", "the SHA1 fingerprint"), ("sha256: ", "the SHA256 fingerprint")):
        (source,) = write(short_path / "lines", line + sshd.host_keys[0].public)
        keygen("-k", "-f", path, source)
        for strict in ("yes", "no"):
            text = refused(settings_for(sshd, revokedhostkeys=(str(path),), stricthostkeychecking=strict))
            assert f"revoked by {path} (a KRL, which lists {reason})" in text
    whole = path.read_bytes()
    for broken in (whole[:-1], whole + b"\1", whole[:11] + b"\2" + whole[12:]):
        path.write_bytes(broken)
        assert f"{path}: invalid KRL" in refused(settings_for(sshd, revokedhostkeys=(str(path),)))
    (source,) = write(short_path / "lines", make_key().public)
    keygen("-k", "-f", path, source)
    assert verify(settings_for(sshd, revokedhostkeys=(str(path),))).status == "known"


def test_knownhostscommand_provides_keys(sshd: Sshd, short_path: Path) -> None:
    program = short_path / "keys"
    program.write_text(f'#!/bin/sh\necho "$@" >> {short_path}/calls\necho "$1 {sshd.host_keys[0].public}"\n')
    program.chmod(0o700)
    settings = settings_for(sshd, userknownhostsfile=(), knownhostscommand=f"{program} %H %I %t")
    assert verify(settings).location == "KnownHostsCommand:1"
    name = f"[127.0.0.1]:{sshd.port}"
    calls = (short_path / "calls").read_text().splitlines()
    assert f"{name} ORDER NONE" in calls and f"{name} HOSTNAME ssh-ed25519" in calls
    assert "exit status 1" in refused(settings_for(sshd, userknownhostsfile=(), knownhostscommand="false"))
    assert "did not run" in refused(settings_for(sshd, userknownhostsfile=(), knownhostscommand="/nonexistent"))


def test_knownhostscommand_is_split_before_its_tokens_are_expanded(sshd: Sshd, short_path: Path) -> None:
    """As with ssh, so that any user name is one argument."""
    program, notes = short_path / "keys", short_path / "calls"
    program.write_text(f"#!/bin/sh\nfor word; do printf '[%s]' \"$word\"; done >> {notes}; echo >> {notes}\n")
    program.chmod(0o700)
    args = ["-F", "none", "-p", str(sshd.port), "-l", "a b\\c$x", "-o", "UserKnownHostsFile=none"]
    args += [
        "-o",
        "GlobalKnownHostsFile=none",
        "-o",
        f'KnownHostsCommand={program} %r "%n %p" x%%H %u %k %I',
        "-o",
        "BatchMode=yes",
    ]
    refused(resolve([*args, sshd.host]))
    ours = set(notes.read_text().splitlines())
    notes.unlink()
    subprocess.run(["ssh", *args, sshd.host, "true"], capture_output=True, timeout=30)
    assert ours == set(notes.read_text().splitlines())
    assert any(line.startswith("[a b\\c$x]") for line in ours)
    assert "unknown token" in refused(resolve([*args[:-4], "-o", f"KnownHostsCommand={program} %z", sshd.host]))


def test_nohostauthenticationforlocalhost_skips_the_check(sshd: Sshd) -> None:
    assert verify(settings_for(sshd, userknownhostsfile=(), nohostauthenticationforlocalhost=True)).status == "local"


def test_requiredrsasize_refuses_a_short_key(make_sshd: MakeSshd) -> None:
    server = make_sshd(host_keys=["rsa"])
    assert "2048 bits" in refused(settings_for(server, requiredrsasize=3072))


def test_an_unreadable_known_hosts_file_is_reported(sshd: Sshd, short_path: Path) -> None:
    (short_path / "folder").mkdir()
    settings = settings_for(sshd, userknownhostsfile=(str(short_path / "folder"),))
    assert "folder (not readable: Is a directory)" in refused(settings)


# -- certificates


def certified(make_sshd: MakeSshd, authority: KeyFile, *args: str, kind: str = "ed25519") -> Sshd:
    server = make_sshd(host_keys=[kind])
    path = certify(authority, server.host_keys[0], *args)
    server.stop()
    server.config.append(f"HostCertificate {path}")
    return server.start()


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("authority", ["ed25519", "ecdsa384", "rsa"])
def test_a_host_certificate_is_accepted(
    make_sshd: MakeSshd, make_key: MakeKey, short_path: Path, kind: str, authority: str
) -> None:
    ca = make_key(authority)
    server = certified(make_sshd, ca, "-h", "-n", "other,127.0.0.*", kind=kind)
    files = write(short_path / "kh", f"@cert-authority [127.0.0.1]:* {ca.public}")
    verdict = verify(settings_for(server, userknownhostsfile=files))
    assert (verdict.status, verdict.location) == ("certificate", f"{files[0]}:1")


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("-h", "-n", "127.0.0.1", "-V", "20200101:20210101"), "it expired on 2021-01-01"),
        (("-h", "-n", "127.0.0.1", "-V", "+1d:+2d"), "it is not valid before"),
        (("-h", "-n", "elsewhere"), "it is for elsewhere, not for 127.0.0.1"),
        (("-n", "127.0.0.1"), "it is a user certificate, not a host certificate"),
    ],
)
def test_an_invalid_host_certificate_is_refused(
    make_sshd: MakeSshd, make_key: MakeKey, short_path: Path, args: tuple[str, ...], reason: str
) -> None:
    ca = make_key()
    server = certified(make_sshd, ca, *args)
    files = write(short_path / "kh", f"@cert-authority * {ca.public}")
    assert reason in refused(settings_for(server, userknownhostsfile=files))
    # As in ssh, the plain key in it is accepted if it is known itself.
    files = write(short_path / "kh2", f"@cert-authority * {ca.public}", f"[127.0.0.1]:{server.port} {server.host_keys[0].public}")
    assert verify(settings_for(server, userknownhostsfile=files)).location == f"{files[0]}:2"


def test_only_known_authorities_are_accepted(make_sshd: MakeSshd, make_key: MakeKey, short_path: Path) -> None:
    ca = make_key("rsa")
    server = certified(make_sshd, ca, "-h", "-n", "127.0.0.1")
    name = f"[127.0.0.1]:{server.port}"
    files = write(short_path / "kh", f"@cert-authority {name} {make_key().public}")
    assert "no @cert-authority line trusts" in refused(settings_for(server, userknownhostsfile=files))
    files = write(short_path / "kh", f"@cert-authority {name} {ca.public}", f"@revoked * {ca.public}")
    assert "@revoked" in refused(settings_for(server, userknownhostsfile=files))
    files = write(short_path / "kh", f"@cert-authority {name} {ca.public}")
    assert verify(settings_for(server, userknownhostsfile=files)).status == "certificate"
    limited = settings_for(server, userknownhostsfile=files, casignaturealgorithms=("ssh-ed25519",))
    assert "CASignatureAlgorithms" in refused(limited)
    (path,) = write(short_path / "revoked", ca.public)
    assert f"revoked by {path}:1" in refused(settings_for(server, userknownhostsfile=files, revokedhostkeys=(path,)))


def test_a_certificate_in_a_revocation_file_revokes_its_key(make_sshd: MakeSshd, make_key: MakeKey, short_path: Path) -> None:
    ca = make_key()
    server = certified(make_sshd, ca, "-h", "-n", "127.0.0.1")
    key = server.host_keys[0]
    (path,) = write(short_path / "revoked", key.path.with_name(key.path.name + "-cert.pub").read_text())
    trusting = write(short_path / "kh", f"@cert-authority * {ca.public}")
    knowing = write(short_path / "kh2", f"[127.0.0.1]:{server.port} {key.public}")
    for files in (trusting, knowing):
        assert verify(settings_for(server, userknownhostsfile=files)).status in ("certificate", "known")
        assert f"revoked by {path}:1" in refused(settings_for(server, userknownhostsfile=files, revokedhostkeys=(path,)))


@pytest.mark.parametrize(
    ("line", "reason"),
    [("serial: 41-43", "serial number 42"), ("id: test", "key id 'test'"), ("serial: 43", None), ("id: rest", None)],
)
def test_a_host_certificate_in_a_binary_revocation_list_is_refused(
    make_sshd: MakeSshd, make_key: MakeKey, short_path: Path, line: str, reason: str | None
) -> None:
    ca = make_key()
    server = certified(make_sshd, ca, "-h", "-z", "42", "-n", "127.0.0.1")
    name = f"[127.0.0.1]:{server.port}"
    files = write(short_path / "kh", f"@cert-authority {name} {ca.public}", f"{name} {server.host_keys[0].public}")
    (source,) = write(short_path / "lines", line)
    keygen("-k", "-f", short_path / "krl", "-s", f"{ca.path}.pub", source)
    settings = settings_for(server, userknownhostsfile=files, revokedhostkeys=(str(short_path / "krl"),))
    if reason:
        assert reason in refused(settings)
    else:
        assert verify(settings).status == "certificate"


def test_with_an_unknown_authority_the_plain_key_counts(make_sshd: MakeSshd, make_key: MakeKey) -> None:
    server = certified(make_sshd, make_key(), "-h", "-n", "127.0.0.1")
    assert verify(settings_for(server)).status == "known"
    options = {"hostkeyalgorithms": ("ssh-ed25519-cert-v01@openssh.com",)}
    assert "HostKeyAlgorithms does not allow a plain ssh-ed25519 key" in refused(settings_for(server, **options))


@pytest.mark.parametrize("strict", ["yes", "accept-new", "no"])
def test_an_authority_for_a_name_without_a_port_counts_for_other_ports(
    make_sshd: MakeSshd, make_key: MakeKey, short_path: Path, strict: str
) -> None:
    """Teleport writes such lines. The key in the certificate is not accepted as new."""
    ca = make_key()
    server = certified(make_sshd, ca, "-h", "-n", "127.0.0.1")
    for before in ((), (f"@cert-authority [127.0.0.1]:{server.port} {make_key().public}",)):
        lines = (*before, f"@cert-authority 127.0.0.1 {ca.public}")
        files = write(short_path / "kh", *lines)
        settings = settings_for(server, userknownhostsfile=files, stricthostkeychecking=strict)
        verdict = verify(settings)
        assert (verdict.status, verdict.location) == ("certificate", f"{files[0]}:{len(lines)}")
        assert Path(files[0]).read_text().splitlines() == list(lines)


@pytest.mark.parametrize("by", ["serial", "id"])
def test_a_revoked_certificate_is_requested_if_its_key_is_known(
    make_sshd: MakeSshd, make_key: MakeKey, short_path: Path, by: str
) -> None:
    ca = make_key()
    server = certified(make_sshd, ca, "-h", "-z", "42", "-n", "127.0.0.1")
    (source,) = write(short_path / "lines", {"serial": "serial: 42", "id": "id: test"}[by])
    keygen("-k", "-f", short_path / "krl", "-s", f"{ca.path}.pub", source)
    for strict in ("yes", "accept-new", "no"):
        options = {"stricthostkeychecking": strict, "revokedhostkeys": (str(short_path / "krl"),)}
        assert "a KRL, which lists the certificate by its" in refused(settings_for(server, **options))


def test_another_host_key_during_rekeying_is_refused(sshd: Sshd) -> None:
    settings = key_settings(sshd, sshd.key)
    with handshake(settings) as transport:
        authenticate(transport, settings, Credentials(), time.monotonic() + 10)
        transport.leave()
        transport.renegotiate_keys()
        assert transport.is_active()
        transport._shown_host_key = b"another"
        with pytest.raises((paramiko.SSHException, EOFError)):
            transport.renegotiate_keys()


def test_hostkeyalgorithms_are_used_in_the_given_order(sshd: Sshd) -> None:
    chosen = ("ecdsa-sha2-nistp256", "ssh-dss", "ssh-ed25519")
    assert host_key_algorithms(settings_for(sshd, hostkeyalgorithms=chosen), "") == ("ecdsa-sha2-nistp256", "ssh-ed25519")
    with pytest.raises(ConnectError, match="older than OpenSSH 7.2") as caught:
        host_key_algorithms(settings_for(sshd, hostkeyalgorithms=("ssh-rsa",)), "")
    assert caught.value.stage == "kex"


@pytest.mark.needs_root
def test_decisions_about_keys_are_those_of_ssh(
    make_sshd: MakeSshd, make_key: MakeKey, short_path: Path, client_key: KeyFile
) -> None:
    """The installed ssh decides the same for the same files."""
    server = make_sshd(host_keys=["ed25519"])
    key, other, name = server.host_keys[0].public, make_key().public, f"[127.0.0.1]:{server.port}"
    cases = [
        [f"{name} {key}"],
        [f"{name} {other}"],
        [f"127.0.0.1 {key}"],
        [f"127.0.0.1 {other}"],
        [f"[127.0.0.*]:{server.port} {key}"],
        [f"*,!{name} {key}"],
        [f"!*.example,127.* {key}"],
        [f"{name.upper()},x {key}"],
        [f"{name} {other}", f"127.0.0.1 {key}"],
        [f"{name} {key}", f"@revoked * {key}"],
        [f"@cert-authority {name} {key}"],
        [f"@unknown {name} {key}", f"  {name}   {key}  comment"],
        [f"{name} ssh-rsa {key.split()[1]}"],
        [f"{name} {other}", f"{name} {key}"],
    ]
    for index, lines in enumerate(cases):
        for strict in ("yes", "accept-new", "no") if index in (1, 9) else ("yes", "accept-new"):
            theirs, ours = (write(short_path / f"{who}{index}{strict}", *lines) for who in ("theirs", "ours"))
            args = ["ssh", "-F", "none", "-i", str(client_key), "-p", str(server.port), "-o", f"UserKnownHostsFile={theirs[0]}"]
            options = ["-o", "GlobalKnownHostsFile=none", "-o", f"StrictHostKeyChecking={strict}", "-o", "BatchMode=yes"]
            options += ["-o", "UpdateHostKeys=no", "-o", "IdentityAgent=none"]
            done = subprocess.run([*args, *options, "127.0.0.1", "true"], capture_output=True, timeout=20)
            try:
                verify(settings_for(server, userknownhostsfile=ours, stricthostkeychecking=strict))
                accepted = True
            except ConnectError:
                accepted = False
            assert accepted == (done.returncode == 0), (lines, strict, done.stderr.decode())
            assert os.stat(theirs[0]).st_size == os.stat(ours[0]).st_size, (lines, strict)


def _certificates_for(server: Sshd, ca: KeyFile, other: KeyFile) -> dict[str, bytes]:
    """Return the server's certificates by name; every ssh since 8.9 decides the same about each."""
    key, now, mine = server.host_keys[0], int(time.time()), [b"127.0.0.1"]
    return {
        "good": certificates.certificate(ca, key, principals=mine, serial=42),
        "others": certificates.certificate(ca, key, principals=[b"elsewhere"]),
        "alias": certificates.certificate(ca, key, principals=[b"build-box", b"Other"]),
        "expired": certificates.certificate(ca, key, principals=mine, before=now - 9),
        "future": certificates.certificate(ca, key, principals=mine, after=now + 999),
        "user": certificates.certificate(ca, key, principals=mine, kind=certificates.USER),
        "critical": certificates.certificate(ca, key, principals=mine, critical=certificates.options(("x@y", "1"))),
        "extended": certificates.certificate(ca, key, principals=mine, extensions=certificates.options(("x@y", "1"))),
        "by another": certificates.certificate(other, key, principals=mine),
        "by itself": certificates.certificate(key, key, principals=mine),
    }


@pytest.mark.slow
@pytest.mark.needs_root
def test_decisions_about_certificates_are_those_of_ssh(
    make_sshd: MakeSshd, make_key: MakeKey, short_path: Path, client_key: KeyFile
) -> None:
    """The installed ssh decides the same for the same files, and makes the same changes to them."""
    server = make_sshd()
    shown = short_path / "host-cert.pub"
    ca, other, key, name = make_key(), make_key(), server.host_keys[0].public, f"[127.0.0.1]:{server.port}"
    (short_path / "lines").write_text("serial: 42\n")
    keygen("-k", "-f", short_path / "krl", "-s", f"{ca.path}.pub", short_path / "lines")
    files = [
        ([f"@cert-authority {name} {ca.public}"], ["yes", "accept-new"]),
        ([f"@cert-authority 127.0.0.1,build-box {ca.public}"], ["yes", "accept-new"]),
        ([f"@cert-authority {name} {other.public}", f"@cert-authority * {ca.public}", f"{name} {key}"], ["yes"]),
        ([f"@cert-authority * {ca.public}", f"@revoked * {ca.public}"], ["accept-new", "no"]),
    ]
    server.stop()
    server.config.append(f"HostCertificate {shown}")
    number = 0
    for case, blob in _certificates_for(server, ca, other).items():
        certificates.write(shown, blob)
        server.start()
        for lines, stricts in files:
            options = [["-o", "HostKeyAlias=build-box"]] if case in ("alias", "good") else []
            options += [["-o", f"RevokedHostKeys={short_path}/krl"]] if case == "good" else []
            options += [["-o", "HostKeyAlgorithms=ssh-ed25519-cert-v01@openssh.com"]] if case == "good" else []
            for strict in stricts:
                for more in ([], *options):
                    number += 1
                    theirs, ours = (write(short_path / f"{who}{number}", *lines) for who in ("theirs", "ours"))
                    args = ["-F", "none", "-i", str(client_key), "-p", str(server.port), "-o", "GlobalKnownHostsFile=none"]
                    args += ["-o", f"StrictHostKeyChecking={strict}", "-o", "BatchMode=yes", "-o", "UpdateHostKeys=no", *more]
                    done = subprocess.run(
                        ["ssh", *args, "-o", f"UserKnownHostsFile={theirs[0]}", "127.0.0.1", "true"],
                        capture_output=True,
                        timeout=20,
                    )
                    try:
                        verify(resolve([*args, "-o", f"UserKnownHostsFile={ours[0]}", "127.0.0.1"]))
                        accepted = True
                    except ConnectError:
                        accepted = False
                    assert accepted == (done.returncode == 0), (case, lines, strict, more, done.stderr.decode())
                    assert Path(theirs[0]).read_text() == Path(ours[0]).read_text(), (case, lines, strict, more)
        server.stop()
