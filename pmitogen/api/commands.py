"""Running commands: the request, its input and its output."""

from __future__ import annotations

import codecs
import dataclasses
import io
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, Literal, TypedDict

from pmitogen.api import arguments
from pmitogen.api.account import Account
from pmitogen.api.exchange import Exchange
from pmitogen.api.results import Completed
from pmitogen.api.waiting import Blocking, Runtime, finish
from pmitogen.errors import RemoteError, UsageError
from pmitogen.hub.without_python import simple_commands
from pmitogen.protocol.framing import CHUNK
from pmitogen.util import threads
from pmitogen.util.peer_text import escape

if TYPE_CHECKING:
    from pmitogen.protocol.requests import RequestHeader

StreamName = Literal["stdout", "stderr"]
NAMES: tuple[StreamName, StreamName] = ("stdout", "stderr")


Input = str | bytes | IO[bytes] | IO[str] | None


@dataclasses.dataclass(frozen=True)
class Terminal:
    """A terminal for a command: its kind for ``$TERM``, and its size in characters."""

    term: str = "xterm"
    columns: int = 80
    lines: int = 24

    def __post_init__(self) -> None:
        arguments.text(self.term, "Terminal: term")
        for name in ("columns", "lines"):
            arguments.integer(getattr(self, name), f"Terminal: {name}", 0, 65535)


class StartArguments(TypedDict, total=False):
    """Keyword arguments of ``Host.start``; :meth:`pmitogen.Host.run` says what each means."""

    env: Mapping[str, str] | None
    cwd: arguments.AnyPath | None
    tty: bool | Terminal


class RunArguments(StartArguments, total=False):
    """Keyword arguments of ``Host.run``."""

    stdin: Input
    input: Input
    timeout: float | None
    check: bool
    capture: bool


def text_encoding(text: bool, encoding: str | None, errors: str | None, label: str) -> tuple[str, str] | None:
    """Return the encoding and error handler of a call whose output is text; None: bytes. Raises TypeError, UsageError."""
    arguments.flag(text, f"{label}: text")
    arguments.optional_text(encoding, f"{label}: encoding")
    arguments.optional_text(errors, f"{label}: errors")
    if not text and encoding is None and errors is None:
        return None
    name, handler = "utf-8" if encoding is None else encoding, "replace" if errors is None else errors
    try:
        io.TextIOWrapper(io.BytesIO(), name)  # codecs.lookup() also finds codecs that are not for text
        codecs.lookup_error(handler)
        codecs.getincrementaldecoder(name)(handler).decode(b"")
    except (LookupError, UnicodeError) as exc:
        raise UsageError(f"{label}: {exc}") from None
    return name, handler


def newline_decoder(encoding: tuple[str, str]) -> io.IncrementalNewlineDecoder:
    """Return a decoder of text whose line ends, also a single ``\\r``, become ``\\n``."""
    return io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding[0])(encoding[1]), translate=True)


def exec_header(
    label: str,
    command: arguments.Command,
    env: Mapping[str, str] | None,
    cwd: arguments.AnyPath | None,
    tty: bool | Terminal,
) -> RequestHeader:
    """Return the request for a command. Raises TypeError, UsageError."""
    header: RequestHeader = {"op": "exec", "argv": arguments.wire_command(command, label)}
    variables = arguments.wire_env(env, label)
    if tty is True:
        tty = Terminal()
    if isinstance(tty, Terminal):
        header["tty"] = True
        header["terminal_size"] = [tty.lines, tty.columns]
        variables.setdefault("TERM", tty.term)
    else:
        header["tty"] = arguments.flag(tty, f"{label}: tty")
    if variables:
        header["env"] = variables
    if cwd is not None:
        header["cwd"] = arguments.wire_path(cwd, f"{label}: cwd")
    return header


class Output:
    """The output of one command, as its caller wants it."""

    def __init__(
        self, capture: bool, on_output: Callable[[StreamName, Any], object] | None, encoding: tuple[str, str] | None
    ) -> None:
        self._parts: tuple[list[Any], list[Any]] = ([], [])
        self._capture, self._on_output, self._encoding = capture, on_output, encoding
        self._decoders = [newline_decoder(encoding) if encoding else None for _ in NAMES]
        self._unfinished: tuple[list[str], list[str]] = ([], [])  # of each stream the parts of the line that has not ended

    def add(self, stream: int, data: bytes, ended: bool) -> Iterator[object]:
        """Add data of a stream; *ended*: the last data. Yields each result of the caller's function."""
        decoder = self._decoders[stream]
        piece: Any = data if decoder is None else decoder.decode(data, ended)
        if piece and self._capture:
            self._parts[stream].append(piece)
        if self._on_output is None:
            return
        for each in (piece,) if decoder is None else self._lines(stream, piece, ended):
            if each:
                yield self._on_output(NAMES[stream], each)

    def _lines(self, stream: int, text: str, ended: bool) -> Iterator[str]:
        """Yield the lines that are complete with *text*, and at the end the last one, which may be empty."""
        unfinished = self._unfinished[stream]
        *lines, last = text.split("\n")
        for line in lines:
            unfinished.append(line)
            yield "".join(unfinished) + "\n"
            unfinished.clear()
        unfinished.append(last)
        if ended:
            yield "".join(unfinished)

    def whole(self, stream: int) -> Any:
        """Return all output of a stream; line ends of a text are ``\\n``."""
        if self._encoding is None:
            return b"".join(self._parts[stream])
        return "".join(self._parts[stream])


