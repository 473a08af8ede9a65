"""Ansible removes each variable of the plugin's options from a target's facts, in every installed ansible-core."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pmitogen.ansible.options import generate
from pmitogen.ansible.options.register import options_for
from tests.support.ansible import PLUGINS, Ansible, installed_cores

CLEANED = """
import json, sys
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader([])
from ansible.vars.clean import clean_facts
print(json.dumps(sorted(clean_facts({name: "x" for name in json.loads(sys.argv[1])}))))
"""
NAMES = """
import json, sys
from ansible import constants
from ansible.plugins.loader import become_loader, connection_loader, init_plugin_loader, shell_loader
init_plugin_loader([])
loader = {"shell": shell_loader, "become": become_loader}[sys.argv[1]]
plugin = loader.get(sys.argv[2])
found = constants.config.get_configuration_definitions(sys.argv[1], plugin._load_name)
print(json.dumps({name: [each["name"] for each in option.get("vars", [])] for name, option in found.items()}))
"""


def _ansible(core: str, tmp_path: Any) -> Ansible:
    return Ansible(core, installed_cores()[core], tmp_path)


def _variables(name: str) -> set[str]:
    return {entry["name"] for option in options_for(name).values() for entry in option.get("vars", ())}


@pytest.mark.needs_ansible
@pytest.mark.parametrize("core", list(installed_cores()))
@pytest.mark.parametrize(("plugin", "directory"), [("pmitogen", str(PLUGINS)), ("pmitogen.core.ssh", "/nonexistent")])
def test_every_variable_of_an_option_is_removed_from_facts(core: str, plugin: str, directory: str, tmp_path: Any) -> None:
    names = sorted(_variables(plugin))
    assert len(names) > 20
    left = _ansible(core, tmp_path).answer(CLEANED, json.dumps(names), ANSIBLE_CONNECTION_PLUGINS=directory)
    assert left == []


@pytest.mark.needs_ansible
def test_the_collections_plugin_has_the_same_variables() -> None:
    documented = generate.load_documentation(generate.COLLECTION_PLUGIN)["options"]
    assert {entry["name"] for option in documented.values() for entry in option.get("vars", ())} == _variables(
        "pmitogen.core.ssh"
    )


def test_each_option_of_the_plugin_can_be_set_in_the_collection() -> None:
    collection = options_for("pmitogen.core.ssh")
    for name, option in options_for("pmitogen").items():
        assert bool(option.get("vars")) == bool(collection[name].get("vars")), name


def test_every_variable_begins_with_ansible() -> None:
    assert all(name.startswith("ansible_") for name in _variables("pmitogen"))


@pytest.mark.needs_ansible
@pytest.mark.parametrize("core", list(installed_cores()))
def test_shell_and_become_read_the_variables_that_core_declares(core: str, tmp_path: Any) -> None:
    """They are options of Ansible's own plugins: over ssh the same names act, on the target only. pmitogen adds none."""
    from pmitogen.ansible.become import NATIVE
    from pmitogen.ansible.options.shell_table import OPTIONS_BY_DIGEST

    ansible = _ansible(core, tmp_path)
    theirs = {tuple(names) for names in ansible.answer(NAMES, "shell", "sh").values()}
    tables = [
        {tuple(entry["name"] for entry in option.get("vars", ())) for option in table.values()}
        for table in OPTIONS_BY_DIGEST.values()
    ]
    assert theirs in tables
    for method in set(NATIVE) & {"sudo", "su"}:
        for option, names in ansible.answer(NAMES, "become", method).items():
            assert all(re.match(rf"ansible_(become|{method})_", name) for name in names), option


def test_secrets_are_declared() -> None:
    """ansible-core 2.22 and later masks declared secrets; only texts can be declared (masking.py handles the mapping)."""
    options = options_for("pmitogen")
    declared = {name for name, option in options.items() if option.get("secret")}
    assert declared == {"password", "otp", "private_key", "private_key_passphrase"}
    assert declared == {name for name in options if re.search(r"(pass(word|phrase)|otp|secret|token|private_key)$", name)}
    assert all(options[name]["type"] == "string" for name in declared)
