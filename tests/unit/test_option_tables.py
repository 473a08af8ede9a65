"""The option tables in the code are equal to the documentation that they were made from, in every installed ansible-core."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pmitogen.ansible.options import generate
from pmitogen.ansible.options.table import OPTIONS
from tests.support.ansible import PLUGINS, Ansible
from tests.support.session import repository

# Matches no variable: the whole text, with quotes, would be its name.
DEAD_VARIABLES = {"delegated_vars['ansible_host']", "delegated_vars['ansible_ssh_host']"}
# Variables of the ssh plugin that a target could set; see tests/hostile/test_facts_names.py.
UNPROTECTED = {
    "ansible_control_path",
    "ansible_control_path_dir",
    "ansible_host_key_checking",
    "ansible_private_key",
    "ansible_private_key_passphrase",
    "ansible_scp_executable",
    "ansible_scp_extra_args",
    "ansible_scp_if_ssh",
    "ansible_sftp_batch_mode",
    "ansible_sftp_executable",
    "ansible_sftp_extra_args",
    "ansible_ssh_host_key_checking",
    "ansible_sshpass_prompt",
    "inventory_hostname",
}


LOADED = """
import json, sys
from ansible import constants
from ansible.plugins.loader import connection_loader, init_plugin_loader
from ansible.playbook.play_context import PlayContext
from ansible.utils.context_objects import CLIArgs
from ansible import context
context.CLIARGS = CLIArgs({"timeout": 10})
init_plugin_loader()
folder, name = sys.argv[1:]
connection_loader.add_directory(folder)
import ansible.plugins.loader as loader
parsed = []
real = loader.AnsibleLoader
def spy(stream, *args, **kwargs):
    parsed.append(str(stream)[:40])
    return real(stream, *args, **kwargs)
loader.AnsibleLoader = spy
plugin = connection_loader.get(name, PlayContext(), None)
"""


def test_the_table_is_equal_to_the_documentation(ansible: Ansible) -> None:
    code = (
        "import json; from pmitogen.ansible.options import generate as g; from pmitogen.ansible.options.table import OPTIONS;"
        "print(json.dumps([g.load_documentation()['options'] == OPTIONS, g.main(['--check'])]))"
    )
    assert ansible.answer(code) == [True, 0]


def test_the_page_of_options_is_current() -> None:
    page = (repository / "docs" / "options.md").read_text()
    assert page == generate.render_page(OPTIONS), "run: python -m pmitogen.ansible.options.generate --markdown"


def test_loading_the_plugin_parses_no_documentation(ansible: Ansible) -> None:
    code = LOADED + "print(json.dumps([plugin._load_name, sorted(plugin.option_definitions), parsed]))"
    for name in ("pmitogen", "ansible.legacy.pmitogen"):
        load_name, options, parsed = ansible.answer(code, str(PLUGINS), name)
        assert load_name == "pmitogen"
        assert options == sorted(OPTIONS)
        assert not [text for text in parsed if "name: pmitogen" in text]


def test_options_of_a_plugin_in_a_collection_are_registered(ansible: Ansible, tmp_path: Path) -> None:
    directory = tmp_path / "ansible_collections" / "pmitogen" / "core" / "plugins" / "connection"
    directory.mkdir(parents=True)
    (directory / "ssh.py").symlink_to(PLUGINS / "pmitogen.py")
    code = LOADED + "print(json.dumps([plugin._load_name, sorted(plugin.option_definitions), parsed]))"
    load_name, options, parsed = ansible.answer(code, os.devnull, "pmitogen.core.ssh", ANSIBLE_COLLECTIONS_PATH=str(tmp_path))
    assert load_name == "ansible_collections.pmitogen.core.plugins.connection.ssh"
    assert options == sorted(OPTIONS)
    assert not [text for text in parsed if "name: pmitogen" in text]


def test_a_plugin_under_another_name_is_parsed_as_usual(ansible: Ansible, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text((PLUGINS / "pmitogen.py").read_text().replace("__name__, __file__", "'x', 'x.py'"))
    code = LOADED + "print(json.dumps([plugin._load_name, sorted(plugin.option_definitions), parsed]))"
    load_name, options, parsed = ansible.answer(code, str(tmp_path), "other")
    assert load_name == "other"
    assert options == sorted(OPTIONS)
    assert [text for text in parsed if "name: pmitogen" in text]


VALUES = """
variables = {"ansible_ssh_host": "b", "ansible_host": "a", "ansible_port": "1", "ansible_ssh_port": "2",
             "ansible_pmitogen_boot_python": "x,y"}
