# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The action plugin ``pmitogen.core.loop``. Its documentation is in ``plugins/modules/loop.py``."""

from __future__ import annotations

import sys
from typing import Any

try:
    from pmitogen.ansible.loop_action import LoopAction
except ModuleNotFoundError as error:  # the collection alone, without the Python package
    from ansible.errors import AnsibleError
    from ansible.plugins.action import ActionBase

    MISSING = error.name

    class LoopAction(ActionBase):  # type: ignore[no-redef]
        """Stands for the action where the Python package is missing."""

        @classmethod
        def finalize_task_arg(cls, name: str, value: Any, templar: Any, context: Any) -> Any:
            """Leave the arguments as they were written, so that :meth:`run` is reached even if they use the item."""
            return value

        def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
            """Raise AnsibleError, which says what to install for which Python."""
            raise AnsibleError(
                f"pmitogen.core.loop: the Python package {MISSING} is not installed for Ansible's Python; "
                f"run: {sys.executable} -m pip install pmitogen (Python 3.10 or later)"
            )


class ActionModule(LoopAction):
    """See pmitogen/ansible/loop_action.py."""
