"""Lines of known_hosts that match a host, with ssh-keygen -F as the oracle; and the speed of the search."""

from __future__ import annotations

import base64
import fcntl
import os
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pmitogen.transport.hostkeys import known_hosts, known_hosts_sources
from pmitogen.transport.hostkeys.known_hosts import KnownHosts, hash_name, lookup_name
from pmitogen.transport.hostkeys.known_hosts_sources import append
from pmitogen.transport.keys.wire import encode_string
from pmitogen.util.patterns import match_hostname, match_pattern

BLOB = encode_string("ssh-ed25519") + encode_string(bytes(range(32)))
KEY = "ssh-ed25519 " + base64.b64encode(BLOB).decode()
NAMES = ["web", "web.example.com", "db1", "[web]:2222", "10.0.0.1", "fe80::1", "[fe80::1]:2022", "EXAMPLE.com"]


def matching_lines(text: str, name: str) -> set[int]:
    return {line.number for line in KnownHosts.parse(text, "kh").lookup(name.lower())}


def matching_by_ssh_keygen(path: Path, name: str) -> set[int]:
    out = subprocess.run(["ssh-keygen", "-F", name, "-f", str(path)], capture_output=True, text=True, timeout=20).stdout
    return set(map(int, re.findall(r"^# Host .* found: line (\d+)", out, re.M)))


hosts = st.sampled_from(NAMES)
globs = st.sampled_from(
    ["*", "web*", "*.example.com", "db?", "[*]:2222", "10.0.0.*", "w?b", "[web]:*", "[1]", "*.EXAMPLE.com", "fe80::?"]
)
word = st.one_of(hosts, globs, hosts.map("!{}".format), globs.map("!{}".format), hosts.map(str.upper))
names = st.one_of(st.lists(word, min_size=1, max_size=4).map(",".join), hosts.map(lambda name: hash_name(name, b"s" * 20)))
key = st.sampled_from([KEY, KEY + " a comment here", "ssh-rsa " + KEY.split()[1], "ssh-ed25519 !!"])
marker = st.sampled_from(["", "", "", "@cert-authority ", "@revoked ", "@strange ", "# "])
blank = st.sampled_from([" ", "  ", "\t"])
line = st.tuples(st.sampled_from(["", " ", "\t"]), marker, names, blank, key).map("".join)


@pytest.mark.needs_program("ssh-keygen")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.lists(st.one_of(line, st.just("")), max_size=12).map("\n".join), name=hosts)
def test_matching_lines_are_those_of_ssh_keygen(tmp_path: Path, text: str, name: str) -> None:
    path = tmp_path / "kh"
    path.write_text(text + "\n")
    assert matching_lines(text, name) == matching_by_ssh_keygen(path, name.lower())


@pytest.mark.needs_program("ssh-keygen")
def test_hashed_names_of_ssh_keygen_match(tmp_path: Path) -> None:
    path = tmp_path / "kh"
    path.write_text(f"web,[web]:2222 {KEY}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(path)], check=True, capture_output=True)
    text = path.read_text()
    assert text.startswith("|1|")
    assert matching_lines(text, "web") | matching_lines(text, "[web]:2222") == {1, 2}
    assert not matching_lines(text, "other")


@pytest.mark.parametrize("hashed", [False, True])
def test_ten_thousand_lines_are_searched_quickly(tmp_path: Path, hashed: bool) -> None:
    path = tmp_path / "kh"
    plain = [f"host{index}.example.com,10.1.{index // 250}.{index % 250}" for index in range(10_000)]
    path.write_text("".join(f"{hash_name(name, os.urandom(20)) if hashed else name} {KEY}\n" for name in plain))
    begin = time.process_time()
    known = known_hosts.read(str(path))
    if hashed:
        assert known.lookup(plain[-1])[0].number == 10_000
    else:
        assert known.lookup("host9999.example.com")[0].number == known.lookup("10.1.39.249")[0].number == 10_000
    assert not known.lookup("absent")
    assert time.process_time() - begin < 0.5
    begin = time.process_time()
    for _ in range(100):
        known_hosts.read(str(path)).lookup("absent")
    assert time.process_time() - begin < 0.05


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "kh"
    path.write_text(f"web {KEY}\n")
    assert known_hosts.read(str(path)) is known_hosts.read(str(path))
    append(str(path), ["db1"], BLOB, hashed=False)
    assert known_hosts.read(str(path)).lookup("db1")[0].number == 2


@pytest.mark.usefixtures("another_process_makes_directories")
def test_a_directory_that_another_connection_creates_is_used(tmp_path: Path) -> None:
    path = tmp_path / ".ssh" / "known_hosts"
    assert append(str(path), ["web"], BLOB, hashed=False) == f"{path}:1"


def test_keys_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "kh"
    assert append(str(path), ["[web]:22", "10.0.0.1"], BLOB, hashed=False) == f"{path}:1"
    assert path.read_text() == f"[web]:22,10.0.0.1 {KEY}\n"
    assert append(str(path), ["[web]:22"], BLOB, hashed=False) == f"{path}:1"
    assert append(str(path), ["one", "two"], BLOB, hashed=True) == f"{path}:2"
    assert len(path.read_text().splitlines()) == 3


def test_appending_waits_for_the_lock_and_checks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kh"
    done: list[str] = []
    with path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=lambda: done.append(append(str(path), ["web"], BLOB, hashed=False)))
        thread.start()
        time.sleep(0.1)
        assert not done and not path.read_text()
        other.write(f"# another program\nweb {KEY}\n")
    thread.join()
    assert done == [f"{path}:2"] and len(path.read_text().splitlines()) == 2
    monkeypatch.setattr(known_hosts_sources, "LOCK_TIMEOUT", 0.05)
    with path.open("r+") as other, pytest.raises(OSError, match="locked by another"):
        fcntl.flock(other, fcntl.LOCK_EX)
        append(str(path), ["db1"], BLOB, hashed=False)


def test_names_match_patterns() -> None:
    assert lookup_name("Web", 22) == "web"
    assert lookup_name("Web", 2222) == "[web]:2222"
    assert match_hostname("WEB", "*,!db*") == 1 and match_hostname("db1", "*,!db*") == -1
    assert match_hostname("web", "!db*") == 0
    assert not match_pattern("web1", "web[0-9]")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_arbitrary_text_can_be_parsed(text: str) -> None:
    for found in KnownHosts.parse(text, "kh").lookup("web"):
        assert found.blob is None or found.blob