plugin.set_options(task_keys={"remote_user": "k", "port": None, "timeout": 7}, var_options=variables)
values = {name: plugin.get_option(name) for name in plugin.option_definitions}
print(json.dumps(values, default=str))
"""


def test_values_are_those_of_parsed_documentation(ansible: Ansible, tmp_path: Path) -> None:
    """The same variables, keywords and environment have the same values, including types."""
    source = (PLUGINS / "pmitogen.py").read_text()
    (tmp_path / "pmitogen.py").write_text(source.replace("register(__name__", "(lambda *_: 0)(__name__"))
    environment = {"ANSIBLE_SSH_ARGS": "-o Compression=yes", "ANSIBLE_SSH_RETRIES": "3", "ANSIBLE_SFTP_BATCH_MODE": "no"}
    ours = ansible.answer(LOADED + VALUES, str(PLUGINS), "pmitogen", **environment)
    parsed = ansible.answer(LOADED + VALUES, str(tmp_path), "pmitogen", **environment)
    assert ours == parsed
    assert (ours["host"], ours["port"], ours["remote_user"], ours["timeout"]) == ("b", 2, "k", 7)
    assert (ours["ssh_args"], ours["reconnection_retries"], ours["sftp_batch_mode"]) == ("-o Compression=yes", 3, False)
    assert ours["boot_python"] == ["x", "y"]


def _core_options(ansible: Ansible) -> dict[str, Any]:
    """Return the options of that core's own ssh plugin."""
    return dict(
        ansible.answer(
            LOADED + "print(json.dumps(constants.config.get_configuration_definitions('connection', 'ssh')))",
            os.devnull,
            "ssh",
        )
    )


def test_every_option_of_the_ssh_plugin_has_the_same_sources(ansible: Ansible) -> None:
    for name, theirs in _core_options(ansible).items():
        ours = OPTIONS[name]
        # The order is the precedence.
        variables = [entry["name"] for entry in theirs.get("vars", ()) if entry["name"] not in DEAD_VARIABLES | UNPROTECTED]
        assert [entry["name"] for entry in ours.get("vars", ())] == variables, name
        for kind in ("env", "keyword", "cli"):
            assert [entry["name"] for entry in ours.get(kind, ())] == [entry["name"] for entry in theirs.get(kind, ())], name
        places = [(entry["section"], entry["key"]) for entry in theirs.get("ini", ())]
        assert [(entry["section"], entry["key"]) for entry in ours.get("ini", ())] == places, name
        assert ours.get("type") == theirs.get("type"), name
        if name != "host":  # its default names a variable
            # 2.16 has no default here and uses "smart".
            assert ours.get("default") == theirs.get("default", "smart" if name == "ssh_transfer_method" else None), name
        assert list(ours.get("choices", ())) == list(theirs.get("choices", ())), name


def test_no_default_is_a_template() -> None:
    """ansible-core 2.19 and later expands only templates that it has marked as trusted; a table in code has no such marks."""
    assert "{{" not in repr(OPTIONS)


def test_ansible_doc_and_ansible_config_show_the_options(ansible: Ansible) -> None:
    environment = {"ANSIBLE_CONNECTION_PLUGINS": str(PLUGINS)}
    doc = ansible.run_python("-m", "ansible", "doc", "-t", "connection", "pmitogen", "--json", **environment)
    assert doc.returncode == 0, doc.stderr
    assert set(json.loads(doc.stdout)["pmitogen"]["doc"]["options"]) == set(OPTIONS)
    for verb in ("list", "init"):
        config = ansible.run_python("-m", "ansible", "config", verb, "-t", "connection", **environment)
        assert config.returncode == 0, config.stderr
        assert "boot_python" in config.stdout, verb


SHELL = """
from ansible.plugins.loader import shell_loader
import json, sys
from ansible import constants
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader([])
for folder in sys.argv[2:]:
    shell_loader.add_directory(folder)
from pmitogen.ansible.options import generate as generate_options, register_shell as shell_options
if sys.argv[1] == "ours":
    shell_options.register_shell()
    print(json.dumps(constants.config.get_configuration_definitions("shell", "sh")))
else:
    print(json.dumps(generate_options.shell_options()))
"""


def test_options_of_the_shell_plugin_are_those_of_its_documentation(ansible: Ansible) -> None:
    ours = ansible.answer(SHELL, "ours")
    assert ours and ours == ansible.answer(SHELL, "theirs")


def test_options_of_a_users_shell_plugin_are_not_registered(ansible: Ansible, tmp_path: Path) -> None:
    (tmp_path / "sh.py").write_text("DOCUMENTATION = ''\n")
    assert ansible.answer(SHELL, "ours", str(tmp_path)) == {}
