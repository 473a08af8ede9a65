"""Decisions about host keys that need no server: CheckHostIP, where files stand, and keys that are not keys."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.settings import JumpHop, Settings
from pmitogen.transport.hostkeys.algorithm_order import SUPPORTED, host_key_algorithms
from pmitogen.transport.hostkeys.verify import check_host_key
from pmitogen.transport.keys.wire import string

KEY = string("ssh-ed25519") + string(bytes(32))
OTHER = string("ssh-ed25519") + string(bytes(31) + b"\1")
ADDRESS = "192.0.2.7"


def line(name: str, blob: bytes) -> str:
    return f"{name} ssh-ed25519 {base64.b64encode(blob).decode()}\n"


def check(path: Path, text: str, **words: Any) -> Any:
    path.write_text(text)
    base: dict[str, Any] = {"stricthostkeychecking": "yes", "userknownhostsfile": (str(path),), "checkhostip": True}
    settings = Settings("web", "web", "root", **{**base, **words})
    return check_host_key(settings, ("ssh-ed25519", KEY), ADDRESS)


def test_address_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "kh"
    both = line("web", KEY) + line(ADDRESS, OTHER)
    with pytest.raises(ConnectError, match=f"192.0.2.7 is known with another .{path}:2.: remove the stale line") as caught:
        check(path, both)
    assert caught.value.stage == "hostkey"
    assert "known with another" in check(path, both, stricthostkeychecking="accept-new").warnings[0]
    assert check(path, both, checkhostip=False).warnings == ()
    assert check(path, both, proxycommand="nc web 22").status == "known"
    assert check(path, both, proxyjump=(JumpHop("bastion"),)).status == "known"
    assert check(path, line(f"web,{ADDRESS}", KEY)).status == "known"


def test_address_is_written_down(tmp_path: Path) -> None:
    path = tmp_path / "kh"
    assert check(path, line("web", KEY)).status == "known"
    assert path.read_text() == line("web", KEY) + line(ADDRESS, KEY)
    assert check(path, "", stricthostkeychecking="accept-new").status == "added"
    assert path.read_text() == line(f"web,{ADDRESS}", KEY)
    check(path, "", stricthostkeychecking="accept-new", port=2222)
    assert path.read_text() == line(f"[web]:2222,[{ADDRESS}]:2222", KEY)


def test_global_file_is_read_and_never_written(tmp_path: Path) -> None:
    path, system = tmp_path / "kh", tmp_path / "system"
    system.write_text(line("web", KEY))
    words = {"globalknownhostsfile": (str(system),), "checkhostip": False}
    assert check(path, "", **words).where == f"{system}:1"
    system.write_text(line("other", KEY))
    assert check(path, "", stricthostkeychecking="accept-new", **words).status == "added"
    assert system.read_text() == line("other", KEY)


@pytest.mark.parametrize("blob", [b"", b"\0\0\0\x20x", string("ssh-ed25519-cert-v01@openssh.com"), string("ssh-rsa") + b"\xff"])
def test_no_key_at_all(blob: bytes) -> None:
    with pytest.raises(ConnectError, match="cannot be read") as caught:
        check_host_key(Settings("web", "web", "root"), ("?", blob), "")
    assert caught.value.stage == "hostkey"


def test_order(tmp_path: Path) -> None:
    path = tmp_path / "kh"
    path.write_text("web ecdsa-sha2-nistp256 AAAA\n" + line("@cert-authority web", KEY) + line("db", KEY))
    settings = Settings("web", "web", "root", userknownhostsfile=(str(path),))
    order = host_key_algorithms(settings, "")
    assert order[0] == "ssh-ed25519-cert-v01@openssh.com" and set(order) >= set(SUPPORTED)
    path.write_text("web ecdsa-sha2-nistp384 " + base64.b64encode(string("ecdsa-sha2-nistp384")).decode() + "\n")
    assert host_key_algorithms(settings, "")[0] == "ecdsa-sha2-nistp384"
