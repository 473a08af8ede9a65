"""The directory, environment and umask of the process that asks for a connection."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pmitogen.errors import UsageError
from pmitogen.util import caller as caller_module
from pmitogen.util.caller import CallerEnvironment

THERE = CallerEnvironment({"HOME": "/home/of/it", "EMPTY": ""}, "/work/here", 0o027)


def test_the_current_environment_is_that_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MADE_UP", "one\udcff")
    first = CallerEnvironment.current()
    assert first.directory == str(tmp_path) and first.environ["MADE_UP"] == "one\udcff"
    assert CallerEnvironment.current() is first, "the object is cached while nothing changes"
    monkeypatch.setenv("MADE_UP", "two")
    second = CallerEnvironment.current()
    old = os.umask(0o007)
    third = CallerEnvironment.current()
    os.umask(old)
    assert third.umask == 0o007 and len({first, second, third}) == 3


def test_an_environment_is_equal_after_its_way_in_a_frame() -> None:
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
def test_relative_paths_start_at_the_directory_of_the_caller(path: str, absolute: str) -> None:
    assert THERE.absolute(path) == absolute


def test_a_tilde_is_the_home_of_the_caller() -> None:
    assert THERE.expand_user("~/x") == "/home/of/it/x" and THERE.expand_user("~") == "/home/of/it"
    assert THERE.expand_user("~root/x") == os.path.expanduser("~root/x")
    assert THERE.expand_user("~no-such-user/x") == "~no-such-user/x"
    assert CallerEnvironment({}).expand_user("~/x").endswith("/x")


def test_a_removed_directory_is_not_replaced_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths then lead nowhere, not to equal names elsewhere; programs start in the root directory."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(caller_module, "_last", None)
    caller = CallerEnvironment.current()
    assert not os.path.exists(caller.absolute("x")) and not os.path.exists(caller.directory)
    assert caller.popen_options()["cwd"] == "/"
