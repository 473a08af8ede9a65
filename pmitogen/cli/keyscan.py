"""``pmitogen keyscan``: the host keys of servers, in the form of known_hosts, for nodes that have no ``ssh-keyscan``.

Keys go to stdout, what else there is to say to stderr: a comment for each server, a line for each that gave nothing. Nothing is
read from ssh's configuration, as ssh-keyscan reads none; ``pmitogen trust`` does, and looks a key up before it is believed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TextIO

from pmitogen.cli.errors import Parser, WrongWords
from pmitogen.errors import Error
from pmitogen.flags.ssh.lexer import ConfigValueError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.flags.ssh.values import numbers
from pmitogen.util import threads
from pmitogen.util.peer_text import escape, one_line

AT_ONCE = 30  # servers
TYPES = {
    "rsa": ("ssh-rsa",),
    "ecdsa": ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    "ed25519": ("ssh-ed25519",),
}


@dataclasses.dataclass(frozen=True)
class Target:
    """One server: the addresses to try in turn, and the names to print."""

    addresses: tuple[tuple[str, int], ...]
    names: tuple[tuple[str, int], ...]


@dataclasses.dataclass
class Answer:
    """What came of one target. *problem*: why there is less than there should be, in one line."""

    target: Target
    blobs: list[bytes] = dataclasses.field(default_factory=list)
    comments: list[str] = dataclasses.field(default_factory=list)
    problem: str = ""


def _parser() -> Parser:
    """The options are ssh-keyscan's."""
    parser = Parser(prog="pmitogen keyscan", description="Print the host keys of servers, in the form of known_hosts.")
    parser.add_argument("-4", dest="family", action="store_const", const="inet", default="any", help="use IPv4 only")
    parser.add_argument("-6", dest="family", action="store_const", const="inet6", help="use IPv6 only")
    parser.add_argument("-H", dest="hashed", action="store_true", help="hash the names")
    parser.add_argument("-q", dest="quiet", action="store_true", help="print no comments")
    parser.add_argument("-p", dest="port", metavar="PORT", default="22", help="the port of hosts that name none")
    parser.add_argument("-T", dest="timeout", metavar="TIME", default="5", help="how long each connection may take (5 seconds)")
    parser.add_argument("-t", dest="types", metavar="TYPE,...", default="", help=f"the types of key: {', '.join(TYPES)}")
    parser.add_argument("-f", dest="files", metavar="FILE", action="append", default=[], help="read hosts from FILE, - for stdin")
    parser.add_argument("hosts", nargs="*", metavar="HOST", help="HOST, HOST:PORT, [ADDRESS]:PORT, or 'ADDRESS,... NAME,...'")
    return parser


def run(words: list[str]) -> int:
    """Print the keys. 1 if some host gave none, 2 for wrong usage."""
    options = _parser().parse_args(words)
    port = _checked("-p", options.port, numbers.port)
    timeout = _checked("-T", options.timeout, numbers.seconds)
    if not timeout:
        raise WrongWords(f"-T {options.timeout}: give it some time")
    types = _types(options.types)
    failed = False
    targets = [target(word, port) for word in [*_from_files(options.files), *options.hosts]]
    if not targets:
        raise WrongWords("no host: write pmitogen keyscan [OPTIONS] HOST...")
    for answer in _all_answers(targets, lambda each: _ask(each, types, timeout, options.family)):
        if not options.quiet:
            _print(sys.stderr, answer.comments)
        _print(sys.stdout, (line for blob in answer.blobs for line in _lines(answer.target.names, blob, options.hashed)))
        if answer.problem:
            _print(sys.stderr, [f"pmitogen keyscan: {one_line(answer.problem)}"])
            failed = True
    return int(failed)


def _print(file: TextIO, lines: Iterable[str]) -> None:
    file.write("".join(line + "\n" for line in lines))
    file.flush()


# The words


def _checked(option: str, text: str, check: Callable[[str], int]) -> int:
    try:
        return check(text)
    except ConfigValueError as problem:
        raise WrongWords(f"{option} {text}: {problem}") from None


def _types(text: str) -> list[str]:
    """Types of key, by their short names or in full."""
    found: dict[str, None] = {}
    for word in (text or ",".join(TYPES)).split(","):
        whole = TYPES.get(word, (word,))
        if not any(set(whole) <= set(names) for names in TYPES.values()):
            raise WrongWords(f"-t {text}: {word!r} is no type of key known here: write some of {', '.join(TYPES)}")
        found.update(dict.fromkeys(whole))
    return list(found)


