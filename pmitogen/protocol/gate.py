"""The gate between the hub and one host's agent: it checks every frame of the agent before the hub handles it.

It records the frames of the hub: the accounts, the open requests, and the used part of each window. Each frame of the agent is
checked in two steps: its fields against the table (messages_from_agent.py), then whether this account may send it now, for this
request (answers.py).

The agent is trusted as much as the login account is. It names the account whose interpreter sent a frame; an error of
another account's interpreter ends that interpreter, every other error ends the host.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pmitogen.protocol.answers import REQUESTS, OpenRequest
from pmitogen.protocol.error_kinds import ProtocolError
from pmitogen.protocol.message_checks import describe_value
from pmitogen.protocol.messages_from_agent import TABLE
from pmitogen.protocol.operations import FINAL, Op

_OF_REQUESTS = FINAL | {Op.OUT, Op.CREDIT}
_BY_INTERPRETERS = _OF_REQUESTS | {Op.HELLO, Op.DEFERRED_ERROR}  # the agent only passes these on
# Bytes of an interpreter's messages that may arrive after the order to end it: the SSH channel's window (16 MiB), the agent's
# buffer (8 MiB), and some more.
_IGNORED_LIMIT = 32 << 20


class InterpreterError(ProtocolError):
    """The interpreter of an account other than the login account broke the protocol."""

    def __init__(self, account: int, reason: str) -> None:
        super().__init__(reason)
        self.account = account


@dataclasses.dataclass
class _Interpreter:
    """State of an account's interpreter, as of the frames so far."""

    is_up: bool = False
    has_ended: bool = False
    is_ending: bool = False  # the hub has told the agent to end it
    reports_end: bool = False  # ... and to report when the account has no process any more
    is_entered: bool = False  # by a program that may ask for secrets
    asked: set[tuple[int, str]] = dataclasses.field(default_factory=set)
    unanswered: int = 0  # requests with ``no_reply`` whose failure would come as ``deferred-error``
    ignored: int = 0  # bytes that came after the order to end


class Gate:
    """Admits or rejects each frame of one agent. I/O thread."""

    def __init__(self) -> None:
        self._interpreters = {0: _Interpreter()}
        self._requests: dict[int, OpenRequest] = {}
        self._given_up: set[int] = set()  # requests of an interpreter that broke the protocol: the agent may still answer them
        self._may_reject_codec = False
        self.output = 0  # cost of the output that clients have not consumed yet

    def on_sent(self, header: Mapping[str, Any], body_size: int) -> None:
        """Note a frame that is about to be sent to the agent.

        :raises ProtocolError: if it breaks a window; the client that sent it is at fault.
        """
        op = header["op"]
        if op in REQUESTS:
            if header.get("no_reply"):
                self._interpreters[header["account"]].unanswered += 1
            else:
                self._requests[header["id"]] = OpenRequest(header, body_size)
        elif op == Op.START_ACCOUNT:
            self._interpreters[header["account"]] = _Interpreter(is_entered="plan" in header)
        elif op == Op.END_ACCOUNT:
            interpreter = self._interpreters[header["account"]]
            interpreter.is_ending, interpreter.reports_end = True, bool(header.get("notify"))
        elif op == Op.BLOBS:
            self._may_reject_codec = header["codec"] == "xz"
        elif header.get("id") in self._requests:
            request = self._requests[header["id"]]
            if op == Op.DATA:
                request.data.add(body_size)
            elif op in (Op.CREDIT, Op.KILL):
                before = request.cost
                if op == Op.KILL:
                    request.is_killed = True
                else:
                    request.output.remove(header["count"])
                self.output += request.cost - before

    def admit(self, header: dict[str, Any], body_size: int, message_size: int) -> bool:
        """Check a frame from the agent. Returns False if it is to be ignored, because it crossed an order to end.

        *message_size*: bytes of the message as it arrived, compressed or not.
        :raises InterpreterError: the interpreter of an account other than the login account is to be ended.
        :raises ProtocolError: the host is to be ended.
        """
        op, account = header.get("op"), header.get("account")
        if type(op) is not str or op not in _BY_INTERPRETERS or type(account) is not int or not account:
            self._check(header, body_size)
            return op != Op.ERROR or header["id"] not in self._given_up
        interpreter = self._interpreters.get(account)
        if interpreter is None or interpreter.has_ended:
            raise ProtocolError(f"{op} of account {describe_value(account)}, which does not exist")
        if interpreter.is_ending:
            interpreter.ignored += message_size
            if interpreter.ignored > _IGNORED_LIMIT:
                raise ProtocolError(f"account {account} must not end")
            return False
        try:
            self._check(header, body_size)
        except ProtocolError as exc:
            interpreter.is_ending = True
            self._given_up |= {request_id for request_id, request in self._requests.items() if request.account == account}
            raise InterpreterError(account, str(exc)) from None
        return True

    def _check(self, header: dict[str, Any], body_size: int) -> None:
        TABLE.check(header, body_size)
        op = header["op"]
        if op in _OF_REQUESTS:
            request = self._requests.get(header["id"])
            if request is None:
                raise ProtocolError(f"{op} for request {header['id']}, which is not open")
            # When an interpreter has ended, the agent itself answers its requests, with an error and without an account.
            if header.get("account", request.account if op == Op.ERROR else 0) != request.account:
                raise ProtocolError(f"{op} of account {header.get('account', 0)} for a request of account {request.account}")
            before = request.cost
            request.check(header, body_size)
            self.output += request.cost - before
            if op in FINAL:
                del self._requests[header["id"]]
                self.output -= request.cost
        elif op == Op.CODEC_UNSUPPORTED:
            if not self._may_reject_codec:
                raise ProtocolError(f"{op} without a payload that was sent")
            self._may_reject_codec = False
        elif op != Op.ACCOUNTS_CHANGED:
            self._check_account(op, header.get("account", 0), header)

    def _check_account(self, op: str, account: int, header: Mapping[str, Any]) -> None:
        interpreter = self._interpreters.get(account)
        if interpreter is None:
            raise ProtocolError(f"{op} of account {describe_value(account)}, which does not exist")
        if op == Op.ACCOUNT_ENDED:
            if not interpreter.reports_end:
                raise ProtocolError(f"{op} of account {account}, which the hub did not end")
            interpreter.reports_end = False
        elif interpreter.has_ended:
            raise ProtocolError(f"{op} of account {account}, which has ended")
        elif op == Op.INTERPRETER_ENDED:
            interpreter.has_ended = True
        elif op == Op.HELLO:
            if interpreter.is_up:
                raise ProtocolError(f"a second hello of account {account}")
            interpreter.is_up = True
        elif op == Op.SECRET_REQUEST:
            secret = header["step"], header["kind"]
            if not interpreter.is_entered or interpreter.is_up or secret in interpreter.asked:
                raise ProtocolError(f"{op} of account {account}, which needs no secret now")
            interpreter.asked.add(secret)
        elif interpreter.unanswered:
            interpreter.unanswered -= 1
        else:
            raise ProtocolError(f"{op} without a request that has no_reply")
