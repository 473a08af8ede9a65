"""Register the options of Ansible's ``sh`` shell plugin with its configuration manager, if its documentation is a known one.

Every task's process loads the ``sh`` plugin and parses its documentation, which takes 2 to 3 ms. If
:mod:`pmitogen.ansible.options.shell_table` has the digest of that text, the parsed options from the table are registered
instead. Ansible parses any other text, such as that of the user's own plugin or fragment with the same name.
"""

from __future__ import annotations

import hashlib

from ansible import constants
from ansible.plugins import loader
from ansible.plugins.doc_fragments import shell_common
from ansible.plugins.shell import sh

from pmitogen.ansible.options.shell_table import OPTIONS_BY_DIGEST


def documentation_digest() -> str:
    """Return the digest of the documentation of the installed Ansible's ``sh`` plugin, including its fragment."""
    text = f"{sh.DOCUMENTATION}\0{shell_common.ModuleDocFragment.DOCUMENTATION}"
    return hashlib.sha256(text.encode()).hexdigest()


def register_shell() -> None:
    """Register the options of ``sh`` if the digest is known. Call it before the shell plugin is loaded."""
    if constants.config.has_configuration_definition("shell", "sh"):
        return
    if loader.shell_loader.find_plugin("sh") != sh.__file__:
        return
    if loader.fragment_loader.find_plugin("shell_common") != shell_common.__file__:
        return
    options = OPTIONS_BY_DIGEST.get(documentation_digest())
    if options is not None:
        constants.config.initialize_plugin_configuration_definitions("shell", "sh", options)