def _from_files(names: Sequence[str]) -> Iterator[str]:
    """The lines of files of hosts, without comments. Raises OSError."""
    for name in names:
        with contextlib.nullcontext(sys.stdin) if name == "-" else open(name, encoding="utf-8", errors="replace") as file:
            for line in file:
                if words := line.partition("#")[0].strip():
                    yield words


def target(word: str, port: int) -> Target:
    """Read ``HOST``, ``HOST:PORT``, ``[ADDRESS]:PORT``, or a list of these to try and, after a blank, the names to print."""
    addresses, *names = word.split(None, 1)
    return Target(_places(addresses, port), _places(names[0].strip() if names else addresses, port))


def _places(words: str, port: int) -> tuple[tuple[str, int], ...]:
    return tuple(_place(word, port) for word in words.split(","))


def _place(word: str, port: int) -> tuple[str, int]:
    found = re.fullmatch(r"\[([^][]+)\](?::(.+))?|([^]:[]+):([^:]+)", word)
    host, number = (found[1] or found[3], found[2] or found[4]) if found else (word, None)
    if not host or set(host) & set("[]/ ") or host.startswith("-"):
        raise WrongWords(f"{word!r} is no host: write HOST, HOST:PORT or [ADDRESS]:PORT")
    return host, _checked(word, number, numbers.port) if number else port


# Asking


def _all_answers(targets: Sequence[Target], ask: Callable[[Target], Answer]) -> Iterator[Answer]:
    """The answer of each target as it comes, from AT_ONCE threads at most, which end with this process."""
    from pmitogen.transport.hostkeys import scan  # noqa: F401  # Paramiko: loaded once, not by all threads at a time

    waiting, done = queue.SimpleQueue[Target](), queue.SimpleQueue[Answer]()
    for each in targets:
        waiting.put(each)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                done.put(ask(waiting.get_nowait()))

    for number in range(min(AT_ONCE, len(targets))):
        try:
            threads.start(work, "keyscan")
        except Error:
            if not number:
                raise
            break  # those that there are ask everybody
    for _ in targets:
        yield done.get()


def _ask(asked: Target, types: Sequence[str], timeout: int, family: str) -> Answer:
    """The keys behind the first address that gives any."""
    answer = Answer(asked)
    for host, port in asked.addresses:
        settings = Settings(originalhost=host, hostname=host, user="", port=port, addressfamily=family)
        try:
            _look_at(settings, types, timeout, answer)
        except Error as error:
            answer.problem = error.message
        except Exception as error:  # a server can say anything, and there are others to ask
            answer.problem = f"{host} port {port}: unexpected: {type(error).__name__}: {escape(str(error))}"
        if answer.blobs:
            break
    return answer


def _look_at(settings: Settings, types: Sequence[str], timeout: int, answer: Answer) -> None:
    from pmitogen.transport import connect
    from pmitogen.transport.hostkeys import scan

    hops = connect.JumpHostPool()  # stays empty: nothing here has jump hosts

    def look(names: Sequence[str]) -> connect.HostKeyProbe:
        shown = connect.probe_host_key(settings, names, jump_hosts=hops, deadline=time.monotonic() + timeout)
        if not answer.blobs:
            answer.comments = [f"# {settings.hostname}:{settings.port} {shown.server}"]
        return shown

    for key in scan.scan_host_keys(look, settings.endpoint, types):
        answer.blobs.append(key.blob)
    answer.problem = ""


def _lines(names: Sequence[tuple[str, int]], blob: bytes, hashed: bool) -> list[str]:
    """As known_hosts has them: names share a line where they are plain, as for ssh-keyscan."""
    from pmitogen.transport.hostkeys import known_hosts
    from pmitogen.transport.keys import public_key

    key = public_key.public_line(blob)
    shown = [known_hosts.lookup_name(host, port) for host, port in names]
    if hashed:
        return [f"{known_hosts.hash_name(name)} {key}" for name in shown]
    if any("]:" in name for name in shown):
        return [f"{name} {key}" for name in shown]
    return [f"{','.join(shown)} {key}"]
