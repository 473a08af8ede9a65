"""Logging in to a real sshd with every type of key, certificate, agent and password, in the configured order; and refusals."""

from __future__ import annotations

import contextlib
import hashlib
import re
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from pmitogen import toggles
from pmitogen.errors import AuthenticationError, ConnectError
from pmitogen.flags.ssh.resolve import resolve
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.auth.authenticate import authenticate
from pmitogen.transport.auth.credentials import Credentials, Secret
from pmitogen.transport.keys import public_key
from pmitogen.transport.keys.wire import PacketReader, encode_string
from pmitogen.transport.paramiko_ext.transport import ClientTransport
from tests.support.accounts import Account
from tests.support.keys import KeyFile
from tests.support.sshd import Sshd

from ._login import add, certify, exchange_keys, handshake, key_settings, keygen, log_in, settings_for, ssh_agent

pytestmark = [pytest.mark.needs_sshd, pytest.mark.needs_root, pytest.mark.needs_program("ssh-keygen", "ssh-agent", "ssh-add")]
MakeSshd = Callable[..., Sshd]
MakeKey = Callable[..., KeyFile]


def trips(count: int) -> int:
    """Return the round trips of a login: *count*, and one more if the request for the service is waited for."""
    return count if toggles.request_pipelining_enabled() else count + 1


def refused(settings: Settings, credentials: Credentials | None = None, **options: Any) -> str:
    with pytest.raises(AuthenticationError) as caught:
        log_in(settings, credentials, **options)
    assert caught.value.stage == "auth"
    text = caught.value.message
    assert "\n" not in text and text.startswith(f"{settings.user}@127.0.0.1 port {settings.port}: ")
    return text


# -- keys


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "ecdsa384", "ecdsa521", "rsa"])
def test_each_type_of_key_file_logs_in(sshd: Sshd, make_key: MakeKey, kind: str) -> None:
    key = make_key(kind)
    sshd.authorize(key.public)
    report = log_in(key_settings(sshd, key))
    assert (report.methods, report.round_trips) == (("publickey",), trips(1))
    assert report.key is not None and str(key) in report.key


