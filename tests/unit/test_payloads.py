"""Recognising what each installed ansible-core really builds, and nothing else."""

from __future__ import annotations

import base64
import functools
import io
import json
import subprocess
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmitogen.ansible import ansiballz
from pmitogen.ansible.ansiballz import Payload, recognise
from tests.support.ansible import installed_cores

BUILD = """
import json, sys
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader()
from ansible.executor import module_common
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.plugins.loader import module_loader
name, args = sys.argv[1], json.loads(sys.argv[2])
path = module_loader.find_plugin(name)
built = module_common.modify_module(
    module_name=name, module_path=path, module_args=args, templar=Templar(DataLoader(), variables={}),
    task_vars={"ansible_python_interpreter": "/usr/bin/python3"}, async_timeout=0, environment={}, remote_is_local=False,
)
data = built.b_module_data if hasattr(built, "b_module_data") else built[0]
sys.stdout.buffer.write(data)
"""
CORES = installed_cores()
ARGUMENTS = {
    "command": {"_raw_params": "echo 'it''s' \\ \"quoted\" {{ x }} \u00fc \u2713 \U0001f600 \n two", "_uses_shell": True},
    "stat": {"path": "/tmp/\udcff\x01 name"},
    "setup": {"gather_subset": ["!all"]},
}


@functools.cache
def build(core: str, name: str) -> bytes:
    """The script that *core* makes of a module."""
    words = [str(CORES[core]), "-c", BUILD, name, json.dumps(ARGUMENTS[name])]
    done = subprocess.run(words, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def known(core: str, name: str) -> Payload:
    payload = recognise(build(core, name))
    assert payload is not None
    return payload


@pytest.mark.needs_ansible
@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("core", CORES)
def test_real_payloads_are_recognised(core: str, name: str) -> None:
    payload = known(core, name)
    assert payload.fqn == f"ansible.modules.{name}"
    assert payload.generation == ("loader" if tuple(map(int, core.split("."))) >= (2, 19) else "runpy")
    args = json.loads(payload.params)["ANSIBLE_MODULE_ARGS"]
    assert {key: args[key] for key in ARGUMENTS[name]} == ARGUMENTS[name]
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(payload.archive))) as archive:
        assert f"ansible/modules/{name}.py" in archive.namelist()
    assert payload.archive_name == known(core, name).archive_name


@pytest.mark.needs_ansible
@pytest.mark.parametrize("core", CORES)
def test_parameters_do_not_change_the_archive_name(core: str) -> None:
    assert known(core, "command").archive_name != known(core, "stat").archive_name


@pytest.mark.needs_ansible
@pytest.mark.parametrize("core", CORES)
def test_whatever_is_not_understood_wholly_is_not_recognised(core: str) -> None:
    script = build(core, "command")
    payload = known(core, "command")
    archive = bytes(payload.archive)
    extra = [
        script + b"\nimport os\n",
        script.replace(b"rlimit_nofile", b"rlimit_other"),
        script.replace(archive, archive[:50] + b"' + '" + archive[50:]),
        script.replace(archive, archive[:50] + b"\\x41" + archive[50:]),
        script.replace(archive, archive + b"'.swapcase() + '"),
        script.replace(b"ANSIBLE_MODULE_ARGS", b"ANSIBLE_MODULE_ARGS\\x00", 1)[: len(script) // 2],
        b"",
        b"#!/bin/sh\necho hi\n",
        script[:-10],
        script[200:],
    ]
    if payload.generation == "loader":
        extra += [
            script.replace(b"\nextensions={}", b"\nextensions={'_debugger': {}}"),
            script.replace(b"\nprofile=", b"\nsomething_new=1,\nprofile="),
            script.replace(b"params='", b"params=str('"),
        ]
    else:
        extra += [script.replace(b"runpy.run_module(", b"runpy.run_path("), script.replace(b"ZIPDATA = '", b"ZIPDATA = open('")]
    wrong = [number for number, text in enumerate(extra) if text != script and recognise(text) not in (None, payload)]
    assert not wrong
    assert recognise(extra[0]) is None or payload.generation == "runpy"


@pytest.mark.needs_ansible
@pytest.mark.parametrize("core", [core for core in CORES if core >= "2.19"])
def test_a_limit_of_files_is_carried(core: str) -> None:
    script = build(core, "command").replace(b"\nrlimit_nofile=0,", b"\nrlimit_nofile=4096,")
    payload = recognise(script)
    assert payload is not None and payload.nofile == 4096


@given(st.one_of(st.text(), st.text("ab'\"\\{}:, \u00fc"), st.integers(), st.lists(st.text("'a"))))
def test_a_literal_is_worth_what_python_says(value: object) -> None:
    assert ansiballz._value(repr(value)) == value


def test_a_string_that_python_would_not_read_is_not_read() -> None:
    with pytest.raises(SyntaxError):
        ansiballz._value("'a\rb'")
