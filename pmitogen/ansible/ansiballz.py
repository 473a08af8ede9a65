"""Recognising AnsiballZ: the text that Ansible pipes into a Python, taken apart into what it would do.

Ansible builds one script per task: a fixed wrapper around a zip archive (base64), the module's name and its parameters.
Only a script whose every part is understood is recognised; anything else (coverage, debugging hooks, a generation unknown
here) runs as the script that it is.

Two generations: ansible-core 2.16 to 2.18 assign constants inside the wrapper and start the module with ``runpy``; 2.19 and
later call ``_ansiballz_main`` with keyword arguments, one a line, and the archive itself holds the starting function.
"""

from __future__ import annotations

import ast
import hashlib
import re
from typing import Any

_TAIL = b'\nif __name__ == "__main__":\n    _ansiballz_main(\n'
_KNOWN = frozenset(
    (b"ansible_module", b"module_fqn", b"profile", b"date_time", b"rlimit_nofile", b"params", b"extensions", b"zip_data")
)
_HEAD = b"_ANSIBALLZ_WRAPPER = True"
_ZIP = b"\nzip_data='"
_OLD_END = b"\nif __name__ == '__main__':\n    _ansiballz_main()"
_OLD_ZIP = b"\n    ZIPDATA = '"
_OLD_PARAMS = rb"^    ANSIBALLZ_PARAMS = (.*)$"
_OLD_START = (
    rb"^ +runpy\.run_module\(mod_name='([\w.]+)', init_globals=dict\(_module_fqn='([\w.]+)', _modlib_path=modlib_path\),$"
)
_OLD_EXTRAS = (b"existing_soft", b"coverage", b"ansible_coverage")


class Payload:
    """One recognised script. A plain class, because this file is imported anew for every task."""

    __slots__ = ("archive", "fqn", "generation", "nofile", "params", "profile")

    def __init__(self, generation: str, fqn: str, params: bytes, archive: memoryview, profile: str = "", nofile: int = 0) -> None:
        self.generation = generation  # "runpy" or "loader": how the module starts
        self.fqn = fqn
        self.params = params  # JSON
        self.archive = archive  # base64 of the zip; most of the script, so it is not copied
        self.profile = profile
        self.nofile = nofile

    @property
    def archive_name(self) -> str:
        """The archive's name by content."""
        return hashlib.sha1(self.archive, usedforsecurity=False).hexdigest()


def recognise(script: bytes) -> Payload | None:
    """Take a script apart, or return None."""
    start = script.find(_TAIL)  # no literal holds a line break as such, so what is found first is found only once
    if start >= 0:
        return _recognise_call(script, start)
    if _HEAD in script[:400]:
        return _recognise_constants(script)
    return None


def _recognise_call(script: bytes, start: int) -> Payload | None:
    archive = _literal(script, _ZIP, start)
    if archive is None or _HEAD not in script[:400] or script.find(b"_loader.run_module(", 0, start) < 0:
        return None
    first, last = archive
    lines = script[start + len(_TAIL) : first] + script[last:]  # all but the archive
    if not lines.rstrip().endswith(b"\n)"):
        return None
    found: dict[bytes, bytes] = {}
    for line in lines.rstrip()[:-2].split(b"\n"):
        name, equals, value = line.partition(b"=")
        if not equals or value[-1:] != b"," or name in found:
            return None
        found[name] = value[:-1]
    if set(found) != _KNOWN or found[b"extensions"] != b"{}" or found[b"zip_data"] != b"''":
        return None
    try:
        params, fqn, profile = (_value(found[name].decode()) for name in (b"params", b"module_fqn", b"profile"))
        nofile = int(found[b"rlimit_nofile"])
    except (ValueError, SyntaxError):
        return None
    if not isinstance(params, str):
        return None
    encoded = params.encode("utf-8", "surrogateescape")
    return Payload("loader", fqn, encoded, memoryview(script)[first:last], profile, nofile)


def _value(literal: str) -> Any:
    """What a literal stands for. Most are strings with nothing escaped in them, and need no parser, which costs a worker more."""
    quote = literal[:1]
    if quote in ("'", '"') and literal.find(quote, 1) == len(literal) - 1 and "\\" not in literal and literal.isprintable():
        return literal[1:-1]
    return ast.literal_eval(literal)


def _recognise_constants(script: bytes) -> Payload | None:
    archive = _literal(script, _OLD_ZIP)
    if archive is None:
        return None
    first, last = archive
    rest = script[:first] + script[last:]
    if _OLD_ZIP + b"'\n" not in rest or not rest.rstrip().endswith(_OLD_END):
        return None
    params, module = re.search(_OLD_PARAMS, rest, re.M), re.search(_OLD_START, rest, re.M)
    if not params or not module or module[1] != module[2] or any(extra in rest for extra in _OLD_EXTRAS):
        return None
    try:
        text = _value(params[1].decode())
    except (ValueError, SyntaxError):
        return None
    if not isinstance(text, str):
        return None
    return Payload("runpy", module[1].decode(), text.encode("utf-8", "surrogateescape"), memoryview(script)[first:last])


def _literal(script: bytes, opening: bytes, start: int = 0) -> tuple[int, int] | None:
    """Where the string literal after *opening* begins and ends; None if there is none, or its text is not what it stands for."""
    first = script.find(opening, start)
    if first < 0:
        return None
    first += len(opening)
    last = script.find(b"'", first)
    if last < 0 or script.find(b"\\", first, last) >= 0 or script.find(b"\n", first, last) >= 0:
        return None
    return first, last
