"""Starting threads, and the error for a process that can start no more of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pmitogen.errors import ConnectError

NONE_LEFT = (
    "the controller can start no further thread: this account or container has as many processes and threads as it may "
    "(ulimit -u, pids.max); raise that, or have fewer hosts at once (forks)"
)


def start(target: Callable[..., Any], name: str, *args: Any) -> threading.Thread:
    """Call *target* on a new thread, which does not keep the process alive. Raises ConnectError (stage ``exec``)."""
    thread = threading.Thread(target=target, name=name, args=args, daemon=True)
    with starting():
        thread.start()
    return thread


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Within it a library starts a thread. Raises ConnectError (stage ``exec``) if there is none to be had."""
    try:
        yield
    except RuntimeError as error:
        if "thread" not in str(error):  # one that says "can't start new thread", and nothing else it may be
            raise
        raise ConnectError(NONE_LEFT, "exec") from None
