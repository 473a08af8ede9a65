"""``pmitogen keyscan``: print the host keys of servers in the format of known_hosts, as ``ssh-keyscan`` does.

Keys are printed to stdout; a comment for each server and an error for each server without a key, to stderr. As with
ssh-keyscan, ssh's configuration is not read and the keys are not verified; ``pmitogen trust`` does both.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import queue
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TextIO

from pmitogen.cli.errors import CommandLineError, Parser
from pmitogen.cli.json_output import error_object, errors_as_json, print_json
from pmitogen.errors import Error
from pmitogen.flags.ssh.lexer import ConfigValueError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.flags.ssh.values import numbers
from pmitogen.util import threads
from pmitogen.util.peer_text import escape

MAX_CONCURRENT = 30  # servers
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
    """The keys of one target. *error*: the reason if keys are missing."""

    target: Target
    blobs: list[bytes] = dataclasses.field(default_factory=list)
    comments: list[str] = dataclasses.field(default_factory=list)
    error: Error | None = None


def parser() -> Parser:
    """Return the parser of ssh-keyscan's options."""
    made = Parser(prog="pmitogen keyscan", description="Print the host keys of servers, in the format of known_hosts.")
    made.add_argument("-4", dest="family", action="store_const", const="inet", default="any", help="use IPv4 only")
    made.add_argument("-6", dest="family", action="store_const", const="inet6", help="use IPv6 only")
    made.add_argument("-H", dest="hashed", action="store_true", help="hash the names")
    made.add_argument("-q", dest="quiet", action="store_true", help="print no comments")
    made.add_argument(
        "-p", dest="port", metavar="PORT", default="22", help="port of hosts without one of their own (default: 22)"
    )
    made.add_argument(
        "-T", dest="timeout", metavar="TIME", default="5", help="time limit of each connection (default: 5 seconds)"
    )
    made.add_argument("-t", dest="types", metavar="TYPE,...", default="", help=f"key types: {', '.join(TYPES)}")
    made.add_argument("-f", dest="files", metavar="FILE", action="append", default=[], help="read hosts from FILE, - for stdin")
    made.add_argument("--json", action="store_true", help="print JSON when all hosts have answered")
    made.add_argument("hosts", nargs="*", metavar="HOST", help="HOST, HOST:PORT, [ADDRESS]:PORT, or 'ADDRESS,... NAME,...'")
    return made


def run(argv: list[str]) -> int:
    """Print the keys. Returns 1 if a host has sent no key. Raises CommandLineError, OSError."""
    options = parser().parse(argv)
    with errors_as_json(options.json):
        return int(bool(scan(options)[1]))


def scan(options: argparse.Namespace) -> tuple[int, int]:
    """Print the keys. Returns the numbers of hosts with all keys and of the others. Raises CommandLineError, OSError."""
    port = _checked("-p", options.port, numbers.port)
    timeout = _checked("-T", options.timeout, numbers.seconds)
    if not timeout:
        raise CommandLineError(f"-T {options.timeout}: invalid time; use more than 0 seconds")
    types = _types(options.types)
    failed = 0
    targets = [target(word, port) for word in [*_from_files(options.files), *options.hosts]]
    if not targets:
        raise CommandLineError("no host; usage: pmitogen keyscan [OPTIONS] HOST...")
    objects = []
    for answer in _all_answers(targets, lambda each: _ask(each, types, timeout, options.family)):
        if options.json:
            objects.append(_as_object(answer))
            failed += answer.error is not None
            continue
        if not options.quiet:
            _print(sys.stderr, answer.comments)
        _print(sys.stdout, (line for blob in answer.blobs for line in _lines(answer.target.names, blob, options.hashed)))
        if answer.error is not None:
            _print(sys.stderr, [f"pmitogen keyscan: {answer.error.message}"])
            failed += 1
    if options.json:
        print_json(objects)
    return len(targets) - failed, failed


def _as_object(answer: Answer) -> dict[str, object]:
    """Return one host's answer for --json: its names, its keys, and the error if any is missing."""
    from pmitogen.transport.hostkeys import known_hosts
    from pmitogen.transport.keys import public_key

    keys = [
        {"type": line[0], "key": line[1], "fingerprint": public_key.fingerprint(blob, "SHA256")}
        for blob in answer.blobs
        if (line := public_key.public_line(blob).split())
    ]
    host, port = answer.target.addresses[0]
    names = [known_hosts.lookup_name(host, port) for host, port in answer.target.names]
    error = error_object(answer.error) if answer.error is not None else None
    return {"host": host, "port": port, "names": names, "keys": keys, "error": error}


def _print(file: TextIO, lines: Iterable[str]) -> None:
    file.write("".join(line + "\n" for line in lines))
    file.flush()


# Arguments


