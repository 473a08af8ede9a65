"""SendEnv and SetEnv select the variables that are sent."""

from __future__ import annotations

from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.session_env import variables
from pmitogen.util.caller import CallerEnvironment

THEIRS = CallerEnvironment({"LANG": "C", "LC_ALL": "C.UTF-8", "LC_TIME": "de", "lc_x": "no", "FOO": "1"})
PLAIN = Settings("h", "h", "u", caller=THEIRS)


def names(*patterns: str) -> list[str]:
    return [name for name, _ in variables(PLAIN._replace(sendenv=patterns))]


def test_patterns_are_case_sensitive() -> None:
    assert names("LANG", "LC_*") == ["LANG", "LC_ALL", "LC_TIME"]
    assert names("?OO") == ["FOO"]
    assert names() == []


def test_a_minus_removes_earlier_patterns() -> None:
    assert names("LANG", "LC_*", "-LC_*") == ["LANG"]
    assert names("-LC_*", "LC_TIME") == ["LC_TIME"]


def test_setenv_overrides_sendenv() -> None:
    settings = PLAIN._replace(sendenv=("LANG",), setenv=(("LANG", "set"), ("NEW", "")))
    assert variables(settings) == [("LANG", "set"), ("NEW", "")]
