"""Parse the script that Ansible pipes into a Python (AnsiballZ), so that its module runs in a warm interpreter instead.

Ansible builds one script per task: a wrapper around a zip archive (base64), the module's name and its parameters. A script is
recognised only if every part of it is known. Any other script (coverage, debugging hooks, an unknown kind) runs unchanged.

There are two generations. ansible-core 2.16 to 2.18 assign constants inside the wrapper and start the module with ``runpy``.
ansible-core 2.19 and later call ``_ansiballz_main`` with keyword arguments, one per line, and the archive itself contains the
function that starts the module, ``_loader.run_module``. The parser of the second generation checks how the wrapper uses each
parameter, because releases add some (2.22: ``secrets``). A parameter that is unknown here is accepted if the wrapper only passes
it to ``run_module``; the child process on the target does the same.

Parameters of the module, and those unknown here, may be secret: they are sent in a request's body, which no log shows.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Collection
from typing import Any

_CALL_START = b'\nif __name__ == "__main__":\n    _ansiballz_main(\n'
_REQUIRED = frozenset((b"module_fqn", b"params", b"profile", b"extensions", b"zip_data"))
_OPTIONAL = frozenset((b"ansible_module", b"date_time", b"rlimit_nofile"))  # the first two: for a file that is not created here
_WRAPPER_MARK = b"_ANSIBALLZ_WRAPPER = True"
_ZIP = b"\nzip_data='"
_SIGNATURE = re.compile(rb"\ndef _ansiballz_main\(\n((?:    \w+: [^\n]+,\n)+)\) -> None:\n")
_LOADER_IMPORT = b"from ansible.module_utils._internal._ansiballz import _loader\n"
_ENTRY_CALL = re.compile(rb"\n +_loader\.run_module\(\n((?: +\w+=\w+,\n)+) +\)\n")
_ENTRY_KEYWORDS = {  # arguments that the child process passes to run_module itself
    b"json_params": b"json_params",
    b"modlib_path": b"modlib_path",
    b"module_fqn": b"module_fqn",
    b"profile": b"profile",
    b"extensions": b"extensions",
}
_OLD_END = b"\nif __name__ == '__main__':\n    _ansiballz_main()"
_OLD_ZIP = b"\n    ZIPDATA = '"
_OLD_PARAMS = rb"^    ANSIBALLZ_PARAMS = (.*)$"
_OLD_START = (
    rb"^ +runpy\.run_module\(mod_name='([\w.]+)', init_globals=dict\(_module_fqn='([\w.]+)', _modlib_path=modlib_path\),$"
)
_OLD_EXTRAS = (b"existing_soft", b"coverage", b"ansible_coverage")


class Payload:
    """One recognised script. No dataclass, because this file is imported for every task.

    *generation*: "runpy" or "loader", how the module starts.
    *module_name*: the module's name.
    *params*: its parameters, as JSON.
    *archive*: the zip in base64. It is most of the script, so it is not copied.
    *profile*: how the module writes its result.
    *rlimit_nofile*: the module's limit of open files; 0 leaves the limit unchanged.
    *keywords*: further arguments for ``run_module``, as JSON (see :func:`_encode_keywords`); empty if none. May be secret.
    """

    __slots__ = ("archive", "generation", "keywords", "module_name", "params", "profile", "rlimit_nofile")

    def __init__(
        self,
        generation: str,
        module_name: str,
        params: bytes,
        archive: memoryview,
        profile: str = "",
        rlimit_nofile: int = 0,
        keywords: bytes = b"",
    ) -> None:
        self.generation = generation
        self.module_name = module_name
        self.params = params
        self.archive = archive
        self.profile = profile
        self.rlimit_nofile = rlimit_nofile
        self.keywords = keywords

    @property
    def archive_name(self) -> str:
        """Return the archive's name, derived from its content."""
        return hashlib.sha1(self.archive, usedforsecurity=False).hexdigest()


def parse_ansiballz(script: bytes) -> Payload | None:
    """Return the parts of a script, or None if it is not recognised."""
    start = script.find(_CALL_START)  # a literal contains no raw line break, so the first match is the only one
    if start >= 0:
        return _parse_call(script, start)
    if _WRAPPER_MARK in script[:400]:
        return _parse_constants(script)
    return None


