"""Show the warnings about connections that the hub passes on. Imported only when there is one.

They look like Ansible's own, but are not shown by ``Display.warning``: since ansible-core 2.19 that adds them to the task's
result, which is registered, and from which ``no_log`` removes them.
"""

from __future__ import annotations

from collections.abc import Iterable

from ansible import constants
from ansible.utils.display import Display

from pmitogen.util.peer_text import one_line

NOTICE = "notice"  # pmitogen.transport.connection_warnings.Severity.NOTICE, whose module workers do not import


def show(warnings: Iterable[tuple[str, str]]) -> None:
    """Show each of *warnings*, which are pairs of severity and text. Ansible prints them in its main process."""
    display = Display()
    for severity, text in warnings:
        if severity == NOTICE:
            display.vvv(one_line(text))
        else:
            display.display(f"[WARNING]: {one_line(text)}", color=constants.COLOR_WARN, stderr=True)
