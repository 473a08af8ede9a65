"""Every message that a user can see is collected from the source, listed in messages.txt, and checked for its form.

``python -m tests.unit.test_messages`` writes messages.txt; review its diff as a user.

A message is a string constant given to an exception (or to a function whose result is raised), to argparse, to print and the like
in the commands, or to a logger; and each string of a module that holds a table of messages. ``{}`` stands for a value.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "pmitogen"
LISTING = Path(__file__).with_name("messages.txt")

# Base classes outside the package, from which its exceptions derive.
FOREIGN_ERRORS = {
    "Exception",
    "AnsibleError",
    "AnsibleActionFail",
    "AnsibleConnectionFailure",
    "AnsibleFileNotFound",
    "AnsibleOptionsError",
    "ArgumentTypeError",
    "EOFError",
    "IOError",
    "ImportError",
    "OSError",
    "RuntimeError",
    "SSHException",
    "TypeError",
    "ValueError",
}
MESSAGE_FUNCTIONS = {
    "_warn",
    "error",
    "make",
    "refuse",
    "with_message",
    "_refuse",
    "_refusal",
    "failed",
}  # functions that create an exception from a text
WRITERS = {"print", "sys.stderr.write", "sys.stdout.write"}
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
HELP_KEYWORDS = {"help", "description", "epilog"}
# Files with functions that assemble messages: each string in them is listed.
MESSAGE_TABLES = {
    "become/failures.py",
    "cli/ssh/messages.py",
    "hub/client.py",
    "hub/host/connector.py",
    "transport/auth/report.py",
    "transport/connect.py",
    "transport/dial.py",
    "transport/hostkeys/verify.py",
    "transport/paramiko_ext/algorithms.py",
    "transport/paramiko_ext/transport.py",
    "util/limits.py",
    "util/threads.py",
}

IDIOMS = (
    r"; write\b",
    r": write (some|one)\b",
    r"\bis no (?!longer)",
    r"\b(own )?words\b",
    r"\bkept\b",
    r"\bwhoever\b",
    r"\bnobody\b",
    r"\bsomebody\b",
    r"\bhas gone\b",
    r"\bin vain\b",
    r"\bbut for\b",
    r"\bat hand\b",
    r"\bmet\b",
    r"\bfolders?\b",
    r"\blet us in\b",
    r"\bcame up\b",
    r"\bthere is not\b",
    r"\bnothing came\b",
    r"\bwell formed\b",
    r"\bour(s|selves)?\b",
    r"\bof pmitogen's\b",
    r"\bno such thing\b",
    r"\bcannot be had\b",
    r"\bfile does not exist\b",
    r"\bno such file(?! or directory)",
    r"\bpermission is denied\b",
    r"\b(is|are) not known$",
    r"\bin it\b",
    r"^it (has|is|sent|speaks|does|revokes)\b",
    r"\bdamaged\b",
    r"\bcut short\b",
    r"\blistening in\b",
    r"\b[Pp]lease\b(?! type 'yes' or 'no')",
    r"!$",
)

# Texts of ssh, ssh-add, ssh-agent, ssh-keygen, ssh-keyscan, scp and sftp, which programs and users search for.
VERBATIM = (
    "Too many arguments.",
    "{} is not a public key file.",
    'Invalid hash algorithm "{}"',
    "Invalid ECDSA key length: valid lengths are 256, 384 or 521 bits",
    "Invalid RSA key length: {} bits",
    'Saving key "{}" failed: {}',
    "Cannot stat {}: {}",
    "Not a directory",
    "Is a directory",
    "Shell exited with status {}",
    "Invalid command.",
    "{}: Invalid flag -{}",
    "Unterminated quoted argument",
    "You must specify a subsystem to invoke.",
    "Cannot fork into background without a command to execute.",
    "Cannot execute command-line and remote command.",
    "Invalid lifetime",
    "Invalid -X option",
    'Invalid buffer size "{}": Invalid argument',
    'Invalid number of requests "{}": {}',
    'Invalid -D argument "{}"',
    "Unknown -O option",
    'Unsupported conversion format "{}"',
    "Batch file already specified.",
    "Missing hostname",
    "Cannot copy non-regular file: {}",
    "Server does not support {} extension",
    'Invalid {} "{}"',
    'Unsupported operation for -Y: "{}"',
    "Bad port '{}'",
    "Bad timeout '{}'",
    'Unknown key type "{}"',
)
# Beginnings of texts of Ansible and OpenSSH, and names that begin with a capital letter.
VERBATIM_STARTS = (
    "Match exec",
    "No such file or directory",
    "Too many open files",
    "Incorrect {}",
    "Missing {}",
    "Timeout ({}s)",
    "No ControlPath",
    "Cannot specify",
    "No identities",
    "Control socket",
    "Unsupported query",
    "Python",
)


class Message(NamedTuple):
    """One message. *place*: the file, relative to the package. *kind*: ``error``, ``help``, ``print``, ``log`` or ``table``."""

    place: str
    kind: str
    text: str


# -- collecting -------------------------------------------------------------------------------------------------------------


@functools.cache
def collect() -> list[Message]:
    """Return every message of the package once, ordered by file and line."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
    errors = _error_classes(trees.values())
    found = (message for path, tree in trees.items() for message in _messages_of(path, tree, errors))
    return list(dict.fromkeys(found))