class Feeding:
    """Input of a command. Bytes and files are sent as there is room; a stream that may block has a thread of its own."""

    def __init__(self, source: bytes | IO[Any], encoding: str | None) -> None:
        self._encoding = encoding
        self._stream: IO[Any] | None = None
        self.first = b""
        self.failure: BaseException | None = None
        self._rest = memoryview(b"")
        if not isinstance(source, bytes):
            self._stream = source
        elif len(source) <= CHUNK:
            self.first = source
        else:
            self._rest = memoryview(source)
        self.feeds = not isinstance(source, bytes) or len(source) > CHUNK
        self.waits = self.feeds  # whether there is something to send on the caller's thread

    def begin(self, request: Exchange) -> None:
        """Start the thread, if one is needed."""
        if self._stream is not None and not arguments.reads_at_once(self._stream):
            self.waits = False
            threads.start(self._feed, "pmitogen stdin", request, self._stream)

    async def send_some(self, request: Exchange, runtime: Runtime) -> None:
        """Send one piece. There is room."""
        if self._stream is not None:
            piece = await runtime.blocking(arguments.read_piece, self._stream, CHUNK, self._encoding)
        else:
            piece, self._rest = bytes(self._rest[:CHUNK]), self._rest[CHUNK:]
        if piece:
            await request.send(piece, runtime)
        else:
            request.end_input()
            self.waits = False

    def _feed(self, request: Exchange, stream: IO[Any]) -> None:
        try:
            while piece := arguments.read_piece(stream, CHUNK, self._encoding):
                if not finish(request.send(piece, Blocking())):
                    return
            request.end_input()
        except BaseException as exc:
            self.failure = exc
            request.kill()


async def checked_run(
    account: Account,
    runtime: Runtime,
    command: arguments.Command,
    stdin: Input,
    input: Input,
    env: Mapping[str, str] | None,
    cwd: arguments.AnyPath | None,
    tty: bool | Terminal,
    timeout: float | None,
    check: bool,
    text: bool,
    encoding: str | None,
    errors: str | None,
    capture: bool,
    on_output: Callable[[StreamName, Any], object] | None,
) -> Completed[Any]:
    """Check the arguments of ``run``, and run the command."""
    if stdin is not None and input is not None:
        raise UsageError("run: stdin and input are names of the same argument; use one of them")
    decoding = text_encoding(text, encoding, errors, "run")
    source = arguments.source(stdin if input is None else input, "run: stdin", decoding[0] if decoding else None)
    arguments.function(on_output, "run: on_output")
    header = exec_header("run", command, env, cwd, tty)
    if on_output is not None:
        header["stream_output"] = True
    if (
        account.become is None
        and isinstance(source, bytes)
        and len(source) <= CHUNK
        and simple_commands.text_of(header) is not None
    ):
        header["simple"] = True
    output = Output(arguments.flag(capture, "run: capture"), on_output, decoding)
    limit = arguments.seconds(timeout, "run: timeout")
    return await run(account, runtime, header, source, output, decoding, limit, arguments.flag(check, "run: check"))


async def run(
    account: Account,
    runtime: Runtime,
    header: RequestHeader,
    source: bytes | IO[Any],
    output: Output,
    encoding: tuple[str, str] | None,
    timeout: float | None,
    check: bool,
) -> Completed[Any]:
    """Run a command to its end."""
    deadline = None if timeout is None else time.monotonic() + timeout
    feeding = Feeding(source, encoding[0] if encoding else None)
    request = Exchange(account, header, feeding.first, feeding.feeds)

    def is_ready() -> bool:
        return request.has_any_output() or feeding.waits and request.has_room()

    try:
        if feeding.feeds:
            feeding.begin(request)
        ended = False
        while not ended:
            await request.until(is_ready, runtime, deadline)
            ended = request.final is not None
            for stream in (0, 1):
                data = request.take(stream)
                if data or ended:
                    for answer in output.add(stream, data, ended):
                        await runtime.finished(answer)
            if feeding.waits and not ended and request.has_room():
                await feeding.send_some(request, runtime)
    except TimeoutError as exc:
        request.kill()
        if deadline is None or time.monotonic() < deadline:
            raise  # of the caller's own function or stream
        await request.wait_after_kill(runtime)
        for stream in (0, 1):
            for answer in output.add(stream, request.take(stream), True):
                await runtime.finished(answer)
        raise account.timed_out(timeout, output.whole(0), output.whole(1)) from exc.__cause__
    except BaseException:
        request.kill()
        raise
    if feeding.failure is not None:
        raise feeding.failure
    done: Completed[Any] = Completed(int(request.result()["rc"]), output.whole(0), output.whole(1))
    if check and done.rc:
        raise failed(account, header, done)
    return done


def failed(account: Account, header: RequestHeader, done: Completed[Any]) -> RemoteError:
    """Return the exception for an exit status other than 0."""
    err = done.stderr
    text = err if isinstance(err, str) else err.decode("utf-8", "replace")
    last = escape(text.rstrip().rpartition("\n")[2])
    name = header["argv"][0].encode("latin-1").decode("utf-8", "replace")
    message = f"{account}: {escape(name)} ended with status {done.rc}{': ' + last if last else ''}"
    return RemoteError(message, text, done)