def test_the_answer_about_the_service_is_awaited_without_pipelining(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMITOGEN_PIPELINE", "0")
    assert log_in(key_settings(sshd, sshd.key)).round_trips == 2


def test_a_refused_and_a_missing_key_are_followed_by_the_next(sshd: Sshd, make_key: MakeKey) -> None:
    report = log_in(key_settings(sshd, make_key("ecdsa"), "/nonexistent/key", sshd.key))
    assert [attempt.outcome.value for attempt in report.attempts] == ["refused", "not tried", "accepted"]
    assert "No such file or directory" in str(report.attempts[1])
    assert report.round_trips == trips(2)


def test_a_key_as_text_logs_in(sshd: Sshd, make_key: MakeKey) -> None:
    text = Secret(sshd.key.path.read_text().strip().replace("\n", "\r\n"))
    assert log_in(settings_for(sshd), Credentials(private_keys=(text,))).round_trips == trips(1)
    key = make_key("rsa", passphrase="open sesame")
    sshd.authorize(key.public)
    secret = Secret(key.path.read_text())
    assert log_in(settings_for(sshd), Credentials(private_keys=(secret,), passphrase=Secret("open sesame")))
    assert "key given" in refused(settings_for(sshd), Credentials(private_keys=(secret,), passphrase=Secret("no")))


def test_a_passphrase_is_given_or_prompted_for(sshd: Sshd, make_key: MakeKey) -> None:
    key = make_key(passphrase="right")
    sshd.authorize(key.public)
    assert log_in(key_settings(sshd, key), Credentials(passphrase=Secret("right")))
    assert "incorrect passphrase" in refused(key_settings(sshd, key), Credentials(passphrase=Secret("left")))
    assert "no passphrase given" in refused(key_settings(sshd, key))
    answers = iter(["left", "right"])
    asked: list[str] = []

    def ask(prompt: str, echo: bool) -> str | None:
        asked.append(prompt)
        assert not echo and threading.current_thread() is threading.main_thread()
        return next(answers)

    assert log_in(key_settings(sshd, key), Credentials(prompt=ask))
    assert len(asked) == 2 and str(key) in asked[0]
    assert "no passphrase" in refused(key_settings(sshd, key, batchmode=True), Credentials(prompt=ask))


def test_a_key_file_that_others_can_read_is_refused(sshd: Sshd, make_key: MakeKey) -> None:
    key = make_key()
    sshd.authorize(key.public)
    key.path.chmod(0o640)
    assert "bad permissions 0640" in refused(key_settings(sshd, key))


def test_missing_default_key_files_are_not_reported(sshd: Sshd) -> None:
    settings = settings_for(sshd, identityfile=("/nonexistent/id_rsa", str(sshd.key)))
    assert len(log_in(settings).attempts) == 1


def test_pubkeyacceptedalgorithms_limits_keys(make_sshd: MakeSshd, make_key: MakeKey) -> None:
    key = make_key("rsa")
    server = make_sshd(config=["PubkeyAcceptedAlgorithms rsa-sha2-256"])
    server.authorize(key.public)
    assert log_in(key_settings(server, key, pubkeyacceptedalgorithms=("rsa-sha2-256",)))
    text = refused(key_settings(server, key, pubkeyacceptedalgorithms=("ssh-ed25519",)))
    assert "PubkeyAcceptedAlgorithms leaves no algorithm" in text
    assert "RequiredRSASize" in refused(key_settings(server, key, requiredrsasize=4096))


# -- certificates


@pytest.fixture
def authority(make_key: MakeKey) -> KeyFile:
    return make_key()


@pytest.fixture
def certified(make_sshd: MakeSshd, authority: KeyFile, short_path: Path) -> Sshd:
    """An sshd that trusts *authority* for its users; revoked keys are listed in short_path/revoked."""
    (short_path / "revoked").write_text("")
    public = authority.path.with_name(authority.path.name + ".pub")
    return make_sshd(config=[f"TrustedUserCAKeys {public}", f"RevokedKeys {short_path}/revoked"])


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_user_certificate_logs_in(certified: Sshd, authority: KeyFile, make_key: MakeKey, kind: str, short_path: Path) -> None:
    key = make_key(kind)
    beside = certify(authority, key, "-n", "root")
    report = log_in(key_settings(certified, key))
    assert report.round_trips == trips(1) and report.key is not None and "-CERT" in report.key
    named = beside.rename(short_path / "elsewhere.pub")
    assert log_in(key_settings(certified, key, certificatefile=(str(named),)))
    assert "authorized_keys" in refused(key_settings(certified, key))


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("-n", "root", "-V", "20200101:20210101"), "it expired on 2021-01-01"),
        (("-n", "root", "-V", "+1d:+2d"), "it is not valid before"),
        (("-n", "alice,bob"), "its principals are alice, bob, not root"),
        (("-h", "-n", "root"), "a host certificate, not a user certificate"),
    ],
)
@pytest.mark.parametrize("where", ["file", "agent"])
def test_an_invalid_user_certificate_is_refused(
    certified: Sshd, authority: KeyFile, make_key: MakeKey, args: tuple[str, ...], reason: str, where: str, short_path: Path
) -> None:
    key = make_key("rsa")
    certify(authority, key, *args)
    if where == "file":
        assert reason in refused(key_settings(certified, key))
        return
    with ssh_agent(short_path, key) as agent:
        text = refused(settings_for(certified, identityagent=agent))
    assert reason in text


@pytest.mark.parametrize("where", ["file", "agent"])
def test_a_revoked_user_certificate_is_refused(
    certified: Sshd, authority: KeyFile, make_key: MakeKey, where: str, short_path: Path
) -> None:
    key = make_key("rsa")
    certify(authority, key, "-n", "root")
    with ssh_agent(short_path, *([key] if where == "agent" else [])) as agent:
        settings = key_settings(certified, *([key] if where == "file" else []), identityagent=agent)
        assert log_in(settings)
        (short_path / "revoked").write_text(key.public + "\n")
        assert "revoked" in refused(settings)


def test_a_certificate_file_is_used_with_a_key_of_the_agent(
    certified: Sshd, authority: KeyFile, make_key: MakeKey, short_path: Path
) -> None:
    key = make_key("rsa")
    with ssh_agent(short_path, key) as agent:
        path = certify(authority, key, "-n", "root")
        report = log_in(settings_for(certified, identityagent=agent, certificatefile=(str(path),)))
        assert report.key is not None and report.key.startswith("certificate for agent key")


