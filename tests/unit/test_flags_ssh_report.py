"""The report about each option depends on its origin; conflicts; and the answer of pmitogen explain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pmitogen.errors import UsageError
from pmitogen.flags.ssh import config_file
from pmitogen.flags.ssh.command_line_flags import FLAGS
from pmitogen.flags.ssh.openssh_version import OPENSSH_10
from pmitogen.flags.ssh.report.dump import dump
from pmitogen.flags.ssh.report.explain import explain_ssh
from pmitogen.flags.ssh.report.openssh_defaults import installed_program
from pmitogen.flags.ssh.resolve import resolve
from pmitogen.flags.ssh.resolve_keywords import resolve_keywords
from pmitogen.flags.ssh.settings import Finding, Verdict
from pmitogen.util import extras
from pmitogen.util.caller import CallerEnvironment
from tests.support.programs import find_program
from tests.support.ssh_oracle import run_ssh

REFUSED_WORDS = [
    "-o LocalForward=1\th:2",
    "-o RemoteForward=1\th:2",
    "-o DynamicForward=1",
    "-o ForwardX11=yes",
    "-o Tunnel=yes",
    "-o RemoteCommand=ls",
    "-o SessionType=none",
    "-o VerifyHostKeyDNS=yes",
    "-L 1:h:2",
    "-R 1:h:2",
    "-D 1",
    "-w 0",
    "-X",
    "-Y",
    "-N",
    "-s",
    "-G",
    "-V",
    "-Q cipher",
    "-O check",
    "-W a:1",
    "-Z",
    "-o ProxyCommand=x -o ProxyUseFdpass=yes",
    "-o PermitLocalCommand=yes -o LocalCommand=kinit",
]
HARMLESS_WORDS = [
    "-o ForwardX11=no",
    "-o Tunnel=no",
    "-o RemoteCommand=none",
    "-o SessionType=default",
    "-x",
    "-T",
    "-tt",
    "-n",
    "-f",
    "-g",
    "-y",
    "-2",
    "-e none",
    "-o PermitLocalCommand=yes",
    "-o LocalCommand=x",
    "-o ProxyUseFdpass=yes",
    "-o VerifyHostKeyDNS=no",
    "-o UseRoaming=no",
    "-o LocalForward=1\th:2 -o ClearAllForwardings=yes",
    "-o UpdateHostKeys=ask",
]


def _words(text: str) -> list[str]:
    return [word.replace("\t", " ") for word in text.split(" ")]


def _report(*args: str, **options: object) -> tuple[Finding, ...]:
    return resolve(["-F", "none", *args, "h"], strict=False, **options).report[1:]  # type: ignore[arg-type]


@pytest.mark.parametrize("text", REFUSED_WORDS)
def test_unsupported_options_for_pmitogen_are_refused(text: str) -> None:
    fatal = [one for one in _report(*_words(text)) if one.fatal]
    assert fatal and fatal[0].verdict is Verdict.REFUSED and fatal[0].reason.endswith(".")
    with pytest.raises(UsageError, match=r"^ssh_args: [\w-]+: \w"):
        resolve([*_words(text), "-F", "none", "h"], origins=["ssh_args"] * 9)


@pytest.mark.parametrize("text", HARMLESS_WORDS)
def test_harmless_options_are_accepted(text: str) -> None:
    report = [one for one in _report(*_words(text)) if one.option != "ClearAllForwardings"]
    assert report and all(one.verdict is Verdict.HARMLESS for one in report if one.option != "ProxyCommand")
    assert resolve([*_words(text), "-F", "none", "h"]).hostname == "h"


@pytest.mark.parametrize("text", ["-o PKCS11Provider=/x.so", "-I /x.so"])
def test_pkcs11provider_needs_an_extra(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the extra it is refused like any unsupported option; with it, it is honoured."""
    monkeypatch.setattr(extras, "is_installed", lambda extra: False)
    with pytest.raises(
        UsageError, match=r"^ssh_args: .*: Needs a further package: python -m pip install 'pmitogen\[pkcs11\]'\.$"
    ):
        resolve([*_words(text), "-F", "none", "h"], origins=["ssh_args"] * 9)
    assert resolve(["-o", "PKCS11Provider=none", "-F", "none", "h"]).pkcs11provider is None
    monkeypatch.setattr(extras, "is_installed", lambda extra: True)
    assert resolve([*_words(text), "-F", "none", "h"]).pkcs11provider == "/x.so"
    assert {one.verdict for one in _report(*_words(text))} == {Verdict.HONOURED}


