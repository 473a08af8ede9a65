"""Connection options as an object: the setting of each option, and connections made with them."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest

import pmitogen
from pmitogen import ConnectOptions, Jump
from tests.support.accounts import Account
from tests.support.sshd import Sshd


def test_explain_shows_the_setting_of_each_option(tmp_path: Path) -> None:
    options = ConnectOptions(
        user="u",
        port=2222,
        keys=[tmp_path / "a b", "/k"],
        certificates=["/c"],
        only_keys=True,
        agent=False,
        forward_agent=False,
        known_hosts=[tmp_path / "known hosts"],
        host_keys="accept-new",
        jumps=[Jump("j1", user="x"), Jump("::1", port=22)],
        config=None,
        connect_timeout=7,
        keepalive=9,
        compression=True,
        settings={"Ciphers": "aes256-ctr"},
        password="secret",
    )
    found = options.explain("host")["options"]
    assert found["user"] == "u" and found["port"] == "2222" and found["ciphers"] == "aes256-ctr"
    assert found["identityfile"] == [f"{tmp_path}/a b", "/k"] and found["certificatefile"] == "/c"
    assert (found["identitiesonly"], found["identityagent"], found["compression"]) == ("yes", "none", "yes")
    assert (found["connecttimeout"], found["serveraliveinterval"]) == ("7", "9")
    assert found["stricthostkeychecking"] == "accept-new" and found["proxyjump"] == "x@j1,[::1]:22"
    assert "secret" not in repr(options) and "secret" not in str(options.ssh_args())
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.user = "v"  # type: ignore[misc]


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": "22"},
        {"keys": "/k"},
        {"keys": [3]},
        {"only_keys": "yes"},
        {"jumps": ["j"]},
        {"settings": ["x"]},
        {"retries": "1"},
        {"config": 3},
        {"agent": 3},
    ],
)
def test_a_wrong_type_is_a_type_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="ConnectOptions: "):
        ConnectOptions(**wrong)


def test_a_wrong_value_is_a_usage_error() -> None:
    for wrong in ({"port": 0}, {"host_keys": "maybe"}, {"user": "a\0"}, {"agent": ""}):
        with pytest.raises(pmitogen.UsageError):
            ConnectOptions(**wrong)  # type: ignore[arg-type]
    for host, user in (("u@h", None), ("h:22", None), ("h,other", None), ("", None), ("h", "u,other@h")):
        with pytest.raises(pmitogen.UsageError, match="Jump: "):
            Jump(host, user=user)
    assert Jump("fe80::1%eth0", user="u").address == "u@[fe80::1%eth0]"
    assert len({ConnectOptions(port=22, settings={"Ciphers": "x"}), ConnectOptions(port=22, settings={"Ciphers": "x"})}) == 1


def test_settings_cannot_be_changed() -> None:
    given = {"Compression": "yes"}
    options = ConnectOptions(settings=given)
    given["Port"] = "1"
    settings: Any = options.settings
    for change in (
        lambda: settings.__setitem__("Port", "1"),
        lambda: settings.update(Port="1"),
        lambda: settings.setdefault("Port", "1"),
        lambda: settings.pop("Compression"),
        lambda: settings.__ior__({"Port": "1"}),
        settings.popitem,
        settings.clear,
        lambda: settings.__delitem__("Compression"),
    ):
        with pytest.raises(TypeError, match="cannot be changed"):
            change()
    assert options.settings == {"Compression": "yes"} and "settings={'Compression': 'yes'}" in repr(options)
    for again in (pickle.loads(pickle.dumps(options)), copy.deepcopy(options), dataclasses.replace(options)):
        assert again == options
    assert dataclasses.asdict(options)["settings"] == {"Compression": "yes"}


@pytest.mark.needs_root
@pytest.mark.needs_sshd
def test_a_connection_uses_the_options(sshd: Sshd, account: Account, home: Path) -> None:
    options = ConnectOptions(
        user=account.name, port=sshd.port, keys=[sshd.key.path], only_keys=True, known_hosts=[sshd.known_hosts], config=None
    )
    with pmitogen.connect(sshd.host, options=options, timeout=30) as host:
        assert host.run("id -un", text=True).stdout.strip() == account.name
    keyless = dataclasses.replace(options, keys=(), agent=False, password=account.password, settings={"IdentityFile": "none"})
    with pmitogen.connect(sshd.host, options=keyless, timeout=30) as host:
        assert host.run("true").ok
    config = home / "config"
    config.write_text(f"Host localhost\nUserKnownHostsFile {sshd.known_hosts}\nHostKeyAlias [{sshd.host}]:{sshd.port}\n")
    options = dataclasses.replace(options, config=config)
    jump = Jump("localhost", user=account.name, port=sshd.port, password=account.password)
    with pmitogen.connect(sshd.host, options=dataclasses.replace(options, jumps=(jump,)), timeout=30) as host:
        assert host.run("true").ok


@pytest.mark.needs_root
@pytest.mark.needs_sshd
def test_jump_hosts_have_their_own_keys_and_host_keys(sshd: Sshd, make_account: Any, make_key: Any, home: Path) -> None:
    last, first, second = make_account(), make_account(), make_account()
    key = make_key()
    path = home / "own key"
    path.write_bytes(key.path.read_bytes())
    path.chmod(0o600)
    first.write(".ssh/authorized_keys", key.public + "\n", 0o600)
    hosts = home / "known hosts"
    hosts.write_text(sshd.known_hosts.read_text().replace(f"[{sshd.host}]", "[localhost]"))
    jumps = (
        Jump("localhost", first.name, sshd.port, keys=[path], known_hosts=[hosts]),
        Jump(sshd.host, second.name, sshd.port, password=second.password, known_hosts=[sshd.known_hosts], host_keys="yes"),
    )
    options = ConnectOptions(
        user=last.name, port=sshd.port, keys=[sshd.key.path], known_hosts=[hosts], config=None, agent=False, jumps=jumps
    )
    for count in (1, 2):
        since = sshd.mark()
        with pmitogen.connect("localhost", options=dataclasses.replace(options, jumps=jumps[:count]), timeout=30) as host:
            assert host.run("id -un", text=True).stdout.strip() == last.name
        expected = [("publickey", first.name), ("password", second.name)][:count]
        assert sshd.accepted(since) == [*expected, ("publickey", last.name)]
    with pytest.raises(pmitogen.ConnectError, match="jump host 1 of 1: .*host key") as caught:
        strange = dataclasses.replace(jumps[0], known_hosts=[sshd.known_hosts], host_keys="yes")
        pmitogen.connect("localhost", options=dataclasses.replace(options, jumps=[strange]), timeout=30)
    assert caught.value.stage == "hostkey" and caught.value.jump_host
    for wrong in ({"keys": "/k"}, {"keys": [3]}, {"known_hosts": None}):
        with pytest.raises(TypeError, match="Jump: "):
            Jump("j", **wrong)  # type: ignore[arg-type]
    with pytest.raises(pmitogen.UsageError, match="Jump: host_keys"):
        Jump("j", host_keys="maybe")  # type: ignore[arg-type]