@pytest.mark.parametrize("where", ["file", "agent"])
def test_a_named_certificate_comes_before_all_other_keys(
    certified: Sshd, authority: KeyFile, make_key: MakeKey, where: str, short_path: Path
) -> None:
    """Even where the server would close the connection after as many refusals as there are other keys (MaxAuthTries)."""
    key, others = make_key(), [make_key() for _ in range(6)]
    path = certify(authority, key, "-n", "root").rename(short_path / "elsewhere.pub")
    with ssh_agent(short_path, *(others[3:] + ([key] if where == "agent" else []))) as agent:
        files = [each.path for each in others[:3] + ([key] if where == "file" else [])]
        report = log_in(key_settings(certified, *files, identityagent=agent, certificatefile=(str(path),)))
    assert report.round_trips == trips(1) and report.key is not None and report.key.startswith("certificate for ")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa384", "rsa"])
def test_a_certificate_in_the_agent_logs_in(
    certified: Sshd, authority: KeyFile, make_key: MakeKey, kind: str, short_path: Path
) -> None:
    key = make_key(kind)
    certify(authority, key, "-n", "root")
    with ssh_agent(short_path, key) as agent:
        report = log_in(settings_for(certified, identityagent=agent))
        assert report.key is not None and "-CERT" in report.key


@pytest.mark.parametrize(
    ("text", "key_in"),
    [
        ("-i CERT -i KEY", "a file"),
        ("-i KEY -i CERT", "a file"),
        ("-o IdentityFile=CERT -o IdentityFile=KEY", "a file"),
        ("-o IdentityFile=KEY -o IdentityFile=STEM -o IdentitiesOnly=yes", "a file"),
        ("-i KEY -o CertificateFile=CERT", "a file"),
        ("-i KEY -o CertificateFile=STEM", "a file"),
        ("-o CertificateFile=CERT -o CertificateFile=STEM -i KEY -i CERT", "a file"),
        ("-i DECOY -i CERT -i KEY", "a file"),
        ("-i CERT", "the agent"),
        ("-i CERT -i KEY", "the agent"),
        ("-o IdentityFile=KEY -o IdentityFile=STEM -o IdentitiesOnly=yes", "the agent"),
        ("-o CertificateFile=CERT", "the agent"),
        ("-i CERT", "a text"),
        ("-o CertificateFile=STEM", "a text"),
    ],
)
def test_a_certificate_can_be_named_as_identity_file(
    certified: Sshd, authority: KeyFile, make_key: MakeKey, short_path: Path, text: str, key_in: str
) -> None:
    """As with ssh itself; only the certificate opens this server."""
    key, decoy = make_key(), make_key()
    signed = certify(authority, key, "-n", "root").rename(short_path / "signed.pub")
    names = {"CERT": signed, "STEM": short_path / "signed", "KEY": key, "DECOY": decoy}
    line = re.sub("[A-Z]{3,}", lambda name: str(names[name[0]]), text).split()
    line += ["-F", "none", "-p", str(certified.port), "-o", f"UserKnownHostsFile={certified.known_hosts}", "root@127.0.0.1"]
    with ssh_agent(short_path, *([key] if key_in == "the agent" else [])) as agent:
        line = [f"-oIdentityAgent={agent}", "-oGlobalKnownHostsFile=none", "-oBatchMode=yes", *line]
        credentials = Credentials()
        if key_in == "a text":
            credentials = Credentials(private_keys=(Secret(key.path.read_text()),))
        elif subprocess.run(["ssh", *line, "true"], capture_output=True, timeout=20).returncode != 0:
            raise AssertionError("ssh does not take it")
        if key_in != "a file":
            key.path.write_text("")
        report = log_in(resolve(line), credentials)
    assert report.key is not None and "-CERT" in report.key
    refusals = [attempt for attempt in report.attempts if attempt.outcome.value == "refused"]
    assert len(refusals) <= text.count("DECOY")


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("present", ["encrypted key", "public key", "certificate alone"])
def test_a_certificate_file_beside_a_key_in_the_agent_logs_in(
    certified: Sshd, authority: KeyFile, make_key: MakeKey, short_path: Path, present: str, named: bool
) -> None:
    """Also for the default key files of ssh."""
    key, place = make_key(), short_path / "named"
    with ssh_agent(short_path, key) as agent:
        certify(authority, key, "-n", "root").rename(f"{place}-cert.pub")
        if present != "certificate alone":
            Path(f"{key}.pub").rename(f"{place}.pub")
        if present == "encrypted key":
            keygen("-p", "-N", "unknown here", "-f", key)
            key.path.rename(place)
        variables = {"identityfile": (str(place),), "identityfile_explicit": named, "identityagent": agent}
        report = log_in(settings_for(certified, **variables))
        assert report.key is not None and "-CERT" in report.key
        if named:
            options = [
                f"IdentityAgent={agent}",
                f"IdentityFile={place}",
                f"UserKnownHostsFile={certified.known_hosts}",
                "BatchMode=yes",
            ]
            line = [word for option in options for word in ("-o", option)]
            ssh = ["ssh", "-F", "none", "-p", str(certified.port), *line, "root@127.0.0.1", "true"]
            assert subprocess.run(ssh, capture_output=True, timeout=20).returncode == 0


