"""Become plugins: the three that are ours, taken over, and what of their options the hub needs."""

from __future__ import annotations

import contextlib
from typing import Any

from pmitogen.flags.ansible_become import become_words

NATIVE = ("sudo", "su", "doas")
OPTIONS = ("become_exe", "become_flags", "become_user", "become_pass", "sudo_chdir", "prompt_l10n")


def take_over(plugin: Any) -> bool:
    """If *plugin* is sudo, su or doas, have it leave commands as they are. Returns whether it is.

    The attribute is this instance's alone; Ansible still sets and reads the plugin's options.
    """
    if method(plugin) is None:
        return False
    plugin.build_become_command = lambda cmd, shell: cmd
    return True


def method(plugin: Any) -> str | None:
    """Which of ours a become plugin is, or None."""
    name = str(getattr(plugin, "name", None) or "").rpartition(".")[2]
    return (
        name
        if name in NATIVE
        and type(plugin).__module__.startswith(("ansible.plugins.become", "ansible_collections.community.general"))
        else None
    )


def request(plugin: Any, timeout: float) -> dict[str, Any]:
    """The become request for the hub, from the plugin's options. *timeout* is in seconds."""
    options = {}
    for name in OPTIONS:
        with contextlib.suppress(KeyError):
            options[name] = plugin.get_option(name)
    words = {name: value for name, value in become_words(options).items() if value}
    return {"method": method(plugin), "timeout": timeout, **words}
