"""Answers that each request may get, depending on its state.

A request is open from the moment it is sent until its final answer. A request with ``no_reply`` is never open.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pmitogen.protocol.error_kinds import ProtocolError
from pmitogen.protocol.operations import ErrorKind, Fs, Op
from pmitogen.protocol.window import Window


@dataclasses.dataclass(frozen=True)
class Answers:
    """The frames that may answer one operation."""

    final: Op  # of the final answer, unless it is ``error``
    fields: frozenset[str] = frozenset()  # the fields of the final answer: all of these, and no others
    null: bool = False  # whether these fields may be null
    streams: tuple[int, ...] = ()  # the streams of ``out`` frames
    consumes: bool = False  # whether ``data`` frames may follow the request, and ``credit`` answer them


PROCESS = Answers(Op.EXIT, streams=(1, 2), consumes=True)
ANSWERS: Mapping[tuple[str, str | None], Answers] = {
    (Op.RUN, None): PROCESS,
    (Op.EXEC, None): PROCESS,
    (Op.PUT, None): Answers(Op.OK, consumes=True),
    (Op.GET, None): Answers(Op.OK, frozenset(("mode",)), streams=(1,)),
    (Op.FS, Fs.MKDTEMP): Answers(Op.OK, frozenset(("path",))),
    (Op.FS, Fs.HOME): Answers(Op.OK, frozenset(("path",)), null=True),
    (Op.FS, Fs.EXISTS): Answers(Op.OK, frozenset(("exists",))),
    (Op.FS, Fs.CHMOD): Answers(Op.OK),
    (Op.FS, Fs.REMOVE): Answers(Op.OK),
}
REQUESTS = frozenset(op for op, _ in ANSWERS)
_RESULTS = ("path", "exists", "mode")  # fields of ok


class OpenRequest:
    """A request that waits for its final answer, as the frames that went out describe it."""

    def __init__(self, header: Mapping[str, Any], body_size: int) -> None:
        self.account: int = header.get("account", 0)
        self._answers = ANSWERS[header["op"], header.get("action")]
        self._is_terminal = bool(header.get("tty"))
        self._is_traced = bool(header.get("trace"))
        self._may_mismatch = "if_python" in header
        self.data = Window()  # sent to the peer, not yet consumed
        self.output = Window()  # received from the peer, not yet consumed
        self.is_killed = False
        self.data.add(body_size)

    @property
    def cost(self) -> int:
        """Bytes of memory that its output takes until the client has consumed it."""
        return 0 if self.is_killed else self.output.cost

    def check(self, header: Mapping[str, Any], body_size: int) -> None:
        """Return if a frame that fits the table may be sent for this request now. Raises ProtocolError."""
        op = header["op"]
        answers = self._answers
        if op == Op.OUT:
            if header["stream"] not in (answers.streams[:1] if self._is_terminal else answers.streams):
                raise ProtocolError(f"{op} on stream {header['stream']} of a request that has none")
            self.output.add(body_size)
        elif op == Op.CREDIT:
            if not answers.consumes:
                raise ProtocolError(f"{op} for a request without data")
            self.data.remove(header["count"])
        elif op == Op.ERROR:
            if header.get("kind") == ErrorKind.PYTHON_MISMATCH and not self._may_mismatch:
                raise ProtocolError(f"{op} of kind {header['kind']} for a request that takes any interpreter")
            if (header.get("kind") == ErrorKind.STALE) != ("refused_count" in header):
                raise ProtocolError(
                    f"{op} of kind {header.get('kind')} {'with' if 'refused_count' in header else 'without'} refused_count"
                )
        elif op != answers.final:
            raise ProtocolError(f"{op} as the answer to a request that ends with {answers.final}")
        elif op == Op.EXIT:
            if header["stdout_size"] > body_size:
                raise ProtocolError(f"{op} with stdout_size {header['stdout_size']} and a body of {body_size} bytes")
            if "timings" in header and not self._is_traced:
                raise ProtocolError(f"{op} with timings without a trace")
        else:
            self._check_results(header)

    def _check_results(self, header: Mapping[str, Any]) -> None:
        for name in _RESULTS:
            if (name in header) != (name in self._answers.fields):
                raise ProtocolError(f"ok {'with' if name in header else 'without'} {name}")
            if name in header and header[name] is None and not self._answers.null:
                raise ProtocolError(f"ok with {name} null")