def _checked(option: str, text: str, check: Callable[[str], int]) -> int:
    try:
        return check(text)
    except ConfigValueError as problem:
        raise CommandLineError(f"{option} {text}: {problem}") from None


def _types(text: str) -> list[str]:
    """Return the key types, which can be given by their short or full names."""
    selected: dict[str, None] = {}
    for name in (text or ",".join(TYPES)).split(","):
        whole = TYPES.get(name, (name,))
        if not any(set(whole) <= set(names) for names in TYPES.values()):
            raise CommandLineError(f"-t {text}: unknown key type {name!r}; use {', '.join(TYPES)}")
        selected.update(dict.fromkeys(whole))
    return list(selected)


def _from_files(names: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the host files, without comments. Raises OSError."""
    for name in names:
        with contextlib.nullcontext(sys.stdin) if name == "-" else open(name, encoding="utf-8", errors="replace") as file:
            for line in file:
                if names := line.partition("#")[0].strip():
                    yield names


def target(text: str, port: int) -> Target:
    """Parse ``HOST``, ``HOST:PORT`` or ``[ADDRESS]:PORT``, or ``ADDRESS,... NAME,...``: addresses to try, names to print."""
    addresses, *names = text.split(None, 1) or [""]
    return Target(_parse_addresses(addresses, port), _parse_addresses(names[0].strip() if names else addresses, port))


def _parse_addresses(text: str, port: int) -> tuple[tuple[str, int], ...]:
    return tuple(_parse_address(address, port) for address in text.split(","))


def _parse_address(text: str, port: int) -> tuple[str, int]:
    match = re.fullmatch(r"\[([^][]+)\](?::(.+))?|([^]:[]+):([^:]+)", text)
    host, port_text = (match[1] or match[3], match[2] or match[4]) if match else (text, None)
    if not host or set(host) & set("[]/ ") or host.startswith("-"):
        raise CommandLineError(f"invalid host {text!r}; use HOST, HOST:PORT or [ADDRESS]:PORT")
    return host, _checked(text, port_text, numbers.port) if port_text else port


# Queries


def _all_answers(targets: Sequence[Target], ask: Callable[[Target], Answer]) -> Iterator[Answer]:
    """Yield the answer of each target as it arrives. At most MAX_CONCURRENT threads; they end with this process."""
    from pmitogen.transport.hostkeys import scan  # noqa: F401  # Paramiko: loaded once, not by all threads at a time

    waiting, done = queue.SimpleQueue[Target](), queue.SimpleQueue[Answer]()
    for each in targets:
        waiting.put(each)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                done.put(ask(waiting.get_nowait()))

    for index in range(min(MAX_CONCURRENT, len(targets))):
        try:
            threads.start(work, "keyscan")
        except Error:
            if not index:
                raise
            break  # the threads that have started query all targets
    for _ in targets:
        yield done.get()


def _ask(asked: Target, types: Sequence[str], timeout: int, family: str) -> Answer:
    """Return the keys of the first address that sends any."""
    answer = Answer(asked)
    for host, port in asked.addresses:
        settings = Settings(originalhost=host, hostname=host, user="", port=port, addressfamily=family)
        try:
            _scan(settings, types, timeout, answer)
        except Error as error:
            answer.error = error
        except Exception as error:  # a server can send anything; the other targets are still scanned
            answer.error = Error(f"{host} port {port}: unexpected: {type(error).__name__}: {escape(str(error))}")
        if answer.blobs:
            break
    return answer


def _scan(settings: Settings, types: Sequence[str], timeout: int, answer: Answer) -> None:
    from pmitogen.transport import connect
    from pmitogen.transport.hostkeys import scan
    from pmitogen.transport.jump_host_pool import JumpHostPool

    hops = JumpHostPool()  # stays empty: nothing here has jump hosts

    def look(names: Sequence[str]) -> connect.HostKeyProbe:
        shown = connect.probe_host_key(settings, names, jump_hosts=hops, deadline=time.monotonic() + timeout)
        if not answer.blobs:
            answer.comments = [f"# {settings.hostname}:{settings.port} {shown.server}"]
        return shown

    for key in scan.scan_host_keys(look, settings.endpoint, types):
        answer.blobs.append(key.blob)
    answer.error = None


def _lines(names: Sequence[tuple[str, int]], blob: bytes, hashed: bool) -> list[str]:
    """Return known_hosts lines for one key. Names share a line if none has a port, as in ssh-keyscan."""
    from pmitogen.transport.hostkeys import known_hosts
    from pmitogen.transport.keys import public_key

    key = public_key.public_line(blob)
    shown = [known_hosts.lookup_name(host, port) for host, port in names]
    if hashed:
        return [f"{known_hosts.hash_name(name)} {key}" for name in shown]
    if any("]:" in name for name in shown):
        return [f"{name} {key}" for name in shown]
    return [f"{','.join(shown)} {key}"]
