"""Credentials of the target do not reach bastions, and those of a bastion reach no other bastion."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import pmitogen
from pmitogen.errors import AuthenticationError, ConnectError, UsageError
from pmitogen.flags.ssh.settings import JumpHop, Settings
from pmitogen.transport.auth.credentials import Credentials, Secret
from pmitogen.transport.auth.jump_credentials import parse
from pmitogen.transport.jump_host_pool import JumpHostPool, Resolver
from pmitogen.transport.sessions import exec_command
from tests.support.accounts import Account
from tests.support.keys import KeyFile
from tests.support.links import link_to, settings_for
from tests.support.sshd import Sshd

from .bastion import PROMPTS, Bastion

pytestmark = [pytest.mark.needs_sshd]
MakeBastion = Callable[..., Bastion]
SECRETS = {"password": "target-pw", "otp": "424242", "passphrase": "target-phrase"}


@pytest.fixture
def bastion() -> Iterator[MakeBastion]:
    made: list[Bastion] = []

    def make(*args: Any, **options: Any) -> Bastion:
        made.append(Bastion(*args, **options).start())
        return made[-1]

    yield make
    for each in made:
        each.stop()


def everything(key: KeyFile | None = None, entries: Mapping[str, Any] | None = None) -> Credentials:
    """Return credentials of every kind for a target."""
    return Credentials(
        password=Secret(SECRETS["password"]),
        private_keys=(Secret(key.path.read_text()),) if key else (),
        passphrase=Secret(SECRETS["passphrase"]),
        otp=Secret(SECRETS["otp"]),
        jump_entries=parse(entries or {}),
    )


def through(target: Settings, *ways: tuple[str, Settings]) -> tuple[Settings, Resolver]:
    """Return *target* behind jump hosts with the given names."""
    known = dict(ways)
    return target._replace(proxyjump=tuple(JumpHop(name) for name in known)), lambda hop, _target: known[hop.host]


@pytest.mark.parametrize("methods", ["password,keyboard-interactive", "keyboard-interactive", "password,publickey"])
def test_a_bastion_receives_no_credential_of_the_target(
    sshd: Sshd, jump_hosts: JumpHostPool, bastion: MakeBastion, make_key: Callable[..., KeyFile], short_path: Path, methods: str
) -> None:
    first = bastion(methods)
    settings, resolver = through(settings_for(sshd), ("gate", first.settings(short_path / "known")))
    key = make_key(passphrase=SECRETS["passphrase"])
    with pytest.raises(AuthenticationError) as caught:
        link_to(settings, everything(key), jump_hosts=jump_hosts, resolver=resolver)
    assert first.received == []
    assert "\n" not in caught.value.message and f"guest@127.0.0.1 port {first.port}: " in caught.value.message
    assert "set those of gate in ansible_pmitogen_jump_credentials" in caught.value.message
    assert not any(secret in caught.value.message for secret in SECRETS.values())


@pytest.mark.needs_root
def test_each_hop_receives_its_own_credentials(
    make_sshd: Callable[..., Sshd], account: Account, jump_hosts: JumpHostPool, bastion: MakeBastion, short_path: Path
) -> None:
    """Two bastions require two factors each; the target takes a password only."""
    first = bastion("keyboard-interactive", PROMPTS[:2], ["first-pw", "111111"])
    second = bastion("password,keyboard-interactive", PROMPTS[1:2], ["222222"])
    target = make_sshd(config=["AuthenticationMethods password"])
    names = ("gate", first.settings(short_path / "a")), ("inner.example", second.settings(short_path / "b"))
    settings, resolver = through(settings_for(target, user=account.name, identityfile=()), *names)
    entries = {"gate": {"password": "first-pw", "otp": 111111}, "guest@inner.example": {"otp": "222222"}}
    credentials = Credentials(password=Secret(str(account.password)), otp=Secret("424242"), jump_entries=parse(entries))
    link = link_to(settings, credentials, jump_hosts=jump_hosts, resolver=resolver)
    assert exec_command.run(link, "echo in")[1] == b"in\n"
    link.close()
    assert (first.received, second.received) == (["first-pw", "111111"], ["222222"])


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("gate", True),
        ("GATE", True),
        ("127.0.0.1", True),
        ("guest@gate", True),
        ("gate:PORT", True),
        ("guest@127.0.0.1:PORT", True),
        ("other@gate", False),
        ("gate:1", False),
        ("*", False),
        ("gat", False),
        ("target", False),
    ],
)
def test_an_entry_of_jump_credentials_matches_its_jump_host(
    sshd: Sshd, jump_hosts: JumpHostPool, bastion: MakeBastion, short_path: Path, name: str, found: bool
) -> None:
    first = bastion("password", accepted=["its own"])
    settings, resolver = through(settings_for(sshd), ("gate", first.settings(short_path / "known")))
    entries = {name.replace("PORT", str(first.port)): {"password": "its own"}}
    if found:
        link_to(settings, everything(entries=entries), jump_hosts=jump_hosts, resolver=resolver).close()
        assert first.received == ["its own"]
    else:
        with pytest.raises(AuthenticationError):
            link_to(settings, everything(entries=entries), jump_hosts=jump_hosts, resolver=resolver)
        assert first.received == []


def test_the_most_specific_entry_counts(sshd: Sshd, jump_hosts: JumpHostPool, bastion: MakeBastion, short_path: Path) -> None:
    first = bastion("password", accepted=["right"])
    settings, resolver = through(settings_for(sshd), ("gate", first.settings(short_path / "known")))
    entries = {"gate": {"password": "a"}, f"guest@gate:{first.port}": {"password": "right"}, "guest@gate": {"password": "b"}}
    link_to(settings, everything(entries=entries), jump_hosts=jump_hosts, resolver=resolver).close()
    assert first.received == ["right"]


def test_a_jump_connection_is_shared_only_with_equal_credentials(
    sshd: Sshd, jump_hosts: JumpHostPool, bastion: MakeBastion, short_path: Path
) -> None:
    """A wrong password for one target does not fail another, and a right one lets no other target in."""
    first = bastion("password")
    first.accepted = ["wrong", "right"]
    settings, resolver = through(settings_for(sshd), ("gate", first.settings(short_path / "known")))
    for password in ("wrong", "right"):
        try:
            credentials = everything(entries={"gate": {"password": password}})
            link_to(settings, credentials, jump_hosts=jump_hosts, resolver=resolver).close()
        except AuthenticationError:
            assert password == "wrong"
    with pytest.raises(AuthenticationError):
        link_to(settings, everything(), jump_hosts=jump_hosts, resolver=resolver)
    link_to(settings, everything(entries={"gate": {"password": "right"}}), jump_hosts=jump_hosts, resolver=resolver).close()
    assert first.logins == 1


@pytest.mark.parametrize("named", ["by both", "by the bastion alone"])
def test_the_targets_passphrase_does_not_open_a_key_file_of_the_bastion_only(
    sshd: Sshd, jump_hosts: JumpHostPool, bastion: MakeBastion, make_key: Callable[..., KeyFile], short_path: Path, named: str
) -> None:
    first = bastion("publickey", keys=True)
    key = make_key(passphrase=SECRETS["passphrase"])
    files = {"identityfile": (str(key),), "identityfile_explicit": True}
    target = settings_for(sshd)
    if named == "by both":
        target = target._replace(identityfile=(*target.identityfile, str(key)))
    settings, resolver = through(target, ("gate", first.settings(short_path / "known", **files)))
    credentials = Credentials(passphrase=Secret(SECRETS["passphrase"]))
    if named == "by both":
        link_to(settings, credentials, jump_hosts=jump_hosts, resolver=resolver).close()
    else:
        with pytest.raises(AuthenticationError, match="encrypted, and no passphrase given"):
            link_to(settings, credentials, jump_hosts=jump_hosts, resolver=resolver)
        entries = {"gate": {"passphrase": SECRETS["passphrase"]}}
        link_to(settings, everything(entries=entries), jump_hosts=jump_hosts, resolver=resolver).close()
    assert first.offered == [key.public] and first.received == []


def test_a_key_of_one_hop_is_not_offered_to_another(
    sshd: Sshd, jump_hosts: JumpHostPool, bastion: MakeBastion, make_key: Callable[..., KeyFile], short_path: Path
) -> None:
    first, second = bastion("publickey", keys=True), bastion("publickey", keys=True)
    mine, theirs = make_key(), make_key(passphrase="theirs")
    names = ("a", first.settings(short_path / "a")), ("b", second.settings(short_path / "b"))
    settings, resolver = through(settings_for(sshd), *names)
    entries = {
        "a": {"private_key": mine.path.read_text()},
        "b": {"private_key": theirs.path.read_text(), "private_key_passphrase": "theirs"},
    }
    link_to(settings, everything(entries=entries), jump_hosts=jump_hosts, resolver=resolver).close()
    assert (first.offered, second.offered) == ([mine.public], [theirs.public])


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("gate: x", "not a mapping of jump hosts"),
        (["gate"], "not a mapping of jump hosts"),
        ({"gate": "hunter2"}, "gate: not a mapping; use some of password"),
        ({"gate": {"pasword": "hunter2"}}, "gate: unknown key 'pasword'; use some of password"),
        ({"gate": {"password": ["hunter2"]}}, "gate: password: not a string"),
        ({"@gate": {"password": "hunter2"}}, "@gate: "),
        ({"gate:0x": {"password": "hunter2"}}, "gate:0x: "),
    ],
)
def test_wrong_entries_are_reported_without_their_secrets(value: object, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(value)
    assert complaint in caught.value.message and "hunter2" not in caught.value.message and "\n" not in caught.value.message


@pytest.mark.parametrize("known", ["changed", "revoked"])
@pytest.mark.parametrize("role", ["target", "jump host"])
def test_a_host_with_an_untrusted_key_receives_no_secret(
    sshd: Sshd,
    jump_hosts: JumpHostPool,
    bastion: MakeBastion,
    make_key: Callable[..., KeyFile],
    short_path: Path,
    known: str,
    role: str,
) -> None:
    """With StrictHostKeyChecking=no it connects, as ssh does: without passwords, answers and agent."""
    host = bastion("publickey,password,keyboard-interactive", keys=True)
    key, path = make_key(), short_path / "known"
    settings = host.settings(path, stricthostkeychecking="no", forwardagent=True, identityagent=None)
    name, own = path.read_text().split(" ", 1)
    path.write_text(f"{name} {make_key().public}\n" if known == "changed" else f"@revoked * {own}{name} {own}")
    entries = {"gate": {"password": "hop-pw", "otp": "777777"}}
    wanted = settings._replace(preferredauthentications=("keyboard-interactive", "password", "publickey"))
    if role == "target":
        with pytest.raises(AuthenticationError):
            link_to(wanted, everything(), jump_hosts=jump_hosts)
        link = link_to(wanted, Credentials(private_keys=(Secret(key.path.read_text()),)), jump_hosts=jump_hosts)
        assert not link.settings.forwardagent and link.warnings
        link.close()
    else:
        target, resolver = through(settings_for(sshd), ("gate", wanted))
        with pytest.raises(ConnectError, match="is not sufficient for a jump host") as caught:
            link_to(target, everything(entries=entries), jump_hosts=jump_hosts, resolver=resolver)
        assert caught.value.stage == "hostkey"
        target, resolver = through(settings_for(sshd), ("gate", wanted._replace(exitonforwardfailure=False)))
        with pytest.raises(AuthenticationError):
            link_to(target, everything(entries=entries), jump_hosts=jump_hosts, resolver=resolver)
    assert host.received == []


@pytest.mark.parametrize("form", ["-J", "ProxyCommand", "two hops"])
def test_the_library_sends_the_targets_credentials_to_no_bastion(
    sshd: Sshd, bastion: MakeBastion, short_path: Path, form: str
) -> None:
    hosts = [bastion(), bastion()] if form == "two hops" else [bastion()]
    blocks = [
        f"Host gate{index}\n HostName 127.0.0.1\n Port {host.port}\n User guest\n"
        f" UserKnownHostsFile {host.known_hosts(short_path / str(index))}\n GlobalKnownHostsFile none\n"
        for index, host in enumerate(hosts)
    ]
    (short_path / "config").write_text("".join(blocks))
    way = {"-J": ["-J", "gate0"], "two hops": ["-J", "gate0,gate1"]}
    args = way.get(form, ["-o", f"ProxyCommand=ssh -F {short_path}/config -W %h:%p gate0"])
    secrets = {"password": "target-pw", "otp": "424242", "passphrase": "target-phrase"}
    with pytest.raises(AuthenticationError, match="set those of gate0 in"):
        pmitogen.connect("127.0.0.1", ssh_args=["-F", f"{short_path}/config", *args, *sshd.ssh_args()[2:]], **secrets)
    assert [host.received for host in hosts] == [[]] * len(hosts)


@pytest.mark.parametrize("window", [0, 10, 600])
def test_a_bastion_that_takes_no_data_ends_the_login_at_its_limit(
    sshd: Sshd, jump_hosts: JumpHostPool, bastion: MakeBastion, short_path: Path, window: int
) -> None:
    """It stops in the version, or in the key exchange, while the thread that logs in writes."""
    stuck = bastion(accepted=["gate-pw"], prompts=(), methods="password", window=window)
    target = settings_for(sshd)._replace(connecttimeout=1)
    settings, resolver = through(target, ("gate", stuck.settings(short_path / "known")))
    credentials = Credentials(jump_entries=parse({"gate": {"password": "gate-pw"}}))
    began = time.monotonic()
    with pytest.raises(ConnectError) as caught:
        link_to(settings, credentials, limit=4, jump_hosts=jump_hosts, resolver=resolver)
    assert 0.5 < time.monotonic() - began < 10 and stuck.logins == 1
    assert caught.value.stage == "kex" and "within" in caught.value.message