def test_a_certificate_with_the_name_of_the_public_key_file_logs_in(
    certified: Sshd, authority: KeyFile, make_key: MakeKey
) -> None:
    key = make_key()
    certify(authority, key, "-n", "root").rename(f"{key}.pub")
    assert "-CERT" in str(log_in(key_settings(certified, key)).key)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{cert}", "certificate {path}: not tried (its private key is neither in a configured file nor in an agent)"),
        ("{host}", "certificate {path}: not tried (a host certificate, not a user certificate)"),
        ("{cut}", "certificate {path}: not tried ("),
    ],
)
def test_an_unusable_certificate_is_reported_with_the_reason(
    certified: Sshd, authority: KeyFile, make_key: MakeKey, short_path: Path, line: str, reason: str
) -> None:
    key = make_key()
    kind = ["-h"] if line == "{host}" else []
    signed = certify(authority, key, *kind, "-n", "root")
    if line == "{cut}":
        name, blob, *_ = signed.read_text().split()
        signed.write_text(f"{name} {blob[:-40]}\n")
    assert reason.format(path=signed) in refused(key_settings(certified, signed))


def test_certificatefile_excludes_the_certificate_beside_a_key(
    certified: Sshd, authority: KeyFile, make_key: MakeKey, short_path: Path
) -> None:
    """As with ssh."""
    key, other = make_key(), make_key()
    certify(authority, key, "-n", "root")
    named = certify(authority, other, "-n", "root")
    text = refused(key_settings(certified, key, certificatefile=(str(named),)))
    assert "-CERT" not in text and f"certificate {named}: not tried" in text


# -- the agent


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_key_of_the_agent_logs_in(sshd: Sshd, make_key: MakeKey, kind: str, short_path: Path) -> None:
    key = make_key(kind)
    sshd.authorize(key.public)
    with ssh_agent(short_path, key) as agent:
        report = log_in(settings_for(sshd, identityagent=agent))
        assert report.round_trips == trips(1)
        assert report.key is not None and report.key.startswith("agent key")


def test_each_key_of_the_agent_is_probed_before_it_signs(sshd: Sshd, make_key: MakeKey, short_path: Path) -> None:
    """Only the accepted key signs; IdentitiesOnly uses the named key only."""
    keys = [make_key() for _ in range(4)]
    with ssh_agent(short_path, *keys, sshd.key) as agent:
        report = log_in(settings_for(sshd, identityagent=agent))
        assert len(report.attempts) == 5 and report.attempts[-1].outcome.value == "accepted"
        only = key_settings(sshd, f"{sshd.key}.pub", identityagent=agent, identitiesonly=True)
        assert len(log_in(only).attempts) == 1
        other = key_settings(sshd, f"{keys[0]}.pub", identityagent=agent, identitiesonly=True)
        assert refused(other).count("SHA256:") == 1
        assert log_in(key_settings(sshd, sshd.key, identityagent=agent)).round_trips == trips(1)


def test_the_agent_replaces_the_passphrase_of_a_key_file(sshd: Sshd, make_key: MakeKey, short_path: Path) -> None:
    key = make_key()
    sshd.authorize(key.public)
    with ssh_agent(short_path, key) as agent:
        keygen("-p", "-P", "", "-N", "secret", "-f", key.path)
        report = log_in(key_settings(sshd, key, identityagent=agent, identitiesonly=True))
        assert [attempt.outcome.value for attempt in report.attempts] == ["accepted"]


