"""Conditions under which a later run may adopt an idle hub."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pmitogen.hub.daemon import compatibility
from pmitogen.hub.daemon.compatibility import fingerprint, process_environment
from pmitogen.hub.daemon.run_settings import RunSettings
from pmitogen.protocol import hello
from pmitogen.util import processes
from pmitogen.util.caller import CallerEnvironment

ENVIRON = {"HOME": "/h", "LANG": "C", "PATH": "/bin"}


def test_the_hub_gets_only_variables_that_its_interpreter_reads() -> None:
    secret = {"ANSIBLE_VAULT_PASSWORD": "x", "AWS_SECRET_ACCESS_KEY": "x", "SSH_AUTH_SOCK": "/a", "TOKEN": "x", "PWD": "/d"}
    relevant = {"PYTHONPATH": "/lib", "LD_LIBRARY_PATH": "/l", "LC_ALL": "C", "RES_OPTIONS": "rotate", "PMITOGEN_PIPELINE": "0"}
    assert process_environment(CallerEnvironment({**ENVIRON, **secret, **relevant})) == {**ENVIRON, **relevant}
    relative = CallerEnvironment({"PYTHONPATH": "lib:/abs:./x"}, "/run/here")
    assert process_environment(relative) == {"PYTHONPATH": "/run/here/lib:/abs:/run/here/x"}
    preloaded = {**ENVIRON, "LD_PRELOAD": "libproxychains.so", "PROXYCHAINS_CONF_FILE": "/c"}
    assert process_environment(CallerEnvironment(preloaded)) == preloaded


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("LC_TIME", True),
        ("PYTHONHASHSEED", True),
        ("LD_LIBRARY_PATH", True),
        ("RES_OPTIONS", True),
        ("OPENSSL_CONF", True),
        ("HOME", True),
        ("PMITOGEN_PIPELINE", True),
        ("PMITOGEN_LOG", False),
        ("PMITOGEN_TRACE", False),
        ("PATH", False),
        ("SSH_AUTH_SOCK", False),
    ],
)
def test_variables_that_affect_the_hub_count(name: str, counts: bool) -> None:
    def of(value: str) -> str:
        return fingerprint(process_environment(CallerEnvironment({**ENVIRON, name: value})), "2.21.5")

    assert (of("1") != of("2")) is counts


def test_versions_of_ansible_and_python_count(monkeypatch: pytest.MonkeyPatch) -> None:
    same = fingerprint(ENVIRON, "2.21.5")
    assert fingerprint(ENVIRON, "2.21.5") == same
    assert fingerprint(ENVIRON, "2.19.14") != same
    monkeypatch.setattr(compatibility.sys, "version", "3.99")
    assert fingerprint(ENVIRON, "2.21.5") != same


def test_changed_files_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade may leave the version and the path unchanged."""
    copy = tmp_path / "pmitogen"
    shutil.copytree(hello.identity()["root"], copy, ignore=shutil.ignore_patterns("__pycache__"))
    identity = {**hello.identity(), "root": str(copy)}
    monkeypatch.setattr(hello, "identity", lambda: identity)
    same = fingerprint(ENVIRON, "")
    file = copy / "transport" / "dial.py"
    os.utime(file, (1, 1))
    changed = fingerprint(ENVIRON, "")
    (copy / "new.py").touch()
    assert len({same, changed, fingerprint(ENVIRON, "")}) == 3


def test_groups_and_namespaces_count(monkeypatch: pytest.MonkeyPatch) -> None:
    same = fingerprint(ENVIRON, "")
    monkeypatch.setattr(os, "getgroups", lambda: [4711])
    groups = fingerprint(ENVIRON, "")
    monkeypatch.setattr(processes, "_namespace", lambda kind: f"{kind}:[1]")
    assert len({same, groups, fingerprint(ENVIRON, "")}) == 3


def test_settings_of_a_run_are_sent_to_the_hub() -> None:
    caller = CallerEnvironment({"PMITOGEN_LOG_FILE": "./log", "PMITOGEN_TRACE": "t.json"}, "/run/here")
    settings = RunSettings.of(caller, "debug", "2.21.5")
    assert settings.message() == {"log": "debug", "log_file": "/run/here/log", "trace": "/run/here/t.json", "ansible": "2.21.5"}
    assert RunSettings.from_message(settings.message()).message() == settings.message()
    assert RunSettings.of(CallerEnvironment({"PMITOGEN_LOG": "trace"}), "debug", "").message()["log"] == "trace"
    for wrong in (None, {}, {**settings.message(), "trace": 1}, {**settings.message(), "log_file": "relative"}):
        with pytest.raises(Exception, match="invalid settings of a run"):
            RunSettings.from_message(wrong)
