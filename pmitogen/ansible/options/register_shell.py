"""Tells Ansible's configuration manager the options of its own ``sh`` shell plugin, where they are provably the ones we know.

Every task's process loads the ``sh`` plugin anew and parses its documentation, for 2 to 3 ms. Where the text that would be
parsed is, by its digest, one whose meaning is in :mod:`pmitogen.ansible.options.shell_table`, that meaning is registered
instead; any other text, as of a plugin or fragment of the user's own under these names, is left for Ansible to parse.
"""

from __future__ import annotations

import hashlib

from ansible import constants
from ansible.plugins import loader
from ansible.plugins.doc_fragments import shell_common
from ansible.plugins.shell import sh

from pmitogen.ansible.options.shell_table import OPTIONS_BY_DIGEST


def documentation_digest() -> str:
    """The digest of the documentation of the ``sh`` plugin that this Ansible brings, its fragment included."""
    text = f"{sh.DOCUMENTATION}\0{shell_common.ModuleDocFragment.DOCUMENTATION}"
    return hashlib.sha256(text.encode()).hexdigest()


def register_shell() -> None:
    """Register the options of ``sh``, if they are known to be these; call it before the shell plugin is loaded."""
    if constants.config.has_configuration_definition("shell", "sh"):
        return
    if loader.shell_loader.find_plugin("sh") != sh.__file__:
        return
    if loader.fragment_loader.find_plugin("shell_common") != shell_common.__file__:
        return
    options = OPTIONS_BY_DIGEST.get(documentation_digest())
    if options is not None:
        constants.config.initialize_plugin_configuration_definitions("shell", "sh", options)
