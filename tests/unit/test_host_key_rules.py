"""Decisions about host keys that need no server: CheckHostIP, the order of files and algorithms, and invalid keys."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.settings import JumpHop, Settings
from pmitogen.transport.hostkeys.algorithm_order import CERTIFIED, DEFAULT_ORDER, host_key_algorithms
from pmitogen.transport.hostkeys.verify import check_host_key
from pmitogen.transport.keys import public_key
from pmitogen.transport.keys.wire import encode_string
from tests.support import certificates
from tests.support.keys import make_key

KEY = encode_string("ssh-ed25519") + encode_string(bytes(32))
OTHER = encode_string("ssh-ed25519") + encode_string(bytes(31) + b"\1")
ADDRESS = "192.0.2.7"


def line(name: str, blob: bytes) -> str:
    return f"{name} ssh-ed25519 {base64.b64encode(blob).decode()}\n"


def check(path: Path, text: str, **options: Any) -> Any:
    path.write_text(text)
    base: dict[str, Any] = {"stricthostkeychecking": "yes", "userknownhostsfile": (str(path),), "checkhostip": True}
    settings = Settings("web", "web", "root", **{**base, **options})
    return check_host_key(settings, ("ssh-ed25519", KEY), ADDRESS)


def test_checkhostip_checks_the_address(tmp_path: Path) -> None:
    path = tmp_path / "kh"
    both = line("web", KEY) + line(ADDRESS, OTHER)
    with pytest.raises(ConnectError, match=f"192.0.2.7 has another key in {path}:2; remove that line") as caught:
        check(path, both)
    assert caught.value.stage == "hostkey"
    with pytest.raises(ConnectError, match="has another key"):
        check(path, both, stricthostkeychecking="accept-new")
    assert "has another key" in check(path, both, stricthostkeychecking="no").warnings[0].text
    assert check(path, both, checkhostip=False).warnings == ()
    assert check(path, both, proxycommand="nc web 22").status == "known"
    assert check(path, both, proxyjump=(JumpHop("bastion"),)).status == "known"
    assert check(path, line(f"web,{ADDRESS}", KEY)).status == "known"


def test_checkhostip_records_the_address(tmp_path: Path) -> None:
    path = tmp_path / "kh"
    assert check(path, line("web", KEY)).status == "known"
    assert path.read_text() == line("web", KEY) + line(ADDRESS, KEY)
    assert check(path, "", stricthostkeychecking="accept-new").status == "added"
    assert path.read_text() == line(f"web,{ADDRESS}", KEY)
    check(path, "", stricthostkeychecking="accept-new", port=2222)
    assert path.read_text() == line(f"[web]:2222,[{ADDRESS}]:2222", KEY)


def test_the_global_file_is_read_but_not_written(tmp_path: Path) -> None:
    path, system = tmp_path / "kh", tmp_path / "system"
    system.write_text(line("web", KEY))
    options = {"globalknownhostsfile": (str(system),), "checkhostip": False}
    assert check(path, "", **options).location == f"{system}:1"
    system.write_text(line("other", KEY))
    assert check(path, "", stricthostkeychecking="accept-new", **options).status == "added"
    assert system.read_text() == line("other", KEY)


@pytest.mark.parametrize(
    "blob", [b"", b"\0\0\0\x20x", encode_string("ssh-ed25519-cert-v01@openssh.com"), encode_string("ssh-rsa") + b"\xff"]
)
def test_an_invalid_key_is_refused(blob: bytes) -> None:
    with pytest.raises(ConnectError, match="invalid key from the server") as caught:
        check_host_key(Settings("web", "web", "root"), ("?", blob), "")
    assert caught.value.stage == "hostkey"


def test_algorithms_are_ordered_as_by_ssh(tmp_path: Path) -> None:
    path = tmp_path / "kh"
    settings = Settings("web", "web", "root", userknownhostsfile=(str(path),))
    ecdsa, rsa = make_key(tmp_path / "ecdsa", "ecdsa384").public, make_key(tmp_path / "rsa", "rsa").public
    cert = "-cert-v01@openssh.com"

    def order(*lines: str, **options: Any) -> tuple[str, ...]:
        path.write_text("".join(one.rstrip("\n") + "\n" for one in lines))
        return host_key_algorithms(settings._replace(**options), "")

    # As in ssh: certificates first if no key is known, or if the known key has the first type.
    assert order() == order(line("web", KEY)) == order(line("db", KEY), "web ecdsa-sha2-nistp384 AAAA") == DEFAULT_ORDER
    assert order(f"web {ecdsa}")[:3] == (f"ecdsa-sha2-nistp384{cert}", "ecdsa-sha2-nistp384", f"ssh-ed25519{cert}")
    assert order(f"web {rsa}")[:4] == (f"rsa-sha2-512{cert}", f"rsa-sha2-256{cert}", "rsa-sha2-512", "rsa-sha2-256")
    assert order(f"web {rsa}", f"@revoked * {rsa}") == DEFAULT_ORDER
    by_authority = order(f"web {ecdsa}", line("@cert-authority web", KEY))
    assert by_authority[: len(CERTIFIED) + 1] == (*CERTIFIED, "ecdsa-sha2-nistp384")
    assert set(by_authority) == set(DEFAULT_ORDER)
    # A given list is used unchanged; one that adds or removes, like the default.
    listed = ("ssh-ed25519", "ecdsa-sha2-nistp384", "rsa-sha2-512")
    assert order(f"web {ecdsa}", hostkeyalgorithms=listed) == listed
    options = {"hostkeyalgorithms": listed, "hostkeyalgorithms_fixed": False}
    assert order(f"web {ecdsa}", **options) == ("ecdsa-sha2-nistp384", "ssh-ed25519", "rsa-sha2-512")
    # The keys of the name without the port, if none is known for the port.
    assert order(f"web {ecdsa}", port=2222)[1] == "ecdsa-sha2-nistp384"


@pytest.mark.parametrize("name", ["we*b", "web|1", "web,db@x", "[web]", "we'b", 'we"b', "we\\b", "we#b", "!web", "we?b"])
def test_names_that_known_hosts_cannot_represent_are_not_recorded(tmp_path: Path, name: str) -> None:
    path = tmp_path / "kh"
    settings = Settings(name, name, "root", stricthostkeychecking="no", userknownhostsfile=(str(path),))
    with pytest.raises(ConnectError, match="cannot be added"):
        check_host_key(settings, ("ssh-ed25519", KEY), ADDRESS)
    assert not path.exists()


@pytest.mark.parametrize(
    "text",
    [
        "web ssh-dss AAAAB3NzaC1kc3MAAACBAOKs1e7LFu+eZdLEDcVuGqXwBJ1oOJ1mDB0qmFSbY8bV",
        "web ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAA",
        "web ssh-foo AAAAB3NzaC1mb28AAAABQQ==",
        line("web", KEY)[:-6],
        "web ssh-ed25519-cert-v01@openssh.com " + base64.b64encode(encode_string("ssh-ed25519-cert-v01@openssh.com")).decode(),
    ],
)
def test_lines_with_unknown_keys_are_ignored(tmp_path: Path, text: str) -> None:
    assert check(tmp_path / "kh", text, stricthostkeychecking="accept-new", checkhostip=False).status == "added"


def test_a_revoked_key_is_also_revoked_in_a_certificate(tmp_path: Path) -> None:
    ca, key = make_key(tmp_path / "ca"), make_key(tmp_path / "key")
    blob = certificates.certificate(ca, key, principals=[b"web"])
    path = tmp_path / "kh"
    settings = Settings("web", "web", "root", stricthostkeychecking="no", userknownhostsfile=(str(path),))
    path.write_text(f"web {key.public}\n@revoked * {public_key.public_line(blob)}\n")
    plain = base64.b64decode(key.public.split()[1])
    assert check_host_key(settings, ("ssh-ed25519", plain), "").status == "unsafe"
    path.write_text(f"@cert-authority web {public_key.public_line(certificates.certificate(key, ca))}\n")
    assert check_host_key(settings, ("", blob), "").status == "certificate"
