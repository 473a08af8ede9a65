"""Variables of other connection plugins that this one does not read, because a target could set them through facts.

Ansible removes the names of connection variables from facts, but not these (``ansible.vars.clean.clean_facts``). If such a
variable would have changed an option, one warning per run tells the user the variable to use instead. The text does not depend
on the source of the variable, and its value is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_CHECKING = "use -o StrictHostKeyChecking=no in ansible_ssh_common_args, or host_key_checking in ansible.cfg"

# The variable, the option that it sets elsewhere, and what to use instead. Options without effect need no row.
NOT_READ = {
    "ssh_args": ("ssh_args", "use ansible_ssh_args"),
    "ssh_common_args": ("ssh_common_args", "use ansible_ssh_common_args"),
    "ssh_extra_args": ("ssh_extra_args", "use ansible_ssh_extra_args"),
    "ssh_port": ("port", "use ansible_port"),
    "ansible_host_key_checking": ("host_key_checking", _CHECKING),
    "ansible_ssh_host_key_checking": ("host_key_checking", _CHECKING),
    "ansible_private_key": ("private_key", "use ansible_ssh_private_key"),
    "ansible_private_key_passphrase": ("private_key_passphrase", "use ansible_ssh_private_key_passphrase"),
}


def find(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a task's variables that are not read."""
    return {name: variables[name] for name in NOT_READ if name in variables}


def warnings(unread: Mapping[str, Any], option: Callable[[str], Any]) -> list[str]:
    """Return a line for each variable in a result of :func:`find` that differs from the option in use.

    :param option: returns the value of an option by its name.
    """
    lines = []
    for name, value in unread.items():
        sets, advice = NOT_READ[name]
        used = option(sets)
        if str(value).lower() != str(22 if sets == "port" and used is None else used).lower():
            lines.append(f"The variable {name} is not read over pmitogen, because a target could set it: {advice}.")
    return lines
