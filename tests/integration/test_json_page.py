"""docs/json.md lists exactly the keys that the commands print with --json, and its examples have them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from pmitogen.cli import hubs
from pmitogen.cli.json_output import error_object
from pmitogen.errors import ConnectError, ConnectStage
from tests.support.accounts import Account
from tests.support.session import repository
from tests.support.sshd import Sshd

PAGE = (repository / "docs/json.md").read_text()
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
FREE = "object of "  # the type of an object whose keys are not listed


def _documented(section: str) -> dict[str, str]:
    """Return the keys of a section and their types; keys of both lists are added to both."""
    first, _, shared = SECTIONS[section].partition("\nEach object of ")
    keys = dict(_rows(first))
    for name in re.findall(r"`(\w+)`", shared.partition(" also has")[0]):
        keys.update({f"{name}[].{key}": kind for key, kind in _rows(shared)})
    return keys


def _rows(text: str) -> Iterator[tuple[str, str]]:
    yield from re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", text, re.M)


def _keys(value: Any, documented: dict[str, str], prefix: str = "") -> set[str]:
    """Return the keys in *value* in the notation of the page, except those of an error, or of an object without listed keys."""
    if isinstance(value, list):
        inner = prefix.rstrip(".") + "[]." if prefix else ""
        return set().union(*(_keys(each, documented, inner) for each in value)) if value else set()
    found: set[str] = set()
    for key, inside in value.items() if isinstance(value, dict) else ():
        name = prefix + key
        found.add(name)
        if name != "error" and not documented.get(name, "").startswith(FREE):
            found |= _keys(inside, documented, name + ".")
    return found


def _run(*argv: str, status: int = 0) -> Any:
    done = subprocess.run([sys.executable, "-m", "pmitogen", *argv], capture_output=True, text=True, timeout=60, input="")
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def _check(section: str, value: Any) -> None:
    documented = _documented(section)
    assert _keys(value, documented) == set(documented)


@pytest.mark.parametrize("section", [name for name in SECTIONS if name != "error"])
def test_examples_have_the_keys_of_the_tables(section: str) -> None:
    (example,) = re.findall(r"^```json\n(.*?)^```", SECTIONS[section], re.M | re.S)
    _check(section, json.loads(example))


def test_the_keys_of_an_error_are_documented() -> None:
    _check("error", error_object(ConnectError("x", "tcp")))
    (line,) = (line for line in SECTIONS["error"].splitlines() if line.startswith("| `stage`"))
    assert set(re.findall(r"`(\w+)`", line.split("|")[3])) - {"auth", "connect"} == set(get_args(ConnectStage)) - {"auth"}


@pytest.mark.needs_root
@pytest.mark.needs_sshd
def test_the_keys_of_commands_with_a_host_are_documented(sshd: Sshd, account: Account, short_path: Path) -> None:
    where = [*sshd.ssh_args(), f"{account.name}@{sshd.host}"]
    _check("ping", _run("ping", "--json", *where))
    _check("ping", {**_run("ping", "--json", "-p", "1", "127.0.0.1", status=1), **_none_of("ping", "round_trip", "algorithms")})
    _check("trust", _run("trust", "--json", "-o", f"UserKnownHostsFile={short_path}/known", *where, status=1))
    _check("keyscan", _run("keyscan", "--json", "-p", str(sshd.port), sshd.host))


def _none_of(section: str, *names: str) -> dict[str, Any]:
    """Return objects with all keys, for those that are null after an error."""
    return {name: {key.partition(".")[2]: 0 for key in _documented(section) if key.startswith(f"{name}.")} for name in names}


def test_the_keys_of_commands_without_a_host_are_documented(tmp_path: Path) -> None:
    _check("version", _run("version", "--json"))
    _check("explain", _run("explain", "ssh", "--json", "-F", "none", "-A", "web1"))
    assert _keys(_run("explain", "sudo", "--json", "-H"), _documented("explain")) == set(_documented("explain")) - {"host"}
    spans = [{"name": "run x", "ph": "X", "pid": 1, "tid": 7, "ts": 1e15, "dur": 5e5}]
    (tmp_path / "run.json").write_text(json.dumps({"traceEvents": spans}))
    _check("trace", _run("trace", "--json", str(tmp_path / "run.json")))
    for argv in (("trace", "--json", str(tmp_path / "none")), ("keyscan", "--json", "-f", str(tmp_path / "none"))):
        assert set(_run(*argv, status=1)["error"]) == set(_documented("error"))


def test_the_keys_of_hubs_are_documented() -> None:
    transfer = {"host": "h", "action": "put", "path": "/x", "transferred": 1, "size": None}
    _check("hubs", [hubs._as_object({**dict.fromkeys(hubs.FIELDS, 1), "transfers": [transfer]})])
    assert _run("hubs", "--json") == [] or set(_run("hubs", "--json")[0]) == {*hubs.FIELDS, "transfers"}
