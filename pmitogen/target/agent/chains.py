"""Requests that the hub sends ahead: of each chain one is under way, and the next begins when it has its final answer.

So each request finds all changes of those before it. The agent and the runner check for changes of the login immediately before
it begins, as if the hub had waited for every answer.

If one is refused because its interpreter is stale, all requests behind it are refused as well, also those that are still on their
way. The hub resends them, in their order, to the interpreter that replaces the stale one.
"""

MYPY = False
if MYPY:
    from typing import Dict, List, Optional, Tuple  # noqa: F401
    from pmitogen.target.types import Frame, Header  # noqa: F401


class Chains(object):
    """Chains of requests: of each one is under way, and the others wait."""

    def __init__(self):
        # type: () -> None
        self._waiting = {}  # type: Dict[int, List[Frame]] # by chain, while one of it is under way
        self._chains = {}  # type: Dict[int, int] # number of the request under way -> its chain
        self._accounts = {}  # type: Dict[int, int] # chain -> the account of its request under way
        self._refusals = {}  # type: Dict[Tuple[int, int], Header] # by chain and account

    def refusal(self, header):
        # type: (Header) -> Optional[Header]
        """Return the answer to a request that follows one that was refused, or None."""
        stored = self._refusals.get((header["chain"], header.get("account", 0)))
        return None if stored is None else dict(stored, id=header["id"])

    def hold(self, header, body):
        # type: (Header, bytes) -> bool
        """Hold a request behind an earlier one. Returns False if it begins now."""
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
        self._accounts[header["chain"]] = header.get("account", 0)

    def refuse_following(self, answer):
        # type: (Header) -> List[Header]
        """Return the answers to the requests that wait behind one that was refused with *answer*."""
        chain = self._chains.get(answer["id"])
        if chain is None:
            return []
        self._refusals[chain, self._accounts[chain]] = dict(answer, refused_count=0)
        waiting, self._waiting[chain] = self._waiting[chain], []
        return [dict(answer, refused_count=0, id=header["id"]) for header, _ in waiting]

    def next_after(self, request_id):
        # type: (int) -> Optional[Frame]
        """Return the request that begins now that *request_id* has its final answer, or None."""
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
