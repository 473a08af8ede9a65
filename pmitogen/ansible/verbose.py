"""What ``-vvv`` shows of a connection's work: as much as Ansible's ssh plugin shows of its own. Loaded only where it is wanted.

From ``-vvvv`` on, the hub's log joins in on the run's stderr.
"""

from __future__ import annotations

import shlex
from typing import Any

from pmitogen.target.frames import from_wire


def begin(header: dict[str, Any]) -> str:
    """The line for a request that starts a process."""
    become = header.get("become") or {}
    by = [become.get("exe") or become.get("method"), become.get("flags")]
    account = f" AS {become.get('user') or 'root'} BY {' '.join(map(str, filter(None, by)))}" if become else ""
    if header["op"] == "run":
        return f"EXEC {header['fqn']} IN {_words(header['python'])}{account}"
    return f"EXEC {_words(header['argv'])}{' ON A TERMINAL' if header.get('tty') else ''}{account}"


def end(result: tuple[int, bytes, bytes], no_log: bool) -> str:
    """The line for its result."""
    return f"rc={result[0]}, stdout and stderr censored due to no log" if no_log else str(result)


def _words(wire: list[str]) -> str:
    words = [from_wire(word).decode("utf-8", "replace") for word in wire]
    return shlex.join(words if words[0] else words[2:])
