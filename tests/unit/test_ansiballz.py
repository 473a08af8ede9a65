"""The payloads of each installed ansible-core are recognised, and no others."""

from __future__ import annotations

import base64
import functools
import io
import json
import re
import subprocess
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmitogen.ansible import ansiballz
from pmitogen.ansible.ansiballz import Payload, parse_ansiballz
from pmitogen.target.payload import run
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
    """Return the script that *core* builds from a module."""
    args = [str(CORES[core]), "-c", BUILD, name, json.dumps(ARGUMENTS[name])]
    done = subprocess.run(args, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def known(core: str, name: str) -> Payload:
    payload = parse_ansiballz(build(core, name))
    assert payload is not None
    return payload


@pytest.mark.needs_ansible
@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("core", CORES)
def test_real_payloads_are_recognised(core: str, name: str) -> None:
    payload = known(core, name)
    assert payload.module_name == f"ansible.modules.{name}"
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
def test_scripts_with_unknown_parts_are_not_recognised(core: str) -> None:
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
            script.replace(b"_loader.run_module(", b"_loader.run_other("),
            script.replace(b"json_params=json_params", b"json_params=json_params[1:]"),
            script.replace(b"            profile=profile,\n", b""),
            _with_a_keyword(script, "(1, 2)"),  # JSON has no tuples
            _with_a_keyword(script, "b'bytes'"),
            _with_a_keyword(script, "print()"),
            _with_a_keyword(script, "1", passed=False),
            _with_a_keyword(script, "1", used=b"    os.umask(something_new)\n"),
        ]
    else:
        extra += [script.replace(b"runpy.run_module(", b"runpy.run_path("), script.replace(b"ZIPDATA = '", b"ZIPDATA = open('")]
    wrong = [index for index, text in enumerate(extra) if text != script and parse_ansiballz(text) not in (None, payload)]
    assert not wrong
    assert parse_ansiballz(extra[0]) is None or payload.generation == "runpy"


def _with_a_keyword(script: bytes, value: str, passed: bool = True, used: bytes = b"") -> bytes:
    """Return *script* as a later ansible-core might build it: with another parameter, which its wrapper passes on or uses."""
    script = script.replace(b"\n    rlimit_nofile: int,\n", b"\n    rlimit_nofile: int,\n    something_new: object,\n")
    script = script.replace(b"\nprofile=", f"\nsomething_new={value},\nprofile=".encode())
    if passed:
        script = re.sub(rb"( +)profile=profile,\n", rb"\g<0>\1something_new=something_new,\n", script)
    return script.replace(b"    encoded_params = ", used + b"    encoded_params = ")


@pytest.mark.needs_ansible
@pytest.mark.parametrize("core", [core for core in CORES if core >= "2.19"])
@pytest.mark.parametrize(
    "value", [None, True, 3, "text", ["a", {"b": 1}], frozenset(), frozenset({"it's", "a\nsecret", "\udcff"}), {"x"}], ids=repr
)
def test_a_keyword_that_the_wrapper_passes_on_is_supported(core: str, value: object) -> None:
    script = build(core, "command")
    payload = parse_ansiballz(_with_a_keyword(script, repr(value)))
    assert payload is not None and payload.params == known(core, "command").params
    kind, plain = json.loads(payload.keywords)["something_new"]
    assert (run.EXTRA_TYPES[kind](plain) if kind else plain) == value


@pytest.mark.needs_ansible
@pytest.mark.parametrize("core", [core for core in CORES if core >= "2.22"])
def test_secrets_are_passed_on_and_not_shown(core: str) -> None:
    script = build(core, "command").replace(b"\nsecrets=frozenset(),", b"\nsecrets=frozenset({'s3cret', 'another'}),")
    payload = parse_ansiballz(script)
    assert payload is not None
    assert json.loads(payload.keywords) == {"secrets": ["frozenset", ["another", "s3cret"]]}
    assert "s3cret" not in f"{payload!r} {payload} {payload.module_name} {payload.profile} {payload.archive_name}"


@pytest.mark.needs_ansible
@pytest.mark.parametrize("core", [core for core in CORES if core >= "2.19"])
def test_the_limit_of_open_files_is_passed_on(core: str) -> None:
    script = build(core, "command").replace(b"\nrlimit_nofile=0,", b"\nrlimit_nofile=4096,")
    payload = parse_ansiballz(script)
    assert payload is not None and payload.rlimit_nofile == 4096


@given(st.one_of(st.text(), st.text("ab'\"\\{}:, \u00fc"), st.integers(), st.lists(st.text("'a"))))
def test_literals_have_the_values_of_python(value: object) -> None:
    assert ansiballz._literal_value(repr(value)) == value


def test_an_invalid_string_literal_is_refused() -> None:
    with pytest.raises(SyntaxError):
        ansiballz._literal_value("'a\rb'")
