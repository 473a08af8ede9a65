"""Output for ``-vvv``: as much about a connection as Ansible's ssh plugin shows. Imported only when it is needed.

Since ansible-core 2.22 a module's result may contain secrets that are known only after the result was parsed, so the ssh plugin
shows only the exit code, and the rest with ``ANSIBLE_DEBUG``.

From ``-vvvv`` on, the hub's log also goes to the run's stderr.
"""

from __future__ import annotations

import importlib.util
import shlex
from typing import TYPE_CHECKING

from pmitogen.protocol.framing import from_wire
from pmitogen.util.peer_text import one_line

if TYPE_CHECKING:
    from ansible.utils.display import Display

    from pmitogen.protocol.requests import ClientRequest

_MASKS_SECRETS = importlib.util.find_spec("ansible.module_utils.secrets") is not None


def format_start(header: ClientRequest) -> str:
    """Return the line for a request that starts a process. Its path or interpreter may come from the target, so it is escaped."""
    become, account = header.get("become"), ""
    if become:
        by = [become.get("exe") or become["method"], become.get("flags")]
        account = f" AS {become.get('user') or 'root'} BY {' '.join(filter(None, by))}"
    if header["op"] == "run":
        return one_line(f"EXEC {header['module']} IN {_join_wire_argv(header['python'])}{account}")
    return one_line(f"EXEC {_join_wire_argv(header['argv'])}{' ON A TERMINAL' if header.get('tty') else ''}{account}")


def show_result(display: Display, result: tuple[int, bytes, bytes], no_log: bool, host: str) -> None:
    """Show how a process ended, as the ssh plugin of this ansible-core does."""
    censored = "stdout and stderr censored due to no log"
    if _MASKS_SECRETS:
        display.vvv(f"rc={result[0]}", host=host)
        display.debug(censored if no_log else f"stdout and stderr: {result[1:]}")
    else:
        display.vvv(f"rc={result[0]}, {censored}" if no_log else str(result), host=host)


def _join_wire_argv(wire: list[str]) -> str:
    argv = [from_wire(arg).decode("utf-8", "replace") for arg in wire]
    return shlex.join(argv if argv[0] else argv[2:])
