"""Options asked once for a run are what Ansible says of each task, with every ansible-core (pmitogen/ansible/options/
option_cache.py)."""

from __future__ import annotations

import pytest

from tests.support.ansible import PLUGINS, Ansible

HEAD = """
import json, os, random, sys
from ansible import constants, context
from ansible.plugins.loader import connection_loader, init_plugin_loader
from ansible.playbook.play_context import PlayContext
from ansible.utils.context_objects import CLIArgs
context.CLIARGS = CLIArgs(
    {"connection": "pmitogen", "timeout": 10, "ssh_common_args": "-o Compression=yes", "private_key_file": None}
)
init_plugin_loader()
connection_loader.add_directory(sys.argv[1])
from pmitogen.ansible import errors; from pmitogen.ansible.options import option_cache
plugin = connection_loader.get("pmitogen", PlayContext(), None)
config = constants.config
asked = []
real = config.get_config_value_and_origin
def counting(*args, **kwargs):
    asked.append(args)
    return real(*args, **kwargs)
def theirs(keys, variables, direct):
    kind = type(plugin).__mro__[1]
    kind.set_options(plugin, keys, variables, direct)
    return {**plugin._options, **({"pipelining": True} if errors.LEGACY_PIPELINING else {})}  # which the plugin says by itself
def ours(keys, variables, direct):
    plugin.set_options(keys, variables, direct)
    return dict(plugin._options)
"""
SAME = """
names = [entry["name"] for option in plugin.option_definitions.values() for entry in option.get("vars", ())]
dice = random.Random(sys.argv[2])
worth = {"ansible_port": 2222, "ansible_ssh_port": 22, "ansible_ssh_timeout": 7, "ansible_ssh_retries": 2,
         "ansible_ssh_verbosity": "3", "ansible_pipelining": True, "ansible_ssh_pipelining": False,
         "ansible_ssh_use_tty": "false", "ansible_ssh_transfer_method": "scp", "ansible_ssh_password_mechanism": "sshpass",
         "ansible_pmitogen_boot_python": ["python3", "/opt/python"], "ansible_pmitogen_hops": {"b": {"otp": "1"}},
         "ansible_pmitogen_jump_credentials": {"b": {}}, "ansible_ssh_jump_credentials": {"b": {"otp": "2"}}}
wrong, cached, saved = [], 0, []
for _ in range(150):
    variables = {name: worth.get(name, "value of " + name) for name in dice.sample(names, dice.randrange(9))}
    variables.update({name: None for name in dice.sample(names, 2)})
    variables["unrelated"] = {"a": 1}
    keys = {"timeout": dice.choice((None, 3)), "port": dice.choice((None, 99)), "remote_user": dice.choice((None, "keyword's")),
            "password": dice.choice((None, "keyword's")), "become": True, "vars": {}, "args": {}}
    direct = dice.choice((None, {}, {"host": "direct's"}, {"pipelining": None}))
    given = dice.choice(((keys, variables, direct), (keys, variables, None), (None, variables, None), (None, None, None)))
    expected = theirs(*given)
    cached += option_cache.cached_options("connection", "pmitogen", *given) is not None
    del asked[:]
    config.get_config_value_and_origin = counting
    got = ours(*given)
    saved.append(len(plugin.option_definitions) - len(asked))
    config.get_config_value_and_origin = real
    if got != expected or list(map(type, got.values())) != [type(expected[name]) for name in got]:
        wrong.append([given, [[name, got[name], expected[name]] for name in got if got[name] != expected[name]]])
print(json.dumps([cached, min(saved), wrong[:1], sorted(got) == sorted(plugin.option_definitions)], default=str))
"""
ENVIRONMENT = {
    "ANSIBLE_SSH_ARGS": "-o ServerAliveInterval=5",
    "ANSIBLE_REMOTE_PORT": "2022",
    "ANSIBLE_SSH_RETRIES": "3",
    "ANSIBLE_HOST_KEY_CHECKING": "False",
}


@pytest.mark.needs_ansible
@pytest.mark.parametrize("environment", [{}, ENVIRONMENT], ids=["bare", "set"])
def test_they_are_what_ansible_says_for_any_task(ansible: Ansible, environment: dict[str, str]) -> None:
    cached, saved, wrong, complete = ansible.answer(HEAD + SAME, str(PLUGINS), "seed", **environment)
    assert wrong == []
    assert cached == 150  # else this compares Ansible with itself
    assert saved > 10 and complete