def _parse_call(script: bytes, start: int) -> Payload | None:
    archive = _string_bounds(script, _ZIP, start)
    if archive is None or _WRAPPER_MARK not in script[:400]:
        return None
    first, last = archive
    lines = script[start + len(_CALL_START) : first] + script[last:]  # all except the archive
    if not lines.rstrip().endswith(b"\n)"):
        return None
    literals: dict[bytes, bytes] = {}
    for line in lines.rstrip()[:-2].split(b"\n"):
        name, equals, value = line.partition(b"=")
        if not equals or value[-1:] != b"," or name in literals:
            return None
        literals[name] = value[:-1]
    if not _REQUIRED <= literals.keys() or literals[b"extensions"] != b"{}" or literals[b"zip_data"] != b"''":
        return None
    further = _unknown_parameters(script[:start], literals.keys())
    if further is None:
        return None
    try:
        params, module_name, profile = (
            _literal_value(literals[name].decode()) for name in (b"params", b"module_fqn", b"profile")
        )
        rlimit_nofile = int(literals.get(b"rlimit_nofile", b"0"))
        keywords = _encode_keywords(
            {keyword.decode(): _literal_value(literals[name].decode()) for keyword, name in further.items()}
        )
    except (ValueError, SyntaxError, TypeError):
        return None
    if not isinstance(params, str):
        return None
    encoded = params.encode("utf-8", "surrogateescape")
    return Payload("loader", module_name, encoded, memoryview(script)[first:last], profile, rlimit_nofile, keywords)


def _unknown_parameters(wrapper: bytes, parameters: Collection[bytes]) -> dict[bytes, bytes] | None:
    """Return {keyword of ``run_module``: parameter of the wrapper} for the parameters that are unknown here.

    None: the wrapper is of another kind, or does more with one of them than pass it on.
    """
    signature = _SIGNATURE.search(wrapper)
    calls = [dict(line.strip(b" ,").split(b"=") for line in call[1].splitlines()) for call in _ENTRY_CALL.finditer(wrapper)]
    if signature is None or not calls or _LOADER_IMPORT not in wrapper or any(call != calls[0] for call in calls):
        return None
    literals = [line.strip().partition(b":")[0] for line in signature[1].splitlines()]
    if set(literals) != set(parameters) or any(calls[0].get(name) != value for name, value in _ENTRY_KEYWORDS.items()):
        return None
    further = {name: value for name, value in calls[0].items() if name not in _ENTRY_KEYWORDS}
    if set(literals) != _REQUIRED.union(further.values(), _OPTIONAL.intersection(literals)):
        return None
    for name, value in further.items():
        uses = signature[1].count(value) + len(calls) * (name + value).count(value)
        if wrapper.count(value) != uses:
            return None
    return further


def _encode_keywords(keywords: dict[str, Any]) -> bytes:
    """Return keyword arguments as JSON: {name: [type, value]}. The type is empty for types that JSON has.

    Raises ValueError or TypeError for a value that JSON would change.
    """
    if not keywords:
        return b""
    typed = {}
    for name, value in keywords.items():
        kind = type(value).__name__ if isinstance(value, (set, frozenset)) else ""
        json_value = sorted(value) if kind else value
        if json.loads(json.dumps(json_value)) != json_value:
            raise ValueError
        typed[name] = [kind, json_value]
    return json.dumps(typed).encode("ascii")


def _literal_value(literal: str) -> Any:
    """Return the value of a literal. Most are strings without escapes, which are read without the slower parser.

    Raises ValueError, SyntaxError, TypeError.
    """
    quote = literal[:1]
    if quote in ("'", '"') and literal.find(quote, 1) == len(literal) - 1 and "\\" not in literal and literal.isprintable():
        return literal[1:-1]
    if literal.startswith("frozenset("):
        return frozenset(ast.literal_eval(literal[len("frozenset(") : -1]) if literal != "frozenset()" else ())
    return ast.literal_eval(literal)


def _parse_constants(script: bytes) -> Payload | None:
    archive = _string_bounds(script, _OLD_ZIP)
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
        text = _literal_value(params[1].decode())
    except (ValueError, SyntaxError):
        return None
    if not isinstance(text, str):
        return None
    return Payload("runpy", module[1].decode(), text.encode("utf-8", "surrogateescape"), memoryview(script)[first:last])


def _string_bounds(script: bytes, opening: bytes, start: int = 0) -> tuple[int, int] | None:
    """Return the bounds of the string literal after *opening*; None if there is none, or if it contains escapes."""
    first = script.find(opening, start)
    if first < 0:
        return None
    first += len(opening)
    last = script.find(b"'", first)
    if last < 0 or script.find(b"\\", first, last) >= 0 or script.find(b"\n", first, last) >= 0:
        return None
    return first, last
