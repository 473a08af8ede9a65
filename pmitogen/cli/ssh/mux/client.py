"""A client of a master: its session runs on the master's connection, with the client's own streams."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket

from pmitogen.cli.ssh.invocation import Invocation, SessionKind, TTYRequest
from pmitogen.errors import Error
from pmitogen.flags.ssh.values.forwards import Forward
from pmitogen.transport.keys.wire import DecodeError, PacketReader, encode_string, encode_u32
from pmitogen.transport.mux import messages
from pmitogen.transport.mux.messages import MuxError, MuxSocket
from pmitogen.transport.mux.terminal import RawTerminal
from pmitogen.util.peer_text import one_line

FAILED = 255  # ssh's exit status for its own errors
NO_ESCAPE = 0xFFFFFFFF
ANSWER_TIMEOUT = 20.0  # seconds for a master's hello


class MasterUnreachable(Exception):
    """No master listens at the path. The text is the reason."""


class Refused(MuxError):
    """The master refuses a request. *reason*: its own text."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the master refuses: {reason}")
        self.reason = reason


class StartUnknown(Error):
    """The master failed after a session was requested, before it confirmed the start: a second attempt could run it twice."""


class MuxClient:
    """A connection to a master. Close it (``with``)."""

    def __init__(self, path: str, digest: str, remove_stale: bool = False) -> None:
        """Connect to the master at *path*. Raises MasterUnreachable, MuxError.

        *digest*: of the options (see messages.py).
        *remove_stale*: remove a socket on which no process listens.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(ANSWER_TIMEOUT)
        try:
            sock.connect(path)
        except OSError as error:
            sock.close()
            if error.errno == errno.ECONNREFUSED and remove_stale:
                with contextlib.suppress(OSError):
                    os.unlink(path)
            raise MasterUnreachable(error.strerror or str(error)) from None
        self.socket = MuxSocket(sock)
        try:
            self.socket.check_peer()
            self.socket.send_hello(digest)
            master_digest = self.socket.receive_hello()
            sock.settimeout(None)
        except (MuxError, DecodeError) as error:
            self.socket.close()
            raise MuxError(str(error)) from None
        self.has_other_options = master_digest not in (None, digest)

    def __enter__(self) -> MuxClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def check(self) -> int:
        """Return the process id of the master. Raises MuxError."""
        try:
            return self._ask(messages.ALIVE_CHECK, messages.ALIVE).u32()
        except DecodeError as error:
            raise MuxError(f"invalid message ({error})") from None

    def send_control(self, kind: int) -> None:
        """Send TERMINATE or STOP_LISTENING. Raises MuxError."""
        self._ask(kind, messages.OK)

    def change_forward(self, kind: int, forward: Forward, opening: bool) -> int | None:
        """Open or close a forwarding; return the port if the server has chosen it. Raises MuxError, Refused."""
        request = messages.OPEN_FORWARD if opening else messages.CLOSE_FORWARD
        self.socket.send(request, encode_u32(0), messages.encode_forward(kind, forward))
        answer, fields = self._receive_answer()
        if answer == messages.REMOTE_PORT:
            try:
                return fields.u32()
            except DecodeError as error:
                raise MuxError(f"invalid message ({error})") from None
        if answer != messages.OK:
            raise MuxError(f"unexpected message ({answer:#x})")
        return None

    def _ask(self, kind: int, expected: int, *fields: bytes) -> PacketReader:
        self.socket.send(kind, encode_u32(0), *fields)
        return self._answer(expected)

    def _answer(self, expected: int) -> PacketReader:
        kind, fields = self._receive_answer()
        if kind != expected:
            raise MuxError(f"unexpected message ({kind:#x})")
        return fields

    def _receive_answer(self) -> tuple[int, PacketReader]:
        """Return the kind of the next message, and the fields after the number of the request. Raises Refused."""
        kind, fields = self.socket.receive()
        try:
            fields.u32()  # the request's number
            reason = fields.string() if kind in (messages.FAILURE, messages.PERMISSION_DENIED) else None
        except DecodeError as error:
            raise MuxError(f"invalid message ({error})") from None
        if reason is not None:
            raise Refused(one_line(reason.decode("utf-8", "replace")))
        return kind, fields

    def run(self, invocation: Invocation) -> int:
        """Run the session of *invocation*; return the exit status.

        Raises MuxError if it was not started, StartUnknown if it may have been.
        """
        master = self.check()
        forward = invocation.stdio_forward
        null = os.open(os.devnull, os.O_RDONLY)
        try:
            session = self._start(invocation, (null if invocation.stdin_null else 0, 1, 2))
        finally:
            os.close(null)
        with contextlib.ExitStack() as at_end:
            if forward is None and wants_tty(invocation) and os.isatty(0):
                terminal = RawTerminal(0)
                terminal.enter()
                at_end.callback(terminal.leave)
                signal.signal(signal.SIGWINCH, lambda _number, _frame: _send_resize(master))
            try:
                return self._wait(session, FAILED if forward is None else 0)
            except KeyboardInterrupt:
                return FAILED

    def open_stream(self, invocation: Invocation) -> socket.socket:
        """Start the session of *invocation*; return its input and output as one socket. It ends when this client is closed.

        Raises as :meth:`run`.
        """
        self.check()
        ours, theirs = socket.socketpair()
        try:
            self._start(invocation, (theirs.fileno(), theirs.fileno(), 2))
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def _start(self, invocation: Invocation, descriptors: tuple[int, int, int]) -> int:
        """Request the session with *descriptors* as standard input, output and error; return its number."""
        forward = invocation.stdio_forward
        if forward is not None:
            target = encode_string(forward.listen_host or ""), encode_u32(forward.listen_port)
            self.socket.send(messages.NEW_STDIO_FORWARD, encode_u32(0), encode_string(""), *target)
        else:
            self.socket.send(messages.NEW_SESSION, encode_u32(0), *_session_fields(invocation))
        for descriptor in descriptors[:2] if forward is not None else descriptors:
            self.socket.send_descriptor(descriptor)
        return self._opened()

    def _opened(self) -> int:
        """Return the number of the session that was requested."""
        try:
            return self._answer(messages.SESSION_OPENED).u32()
        except Refused:
            raise
        except (MuxError, DecodeError) as error:
            raise StartUnknown(
                f"the process that shares its connection failed ({error}); it is not known whether the command has started"
            ) from None

    def _wait(self, session: int, without_status: int) -> int:
        """Wait until the master ends the connection; return the exit status of the session, *without_status* if it sent none.

        OpenSSH's master sends the status as soon as the server does, which may be before it has written all output, and
        discards the rest if the client leaves.
        """
        status = without_status
        while True:
            try:
                kind, fields = self.socket.receive()
                if kind == messages.EXIT and fields.u32() == session:
                    status = fields.u32() & 0xFF
            except (MuxError, DecodeError):
                return status


def _session_fields(invocation: Invocation) -> list[bytes]:
    character = NO_ESCAPE if invocation.escape_char is None else ord(invocation.escape_char)
    subsystem = invocation.kind is SessionKind.SUBSYSTEM
    flags = (wants_tty(invocation), False, invocation.settings.forwardagent, subsystem)
    term = os.environ.get("TERM", "")
    texts = (term, invocation.argument)
    return [encode_string(""), *(encode_u32(int(flag)) for flag in flags), encode_u32(character), *map(encode_string, texts)]


def wants_tty(invocation: Invocation) -> bool:
    """Return whether the session needs a terminal."""
    if invocation.tty is TTYRequest.IF_LOCAL:
        return os.isatty(0) and not invocation.stdin_null
    return invocation.tty is TTYRequest.FORCE


def _send_resize(master: int) -> None:
    """Tell the master to read the size of the terminal again, as ssh does."""
    with contextlib.suppress(OSError):
        os.kill(master, signal.SIGWINCH)
