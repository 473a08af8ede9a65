"""The directory, environment and umask of the process that asks for a connection."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pmitogen.errors import UsageError
from pmitogen.util import caller as caller_module
from pmitogen.util.caller import CallerEnvironment

THERE = CallerEnvironment({"HOME": "/home/of/it", "EMPTY": ""}, "/work/here", 0o027)


def test_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MADE_UP", "one\udcff")
    first = CallerEnvironment.current()
    assert first.directory == str(tmp_path) and first.environ["MADE_UP"] == "one\udcff"
    assert CallerEnvironment.current() is first, "nothing has changed"
    monkeypatch.setenv("MADE_UP", "two")
    second = CallerEnvironment.current()
    old = os.umask(0o007)
    third = CallerEnvironment.current()
    os.umask(old)
    assert third.umask == 0o007 and len({first, second, third}) == 3


def test_it_travels() -> None:
    for each in (THERE, CallerEnvironment({"A": "\udcff\u20ac"}, "/\udcfe")):
        back = CallerEnvironment.from_message(each.message())
        assert back == each and back.digest == each.digest and (back.directory, back.umask) == (each.directory, each.umask)
    with pytest.raises(UsageError):
        CallerEnvironment.from_message({**THERE.message(), "directory": "relative"})
    assert "home" not in repr(THERE)


@pytest.mark.parametrize(
    ("path", "absolute"),
    [
        ("ssh.cfg", "/work/here/ssh.cfg"),
        ("./ssh.cfg", "/work/here/ssh.cfg"),
        (".//./ssh.cfg", "/work/here/ssh.cfg"),
        ("../keys/id", "/work/here/../keys/id"),
        ("/etc/x", "/etc/x"),
        (".", "/work/here/."),
        ("./", "/work/here"),
        ("", ""),
    ],
)
def test_relative_paths(path: str, absolute: str) -> None:
    assert THERE.absolute(path) == absolute


def test_homes() -> None:
    assert THERE.expand_user("~/x") == "/home/of/it/x" and THERE.expand_user("~") == "/home/of/it"
    assert THERE.expand_user("~root/x") == os.path.expanduser("~root/x")
    assert THERE.expand_user("~no-such-user/x") == "~no-such-user/x"
    assert CallerEnvironment({}).expand_user("~/x").endswith("/x")


def test_a_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths lead nowhere then, not to what has such a name elsewhere; programs begin in the root directory."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(caller_module, "_last", None)
    caller = CallerEnvironment.current()
    assert not os.path.exists(caller.absolute("x")) and not os.path.exists(caller.directory)
    assert caller.popen_options()["cwd"] == "/"
