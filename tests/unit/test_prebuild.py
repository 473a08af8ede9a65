"""Prediction of modules from the text of a playbook: pmitogen/ansible/preload/prebuild.py."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ansible")

from pmitogen.ansible.preload import prebuild


def _predicted(directory: Path, **files: str) -> list[str]:
    for name, text in files.items():
        path = directory / name.replace("__", "/").replace("_yml", ".yml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return prebuild.predicted_modules([str(directory / "play.yml")])


def test_modules_of_tasks_blocks_and_handlers_are_predicted_in_order(tmp_path: Path) -> None:
    text = """
- hosts: all
  pre_tasks:
    - stat: {path: /x}
  tasks:
    - name: file
      ansible.builtin.lineinfile: {path: /x, line: y}
      notify: z
    - block:
        - shell: "true"
      rescue:
        - ansible.legacy.user: {name: x, group: y}
    - debug: {msg: stat}
    - community.general.ini_file: {path: /x}
  handlers:
    - getent: {database: passwd}
"""
    wanted = ["stat", "lineinfile", "command", "user", "getent"]
    assert _predicted(tmp_path, play_yml=text) == wanted


def test_actions_on_the_controller_are_not_predicted(tmp_path: Path) -> None:
    """Their module files contain only documentation; and keywords of a play are not modules."""
    text = """
- hosts: all
  gather_facts: false
  tasks: [{debug: {msg: x}}, {set_fact: {x: y}}, {fail: }, {pause: }, {package: {name: x}}, {ping: }]
"""
    assert _predicted(tmp_path, play_yml=text) == ["ping"]


def test_modules_that_an_action_plugin_uses_are_predicted(tmp_path: Path) -> None:
    text = "- hosts: all\n  tasks:\n    - template: {src: x, dest: y}\n    - fetch: {src: x, dest: y}\n"
    assert _predicted(tmp_path, play_yml=text) == ["stat", "file", "copy", "slurp"]


def test_modules_of_roles_and_included_files_are_predicted(tmp_path: Path) -> None:
    text = """
- import_playbook: other.yml
- hosts: all
  roles: [one, {role: two}, "{{ three }}"]
  tasks:
    - include_tasks: more.yml
    - ansible.builtin.import_tasks: {file: more.yml}
    - include_role: {name: four}
    - include_tasks: "{{ which }}.yml"
"""
    files = {
        "other_yml": "- hosts: all\n  tasks: [{hostname: {name: x}}]\n",
        "more_yml": "- ping:\n",
        "roles__one__tasks__main_yml": "- group: {name: x}\n",
        "roles__two__tasks__main_yml": "- mount_facts:\n- slurp: {src: x}\n",
        "roles__four__tasks__main_yml": "- tempfile:\n",
    }
    assert set(_predicted(tmp_path, play_yml=text, **files)) >= {"hostname", "ping", "group", "slurp", "tempfile"}


@pytest.mark.parametrize("place", ["module_utils__x_yml", "roles__any__module_utils__x_yml"])
def test_nothing_is_predicted_if_module_utils_may_be_replaced(place: str, tmp_path: Path) -> None:
    assert _predicted(tmp_path, play_yml="- hosts: all\n  tasks: [{ping: }]\n") == ["ping"]
    assert _predicted(tmp_path, **{place: ""}) == []


def test_module_utils_are_found_in_a_directory_whose_name_is_a_pattern(tmp_path: Path) -> None:
    directory = tmp_path / "[x]"
    assert _predicted(directory, play_yml="- hosts: all\n  tasks: [{stat: {path: /x}}]") == ["stat"]
    assert _predicted(directory, module_utils__x_yml="") == []


@pytest.mark.parametrize(
    "text", ["", "x", "- 1\n- [2]\n", "{", "- hosts: all\n  tasks: 3\n", "$ANSIBLE_VAULT;1.1;AES256\n6162\n", "- {? [a]: b}\n"]
)
def test_an_invalid_playbook_predicts_nothing(text: str, tmp_path: Path) -> None:
    assert _predicted(tmp_path, play_yml=text) == []
    assert prebuild.predicted_modules([str(tmp_path / "missing.yml"), "name.of.collection"]) == []


def test_yaml_tags_of_ansible_are_accepted(tmp_path: Path) -> None:
    text = "- hosts: all\n  vars: {x: !unsafe y}\n  tasks:\n    - ping: {data: !vault z}\n"
    assert _predicted(tmp_path, play_yml=text) == ["ping"]


def test_circular_includes_are_read_once(tmp_path: Path) -> None:
    text = "- hosts: all\n  tasks: [{include_tasks: a.yml}]\n"
    assert _predicted(tmp_path, play_yml=text, a_yml="- include_tasks: a.yml\n- ping:\n") == ["ping"]
