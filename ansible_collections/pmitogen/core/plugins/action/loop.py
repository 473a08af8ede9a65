"""The action plugin ``pmitogen.core.loop``. Its documentation is in ``plugins/modules/loop.py``."""

from __future__ import annotations

from pmitogen.ansible.loop_action import LoopAction


class ActionModule(LoopAction):
    """See pmitogen/ansible/loop_action.py."""
