"""Start threads, and report the error if no more can be started."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pmitogen.errors import ConnectError

EXHAUSTED_MESSAGE = (
    "can't start new thread on the controller: this account or container has reached its limit of processes and threads "
    "(ulimit -u, pids.max); raise the limit, or use fewer hosts at once (forks)"
)
ENDING_MESSAGE = "can't start new thread: the program is ending; end its own threads before its main thread ends"


def start(target: Callable[..., Any], name: str, *args: Any) -> threading.Thread:
    """Call *target* on a new thread, which does not keep the process alive. Raises ConnectError (stage ``local``)."""
    thread = threading.Thread(target=target, name=name, args=args, daemon=True)
    with starting():
        thread.start()
    return thread


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Convert the error of a library that cannot start a thread. Raises ConnectError (stage ``local``)."""
    try:
        yield
    except RuntimeError as error:
        if "thread" not in str(error):  # only "can't start new thread"
            raise
        is_ending = "shutdown" in str(error)  # "... at interpreter shutdown", since Python 3.12
        raise ConnectError(ENDING_MESSAGE if is_ending else EXHAUSTED_MESSAGE, "local") from None
