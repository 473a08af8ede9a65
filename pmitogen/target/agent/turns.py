"""Requests that the hub sends ahead: of each chain one is under way, and the next begins when it has its final answer.

So each finds all that those before it have changed, and the agent and the runner look for changes of the login just before it
begins, as if the hub had waited for every answer.
"""

MYPY = False
if MYPY:
    from typing import Dict, List, Optional  # noqa: F401
    from pmitogen.target.types import Frame, Header  # noqa: F401


class Turns(object):
    """Requests of several chains that wait for their turn."""

    def __init__(self):
        # type: () -> None
        self._waiting = {}  # type: Dict[int, List[Frame]] # by chain, while one of it is under way
        self._chains = {}  # type: Dict[int, int] # number of the request under way -> its chain

    def hold(self, header, body):
        # type: (Header, bytes) -> bool
        """Take a request. Returns False if it begins now."""
        waiting = self._waiting.get(header["chain"])
        if waiting is None:
            self._begin(header, [])
            return False
        waiting.append((header, body))
        return True

    def _begin(self, header, behind):
        # type: (Header, List[Frame]) -> None
        self._waiting[header["chain"]] = behind
        self._chains[header["id"]] = header["chain"]

    def next_after(self, request_id):
        # type: (int) -> Optional[Frame]
        """A request has its final answer: return the one that begins now, or None."""
        chain = self._chains.pop(request_id, None)
        if chain is None:
            return None
        waiting = self._waiting.pop(chain)
        if not waiting:
            return None
        following = waiting.pop(0)
        self._begin(following[0], waiting)
        return following

    def cancel(self, request_id):
        # type: (int) -> bool
        """Discard a request that waits. Returns whether it did."""
        for waiting in self._waiting.values():
            for place, (header, _) in enumerate(waiting):
                if header["id"] == request_id:
                    del waiting[place]
                    return True
        return False