@pytest.mark.parametrize("text", ["-o GSSAPIAuthentication=yes", "-K", "-k", "-o GSSAPIServerIdentity=h"])
def test_gssapi_options_are_harmless_without_the_extra(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other methods are tried then, because distributions set these options for all sessions."""
    for installed, verdict in ((False, Verdict.HARMLESS), (True, Verdict.HONOURED)):
        monkeypatch.setattr(extras, "is_installed", lambda extra, installed=installed: installed)
        (finding,) = _report(*_words(text))
        assert finding.verdict is (Verdict.HONOURED if text == "-k" else verdict)
        assert ("pip install 'pmitogen[kerberos]'" in finding.reason) == (finding.verdict is Verdict.HARMLESS)


def test_gssapi_as_the_only_method_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ("-o", "PreferredAuthentications=gssapi-with-mic", "-o", "GSSAPIAuthentication=yes")
    assert not [one for one in _report(*argv) if one.fatal] or not extras.is_installed("kerberos")
    monkeypatch.setattr(extras, "is_installed", lambda extra: False)
    (finding,) = [one for one in _report(*argv) if one.fatal]
    assert "pip install 'pmitogen[kerberos]'" in finding.reason


def test_gssapi_in_the_user_file_is_ignored_without_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text("GSSAPIAuthentication yes\n")
    for installed in (False, True):
        monkeypatch.setattr(extras, "is_installed", lambda extra, installed=installed: installed)
        settings = resolve(["h"], caller=CallerEnvironment({"HOME": str(tmp_path)}))
        assert settings.gssapiauthentication == installed
        assert ("gssapi-with-mic" in settings.preferredauthentications) == installed


def test_every_flag_is_reported_with_its_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda extra: True)
    options = {
        "c": "aes128-ctr",
        "m": "hmac-sha2-256",
        "i": "/etc/passwd",
        "J": "j",
        "p": "5",
        "w": "0",
        "e": "none",
        "o": "Port=1",
        "F": "none",
    }
    options |= {"D": "1", "L": "1:h:2", "R": "1:h:2", "W": "a:1", "O": "check"}
    for letter, flag in FLAGS.items():
        if letter == "1":
            continue
        argv = [f"-{letter}", *([options.get(letter, "x")] if flag.argument else [])]
        report = _report(*argv)
        assert letter in "oF" or any(one.option == f"-{letter}" and one.verdict is flag.verdict for one in report), (
            letter,
            report,
        )


def test_unsupported_options_in_the_system_file_only_warn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    system = tmp_path / "system"
    monkeypatch.setattr(config_file, "SYSTEM_FILE", str(system))
    system.write_text("LocalForward 1 h:2\nForwardX11 yes\nRemoteCommand ls\n")
    settings = resolve(["h"], caller=CallerEnvironment({}))
    assert [one.verdict for one in settings.report] == [Verdict.REFUSED] * 3 and not any(one.fatal for one in settings.report)
    assert settings.report[1].origin == f"{system} line 2" and settings.report[1].reason.startswith("Ignored")
    system.write_text("PermitLocalCommand yes\nLocalCommand kinit\n")
    with pytest.raises(UsageError, match=rf"^{system} line 1: PermitLocalCommand: "):
        resolve(["h"], caller=CallerEnvironment({}))
    with pytest.raises(UsageError, match=rf"^{system} line 1: RemoteCommand: "):
        system.write_text("RemoteCommand ls\n")
        resolve(["-F", str(system), "h"], caller=CallerEnvironment({}))


@pytest.mark.parametrize(
    ("text", "option", "fatal"),
    [
        ("-J a -o ProxyCommand=x", "ProxyCommand", False),
        ("-o ProxyCommand=x -o ProxyJump=a", "ProxyJump", False),
        ("-i /nonexistent", "-i", False),
        ("-o PreferredAuthentications=publickey -o PubkeyAuthentication=no", "PubkeyAuthentication", True),
        ("-o PreferredAuthentications=password,keyboard-interactive -o BatchMode=yes", "BatchMode", False),
        ("-o PubkeyAuthentication=no -o IdentityFile=/k", "IdentityFile", False),
        ("-o PubkeyAuthentication=no -o CertificateFile=/k", "CertificateFile", False),
        ("-A", "ForwardAgent", False),
        ("-A -o IdentityAgent=none", "ForwardAgent", False),
        ("-o CanonicalizeHostname=always", "CanonicalizeHostname", False),
        ("-o ControlPersist=5m -o ControlPath=none", "ControlPersist", False),
        ("-o UserKnownHostsFile=none -o GlobalKnownHostsFile=none", "UserKnownHostsFile", False),
    ],
)
def test_conflicting_options_are_reported(text: str, option: str, fatal: bool) -> None:
    found = [one for one in _report(*_words(text), caller=CallerEnvironment({})) if one.verdict is Verdict.CONFLICT]
    assert [(one.option, one.fatal) for one in found] == [(option, fatal)]


def test_an_address_of_another_family_is_a_conflict() -> None:
    for family, host in (("inet", "::1"), ("inet6", "127.0.0.1")):
        report = resolve(["-F", "none", "-o", f"AddressFamily={family}", host], caller=CallerEnvironment({})).report
        assert [one.option for one in report if one.verdict is Verdict.CONFLICT] == ["AddressFamily"]


def test_only_unsupported_methods_are_refused() -> None:
    (finding,) = [one for one in _report("-o", "PreferredAuthentications=gssapi-keyex,hostbased") if one.fatal]
    assert finding.verdict is Verdict.REFUSED and "publickey" in finding.reason
    (finding,) = [one for one in _report("-o", "PreferredAuthentications=gssapi-with-mic,hostbased") if one.fatal]
    assert finding.verdict is Verdict.CONFLICT and "GSSAPIAuthentication is no" in finding.reason
    assert not [one for one in _report("-o", "PreferredAuthentications=gssapi-with-mic,publickey") if one.fatal]


def test_contradictory_flags_are_errors() -> None:
    for text in ("-o ProxyCommand=x -J a", "-J a -J b", "-N -s", "-s -N", "-E /x -y", "-W a:1 -W b:2"):
        with pytest.raises(UsageError):
            _report(*_words(text))


def test_each_option_is_reported_once_and_replaced_ones_are_not() -> None:
    options = [one.option for one in _report("-4", "-6", "-v", "-v", "-o", "User=a", "-l", "b")]
    assert options == ["-6", "-v", "User"]


def test_explain_reports_options_and_verdicts() -> None:
    output = explain_ssh(["-F", "none", "-p", "2222", "-L", "1:h:2", "-i", "/etc/passwd", "-i", "/etc/group", "u@Host"])
    assert json.loads(json.dumps(output)) == output
    assert output["host"] == "Host" and set(output) == {"host", "options", "report"}
    options = output["options"]
    assert (options["port"], options["user"], options["hostname"], options["host"]) == ("2222", "u", "host", "Host")
    assert options["identityfile"] == ["/etc/passwd", "/etc/group"] and options["localforward"] == "1 [h]:2"
    assert options["canonicalizehostname"] == "false" and options["stricthostkeychecking"] == "ask"
    refused = [line for line in output["report"] if line["verdict"] == "refused"]
    assert refused == [{"option": "-L", "from": "command line", "verdict": "refused", "why": refused[0]["why"]}]


def test_a_command_is_refused() -> None:
    assert [one.option for one in resolve(["-F", "none", "h", "ls", "-l"], strict=False).report if one.fatal] == ["command"]


def test_explain_shows_the_defaults_of_the_installed_ssh(tmp_path: Path) -> None:
    found = explain_ssh(["-F", "none", "-o", "BatchMode=yes", "h"])["options"]
    if find_program("ssh"):
        theirs = run_ssh(["-F", "none", "-o", "BatchMode=yes", "h"]).values
        assert {key: value for key, value in theirs.items() if _listed(found[key]) != value} == {}
    assert installed_program(str(tmp_path / "none")) is installed_program("/bin/true") is OPENSSH_10
    assert str(dump(resolve_keywords(["-F", "none", "h"]))["kexalgorithms"]).startswith("mlkem768x25519-sha256,")


def _listed(value: str | list[str]) -> list[str]:
    if isinstance(value, str):
        return [value]
    return value