def test_a_denied_confirmation_of_the_agent_is_reported(
    sshd: Sshd, make_key: MakeKey, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key was added with ssh-add -c; the next method follows."""
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    key = make_key()
    sshd.authorize(key.public)
    with ssh_agent(short_path) as agent:
        add(agent, "-c", key)
        assert "agent refused operation" in refused(settings_for(sshd, identityagent=agent))


def test_missing_and_silent_agents_are_reported(sshd: Sshd, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pmitogen.transport.keys.ssh_agent_client.SSHAgentClient.__init__.__defaults__", (0.3,))
    settings = settings_for(sshd, identityagent=str(short_path / "none"))
    assert "cannot connect: No such file" in refused(settings)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_path / "silent"))
        listener.listen()
        settings = key_settings(sshd, identityagent=str(short_path / "silent"))
        begin = time.monotonic()
        assert "no answer within the timeout" in refused(settings)
        assert time.monotonic() - begin < 3


class Token(threading.Thread):
    """An agent with one security key in software: it counts how often the user would have to touch it."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.touched = 0
        self._key = ed25519.Ed25519PrivateKey.generate()
        raw = self._key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.blob = encode_string("sk-ssh-ed25519@openssh.com") + encode_string(raw) + encode_string("ssh:")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()

    def run(self) -> None:
        with self._listener:
            for _ in range(3):  # one connection after another, as in a simple agent; a second one follows if it knows no binding
                with self._listener.accept()[0] as peer:
                    while request := peer.recv(65536):
                        peer.sendall(encode_string(self._answer(PacketReader(request[4:]))))

    def _answer(self, request: PacketReader) -> bytes:
        kind = request.take(1)
        if kind == b"\x1b":
            return b"\5"
        if kind == b"\x0b":
            return b"\x0c\0\0\0\1" + encode_string(self.blob) + encode_string("token")
        assert request.string() == self.blob
        self.touched += 1
        end = b"\1" + self.touched.to_bytes(4, "big")
        signed = hashlib.sha256(b"ssh:").digest() + end + hashlib.sha256(request.string()).digest()
        return b"\x0e" + encode_string(encode_string("sk-ssh-ed25519@openssh.com") + encode_string(self._key.sign(signed)) + end)


def test_a_security_key_signs_only_if_the_server_accepts_it(sshd: Sshd, short_path: Path) -> None:
    for index, accepted in enumerate((False, True)):
        path = short_path / f"token{index}"
        token = Token(path)
        token.start()
        settings = settings_for(sshd, identityagent=str(path))
        if accepted:
            sshd.authorize(public_key.public_line(token.blob))
            assert log_in(settings).round_trips == trips(2)
        else:
            assert "ED25519-SK SHA256:" in refused(settings)
        assert token.touched == accepted
        token.join(5)


def test_the_agent_is_not_used_if_a_key_file_logs_in(sshd: Sshd, short_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(short_path / "silent"))
        silent.listen()
        begin = time.monotonic()
        assert log_in(key_settings(sshd, sshd.key, identityagent=str(short_path / "silent")))
        assert time.monotonic() - begin < 5


# -- passwords


@pytest.fixture
def quick(make_sshd: MakeSshd) -> Sshd:
    """An sshd that refuses a wrong password at once, because PAM would delay it by two seconds."""
    return make_sshd(config=["UsePAM no"])


def test_a_password_logs_in_by_both_methods(sshd: Sshd, quick: Sshd, account: Account) -> None:
    assert account.password is not None
    right, wrong = Credentials(password=Secret(account.password)), Credentials(password=Secret("wrong " + account.password))
    report = log_in(settings_for(sshd, user=account.name, preferredauthentications=("password",)), right)
    assert (report.methods, report.round_trips) == (("password",), trips(1))
    assert log_in(settings_for(sshd, user=account.name), right).round_trips == trips(1)
    settings = settings_for(sshd, user=account.name, preferredauthentications=("keyboard-interactive", "password"))
    report = log_in(settings, right)
    assert (report.methods, report.round_trips) == (("keyboard-interactive",), trips(3))  # PAM's last round has no prompt
    text = refused(settings_for(sshd, user=account.name, preferredauthentications=("keyboard-interactive",)), wrong)
    assert "keyboard-interactive: refused" in text and account.password not in text
    text = refused(settings_for(quick, user=account.name), wrong)
    assert "password: refused" in text and "check the user name" in text and account.password not in text
    off = settings_for(sshd, user=account.name, passwordauthentication=False, kbdinteractiveauthentication=False)
    assert "no credentials available" in refused(off, right)


def test_kbdinteractivedevices_reaches_the_server(sshd: Sshd, account: Account) -> None:
    """sshd knows the device pam only."""
    methods = {"user": account.name, "preferredauthentications": ("keyboard-interactive",)}
    password = Credentials(password=Secret(account.password or ""))
    assert log_in(settings_for(sshd, **methods, kbdinteractivedevices=("none-such", "pam")), password)
    refused(settings_for(sshd, **methods, kbdinteractivedevices=("none-such",)), password)


def test_pubkeyauthentication_no_uses_no_key(sshd: Sshd) -> None:
    text = refused(key_settings(sshd, sshd.key, pubkeyauthentication=False))
    assert str(sshd.key) not in text and "no credentials available" in text


def test_a_password_is_prompted_for(quick: Sshd, account: Account) -> None:
    answers = ["wrong", account.password]
    settings = settings_for(quick, user=account.name, preferredauthentications=("password",))
    assert log_in(settings, Credentials(prompt=lambda prompt, echo: answers.pop(0))).round_trips == trips(2)
    once = settings_for(quick, user=account.name, preferredauthentications=("password",), numberofpasswordprompts=1)
    answers = ["wrong", account.password]
    refused(once, Credentials(prompt=lambda prompt, echo: answers.pop(0)))
    assert len(answers) == 1


def test_methods_follow_preferredauthentications_and_partial_success(make_sshd: MakeSshd, account: Account) -> None:
    server = make_sshd(config=["AuthenticationMethods publickey,password publickey,keyboard-interactive"])
    credentials = Credentials(password=Secret(account.password or ""))
    order = ("password", "publickey")
    report = log_in(key_settings(server, server.key, user=account.name, preferredauthentications=order), credentials)
    assert report.methods == ("publickey", "password")
    order = ("publickey", "keyboard-interactive")
    report = log_in(key_settings(server, server.key, user=account.name, preferredauthentications=order), credentials)
    assert report.methods == order
    text = refused(key_settings(server, server.key, user=account.name))
    assert "accepted, further authentication required" in text and "further factor" in text


def test_a_key_is_offered_again_after_the_password(make_sshd: MakeSshd, account: Account) -> None:
    """The server refuses the key before the password."""
    server = make_sshd(config=["AuthenticationMethods password,publickey"])
    credentials = Credentials(password=Secret(account.password or ""))
    assert log_in(key_settings(server, server.key, user=account.name), credentials).methods == ("password", "publickey")


def test_two_keys_log_in_if_the_server_requires_two(make_sshd: MakeSshd, make_key: MakeKey) -> None:
    server = make_sshd(config=["AuthenticationMethods publickey,publickey"])
    second = make_key("rsa")
    server.authorize(second.public)
    assert log_in(key_settings(server, server.key, second)).methods == ("publickey", "publickey")


def test_the_error_lists_all_refused_credentials(sshd: Sshd, make_key: MakeKey) -> None:
    text = refused(key_settings(sshd, make_key("ecdsa"), make_key("rsa")))
    assert text.count("refused") == 2 and "the server accepts publickey, password, keyboard-interactive" in text
    assert text.count("SHA256:") == 2 and "authorized_keys" in text
    assert "PreferredAuthentications hostbased" in refused(settings_for(sshd, preferredauthentications=("hostbased",)))


def test_the_error_after_too_many_keys_advises_identitiesonly(
    make_sshd: MakeSshd, sshd: Sshd, make_key: MakeKey, account: Account
) -> None:
    keys = [make_key() for _ in range(7)]
    text = refused(key_settings(sshd, *keys))
    assert "IdentitiesOnly" in text and text.count("SHA256:") == 6
    credentials = Credentials(password=Secret(account.password or ""))
    report = log_in(key_settings(sshd, *keys, user=account.name, preferredauthentications=("publickey", "password")), credentials)
    assert report.methods == ("password",)
    assert "further keys" in str(report.attempts[-2])
    strict = make_sshd(config=["MaxAuthTries 3"])
    assert "closed the connection after 3 refusals" in refused(key_settings(strict, *keys))


def test_restricted_settings_send_no_password(quick: Sshd, account: Account) -> None:
    from pmitogen.transport.hostkeys.verify import HostKeyDecision

    settings = HostKeyDecision("unsafe").restrict(settings_for(quick, user=account.name))
    text = refused(settings, Credentials(password=Secret(account.password or "")))
    assert "password: " not in text


def test_the_banner_is_recorded(make_sshd: MakeSshd, short_path: Path) -> None:
    (short_path / "banner").write_text("authorised use only\n")
    server = make_sshd(config=[f"Banner {short_path}/banner"])
    assert log_in(key_settings(server, server.key)).banner == "authorised use only\n"


# -- time


def test_a_login_ends_at_its_deadline(make_sshd: MakeSshd) -> None:
    server = make_sshd()
    settings = key_settings(server, server.key)
    with handshake(settings) as transport:
        server.freeze()
        try:
            begin = time.monotonic()
            with pytest.raises(ConnectError, match="no answer from the server within") as caught:
                authenticate(transport, settings, Credentials(), begin + 0.5)
            assert 0.4 < time.monotonic() - begin < 3
            assert caught.value.stage == "auth" and not isinstance(caught.value, AuthenticationError)
        finally:
            server.thaw()


def test_a_server_that_ends_during_the_login_is_reported(make_sshd: MakeSshd) -> None:
    server = make_sshd()
    settings = key_settings(server, server.key)
    with handshake(settings) as transport:
        server.kill_sessions()
        with pytest.raises(ConnectError) as caught:
            authenticate(transport, settings, Credentials(), time.monotonic() + 5)
        assert caught.value.stage == "auth" and not isinstance(caught.value, AuthenticationError)


def test_closing_the_transport_ends_a_login_at_once(make_sshd: MakeSshd) -> None:
    """Another thread closes the transport; the login does not wait for its deadline."""
    server = make_sshd()
    settings = key_settings(server, server.key)
    with handshake(settings) as transport:
        server.freeze()
        try:
            timer = threading.Timer(0.3, transport.close)
            timer.start()
            begin = time.monotonic()
            with pytest.raises(ConnectError, match="the connection ended"):
                authenticate(transport, settings, Credentials(), begin + 20)
            assert time.monotonic() - begin < 5
            timer.join()
            with pytest.raises(ConnectError, match="the connection ended"):
                authenticate(transport, settings, Credentials(), begin + 20)
        finally:
            server.thaw()


class Relay(threading.Thread):
    """A TCP relay that delays data by *delay* seconds in each direction, to make round trips measurable."""

    def __init__(self, port: int, delay: float) -> None:
        super().__init__(daemon=True)
        self.delay = delay
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.target = port

    def run(self) -> None:
        near, _ = self.listener.accept()
        far = socket.create_connection(("127.0.0.1", self.target))
        with near, far, self.listener, contextlib.suppress(OSError):  # either side may close the connection first
            self._pump(near, far)

    def _pump(self, near: socket.socket, far: socket.socket) -> None:
        waiting: list[tuple[float, socket.socket, bytes]] = []
        while True:
            timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 5
            for sock in select.select([near, far], [], [], timeout)[0]:
                data = sock.recv(65536)
                if not data:
                    return
                waiting.append((time.monotonic() + self.delay, far if sock is near else near, data))
            while waiting and waiting[0][0] <= time.monotonic():
                _, sock, data = waiting.pop(0)
                sock.sendall(data)


@pytest.fixture
def relay(sshd: Sshd) -> Iterator[Relay]:
    relay = Relay(sshd.port, 0.15)
    relay.start()
    yield relay
    relay.join(5)


@pytest.mark.optimised  # request pipelining
def test_a_login_takes_one_round_trip(sshd: Sshd, relay: Relay) -> None:
    """From the end of the key exchange to the end of the login; Paramiko's own method needs two."""
    settings = key_settings(sshd, sshd.key)
    with handshake(settings, relay.port) as transport:
        time.sleep(0.4)  # for the server's own messages after the key exchange
        begin = time.monotonic()
        assert authenticate(transport, settings, Credentials(), begin + 10).round_trips == 1
        assert 0.3 <= time.monotonic() - begin < 0.5


# -- a second factor


class Asking(paramiko.ServerInterface):
    """A server that asks for a password and then a code, with its own prompts."""

    def __init__(self, rounds: list[list[tuple[str, bool]]], expected: list[str]) -> None:
        self.rounds = rounds
        self.expected = expected
        self.received: list[str] = []

    def get_allowed_auths(self, username: str) -> str:
        return "keyboard-interactive"

    def _next(self) -> Any:
        if not self.rounds:
            return paramiko.AUTH_SUCCESSFUL if self.received == self.expected else paramiko.AUTH_FAILED
        return paramiko.InteractiveQuery("title", "instructions", *self.rounds.pop(0))

    def check_auth_interactive(self, username: str, submethods: str) -> Any:
        return self._next()

    def check_auth_interactive_response(self, responses: list[str]) -> Any:
        self.received += responses
        return self._next()


def second_factor(rounds: list[list[tuple[str, bool]]], expected: list[str], credentials: Credentials) -> Any:
    return log_in_to_paramiko(Asking(rounds, expected), Settings("h", "h", "u"), credentials)


def log_in_to_paramiko(interface: paramiko.ServerInterface, settings: Settings, credentials: Credentials, **options: Any) -> Any:
    """Log in to Paramiko's server, created with *options*."""
    ours, theirs = socket.socketpair()
    server = paramiko.Transport(theirs, **options)
    client = ClientTransport(ours, "h")
    try:
        server.add_server_key(paramiko.RSAKey.generate(2048))
        server.start_server(server=interface, event=threading.Event())
        exchange_keys(client)
        return authenticate(client, settings, credentials, time.monotonic() + 10)
    finally:
        for transport in (client, server):
            transport.close()
            transport.join(5)


def test_password_and_code_are_answered_in_any_order() -> None:
    both = Credentials(password=Secret("pw"), otp=Secret("123456"))
    password, code = ("Password: ", False), ("Verification code: ", False)
    assert second_factor([[password], [code]], ["pw", "123456"], both).round_trips == trips(3)
    assert second_factor([[code, password], []], ["123456", "pw"], both).methods == ("keyboard-interactive",)
    assert second_factor([[("Enter PASSCODE:", True)]], ["123456"], both)
    asked: list[tuple[str, bool]] = []

    def ask(prompt: str, echo: bool) -> str:
        asked.append((prompt, echo))
        assert threading.current_thread() is threading.main_thread()
        return "123456"

    prompted = Credentials(password=Secret("pw"), prompt=ask)
    assert second_factor([[password], [code]], ["pw", "123456"], prompted)
    assert asked == [("(u@h) title\n(u@h) instructions\n(u@h) Verification code: ", False)]


def test_a_missing_second_factor_is_reported() -> None:
    password, code = ("Password: ", False), ("Verification code: ", False)
    with pytest.raises(AuthenticationError, match="the server prompts again: 'Verification code:', and no answer is given"):
        second_factor([[password], [code]], ["pw", "1"], Credentials(password=Secret("pw")))
    with pytest.raises(AuthenticationError, match="keyboard-interactive: refused"):
        second_factor([[code]], ["1"], Credentials(otp=Secret("2")))
    with pytest.raises(AuthenticationError, match="prompts again: 'Verification code:'"):
        second_factor([[code], [code]], ["1", "1"], Credentials(otp=Secret("1")))


class AnyKey(paramiko.ServerInterface):
    """A server that accepts every key, but only with the algorithms that it announces."""

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL


def test_a_key_signs_with_an_algorithm_that_the_server_announces(make_key: MakeKey) -> None:
    settings = Settings("h", "h", "u", identityfile=(str(make_key("rsa")),), identityfile_explicit=True)
    report = log_in_to_paramiko(AnyKey(), settings, Credentials(), disabled_algorithms={"pubkeys": ["rsa-sha2-512"]})
    assert report.attempts[-1].outcome.value == "accepted" and len(report.attempts) <= 2


def test_no_secret_is_logged(quick: Sshd, account: Account, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    credentials = Credentials(password=Secret("very secret"), passphrase=Secret("very secret"), otp=Secret("very secret"))
    text = refused(settings_for(quick, user=account.name), credentials)
    assert "very secret" not in text + repr(credentials) + str(credentials) + caplog.text