def _error_classes(trees: Iterable[ast.Module]) -> set[str]:
    """Return the names of all exceptions."""
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    known = set(FOREIGN_ERRORS)
    while more := {node.name for node in classes if {_last_name(base) for base in node.bases} & known} - known:
        known |= more
    return known


def _last_name(node: ast.expr) -> str:
    return ast.unparse(node).rsplit(".", 1)[-1]


def _messages_of(path: Path, tree: ast.Module, errors: set[str]) -> Iterator[Message]:
    place = path.relative_to(PACKAGE).as_posix()
    if place in MESSAGE_TABLES:
        texts = (text for node in _outer_strings(tree) for text in _texts(node))
        yield from (Message(place, "table", text) for text in texts if not re.match(r"\w+(\(self|\[)", text))  # not code
    raised = {id(node.exc) for node in ast.walk(tree) if isinstance(node, ast.Raise)}
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    for node in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
        called = ast.unparse(node.func)
        name = called.rsplit(".", 1)[-1]
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        kind = ""
        if name in LOG_METHODS and "log" in called.split(name)[0].lower():
            kind, values = "log", node.args[:1]
        elif name in errors or name in MESSAGE_FUNCTIONS or id(node) in raised:
            kind = "error"
        elif place.startswith("cli/") and called in WRITERS:
            kind = "print"
        if not kind:
            kind, values = "help", [keyword.value for keyword in node.keywords if keyword.arg in HELP_KEYWORDS]
        yield from (Message(place, kind, text) for value in values for text in _texts(value))


def _outer_strings(tree: ast.Module) -> Iterator[ast.expr]:
    """Yield each string expression that is neither a docstring nor a part of another."""
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Constant, ast.JoinedStr, ast.BinOp)) and id(node) not in skipped:
            skipped |= {id(part) for part in ast.walk(node)}
            yield node


def _texts(node: ast.expr) -> Iterator[str]:
    """Yield the texts that *node* can produce. A single word is a code (a stage, a kind), not a message."""
    if isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
        return
    text = " ".join(_text(node).split())
    if " " in text.replace("{}", "").strip():
        yield text


def _text(node: ast.expr) -> str:
    """Return *node* as text, with ``{}`` for each part that is not constant."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return re.sub(r"%[-+.0-9]*[sdrfg]", "{}", _text(node.left))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return "{}"


def render(messages: list[Message]) -> str:
    """Return the listing: a heading for each file, a line for each message."""
    lines: list[str] = []
    place = ""
    for message in messages:
        if message.place != place:
            place = message.place
            lines += ["", f"# {place}"]
        lines.append(f"{message.kind:5} | {message.text}")
    return "\n".join(lines).lstrip("\n") + "\n"


# -- tests ------------------------------------------------------------------------------------------------------------------


def test_listing_is_current() -> None:
    listed = LISTING.read_text(encoding="utf-8").splitlines()
    now = render(collect()).splitlines()
    added, removed = [line for line in now if line not in listed], [line for line in listed if line not in now]
    assert listed == now, f"run python -m tests.unit.test_messages and review messages.txt: new {added}, gone {removed}"


def problems_of(message: Message) -> list[str]:
    """Return each rule of STYLE that *message* breaks."""
    text = message.text
    if text in VERBATIM:
        return []
    found = [f"idiom {match.group()!r}" for idiom in IDIOMS for match in [re.search(idiom, text)] if match]
    if message.kind in ("error", "log") and re.search(r"[^.]\.$", text):
        found.append("a full stop at the end of one line")
    body = text.rpartition(": ")[2] if text.startswith("{}") else text
    if message.kind in ("error", "log") and re.match(r"[A-Z][a-z]+ ", body) and not body.startswith(VERBATIM_STARTS):
        found.append("begins with a capital letter")
    return found


@pytest.mark.parametrize("place", sorted({m.place for m in collect()}))
def test_messages_have_the_required_form(place: str) -> None:
    bad = [(message.text, found) for message in collect() if message.place == place for found in [problems_of(message)] if found]
    assert not bad, f"{place}: {bad}"


if __name__ == "__main__":
    LISTING.write_text(render(collect()), encoding="utf-8")
