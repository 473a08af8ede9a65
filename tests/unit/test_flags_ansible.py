"""The arguments built from the plugin's options, compared with those of the ssh plugin of every installed ansible-core."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from pmitogen.errors import UsageError
from pmitogen.flags.ansible import DEFAULT_SSH_ARGS, build_ssh_argv
from pmitogen.flags.ssh.resolve import resolve
from tests.support.ansible import Ansible

HOST = {"host": "h"}

# Each entry has the options of one connection. Options that a core lacks are not given to it.
CASES: list[dict[str, Any]] = [
    {},
    {"password": "secret"},
    {"port": 2222, "remote_user": "me", "timeout": 33},
    {"ssh_args": ""},
    {"ssh_args": "-o ControlPersist=60s -o User=first -C", "remote_user": "second"},
    {"ssh_args": "-o 'ProxyCommand=ssh -W %h:%p \"a b\"'  '' -vvA", "ssh_common_args": "-J a,b", "ssh_extra_args": "-p 1"},
    {"ssh_common_args": '-o ProxyCommand="nc %h %p"'},
    {"host_key_checking": False},
    {"host_key_checking": True, "private_key_file": "~/k y"},
    {"private_key_file": "/k", "password": "secret", "port": "23"},
    {"verbosity": 3, "ssh_args": "-4"},
    {"pkcs11_provider": "/lib/x.so", "password": "pin"},
    {"remote_user": "d\\u", "ssh_args": "-o KbdInteractiveAuthentication=yes"},
    {"timeout": 0, "port": 0},
]

# Prints the command line of that plugin as JSON; it neither searches for sshpass nor creates a directory for sockets.
THEIRS = """
import json, os, sys
from ansible import context, constants
from ansible.plugins.loader import connection_loader, init_plugin_loader
from ansible.playbook.play_context import PlayContext
from ansible.utils.context_objects import CLIArgs
context.CLIARGS = CLIArgs({"timeout": 10})
init_plugin_loader([])
answers = []
for case in json.loads(sys.argv[1]):
    plugin = connection_loader.get("ssh", PlayContext(), None)
    plugin._sshpass_available = lambda: True
    plugin.set_options(direct={**case, "control_path_dir": sys.argv[2]})
    unknown = sorted(set(case) - set(plugin.option_definitions))
    answers.append([unknown, [os.fsdecode(word) for word in plugin._build_command("ssh", "ssh", "h")]])
    for end in getattr(plugin, "sshpass_pipe", None) or ():
        os.close(end)