SHELL = """
from ansible.plugins.loader import shell_loader
stock, shell = shell_loader.get("sh"), plugin._shell
assert type(shell) is not type(stock) and isinstance(shell, type(stock)) and "set_options" not in vars(type(stock))
names = [entry["name"] for option in stock.option_definitions.values() for entry in option.get("vars", ())]
worth = {"ansible_system_tmpdirs": ["/one/", "/two"], "ansible_admin_users": "root,toor",
         "ansible_shell_allow_world_readable_temp": "yes"}
dice = random.Random(sys.argv[2])
wrong, cached, saved = [], 0, []
def all_of(kind, given):
    kind.set_options(*given)
    found = {name: [value, str(type(value))] for name, value in kind._options.items()}
    return [found, getattr(kind, "_origins", None) if hasattr(stock, "_origins") else None, kind.__dict__.get("env")]
for _ in range(100):
    variables = {name: worth.get(name, "value of " + name) for name in dice.sample(names, dice.randrange(4))}
    keys = {"timeout": 3, "become": True, "environment": dice.choice(([], [{"NAME": "value"}], [{"A": "1"}, {"B": "2"}]))}
    keys.update(dice.choice(({}, {"async_dir": "/keyword's"})))
    given = dice.choice(((keys, variables, None), (keys, variables, {"remote_tmp": "/direct"}), (None, None, None)))
    expected = all_of(stock, given)
    cached += option_cache.cached_options("shell", "sh", *given) is not None
    del asked[:]
    config.get_config_value_and_origin = counting
    got = all_of(shell, given)
    config.get_config_value_and_origin = real
    saved.append(len(stock.option_definitions) - len(asked))
    if got != expected:
        wrong.append([given, got, expected])
try:
    shell.set_options({}, {"ansible_system_tmpdirs": ["relative"]}, None)
except Exception as exc:
    print(json.dumps([cached, max(saved), wrong[:1], str(exc)], default=str))
"""


@pytest.mark.needs_ansible
@pytest.mark.parametrize("environment", [{}, {"ANSIBLE_REMOTE_TMP": "/other", "ANSIBLE_ASYNC_DIR": "/jobs"}], ids=["bare", "set"])
def test_the_shells_are_what_ansible_says_too(ansible: Ansible, environment: dict[str, str]) -> None:
    cached, saved, wrong, error = ansible.answer(HEAD + SHELL, str(PLUGINS), "seed", **environment)
    assert wrong == []
    assert cached == 100  # else this compares Ansible with itself
    assert saved > 3
    assert "relative path" in error, "what the shell does with its options it still does"


@pytest.mark.needs_ansible
def test_what_is_found_elsewhere_by_then_is_asked_for_anew(ansible: Ansible) -> None:
    code = """
first = plugin.get_option("ssh_args")
os.environ["ANSIBLE_SSH_ARGS"] = "-4"
valid = option_cache.cached_options("connection", "pmitogen", {}, {}, None)
after_environment = ours({}, {}, None)["ssh_args"]
del os.environ["ANSIBLE_SSH_ARGS"]
back = option_cache.cached_options("connection", "pmitogen", {}, {}, None) is not None
context.CLIARGS = CLIArgs({"ssh_common_args": "-6"})
after_arguments = ours({}, {}, None)["ssh_common_args"]
print(json.dumps([valid, after_environment, back, after_arguments]))
"""
    assert ansible.answer(HEAD + code, str(PLUGINS)) == [None, "-4", True, "-6"]


@pytest.mark.needs_ansible
def test_a_bad_value_is_said_by_the_task_that_has_it(ansible: Ansible) -> None:
    code = """
found = option_cache.cached_options("connection", "pmitogen", {}, {}, None)
overridden = ours({}, {"ansible_ssh_retries": 4}, None)["reconnection_retries"]
try:
    ours({}, {}, None)
    error = ""
except Exception as exc:
    error = type(exc).__name__
print(json.dumps([found, overridden, error]))
"""
    found, overridden, error = ansible.answer(HEAD + code, str(PLUGINS), ANSIBLE_SSH_RETRIES="many")
    assert found is None
    assert overridden == 4
    assert error in ("AnsibleOptionsError", "AnsibleError")


@pytest.mark.needs_ansible
def test_nothing_is_asked_ahead_where_that_is_switched_off(ansible: Ansible) -> None:
    code = """
found = option_cache.cached_options("connection", "pmitogen", {}, {}, None)
print(json.dumps([found, ours({}, {"ansible_port": 9}, None)["port"]]))
"""
    assert ansible.answer(HEAD + code, str(PLUGINS), PMITOGEN_PRELOAD="0") == [None, 9]
