"""Native become: take over Ansible's sudo, su and doas plugins, and read the options that the hub needs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from ansible import constants

from pmitogen.flags.ansible_become_options import become_options

if TYPE_CHECKING:
    from ansible.plugins.become import BecomeBase
    from ansible.plugins.shell import ShellBase

    from pmitogen.protocol.messages_from_client import Become

NATIVE = ("sudo", "su", "doas")
OPTIONS = ("become_exe", "become_flags", "become_user", "become_pass", "sudo_chdir", "prompt_l10n")


def take_over(plugin: BecomeBase, legacy_pipelining: bool, is_native: Callable[[], bool]) -> None:
    """If *plugin* is sudo, su or doas, have it return commands unwrapped while *is_native* returns True.

    Only attributes of this instance change; Ansible still sets and reads the plugin's options. *legacy_pipelining*: ansible-core
    before 2.19 pipes no module through a plugin named "su", although the hub can, so there the plugin gets its full name.
    """
    method = native_method(plugin)
    if method is None:
        return
    plugin.build_become_command = lambda cmd, shell: cmd if is_native() else build_wrapped(plugin, cmd, shell)
    if method == "su" and legacy_pipelining:
        plugin.name = "ansible.builtin.su"


def supports(plugin: BecomeBase) -> bool:
    """Return True if the hub supports the options of *plugin*.

    It does not if a program of the user's replaces sudo, su or doas and takes options that those do not have.
    """
    kind = native_method(plugin)
    if kind is None:
        return False
    options = _options(plugin)
    exe = options.get("become_exe")
    if not exe or exe == kind:
        return True
    from pmitogen.errors import UsageError
    from pmitogen.flags.become.plan import is_known_program, plan

    try:
        plan(kind, **become_options(options), timeout=1)
    except UsageError:
        return is_known_program(str(exe))
    return True


def changes_account(plugin: BecomeBase, login_user: str | None) -> bool:
    """Return True if a task with the become plugin *plugin* leaves the account *login_user*.

    This is Ansible's rule: become with the login account's own name does nothing, and Ansible does not wrap the command, unless
    ``become_allow_same_user`` is set.
    """
    user = None
    with contextlib.suppress(KeyError):
        user = plugin.get_option("become_user")
    return bool(constants.BECOME_ALLOW_SAME_USER) or not user or user != login_user


def build_wrapped(plugin: BecomeBase, command: str, shell: ShellBase) -> str:
    """Return *command* as the taken-over *plugin* would have built it. The plugin gets its own name back, for its prompts."""
    vars(plugin).pop("name", None)
    return str(type(plugin).build_become_command(plugin, command, shell))


def native_method(plugin: BecomeBase) -> str | None:
    """Return the native method of a become plugin (sudo, su or doas), or None."""
    name = str(getattr(plugin, "name", None) or "").rpartition(".")[2]
    return (
        name
        if name in NATIVE
        and type(plugin).__module__.startswith(("ansible.plugins.become", "ansible_collections.community.general"))
        else None
    )


def request(plugin: BecomeBase, timeout: float) -> Become:
    """Return the become request for the hub, from the plugin's options. *timeout* is in seconds.

    ``wraps``: the caller can wrap the command itself if the hub cannot escalate.
    """
    options = {name: value for name, value in become_options(_options(plugin)).items() if value}
    return cast("Become", {"method": native_method(plugin), "timeout": timeout, "wraps": True, **options})


def _options(plugin: BecomeBase) -> dict[str, object]:
    options: dict[str, object] = {}
    for name in OPTIONS:
        with contextlib.suppress(KeyError):
            options[name] = plugin.get_option(name)
    return options