print(json.dumps(answers))
"""


def _without(args: list[str], *starts: str) -> list[str]:
    """Return *args* without the ``-o`` settings that begin with *starts*."""
    remaining: list[str] = []
    for word in args:
        if word.startswith(starts) and remaining and remaining[-1] == "-o":
            remaining.pop()
        else:
            remaining.append(word)
    return remaining


def _comparable(theirs: list[str]) -> list[str]:
    """Return the arguments after ``ssh``, without those that the head of flags/ansible.py lists as omitted."""
    args = _without(theirs[theirs.index("ssh") + 1 :], "ControlPath=", "NumberOfPasswordPrompts=")
    default = DEFAULT_SSH_ARGS.split()
    for start in range(len(args)):
        if args[start : start + len(default)] == default:
            return args[:start] + args[start + len(default) :]
    return args


def test_the_arguments_are_those_of_ansibles_ssh_plugin(ansible: Ansible, home: Any) -> None:
    command = [ansible.python, "-c", THEIRS, json.dumps(CASES), str(home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    compared = 0
    for case, (unknown, theirs) in zip(CASES, json.loads(done.stdout.splitlines()[-1]), strict=True):
        if unknown:
            continue
        compared += 1
        ours, _ = build_ssh_argv({"ssh_args": DEFAULT_SSH_ARGS, "timeout": 10, "host_key_checking": True, **HOST, **case})
        assert _without(ours, "NumberOfPasswordPrompts=") == _comparable(theirs), case
    assert compared >= len(CASES) - 1


def test_each_argument_has_the_name_of_its_option() -> None:
    argv, origins = build_ssh_argv({"ssh_args": "-4 -A", "port": 22, "remote_user": "u", "password": "s", **HOST})
    assert list(zip(argv, origins, strict=True)) == [
        ("-4", "ssh_args"),
        ("-A", "ssh_args"),
        ("-o", "port"),
        ("Port=22", "port"),
        ("-o", "remote_user"),
        ('User="u"', "remote_user"),
        ("-o", "password"),
        ("NumberOfPasswordPrompts=1", "password"),
        ("h", "host"),
    ]


@pytest.mark.parametrize("text", [DEFAULT_SSH_ARGS, DEFAULT_SSH_ARGS + " ", DEFAULT_SSH_ARGS.replace(" ", "  ")])
def test_the_default_ssh_args_do_not_count_as_chosen(text: str) -> None:
    assert build_ssh_argv({"ssh_args": text, "password": "s"})[0] == ["-o", "NumberOfPasswordPrompts=1"]


def test_default_ssh_args_with_an_addition_count_as_chosen() -> None:
    assert build_ssh_argv({"ssh_args": DEFAULT_SSH_ARGS + " -4"})[0][:6] == [*DEFAULT_SSH_ARGS.split(), "-4"]


def test_no_secret_is_in_the_arguments() -> None:
    secrets = {"password": "S3CRET1", "private_key": "S3CRET2", "private_key_passphrase": "S3CRET3", "otp": "S3CRET4"}
    assert "S3CRET" not in " ".join(build_ssh_argv({**secrets, **HOST})[0])


def test_a_key_given_as_text_excludes_other_keys() -> None:
    argv, _ = build_ssh_argv({"private_key": "PEM", "private_key_file": "/unused"})
    assert argv[:4] == ["-o", "IdentitiesOnly=yes", "-o", "IdentityFile=none"]
    assert "/unused" not in " ".join(argv)


def test_a_second_factor_without_a_password_may_be_prompted_for() -> None:
    argv, _ = build_ssh_argv({"otp": "123456"})
    assert "KbdInteractiveAuthentication=no" not in argv
    assert any(word.startswith("PreferredAuthentications=") and word.endswith(",publickey,keyboard-interactive") for word in argv)
    assert "PasswordAuthentication=no" in argv


def test_a_smart_card_without_a_pin_is_in_the_arguments() -> None:
    assert build_ssh_argv({"pkcs11_provider": "/x.so"})[0][:2] == ["-o", "PKCS11Provider=/x.so"]


@pytest.mark.parametrize("name", ["ssh_args", "ssh_common_args", "ssh_extra_args"])
def test_an_open_quote_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=f"^{name}: no closing quotation: "):
        build_ssh_argv({name: "-o 'User=x"})


@pytest.mark.parametrize("name", ["ssh_args", "ssh_common_args", "ssh_extra_args"])
@pytest.mark.parametrize(
    ("text", "word"), [("-o SetEnv=A=3 minutes", "minutes"), ("3 minutes", "3"), ("-C -- x", "--"), ("'a b'", "a b")]
)
def test_an_argument_that_is_not_an_option_is_named(name: str, text: str, word: str) -> None:
    argv, origins = build_ssh_argv({name: text, "remote_user": "u", "host": "h"})
    with pytest.raises(UsageError, match=f"^{name}: '{word}': not an option; quote a value that has spaces, or remove it$"):
        resolve(argv, origins=origins)


def test_a_tilde_is_this_users_home() -> None:
    assert f'IdentityFile="{os.path.expanduser("~")}/k"' in build_ssh_argv({"private_key_file": "~/k"})[0]


def test_ssh_extra_args_from_names_the_origin_of_the_arguments() -> None:
    argv, origins = build_ssh_argv(
        {"host": "h", "ssh_extra_args": "-p 1", "ssh_extra_args_from": "ssh_args", "interactive": True}
    )
    assert dict(zip(argv, origins, strict=True))["-p"] == "ssh_args"
